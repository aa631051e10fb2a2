# SPDX-License-Identifier: Apache-2.0
"""Bytes flipped, zeroed and cut on disk under a store that is down, then read through S3: never a wrong byte."""

import random
import time
from pathlib import Path

from drystone_testing.ledger import Record, rounds
from drystone_testing.live import LiveStore
from drystone_testing.load import Load


def used_ranges(path: Path) -> list[tuple[int, int]]:
    """The parts of a (sparse, preallocated) file that hold non-zero bytes."""
    data = path.read_bytes()
    step = 4096
    return [(at, step) for at in range(0, len(data), step) if data[at : at + step].strip(b"\0")]


def test_flipped_bits_on_any_two_disks_are_never_served(tmp_path: Path, record: Record) -> None:
    """Random single-bit flips in the shard files of two disks: every object still reads back exactly."""
    chooser = random.Random(7)
    store = LiveStore(tmp_path / "store")
    flips = 0
    try:
        store.start()
        load = Load(store.port, "flips", writers=2, multipart=0.01)
        load.start()
        time.sleep(3)
        load.finish()
        load.verify(store.port)
        for _ in range(rounds(3)):
            store.stop()
            for disk in chooser.sample(range(6), 2):
                for shard in sorted((tmp_path / "store/disks" / f"d{disk}" / "volumes").iterdir()):
                    ranges = used_ranges(shard)
                    with shard.open("r+b") as file:
                        for at, length in chooser.sample(ranges, min(len(ranges), 60)):
                            offset = at + chooser.randrange(length)
                            file.seek(offset)
                            byte = file.read(1)[0] ^ (1 << chooser.randrange(8))
                            file.seek(offset)
                            file.write(bytes([byte]))
                            flips += 1
            store.start()
            load.verify(store.port)
            repaired = store.await_repaired(timeout=60)
            assert repaired, f"repair did not end: {store.status()}"
        record(flips=flips, wrong=0)
    finally:
        store.kill_all()

# SPDX-License-Identifier: Apache-2.0
"""Bytes flipped, zeroed, swapped and cut on disk under a store that is down, then read through S3: never a wrong byte.

A round hurts at most m disks, then everything is read, then scrub and repair must make every fragment whole again.
"""

import random
import time
from pathlib import Path

from drystone_testing.ledger import Record, rounds
from drystone_testing.live import LiveStore
from drystone_testing.load import Load
from drystone_testing.shard_damage import cut_short, flip_bits, refuted
from drystone_testing.shard_damage import shards as shard_files

SCRUB = {"DRYSTONE_STORAGE_SCRUB_PERIOD": "1s", "DRYSTONE_STORAGE_SCRUB_RATE": "1GiB"}


def shards(store: Path, disk: int) -> list[Path]:
    """The shard files of a disk."""
    return shard_files(store / f"disks/d{disk}")


def loaded(store: LiveStore, bucket: str) -> Load:
    """A store with objects of all sizes in it."""
    load = Load(store.port, bucket, writers=2, multipart=0.01)
    load.start()
    time.sleep(3)
    load.finish()
    load.verify(store.port)
    return load


def await_whole(store: LiveStore, root: Path) -> None:
    """Scrub and repair have come to an end, and every file says so itself."""
    assert store.await_scrubbed(timeout=90), f"scrub and repair did not end: {store.status()}\n{store.log_tail()}"
    assert not refuted(path for disk in range(6) for path in shards(root, disk))


def test_flipped_bits_on_any_two_disks_are_never_served_and_all_healed(tmp_path: Path, record: Record) -> None:
    """Single-bit flips in all shard files of two disks a round: every read is right, then every fragment is whole again."""
    chooser = random.Random(7)
    root = tmp_path / "store"
    store = LiveStore(root, environment=SCRUB)
    flips = 0
    try:
        store.start()
        load = loaded(store, "flips")
        for _ in range(rounds(3)):
            store.stop()
            for disk in chooser.sample(range(6), 2):
                for shard in shards(root, disk):
                    flips += flip_bits(shard, chooser, 60)
            store.start()
            load.verify(store.port)
            await_whole(store, root)
        record(flips=flips, wrong=0, healed=True)
    finally:
        store.kill_all()


def test_files_swapped_cut_and_emptied_are_never_served_and_all_healed(tmp_path: Path, record: Record) -> None:
    """Shard files exchanged between volumes, slots and disks, cut short, emptied or removed, on two disks a round."""
    chooser = random.Random(8)
    root = tmp_path / "store"
    store = LiveStore(root, environment=SCRUB)
    cases = 0
    try:
        store.start()
        load = loaded(store, "swaps")
        for _ in range(rounds(3)):
            store.stop()
            for disk in chooser.sample(range(6), 2):
                files = shards(root, disk)
                kind = chooser.choice(["swap", "cut", "empty", "remove"])
                if kind == "swap" and len(files) > 1:
                    first, second = chooser.sample(files, 2)
                    a, b = first.read_bytes(), second.read_bytes()
                    first.write_bytes(b)
                    second.write_bytes(a)
                    cases += 2
                for path in files if kind != "swap" else []:
                    if kind == "cut":
                        cut_short(path, chooser)
                    elif kind == "empty":
                        path.write_bytes(b"")
                    else:
                        path.unlink()
                    cases += 1
            store.start()
            load.verify(store.port)
            await_whole(store, root)
        record(cases=cases, wrong=0, healed=True)
    finally:
        store.kill_all()

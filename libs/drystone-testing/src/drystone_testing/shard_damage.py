# SPDX-License-Identifier: Apache-2.0
"""What goes wrong inside shard files on a disk: single bits turned over, runs of zeros, files cut short; and who finds it."""

import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

from drystone_testing.live import drystone_command

BLOCK = 4096


def used_ranges(path: Path) -> list[tuple[int, int]]:
    """The parts of a (sparse, preallocated) file that hold non-zero bytes."""
    data = path.read_bytes()
    return [(at, BLOCK) for at in range(0, len(data), BLOCK) if data[at : at + BLOCK].strip(b"\0")]


def shards(disk: Path) -> list[Path]:
    """The shard files of a disk."""
    return sorted(path for path in (disk / "volumes").iterdir() if path.suffix not in (".free", ".new"))


def flip_bits(path: Path, chooser: random.Random, most: int) -> int:
    """Turn over single bits where there is something; how many."""
    chosen = _some(path, chooser, most)
    with path.open("r+b") as file:
        for at, length in chosen:
            offset = at + chooser.randrange(length)
            file.seek(offset)
            byte = file.read(1)[:1]
            if byte:
                file.seek(offset)
                file.write(bytes([byte[0] ^ (1 << chooser.randrange(8))]))
    return len(chosen)


def zero_blocks(path: Path, chooser: random.Random, most: int) -> int:
    """Blocks that were never written, as after a lost write; how many."""
    chosen = _some(path, chooser, most)
    with path.open("r+b") as file:
        for at, length in chosen:
            file.seek(at)
            file.write(bytes(length))
    return len(chosen)


def cut_short(path: Path, chooser: random.Random) -> int:
    """The file ends somewhere in what it holds; 1, or 0 when it holds nothing."""
    ranges = used_ranges(path)
    if not ranges:
        return 0
    with path.open("r+b") as file:
        file.truncate(chooser.choice(ranges)[0] + 100)
    return 1


def refuted(files: Iterable[Path]) -> list[str]:
    """What `drystone inspect shard` says against any of them."""
    found = []
    for path in files:
        done = subprocess.run(
            [*drystone_command(), "inspect", "shard", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            found.append(f"{path}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return found


def _some(path: Path, chooser: random.Random, most: int) -> list[tuple[int, int]]:
    ranges = used_ranges(path)
    return chooser.sample(ranges, min(len(ranges), most))

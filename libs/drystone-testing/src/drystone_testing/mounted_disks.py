# SPDX-License-Identifier: Apache-2.0
"""Disks that can be taken away and given back under a running store (needs root: mount)."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self


def missing() -> str | None:
    """Why no disk can be taken away here; None when one can."""
    return None if os.geteuid() == 0 else "taking disks away needs root (mount)"


class MountedDisks:
    """Disks that can be taken away: each a file system of its own, bound over the directory the store is given.

    Taking one away is a lazy unmount (open descriptors go on working, the path shows an empty directory); giving it back
    binds the same file system again, with all that was on it.
    """

    def __init__(self, paths: Sequence[Path], backing: Sequence[Path], *, size: str, images: bool = False) -> None:
        """`backing`: where each file system stands for itself, so that it outlives being taken away. `images`: ext4 in sparse
        files rather than tmpfs, so that what volumes allocate ahead takes no memory."""
        self.paths, self.backing = list(paths), list(backing)
        self._size, self._images = size, images
        self._retired: list[Path] = []
        for folder in self.paths:
            folder.mkdir(parents=True, exist_ok=True)
        for folder in self.backing:
            self._make(folder)
        for index in range(len(self.paths)):
            self.give_back(index)

    @classmethod
    def under(cls, base: Path, count: int, *, size: str) -> Self:
        """So many: base/disks/d0 …"""
        names = [f"d{index}" for index in range(count)]
        return cls([base / "disks" / name for name in names], [base / "backing" / name for name in names], size=size)

    def take_away(self, index: int) -> None:
        """Its path shows an empty directory."""
        run("umount", "-l", str(self.paths[index]))

    def give_back(self, index: int) -> None:
        """With all that was on it."""
        self.put(index, self.backing[index])

    def renew(self, index: int) -> Path:
        """A new empty file system stands where one was taken away; the folder in which the old one is still seen."""
        old = self.backing[index]
        self.backing[index] = old.with_name(f"{old.name}+")
        self._make(self.backing[index])
        self._retired.append(old)
        self.give_back(index)
        return old

    def put(self, index: int, folder: Path) -> None:
        """Something else stands where one was taken away."""
        run("mount", "--bind", str(folder), str(self.paths[index]))

    def unmount(self) -> None:
        """All of them, whatever state they are in."""
        for path in [*self.paths, *self.backing, *self._retired]:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)

    def _make(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        if not self._images:
            run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "drystone-test", str(folder))
            return
        image = folder.with_suffix(".ext4")
        run("truncate", "-s", self._size, str(image))
        run("mkfs.ext4", "-q", "-F", str(image))
        run("mount", "-o", "loop", str(image), str(folder))


def run(*command: str) -> None:
    """RuntimeError with the command's own words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

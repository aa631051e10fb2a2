# SPDX-License-Identifier: Apache-2.0
"""Disks that can be taken away and given back under a running store (needs root: mount)."""

import subprocess
from pathlib import Path


class MountedDisks:
    """Disks that can be taken away: each a tmpfs of its own, bound over the directory the store is given.

    Taking one away is a lazy unmount (open descriptors go on working, the path shows an empty directory); giving it back
    binds the same file system again, with all that was on it.
    """

    def __init__(self, base: Path, count: int, *, size: str) -> None:
        self.backing = [base / "backing" / f"d{i}" for i in range(count)]
        self.paths = [base / "disks" / f"d{i}" for i in range(count)]
        for backing, path in zip(self.backing, self.paths, strict=True):
            backing.mkdir(parents=True)
            path.mkdir(parents=True)
            run("mount", "-t", "tmpfs", "-o", f"size={size}", "drystone-test", str(backing))
        for index in range(count):
            self.give_back(index)

    def take_away(self, index: int) -> None:
        run("umount", "-l", str(self.paths[index]))

    def give_back(self, index: int) -> None:
        run("mount", "--bind", str(self.backing[index]), str(self.paths[index]))

    def unmount(self) -> None:
        for path in [*self.paths, *self.backing]:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def run(*command: str) -> None:
    """RuntimeError with the command's own words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

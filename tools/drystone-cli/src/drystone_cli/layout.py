# SPDX-License-Identifier: Apache-2.0
"""Which directories a standalone store uses, from what stands on the command line.

One directory holds everything: DIR/state and DIR/disks/d0 … d5 (more when the profile needs more). Several directories
are the disks themselves; sockets, pid, credential and caches then live in --state-dir (default: drystone-state beside the
first disk). Nothing but sockets, the credential and the memory of the store's name is lost with the state directory.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drystone_cli.remembered import recall
from drystone_core.profiles import Profile

DISKS_IN_ONE_DIRECTORY = 6
IDENTITY = "drystone-disk.json"
_SOCKET_LIMIT = 100
"""Bytes of a unix socket's path the kernel takes, with room for the name."""


class LayoutError(Exception):
    """The directories cannot be a store; the message says what to give instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The directories of a standalone store, absolute."""

    state: Path
    disks: tuple[Path, ...]

    @property
    def lock(self) -> Path:
        """Held by the supervisor and its children."""
        return self.state / "lock"

    @property
    def credential(self) -> Path:
        """The root credential, mode 0600, in the format of an AWS credentials file."""
        return self.state / "root-credential"

    @property
    def processes(self) -> Path:
        """What the supervisor runs, for `drystone status`."""
        return self.state / "processes.json"

    def make_state(self) -> None:
        """Create what is not a disk."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in {disk.parent for disk in self.disks}:
            folder.mkdir(parents=True, exist_ok=True)


def lay_out(directories: Sequence[Path], *, state: Path | None, profile: str = "") -> Layout:
    """The layout these directories mean; LayoutError when they cannot be one."""
    if not directories:
        raise LayoutError("give one directory for everything, or at least two that are disks")
    paths = [Path(os.path.abspath(path)) for path in directories]
    if len(set(paths)) < len(paths):
        raise LayoutError("a directory is given twice; every disk needs its own")
    for path in paths:
        if path.exists() and not path.is_dir():
            raise LayoutError(f"{path} is not a directory")
    if len(paths) == 1 and not _one_copy(paths[0], profile):
        return _inside(paths[0], state, profile)
    where = Path(os.path.abspath(state or paths[0].parent / "drystone-state"))
    needed = Profile.parse(profile).slots if profile else 1
    if len(paths) < needed and recall(where) is None:
        raise LayoutError(f"profile {profile} needs at least {needed} disks, {len(paths)} were given")
    return Layout(state=where, disks=tuple(paths))


def _one_copy(path: Path, profile: str) -> bool:
    if (path / IDENTITY).exists() and profile != "none":
        raise LayoutError(f"{path} is one disk of a store: give all its disks, or the directory that holds them")
    return profile == "none"


def _inside(root: Path, state: Path | None, profile: str) -> Layout:
    disks = root / "disks"
    if root.is_dir() and not disks.exists() and not (root / "state").exists():
        foreign = sorted(set(os.listdir(root)) - {"lost+found"})
        if foreign:
            raise LayoutError(
                f"{root} holds other files ({foreign[0]} …): give an empty or new directory for the store"
            )
    wanted = max(DISKS_IN_ONE_DIRECTORY, Profile.parse(profile).slots if profile else 0)
    present = [int(p.name[1:]) + 1 for p in disks.glob("d*") if p.name[1:].isdecimal()] if disks.is_dir() else []
    count = max([wanted, *present])
    where = Path(os.path.abspath(state)) if state else root / "state"
    return Layout(state=where, disks=tuple(disks / f"d{index}" for index in range(count)))


def state_of(directory: Path | None, state: Path | None) -> Path:
    """The state directory `drystone status` and its like mean."""
    if state is not None:
        return Path(os.path.abspath(state))
    root = Path(os.path.abspath(directory or "data"))
    beside = root.parent / "drystone-state"
    return beside if not (root / "state").is_dir() and beside.is_dir() else root / "state"


def socket_path(state: Path, name: str) -> Path:
    """Where a unix socket of this store lies: in its state directory, or, when that path is too long for the kernel, in a
    private directory under the temporary one that the same state directory always means."""
    direct = state / name
    if len(os.fsencode(direct)) <= _SOCKET_LIMIT:
        return direct
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"drystone-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise LayoutError(f"{folder} belongs to somebody else; remove it, or give a shorter --state-dir")
    return folder / name

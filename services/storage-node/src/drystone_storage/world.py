# SPDX-License-Identifier: Apache-2.0
"""What a storage node needs of the world, so that real and simulated runs share all other code."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drystone_core.formats.disk_identity import NAME as IDENTITY_NAME
from drystone_core.ports import Clock, Disk, Entropy, Lane, Lanes
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_runtime.limits import raise_open_files


class Place(Disk, Protocol):
    """A directory that is, was or may become a disk. Calls may block and raise OSError, as a Disk's."""

    @property
    def root(self) -> str:
        """Its path, absolute."""
        ...

    def is_mount(self) -> bool:
        """Is the directory itself a mount point?"""
        ...

    def exists(self) -> bool:
        """Is it a directory?"""
        ...

    def make(self) -> None:
        """Create it, durably."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything with an effect outside the process (or with a will of its own, as time)."""

    clock: Clock
    entropy: Entropy
    lanes: Lanes
    background: Background
    place: Callable[[str], Place]
    """The directory at a path."""
    lane: Callable[[str], Lane]
    """A new lane with a name for people."""
    open_files: int = 1024
    """Files this process may hold open."""


def _place(path: str) -> RealDisk:
    return RealDisk(os.path.abspath(path), guard=IDENTITY_NAME)


def real_world() -> World:
    """The machine's."""
    clock = SystemClock()
    return World(
        clock=clock,
        entropy=SystemEntropy(),
        lanes=LoopLanes(),
        background=Background(clock=clock),
        place=_place,
        lane=ThreadLane,
        open_files=raise_open_files(),
    )

# SPDX-License-Identifier: Apache-2.0
"""Volumes as the data path sees them: who holds which slot, and what may still be appended.

Invariants
  V1  Only the owner appends, only while OPEN; each offset of a volume is written at most once.
  V2  An append is acknowledged only when all k+m slots are durable; the first failure or lateness closes the volume.
  V3  A closed volume is never appended to; nothing is ever truncated.
States  OPEN --close--> CLOSED --retire--> RETIRED;  ELSEWHERE (open, another node appends) --closed there--> CLOSED
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from drystone_core.ids import DiskId, VolumeId
from drystone_core.ports import Disk, DiskFile, Lane
from drystone_core.profiles import Profile
from drystone_core.storage_classes import ANY_DISK, DEFAULT_DISK_CLASS


class DiskState(StrEnum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """An error or lateness: not placed on again for a while; still read (verified) while it answers."""
    FAILED = "failed"
    """Vanished, unreadable or foreign: neither read nor written until it returns."""


@dataclass(slots=True, eq=False)
class DiskUnit:
    """One disk in service: the directory, the thread that serves it, and what we think of it."""

    disk_id: DiskId
    disk: Disk
    lane: Lane
    state: DiskState = DiskState.HEALTHY
    label: str = ""
    """For people: its directory."""
    vouched: bool = False
    """Another node serves it, and only while it makes sure itself, every second, that it still is this disk."""
    disk_class: str = DEFAULT_DISK_CLASS
    """As its identity says."""


@dataclass(slots=True, eq=False)
class Slot:
    """One disk's file of a volume."""

    index: int
    """0 … k-1 data, k … k+m-1 parity."""
    unit: DiskUnit
    file: DiskFile
    """Open for reading (and writing while the volume is open)."""


class VolumeState(StrEnum):
    OPEN = "open"
    ELSEWHERE = "elsewhere"
    """Another node appends to it: read here, and left alone otherwise."""
    CLOSED = "closed"
    RETIRED = "retired"


@dataclass(slots=True, eq=False)
class Volume:
    """A volume and the slots at hand; a slot whose disk is away is None."""

    volume_id: VolumeId
    profile: Profile
    nonce: bytes
    """16 bytes, keys the checksums of headers and tables (R2); never shown."""
    slots: list[Slot | None]
    state: VolumeState = VolumeState.OPEN
    end: int = 0
    """Where the next record goes (bytes); for a closed volume, where its records end as far as known (0 = unknown)."""
    sequence: int = 0
    """Of the next stripe."""
    freed: set[int] = field(default_factory=set)
    """Record offsets of stripes whose payload was punched (from the free map)."""

    @property
    def disk_class(self) -> str:
        """The class of its disks, as far as they are known; ANY_DISK when they are of several."""
        classes = {slot.unit.disk_class for slot in self.slots if slot is not None}
        return classes.pop() if len(classes) == 1 else ANY_DISK


class VolumeMap(Protocol):
    """How readers find a volume. Returns None for an unknown (or retired) one."""

    def get(self, volume: VolumeId, /) -> Volume | None: ...


SlotFailure = Callable[[Volume, int, BaseException], None]
"""Told once per failing slot: (volume, slot index, what happened); TimeoutError for lateness, DamagedFragment for
a bad CRC."""

# SPDX-License-Identifier: Apache-2.0
"""Storage classes, which clients name, and disk classes, on which their bytes lie. Pure.

Invariants
  S1  An object of a storage class lies on disks of one disk class, or is refused: never on disks of another one.
  S2  Without a mapping there is STANDARD alone, on every disk whatever its class.
  S3  With one, STANDARD lies on the default disk class unless it is mapped itself.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from drystone_core.errors import ErrorCode, Unavailable
from drystone_core.profiles import Profile

STANDARD = "STANDARD"
DEFAULT_DISK_CLASS = "standard"
"""The class of disks nobody named one for."""
ANY_DISK = ""
"""In place of a disk class: every disk will do."""
IMMEDIATE = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "REDUCED_REDUNDANCY", "GLACIER_IR")
"""Storage classes whose objects are read at once: those that can be mapped."""
_DEFERRED = {
    "GLACIER": "its objects must be restored before they are read, and there is no restore yet",
    "DEEP_ARCHIVE": "its objects must be restored before they are read, and there is no restore yet",
    "INTELLIGENT_TIERING": "its objects move between tiers by themselves, and nothing moves them yet",
}
_DISK_CLASS = re.compile(r"[a-z][a-z0-9-]{0,31}")


def class_unavailable(sentence: str, disk_class: str, code: ErrorCode = ErrorCode.SERVICE_UNAVAILABLE) -> Unavailable:
    """That the disks of a class (or all, ANY_DISK) take nothing."""
    return Unavailable(sentence, code) if disk_class == ANY_DISK else Unavailable(sentence, code, DiskClass=disk_class)


def is_about_class(error: Unavailable) -> bool:
    """Is it about the disks of one class? Then who answered it is well, and so may be other classes."""
    return "DiskClass" in error.details


def is_disk_class(text: str) -> bool:
    """May a class of disks be called so?"""
    return _DISK_CLASS.fullmatch(text) is not None


def not_a_disk_class(text: str) -> str:
    """What is wrong with a name that is none."""
    return f"{text!r} is not a disk class (lower-case letters, digits, hyphens, a letter first; at most 32)"


@dataclass(frozen=True, slots=True)
class StorageClasses:
    """The operator's mapping."""

    mapped: tuple[tuple[str, str], ...] = ()
    """(storage class, disk class)."""

    def disk_class(self, storage_class: str) -> str | None:
        """The class of the disks its objects lie on, ANY_DISK for every disk; None: there is no such storage class here."""
        for name, disk_class in self.mapped:
            if name == storage_class:
                return disk_class
        if storage_class != STANDARD:
            return None
        return DEFAULT_DISK_CLASS if self.mapped else ANY_DISK

    @property
    def disk_classes(self) -> tuple[str, ...]:
        """Disk classes in use, sorted; empty without a mapping."""
        if not self.mapped:
            return ()
        return tuple(sorted({self.disk_class(STANDARD) or DEFAULT_DISK_CLASS, *dict(self.mapped).values()}))

    def named(self, disk_class: str) -> tuple[str, ...]:
        """The storage classes whose objects lie on disks of that class."""
        names = dict.fromkeys([STANDARD, *(name for name, _ in self.mapped)])
        return tuple(name for name in names if self.disk_class(name) == disk_class)

    def problems(self) -> list[str]:
        """Sentences: what cannot be mapped, and why."""
        found = []
        for name, disk_class in self.mapped:
            if name in _DEFERRED:
                found.append(f"{name} cannot be mapped: {_DEFERRED[name]}")
            elif name not in IMMEDIATE:
                found.append(f"{name!r} is not a storage class that can be mapped; known are {', '.join(IMMEDIATE)}")
            if not is_disk_class(disk_class):
                found.append(not_a_disk_class(disk_class))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortClass:
    """A disk class that cannot take a volume of the whole profile."""

    disk_class: str
    usable: int
    """Disks of it that can be written."""
    needed: int
    """Disks below which nothing is written: m+1."""
    wanted: int
    """Disks of a whole volume: k+m."""

    @property
    def refused(self) -> bool:
        """Writes to the class are refused, not only narrower."""
        return self.usable < self.needed


def short_classes(
    classes: StorageClasses, usable: Iterable[str], every: Iterable[str], profile: Profile
) -> list[ShortClass]:
    """Mapped classes that are short of disks. `usable`, `every`: the classes of the disks that can be written, of all.

    A class that never had enough disks for whole volumes is short only when writes to it are refused.
    """
    can, all_of = list(usable), list(every)
    found = []
    for disk_class in classes.disk_classes:
        count = can.count(disk_class)
        wanted = max(min(profile.slots, all_of.count(disk_class)), profile.m + 1)
        if count < wanted:
            found.append(ShortClass(disk_class=disk_class, usable=count, needed=profile.m + 1, wanted=wanted))
    return found

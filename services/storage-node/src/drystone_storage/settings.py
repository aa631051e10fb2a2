# SPDX-License-Identifier: Apache-2.0
"""What may be set about a storage node; every limit has its default here."""

import os
from dataclasses import dataclass, field

from drystone_core.ids import ClusterId
from drystone_core.profiles import Profile
from drystone_datapath.append import AppendSettings
from drystone_runtime import config_sections
from drystone_storage.disks.classes import DiskClasses

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How disks are watched. Seconds, bytes."""

    every: float = 1.0
    """Between two looks at each disk."""
    patience: float = 0.9
    """For one look; a lane busy longer than `hung` is not even asked."""
    hung: float = 5.0
    """One call on a lane that runs longer makes the disk FAILED until it ends."""
    error_backoff: float = 600.0
    """After an error nothing is placed on the disk for so long, doubling up to `most_backoff`."""
    late_backoff: float = 60.0
    """The same after lateness, and after slowness by habit."""
    away_backoff: float = 5.0
    """The same after its node could not be reached."""
    most_backoff: float = 86_400.0
    full_backoff: float = 20.0
    """After ENOSPC although the file system claims space."""
    adopt_after: float = 30.0
    """A failed disk whose path shows an empty directory for so long is replaced by it (when A2 allows); 0 = never."""
    lost_after: float = 600.0
    """A disk FAILED for so long is taken for lost: its slots are rebuilt on others, where there are others."""
    reserve: int = 0
    """Bytes kept free on each disk; 0 = 2 % of it, at most 4 GiB, at least 64 MiB."""

    def reserve_of(self, total: int) -> int:
        """Bytes below which nothing is appended to a disk of `total` bytes."""
        return self.reserve or max(64 * MIB, min(total // 50, 4 * GIB))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSettings:
    """How volumes are opened and left."""

    create_deadline: float = 5.0
    tries: int = 6
    """Volumes tried for one blob before the client is told 503."""
    late_closings: int = 8
    """Closings for lateness or slowness a minute in the whole cell; beyond that new volumes wait. Errors are not counted."""
    spare_at: float = 0.75
    """Share of the limit at which the next volume is made ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """A storage node."""

    paths: tuple[str, ...]
    profile: Profile | None = None
    """For a new store; None = by the number of disks."""
    cell: ClusterId | None = None
    """The cell whose disks these are; None: a store of its own. In a cell other nodes hold the other slots, so any number
    of disks will do and any may be missing."""
    add_disks: bool = False
    """Take in empty directories that are not among the store's disks."""
    create: bool = True
    """Initialise when all directories are empty. Set it False once the store is known to exist: if all its disks are
    unmounted at once, nothing on them tells so."""
    disk_classes: DiskClasses = DiskClasses()
    """Those the operator gave the disks."""
    apart: tuple[str, ...] = ()
    """The disk classes that volumes keep to; empty: volumes lie on disks of any class. Chooses a new store's profile."""
    piece_buffers: int = 16
    """Bounds the memory of all writers: 8 MiB each."""
    read_buffers: int = 64
    """1 MiB each."""
    open_files: int = 512
    """Shard files kept open for reading, per disk; fewer when the process may not open that many."""
    scan_pause: float = 0.005
    """Seconds between two steps (256 records) of a reclaim scan."""
    append: AppendSettings = field(default_factory=AppendSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    open: OpenSettings = field(default_factory=OpenSettings)


def chosen(section: config_sections.StorageSettings, paths: tuple[str, ...], *, create: bool = True) -> StorageSettings:
    """The node's own settings from what was configured."""
    return StorageSettings(
        paths=paths,
        create=create,
        profile=Profile.parse(section.profile) if section.profile else None,
        disk_classes=DiskClasses(tuple((_absolute(named), name) for named, name in section.disk_classes)),
        apart=section.storage_classes().disk_classes,
        append=AppendSettings(
            volume_limit=section.volume_size,
            deadline=section.append_deadline,
            slow=section.slowness(),
        ),
        watch=WatchSettings(reserve=section.reserve, lost_after=section.lost_after),
    )


def _absolute(named: str) -> str:
    """A directory as disks are named; a pattern that begins with a star means whatever lies before."""
    return named if named.startswith("*") else os.path.abspath(named)

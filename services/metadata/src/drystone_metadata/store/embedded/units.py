# SPDX-License-Identifier: Apache-2.0
"""What the embedded storage is given: disks to keep members on, and its settings."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drystone_core.check import check
from drystone_core.ids import DiskId
from drystone_core.ports import Disk, Lane
from drystone_core.slowness import SlownessSettings

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called on the loop with an event's name and fields; must return at once."""

RESOURCE_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Want of something, not a fault of the disk (R10)."""


def is_disk_fault(error: BaseException) -> bool:
    """Whether a failed disk call speaks against the disk."""
    return not (isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in RESOURCE_ERRORS))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberUnit:
    """A disk that may hold a member. All disks of the cell are given, in a stable order."""

    disk_id: DiskId
    path: str
    """The disk's real directory: SQLite needs one."""
    disk: Disk
    """The same directory as a Disk: journals and the reserve go through it."""
    lane: Lane
    """Journal writes only: what a commit waits for."""
    db_lane: Lane | None = None
    """SQLite writes, checkpoints and journal preparation; `lane` when absent (then commits wait behind them)."""
    read_lane: Lane | None = None
    """Long reads; `db_lane` when absent."""

    @property
    def background(self) -> Lane:
        return self.db_lane or self.lane

    @property
    def reading(self) -> Lane:
        return self.read_lane or self.background


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """Bounds and intervals."""

    segment_bytes: int = 8 << 20
    """Of a pre-written journal segment."""
    apply_bytes: int = 16 << 20
    """Of journal, after which what is in memory goes into the members' SQLite files."""
    apply_interval: float = 15.0
    """Seconds after which it goes there anyway."""
    layers_most: int = 4
    """Bound on what is in memory: commits wait for SQLite beyond so many times `apply_bytes`."""
    late_after: float = 1.0
    """Seconds: a member later than this is dropped when another has answered."""
    slow: SlownessSettings = field(default_factory=SlownessSettings)
    """Of a member's journal writes beside those of the others: one that is slow by habit is left for a spare."""
    slow_backoff: float = 60.0
    """Seconds for which a member left for slowness takes nobody's place so again, doubling each time."""
    slow_for: float = 10.0
    """Seconds for which others are read from after a read was late."""
    disk_deadline: float = 30.0
    """Seconds for any other call on a disk before it counts as failed."""
    scan_inline: int = 64
    """Scans of at most so many rows run on the loop, longer ones on the reader's lane."""
    copy_rows: int = 500
    """Rows per step when a member is rebuilt."""
    copy_pause: float = 0.005
    """Seconds between those steps."""
    retry_failed_after: float = 600.0
    """Seconds before a failed disk is tried again as a spare when members are wanting."""
    cache_kib: int = 64 << 10
    """SQLite's page cache for reads on the loop."""
    reserve_bytes: int = 4 << 20
    """Held back on each member's disk for SQLite's files on a full disk."""
    verify_every: float = 86_400.0
    """Seconds between two comparisons of the members' files (R11); 0 = only when asked."""
    verify_first: float = 600.0
    """Seconds after the start until the first, at most `verify_every`."""
    accept_loss: bool = False
    """An operator's override: open although too many disks are missing; acknowledged commits may be lost."""

    def __post_init__(self) -> None:
        check(self.segment_bytes >= 16384 and self.segment_bytes % 4096 == 0, "segment_bytes: whole blocks, >= 16 KiB")
        check(self.layers_most >= 2, "layers_most: at least 2")

# SPDX-License-Identifier: Apache-2.0
"""One disk of the cell as the storage sees it: journal, SQLite file, standing.

Standing    SPARE --joins a set--> MEMBER --error, lateness, slowness--> FAILED --retry--> SPARE
Invariants
  M1  A MEMBER's journal holds every record since it joined; its file is `complete`, or being rebuilt.
  M2  A file that cannot be trusted is renamed aside, and unlinked only when the file that took its place is complete,
      passed quick_check and reached the head.
"""

import asyncio
import errno
import logging
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import apsw

from drystone_core.errors import Damaged
from drystone_core.formats.journal import BLOCK
from drystone_core.ids import DiskId
from drystone_metadata.store.embedded.database import Applied, Database, file_names
from drystone_metadata.store.embedded.overlay import Layer
from drystone_metadata.store.embedded.recovery import Seen
from drystone_metadata.store.embedded.segments import FOLDER, Journal, read_segments
from drystone_metadata.store.embedded.units import EmbeddedSettings, MemberUnit
from drystone_metadata.store.ports import RowKey

log = logging.getLogger(__name__)
RESERVE = "meta/reserve"
COPY_START = RowKey(0, b"", bytes(8))
"""A rebuild begins with the feed (kind 0, the sequence copied so far), then the rows."""


class Standing(StrEnum):
    MEMBER = "member"
    SPARE = "spare"
    FAILED = "failed"


class Member:
    """Mutable; owned by the loop, whose calls marked Blocking it sends to the unit's lanes."""

    __slots__ = (
        "_cluster_id",
        "_settings",
        "applied",
        "db",
        "distrusted",
        "durable_index",
        "failed_at",
        "flushing",
        "gate",
        "joined_index",
        "joined_term",
        "journal",
        "left_times",
        "left_until",
        "reason",
        "rebuilding",
        "rebuilds",
        "slow_until",
        "standing",
        "unit",
    )

    def __init__(self, unit: MemberUnit, *, cluster_id: str, settings: EmbeddedSettings) -> None:
        self.unit = unit
        self._cluster_id = cluster_id
        self._settings = settings
        self.journal = Journal(unit.disk, segment_bytes=settings.segment_bytes)
        self.db: Database | None = None
        self.applied: Applied | None = None
        self.durable_index = 0
        """The fsynced SQLite file holds everything up to here."""
        self.standing = Standing.SPARE
        self.reason = ""
        """Why it failed."""
        self.failed_at = 0.0
        self.slow_until = 0.0
        """Others are read from until then."""
        self.left_until = 0.0
        """It was slow by habit: until then it is no spare for another slow member, nor left again."""
        self.left_times = 0
        self.flushing = False
        self.rebuilding = False
        self.rebuilds = 0
        """Begun so far: one that another has followed is over."""
        self.distrusted = False
        """Its file failed a checksum: others serve before it does."""
        self.gate = asyncio.Lock()
        """Held by whatever changes the file, and by comparisons that need it to stand still."""
        self.joined_term = 0
        """Journal files of earlier terms are not its own any more (it was outside the set since)."""
        self.joined_index = 0
        """Its journal holds every record after this one; its file is not complete before it has come so far."""

    @property
    def disk_id(self) -> DiskId:
        return self.unit.disk_id

    @property
    def serves(self) -> bool:
        """Reads may come from its file."""
        return self.db is not None and self.applied is not None and self.applied.complete

    @property
    def path(self) -> Path:
        return Path(self.unit.path) / "meta" / "member.db"

    # Blocking, on the background lane

    def inspect(self) -> Seen:
        """Read the journal and the file. Raises OSError when the disk does; an unusable file counts as absent."""
        segments, others = read_segments(self.unit.disk, bytes.fromhex(self._cluster_id))
        self.journal.adopt(segments, others)
        if self.path.exists():
            if self.unit.disk.space()[0] < self._settings.reserve_bytes:
                with suppress(FileNotFoundError):
                    self.release_reserve()
            self._open_existing()
        return Seen(disk_id=self.disk_id, segments=segments, applied=self.applied)

    def _open_existing(self) -> None:
        try:
            self.db = Database(self.path, create=False, cache_kib=self._settings.cache_kib)
            self.applied = self.db.applied()
            if self.applied is None or (self.applied.cluster, self.applied.disk) != (self._cluster_id, self.disk_id):
                raise Damaged("the metadata file belongs to another disk or cluster")
            if self.db.checkpoint():
                self.durable_index = self.applied.index
        except (apsw.Error, Damaged, ValueError, KeyError) as error:
            if isinstance(error, apsw.Error) and self.unit.disk.space()[0] < BLOCK * 16:
                raise OSError(errno.ENOSPC, "no space to open the metadata file") from error
            log.warning("metadata.member_file_unusable", extra={"disk": self.disk_id, "error": repr(error)})
            self.drop_db()

    def create_db(self, applied: Applied) -> None:
        """A new file at `applied`; what was there is set aside."""
        self.drop_db()
        self.path.parent.mkdir(exist_ok=True)
        self.set_aside()
        self.db = Database(self.path, create=True, cache_kib=self._settings.cache_kib)
        applied = replace(applied, cluster=self._cluster_id, disk=self.disk_id)
        self.db.note(applied)
        self.durable_index = applied.index if self.db.checkpoint() else 0
        self.applied = applied
        with suppress(OSError):
            self.hold_reserve()

    def set_aside(self) -> None:
        """Rename the file (and its WAL) out of the way; one is kept."""
        for name in file_names(self.path):
            if name.exists():
                name.rename(name.with_name(name.name.replace("member.db", "aside.db")))

    def forget_aside(self) -> None:
        """Unlink what was set aside and journals from before it left the set, once this file is checked (M2)."""
        if self.db is None or not self.db.quick_check():
            return
        for name in file_names(self.path.with_name("aside.db")):
            name.unlink(missing_ok=True)
        self.journal.drop_older(self.joined_term)

    def probe(self) -> None:
        """Whether the disk takes writes and reads again."""
        self.hold_reserve()
        self.unit.disk.listdir(FOLDER)

    def hold_reserve(self) -> None:
        """Set space aside for SQLite's files (R10)."""
        handle = self.unit.disk.open(RESERVE, create=True)
        try:
            handle.allocate(0, self._settings.reserve_bytes)
        finally:
            handle.close()

    def release_reserve(self) -> None:
        """Give that space to SQLite."""
        handle = self.unit.disk.open(RESERVE)
        try:
            handle.punch(0, self._settings.reserve_bytes)
        finally:
            handle.close()

    def apply(self, layers: list[Layer], applied: list[Applied]) -> int:
        """Apply the layers one after the other, then checkpoint; the durable index."""
        db = self.db
        if db is None:
            raise OSError("no metadata file")
        durable = self.durable_index
        for layer, after in zip(layers, applied, strict=True):
            db.apply(layer, after)
            # One transaction in the WAL at a time: a flipped bit in a WAL of several, all in the file already, would
            # put the pages of the first ones over those of the last.
            if db.checkpoint():
                durable = after.index
        with suppress(OSError):
            self.journal.recycle(durable)
        return durable

    def finish(self, applied: Applied) -> bool:
        """Make a rebuilt file complete; False when a reader kept it from being made durable now."""
        db = self.db
        if db is None:
            raise OSError("no metadata file")
        if not db.checkpoint():
            return False
        db.note(applied)
        return db.checkpoint()

    def drop_db(self) -> None:
        """Close the file's connections, whatever state they are in."""
        db, self.db, self.applied = self.db, None, None
        if db is not None:
            with suppress(apsw.Error):
                db.close()

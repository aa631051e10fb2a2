# SPDX-License-Identifier: Apache-2.0
"""A member's SQLite file. Format: docs/formats/member.md.

Invariants
  D1  Rows, feed and `applied` change in one transaction: the file is the exact state after record `applied.index`
      (while `applied.copied` is set: of the rows up to there; see rebuild.py).
  D2  Every page carries a checksum from the first database on (SQLite's cksumvfs), `applied` a CRC32C of its own, and
      every row's value the seal of drystone_core.formats.rowseal.
  D3  Nothing is fsynced by a commit (synchronous=NORMAL): the journal leads. `checkpoint` says what is durable.
All methods block: they run on a lane, save `row` and short `rows`, which the loop calls on a connection of its own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import apsw.sqlite_extra

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.ids import DiskId
from drystone_metadata.store.embedded.overlay import Layer
from drystone_metadata.store.embedded.units import RESOURCE_ERRORS
from drystone_metadata.store.ports import FeedRow, RowKey, TabletId, TabletPhase, TabletState

FORMAT = 1
VFS = "cksmvfs"
_SCHEMA = """
CREATE TABLE rows(kind INTEGER, key BLOB, seq BLOB, value BLOB NOT NULL, PRIMARY KEY(kind, key, seq)) WITHOUT ROWID;
CREATE TABLE feed(seq INTEGER PRIMARY KEY, batch_id BLOB NOT NULL, record BLOB NOT NULL);
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_PRAGMAS = """
PRAGMA journal_mode=wal;
PRAGMA synchronous=normal;
PRAGMA wal_autocheckpoint=0;
PRAGMA journal_size_limit=67108864;
"""
_ROW = "SELECT value FROM rows WHERE kind=? AND key=? AND seq=?"
_ROWS = (
    "SELECT kind, key, seq, value FROM rows WHERE (kind, key, seq) >= (?, ?, ?) AND (kind, key, seq) < (?, ?, ?)"
    " ORDER BY kind, key, seq LIMIT ?"
)
_INDEX = "SELECT value FROM meta WHERE name='index'"
_PUT = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM rows WHERE kind=? AND key=? AND seq=?"
_FEED_PUT = "INSERT OR REPLACE INTO feed VALUES (?, ?, ?)"
_FEED_GET = "SELECT seq, batch_id, record FROM feed WHERE seq > ? ORDER BY seq LIMIT ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How far a file is, and the statics there."""

    cluster: str
    disk: DiskId
    index: int
    term: int
    hash: bytes
    members: tuple[DiskId, ...] = ()
    """The member set of `term`."""
    state: TabletState | None = None
    copied: RowKey | None = field(default=None)
    """Rebuild in progress: rows below are copied. None = the file is complete."""
    copied_index: int = 0
    """Rebuild: the file is whole only once `index` has reached this."""

    @property
    def complete(self) -> bool:
        return self.copied is None and self.index >= self.copied_index


def is_file_fault(error: apsw.Error, connection: apsw.Connection | None) -> bool:
    """Whether an error speaks against the file or its disk: want of space, memory or descriptors does not (R10)."""
    if isinstance(error, apsw.FullError | apsw.NoMemError | apsw.BusyError | apsw.InterruptError):
        return False
    number = connection.system_errno if connection is not None else 0
    return not (isinstance(error, apsw.IOError | apsw.CantOpenError) and number in RESOURCE_ERRORS)


def load_checksum_vfs() -> None:
    """Register SQLite's checksum VFS; SQLite's default VFS stays what it was."""
    if VFS not in apsw.vfs_names():
        names = apsw.vfs_names()
        connection = apsw.Connection(":memory:")
        apsw.sqlite_extra.load(connection, "cksumvfs")
        connection.close()
        apsw.set_default_vfs(names[0])


class Database:
    """The connections to one file: a writer (background lane), a reader for the loop, one for the reading lane."""

    __slots__ = ("_long", "_loop", "_writer", "path")

    def __init__(self, path: Path, *, create: bool, cache_kib: int) -> None:
        """Open, or make an empty file (absent, or left empty by a crash). Raises apsw.Error."""
        self.path = path
        self._writer = self._connect(create=create, cache_kib=8192)
        if create and not list(self._writer.execute("SELECT 1 FROM sqlite_schema WHERE name='meta'")):
            self._writer.execute("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT")
        self._loop = self._connect(create=False, cache_kib=cache_kib)
        self._loop.set_busy_timeout(20)
        self._long = self._connect(create=False, cache_kib=8192)

    def _connect(self, *, create: bool, cache_kib: int) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(str(self.path), flags=flags, vfs=VFS, statementcachesize=32)
        connection.reserve_bytes("main", 8)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(2000)
        connection.execute(_PRAGMAS)
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        return connection

    def close(self) -> None:
        """Close all connections; nothing is checkpointed."""
        for connection in (self._long, self._loop, self._writer):
            connection.close(True)

    def fault(self, error: apsw.Error) -> bool:
        """See `is_file_fault`."""
        return is_file_fault(error, self._writer)

    # Reads

    def row(self, key: RowKey) -> bytes | None:
        """One row, on the loop's connection."""
        found: bytes | None = self._loop.execute(_ROW, key).get
        return found

    def row_group(self, keys: Sequence[RowKey], *, inline: bool) -> tuple[int, list[bytes | None]]:
        """(applied index, rows in the order asked) of one snapshot."""
        connection = self._loop if inline else self._long
        execute = connection.execute
        execute("BEGIN")
        try:
            index = execute(_INDEX).get
            return index, [execute(_ROW, key).get for key in keys]
        finally:
            execute("COMMIT")

    def rows(self, start: RowKey, end: RowKey, limit: int, *, inline: bool) -> tuple[int, list[tuple[RowKey, bytes]]]:
        """(applied index of the snapshot, rows in order). The index is 0 when `inline`: then nobody needs it."""
        if inline:
            return 0, self._rows(self._loop, start, end, limit)
        connection = self._long
        connection.execute("BEGIN")
        try:
            index = connection.execute(_INDEX).get
            return index, self._rows(connection, start, end, limit)
        finally:
            connection.execute("COMMIT")

    @staticmethod
    def _rows(connection: apsw.Connection, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        make = RowKey._make
        return [(make(row[:3]), row[3]) for row in connection.execute(_ROWS, (*start, *end, limit))]

    def feed(self, after: int, limit: int) -> tuple[int, list[FeedRow]]:
        """(applied index, feed rows) of one snapshot, on the reading lane's connection."""
        connection = self._long
        connection.execute("BEGIN")
        try:
            index = connection.execute(_INDEX).get
            return index, [FeedRow._make(row) for row in connection.execute(_FEED_GET, (after, limit))]
        finally:
            connection.execute("COMMIT")

    def applied(self) -> Applied | None:
        """How far the file is; None in a file that was never written. Damaged when it fails its checksum."""
        stored = self._writer.execute("SELECT value FROM meta WHERE name='applied'").get
        return None if stored is None else decode_applied(stored)

    def quick_check(self) -> bool:
        """SQLite's own check of the file's structure; every page's checksum is verified on the way."""
        try:
            return bool(self._long.execute("PRAGMA quick_check(1)").get == "ok")
        except apsw.Error:
            return False

    # Writes

    def apply(self, layer: Layer, applied: Applied) -> None:
        """Bring the file to the layer's last record."""
        rows = layer.rows
        with _transaction(self._writer) as connection:
            if layer.cleared:
                connection.execute("DELETE FROM rows")
                connection.execute("DELETE FROM feed")
            keys = sorted(rows)
            connection.executemany(_DELETE, [key for key in keys if rows[key] is None])
            connection.executemany(_PUT, [(*key, value) for key in keys if (value := rows[key]) is not None])
            connection.executemany(_FEED_PUT, layer.feed)
            if layer.trim:
                connection.execute("DELETE FROM feed WHERE seq < ?", (layer.trim,))
            _write_applied(connection, applied)

    def copy_in(self, rows: Sequence[tuple[RowKey, bytes]], feed: Sequence[FeedRow], applied: Applied) -> None:
        """A step of a rebuild."""
        with _transaction(self._writer) as connection:
            connection.executemany(_PUT, [(*key, value) for key, value in rows])
            connection.executemany(_FEED_PUT, feed)
            _write_applied(connection, applied)

    def note(self, applied: Applied) -> None:
        """Record `applied` alone."""
        with _transaction(self._writer) as connection:
            _write_applied(connection, applied)

    def checkpoint(self) -> bool:
        """Move the WAL into the file and fsync it; True when all of it went (then `applied` is durable)."""
        log, done = self._writer.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return log == done


class _transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on an exception."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> apsw.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
                return
            except apsw.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _write_applied(connection: apsw.Connection, applied: Applied) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('applied', ?)", (encode_applied(applied),))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('index', ?)", (applied.index,))


def encode_applied(applied: Applied) -> bytes:
    """JSON behind a CRC32C (4 bytes, big endian)."""
    state = applied.state
    document: dict[str, Any] = {
        "format": FORMAT,
        "cluster": applied.cluster,
        "disk": applied.disk,
        "index": applied.index,
        "term": applied.term,
        "hash": applied.hash.hex(),
        "members": list(applied.members),
        "copied": None
        if applied.copied is None
        else [applied.copied[0], applied.copied[1].hex(), applied.copied[2].hex()],
        "copied_index": applied.copied_index,
        "state": None
        if state is None
        else {
            "head": state.head,
            "epoch": state.epoch,
            "batch_id": state.batch_id.hex(),
            "floor_us": state.floor_us,
            "generation": state.generation,
            "phase": state.phase.value,
            "low": state.low.hex(),
            "high": state.high.hex(),
            "child": state.child.hex(),
        },
    }
    body = json.dumps(document, sort_keys=True).encode()
    return crc32c(body).to_bytes(4, "big") + body


def decode_applied(stored: bytes) -> Applied:
    """The inverse; Damaged when the checksum or the format is wrong."""
    if len(stored) < 4 or crc32c(stored[4:]) != int.from_bytes(stored[:4], "big"):
        raise Damaged("a metadata member's applied record fails its checksum")
    document = json.loads(stored[4:])
    if document["format"] != FORMAT:
        raise Damaged(f"metadata member of format {document['format']}: another release wrote it")
    state, copied = document["state"], document["copied"]
    return Applied(
        cluster=document["cluster"],
        disk=DiskId(document["disk"]),
        index=document["index"],
        term=document["term"],
        hash=bytes.fromhex(document["hash"]),
        members=tuple(DiskId(member) for member in document["members"]),
        copied=None if copied is None else RowKey(copied[0], bytes.fromhex(copied[1]), bytes.fromhex(copied[2])),
        copied_index=document["copied_index"],
        state=None if state is None else _decode_state(state),
    )


def _decode_state(document: dict[str, Any]) -> TabletState:
    return TabletState(
        head=document["head"],
        epoch=document["epoch"],
        batch_id=bytes.fromhex(document["batch_id"]),
        floor_us=document["floor_us"],
        generation=document["generation"],
        phase=TabletPhase(document["phase"]),
        low=bytes.fromhex(document["low"]),
        high=bytes.fromhex(document["high"]),
        child=TabletId(bytes.fromhex(document["child"])),
    )


def file_names(path: Path) -> Iterator[Path]:
    """The file and its companions."""
    for suffix in ("", "-wal", "-shm"):
        yield path.with_name(path.name + suffix)

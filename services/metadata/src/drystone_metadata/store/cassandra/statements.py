# SPDX-License-Identifier: Apache-2.0
"""The CQL of a tablet: every statement that touches its partition, prepared once.

Invariants
  Q1  Whatever changes a partition is conditional on its statics: alone, or in one batch with a statement that is. So all
      cells carry Paxos ballots as timestamps, and their order is the order of commits.
  Q2  Low, high, state, child and note change only together with the epoch: who knows the range of an epoch knows it for
      good.
Layout  docs/formats/cassandra.md. A TabletId is cut after 8 bytes into bucket_id and tablet_id.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from drystone_metadata.store.cassandra.session import CqlSession
from drystone_metadata.store.ports import Batch, Expected, Fill, RowKey, TabletId, TabletState
from drystone_metadata.store.ranges import OBJECT_KINDS

SENTINEL = RowKey(0, b"")
"""The first row of every tablet, alive as long as the tablet."""
FEED = 256
"""Kind of feed rows: after every row kind. key = sequence (8 bytes, big endian), seq = batch id, value = record."""

_AT = "WHERE bucket_id = ? AND tablet_id = ?"
_STATICS = "head, epoch, batch_id, floor, bucket_gen, low, high, state, child, note"
_TEXTS = {
    "create": (
        "INSERT INTO {tablets} (bucket_id, tablet_id, kind, key, seq, value, head, epoch, batch_id, floor, bucket_gen,"
        " low, high, state, child, note, trimmed)"
        " VALUES (?, ?, 0, 0x, 0x, 0x, 0, 0, 0x, 0, ?, ?, ?, ?, ?, 0x, 0) IF NOT EXISTS"
    ),
    "advance": (
        "UPDATE {tablets} SET head = ?, batch_id = ?, floor = ?, bucket_gen = ? " + _AT + " IF head = ? AND epoch = ?"
        " AND bucket_gen = ? AND state = 'open' AND batch_id != ?"
    ),
    "fill": (
        "UPDATE {tablets} SET head = ?, batch_id = ? " + _AT + " IF head = ? AND epoch = ?"
        " AND bucket_gen = ? AND state = ? AND batch_id != ?"
    ),
    "reshape": (
        "UPDATE {tablets} SET head = ?, epoch = ?, batch_id = ?, floor = ?, bucket_gen = ?, low = ?, high = ?, state = ?,"
        " child = ?, note = ? " + _AT + " IF head = ? AND epoch = ? AND bucket_gen = ? AND state = ?"
    ),
    "hold": "UPDATE {tablets} SET epoch = ? " + _AT + " IF epoch = ? AND state = ?",
    "below": "DELETE FROM {tablets} " + _AT + " AND kind = ? AND key < ?",
    "above": "DELETE FROM {tablets} " + _AT + " AND kind = ? AND key >= ?",
    "put": "INSERT INTO {tablets} (bucket_id, tablet_id, kind, key, seq, value) VALUES (?, ?, ?, ?, ?, ?)",
    "delete": "DELETE FROM {tablets} " + _AT + " AND kind = ? AND key = ? AND seq = ?",
    "raise_epoch": "UPDATE {tablets} SET epoch = ? " + _AT + " IF epoch = ?",
    "trim": "UPDATE {tablets} SET trimmed = ? " + _AT + " IF trimmed < ?",
    "forget": f"DELETE FROM {{tablets}} {_AT} AND kind = {FEED} AND key < ?",
    "gone": "DELETE state FROM {tablets} " + _AT + " IF EXISTS",
    "drop": "DELETE FROM {tablets} " + _AT,
}
_SERIAL = {"settled": f"SELECT {_STATICS}, kind FROM {{tablets}} {_AT} AND kind = 0 AND key = 0x AND seq = 0x"}
_READS = {
    "statics": _SERIAL["settled"],
    "rows": f"SELECT kind, key, seq, value, epoch FROM {{tablets}} {_AT} AND (kind, key, seq) IN ?",
    "page": (
        f"SELECT kind, key, seq, value, epoch FROM {{tablets}} {_AT}"
        " AND (kind, key, seq) >= (?, ?, ?) AND (kind, key, seq) < (?, ?, ?) LIMIT ?"
    ),
    "feed": f"SELECT key, seq, value FROM {{tablets}} {_AT} AND kind = {FEED} AND key > ? LIMIT ?",
}
_ROW_OVERHEAD = 96
"""Bytes of one statement in a batch beside partition, key, seq and value, about; on the wire and in the mutation."""


def partition(tablet: TabletId) -> tuple[bytes, bytes]:
    """(bucket_id, tablet_id)."""
    return tablet[:8], tablet[8:]


def sequence_key(sequence: int) -> bytes:
    """The key of a feed row."""
    return sequence.to_bytes(8, "big")


def batch_size(tablet: TabletId, batch: Batch | Fill) -> int:
    """Bytes a commit takes in a message and in a mutation, about (never less)."""
    each = _ROW_OVERHEAD + len(tablet)
    rows = sum(each + len(key.key) + len(key.seq) + len(value) for key, value in batch.puts)
    rows += sum(each + len(key.key) + len(key.seq) for key in batch.deletes)
    records = [batch.feed] if isinstance(batch, Batch) else [row.record for row in batch.feed]
    return rows + 4 * each + sum(each + len(record) for record in records)


@dataclass(frozen=True, slots=True)
class Statements:
    """Prepared on one session; `prepare` makes it."""

    create: PreparedStatement
    advance: PreparedStatement
    fill: PreparedStatement
    reshape: PreparedStatement
    hold: PreparedStatement
    below: PreparedStatement
    above: PreparedStatement
    put: PreparedStatement
    delete: PreparedStatement
    raise_epoch: PreparedStatement
    trim: PreparedStatement
    forget: PreparedStatement
    gone: PreparedStatement
    drop: PreparedStatement
    settled: PreparedStatement
    statics: PreparedStatement
    rows: PreparedStatement
    page: PreparedStatement
    feed: PreparedStatement

    def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> BatchStatement:
        """The conditional batch of a commit. Cells of one batch have one timestamp, so each row stands in it once."""
        at = partition(tablet)
        head = expected.head + 1
        statement = _batch()
        statement.add(
            self.advance,
            (
                head, batch.batch_id, batch.floor_us, batch.generation, *at,
                expected.head, expected.epoch, expected.generation, batch.batch_id,
            ),
        )  # fmt: skip
        self._add_rows(statement, at, batch)
        statement.add(self.put, (*at, FEED, sequence_key(head), batch.batch_id, batch.feed))
        return statement

    def filling(self, tablet: TabletId, expected: TabletState, fill: Fill) -> BatchStatement:
        """The conditional batch of a fill."""
        at = partition(tablet)
        statement = _batch()
        statement.add(
            self.fill,
            (
                expected.head + 1, fill.batch_id, *at,
                expected.head, expected.epoch, expected.generation, expected.phase.value, fill.batch_id,
            ),
        )  # fmt: skip
        self._add_rows(statement, at, fill)
        for sequence, batch_id, record in fill.feed:
            statement.add(self.put, (*at, FEED, sequence_key(sequence), batch_id, record))
        return statement

    def _add_rows(self, statement: BatchStatement, at: tuple[bytes, bytes], batch: Batch | Fill) -> None:
        put, delete, puts = self.put, self.delete, dict(batch.puts)
        for key in dict.fromkeys(batch.deletes):
            if key not in puts:
                statement.add(delete, (*at, *key))
        for key, value in puts.items():
            statement.add(put, (*at, *key, value))

    def reshaping(self, tablet: TabletId, expected: TabletState, to: TabletState) -> BoundStatement:
        """The conditional update of all statics."""
        return self.reshape.bind(
            (
                to.head, to.epoch, to.batch_id, to.floor_us, to.generation, to.low, to.high, to.phase.value, to.child,
                to.note, *partition(tablet),
                expected.head, expected.epoch, expected.generation, expected.phase.value,
            )
        )  # fmt: skip

    def clearing(self, tablet: TabletId, expected: TabletState) -> BatchStatement:
        """Forget the object rows outside the range."""
        at = partition(tablet)
        statements = [self.hold.bind((expected.epoch, *at, expected.epoch, expected.phase.value))]
        for kind in OBJECT_KINDS:
            if expected.low:
                statements.append(self.below.bind((*at, kind, expected.low)))
            if expected.high:
                statements.append(self.above.bind((*at, kind, expected.high)))
        return _batch(statements)

    def trim_feed(self, tablet: TabletId, before: int) -> BatchStatement:
        """Forget the feed below `before`, once."""
        at = partition(tablet)
        return _batch((self.trim.bind((before, *at, before)), self.forget.bind((*at, sequence_key(before)))))

    def drop_tablet(self, tablet: TabletId) -> BatchStatement:
        """The whole partition."""
        at = partition(tablet)
        return _batch((self.gone.bind(at), self.drop.bind(at)))


def _batch(statements: Iterable[BoundStatement] = ()) -> BatchStatement:
    """Unlogged: one partition is atomic without a batch log."""
    batch = BatchStatement(BatchType.UNLOGGED, serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL)
    for statement in statements:
        batch.add(statement)
    return batch


async def prepare(session: CqlSession, keyspace: str) -> Statements:
    """Prepare all of them."""
    made = {}
    for texts, serial, plain_read in ((_TEXTS, False, False), (_SERIAL, True, False), (_READS, False, True)):
        for name, text in texts.items():
            filled = text.format(tablets=f"{keyspace}.tablets")
            made[name] = await session.prepare(filled, serial=serial, plain_read=plain_read)
    return Statements(**made)

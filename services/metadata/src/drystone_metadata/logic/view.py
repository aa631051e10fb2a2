# SPDX-License-Identifier: Apache-2.0
"""What a batch of mutations sees: rows read at one head, with the changes of the batch's earlier mutations on top.

Invariants
  V1  A row not yet read is never taken for absent: asking for one raises NeedRows, the shell reads it and asks again.
  V2  A mutation reads the view as its predecessors left it; its own changes enter by `accept`, all or none.
  V3  `changed` is the net effect of the batch: the last value of every row that any accepted mutation touched.
  V4  What the tablet does not hold is never taken for absent: an object row outside its range is KeyOutOfRange, and a bucket
      that it has no open copy of is NotCarried, unless it is the first tablet, which knows all buckets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from drystone_core.errors import ErrorCode, Refused, Stale
from drystone_core.formats.feed import FeedEntry
from drystone_core.formats.row_keys import BUCKET
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.ids import BlobId, BucketId, Key, Uid, WriteId
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket
from drystone_metadata.store.ports import RowKey, TabletState
from drystone_metadata.store.ranges import check_keys

NO_UID = Uid(bytes(16))
_TOP = b"\xff" * 24
"""Above every seq."""
_WHOLE = TabletState()


class Span(NamedTuple):
    """The rows of one kind and key with start <= seq < stop."""

    kind: int
    key: bytes
    start: bytes = b""
    stop: bytes = _TOP

    @property
    def bounds(self) -> tuple[RowKey, RowKey]:
        """For TabletStorage.scan."""
        return RowKey(self.kind, self.key, self.start), RowKey(self.kind, self.key, self.stop)


class Under(NamedTuple):
    """The rows of one kind whose keys begin with 8 bytes: everything of a kind in one bucket."""

    kind: int
    bucket8: bytes

    @property
    def bounds(self) -> tuple[RowKey, RowKey]:
        """For TabletStorage.scan."""
        after = (int.from_bytes(self.bucket8, "big") + 1).to_bytes(9, "big")[1:]
        return RowKey(self.kind, self.bucket8), RowKey(self.kind, after)


class NeedRows(Exception):
    """The view lacks rows: read these and decide again."""

    def __init__(self, *, rows: tuple[RowKey, ...] = (), span: Span | Under | None = None, limit: int = 0) -> None:
        super().__init__("rows needed")
        self.rows = rows
        self.span = span
        self.limit = limit


class NotCarried(Stale):
    """The tablet has no copy of the bucket that it may decide by: carry it there from the first tablet, then try again."""

    def __init__(self, name: str) -> None:
        super().__init__("the tablet does not know the bucket", BucketName=name)


class BucketChanging(Stale):
    """The bucket is being deleted: finish or undo that, then try again."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__("the bucket is being deleted", BucketName=bucket.name)
        self.bucket = bucket


class Moment(NamedTuple):
    """When and where in the sequence a mutation is decided."""

    now_ms: int
    now_us: int
    sequence: int
    """Of the commit being made."""
    position: int
    """In its batch."""
    floor_us: int
    """The floor after this commit."""
    random8: bytes


class Decision(NamedTuple):
    """What a mutation does."""

    outcome: Outcome | BucketChanging
    """What is answered once the changes are durable."""
    changes: Mapping[RowKey, bytes | None]
    """None deletes; empty = no effect: nothing to commit for this one."""
    entry: FeedEntry | None
    """None when nothing changed that a consumer of the feed could see."""
    bucket: tuple[str, Bucket | None] | None = None
    """A bucket made, changed or removed."""


@dataclass(slots=True, eq=False)
class View:
    """Rows at one head plus a batch's changes."""

    buckets: dict[str, Bucket]
    """Decoded buckets known to be current at this head (the owner's cache)."""
    rows: dict[RowKey, bytes | None] = field(default_factory=dict)
    spans: dict[Span | Under, tuple[list[RowKey], bool]] = field(default_factory=dict)
    """What a scan found, and whether that was all."""
    changed: dict[RowKey, bytes | None] = field(default_factory=dict)
    changed_buckets: dict[str, Bucket | None] = field(default_factory=dict)
    state: TabletState = _WHOLE
    """The tablet's statics, of which the range is used (V4)."""
    first: bool = True
    """It is the first tablet: what it says of buckets holds everywhere."""

    def get(self, key: RowKey) -> bytes | None:
        """The stored value, None when absent."""
        try:
            return self.rows[key]
        except KeyError:
            check_keys(self.state, (key,))
            raise NeedRows(rows=(key,)) from None

    def bucket(self, name: str, bucket_id: BucketId | None = None) -> Bucket:
        """The bucket; NoSuchBucket, also when it is another than the one asked for."""
        found = self.find_bucket(name)
        if not self.first and found is not None and bucket_id is not None and found.bucket_id < bucket_id:
            raise NotCarried(name)  # a tablet that gave all keys of the former one away hears nothing of its deletion
        if found is None or (bucket_id is not None and found.bucket_id != bucket_id):
            raise Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name)
        if found.closed:
            raise BucketChanging(found)
        return found

    def find_bucket(self, name: str) -> Bucket | None:
        """The bucket, None when absent; V4."""
        found = self.copy(name)
        if not self.first and (found is None or found.closed):
            raise NotCarried(name)
        return found

    def copy(self, name: str) -> Bucket | None:
        """What the tablet's rows say of the bucket, open or not; None when nothing."""
        if name in self.changed_buckets:
            return self.changed_buckets[name]
        found = self.buckets.get(name)
        if found is None:
            key = name.encode()
            value = self.get(RowKey(BUCKET, key))
            if value is None:
                return None
            found = self.buckets[name] = decode_bucket(key, value)
        return found

    def first_of(self, span: Span) -> tuple[RowKey, bytes] | None:
        """The first row of a span."""
        scanned, complete = self.spans.get(span, (None, False))
        if scanned is None:
            check_keys(self.state, (RowKey(span.kind, span.key),))
            raise NeedRows(span=span, limit=2)
        found = min(self._present(span, scanned), default=None)
        if found is None:
            if not complete:
                raise NeedRows(span=span, limit=4 * len(scanned))
            return None
        return found

    def all(self, span: Span, limit: int) -> list[tuple[RowKey, bytes]]:
        """All rows of a span (of which there are at most `limit`), in order."""
        scanned, complete = self.spans.get(span, (None, False))
        if scanned is None or (not complete and len(scanned) < limit):
            check_keys(self.state, (RowKey(span.kind, span.key),))
            raise NeedRows(span=span, limit=limit)
        return sorted(self._present(span, scanned))

    def holds_all_of(self, bucket8: bytes) -> bool:
        """Whether the tablet holds every key of a bucket."""
        low, high = self.state.low, self.state.high
        after = (int.from_bytes(bucket8, "big") + 1).to_bytes(9, "big")[1:]
        return low <= bucket8 and (not high or after <= high)

    def empty(self, under: Under) -> bool:
        """Whether a bucket has no row of a kind in this tablet."""
        scanned, complete = self.spans.get(under, (None, False))
        if scanned is None:
            raise NeedRows(span=under, limit=2)
        if any(self.rows[row] is not None for row in scanned):
            return False
        kind, bucket8 = under
        added = self.changed.items()
        if any(row.kind == kind and row.key[:8] == bucket8 and value is not None for row, value in added):
            return False
        if not complete:
            raise NeedRows(span=under, limit=4 * len(scanned))
        return True

    def _present(self, span: Span, scanned: list[RowKey]) -> list[tuple[RowKey, bytes]]:
        """The scanned rows that are still there, and those the batch added."""
        kind, key, start, stop = span
        found = {row: value for row in scanned if (value := self.rows[row]) is not None}
        found |= {
            row: value
            for row, value in self.changed.items()
            if row.kind == kind and row.key == key and start <= row.seq < stop and value is not None
        }
        return list(found.items())

    def learn_rows(self, found: Mapping[RowKey, bytes | None]) -> None:
        """Rows read; the batch's own changes stay on top."""
        for key, value in found.items():
            self.rows.setdefault(key, value)

    def learn_span(self, span: Span | Under, found: list[tuple[RowKey, bytes]], limit: int) -> None:
        """The answer to NeedRows(span, limit)."""
        self.learn_rows(dict(found))
        self.spans[span] = ([key for key, _ in found], len(found) < limit)

    def accept(self, decision: Decision) -> None:
        """The decided mutation happened, as far as the rest of the batch is concerned."""
        if decision.changes:
            self.rows.update(decision.changes)
            self.changed.update(decision.changes)
        if decision.bucket is not None:
            name, bucket = decision.bucket
            self.changed_buckets[name] = bucket


class Changes:
    """Collects one mutation's row changes and the blobs it takes the name from."""

    __slots__ = ("removed", "rows")

    def __init__(self) -> None:
        self.rows: dict[RowKey, bytes | None] = {}
        self.removed: list[BlobId] = []

    def put(self, kind: int, key: bytes, seq: bytes, value: bytes) -> None:
        """Write a sealed row."""
        self.rows[RowKey(kind, key, seq)] = value

    def delete(self, kind: int, key: bytes, seq: bytes = b"") -> None:
        """Remove a row."""
        self.rows[RowKey(kind, key, seq)] = None

    def decision(
        self,
        outcome: Outcome,
        encoded: bytes,
        *,
        operation: int,
        bucket_id: BucketId,
        key: Key,
        uid: Uid,
        write_id: WriteId,
    ) -> Decision:
        """The decision that makes these changes."""
        entry = FeedEntry(operation, bucket_id, key, uid, write_id, encoded, self.removed)
        return Decision(outcome, self.rows, entry)

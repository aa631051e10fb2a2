# SPDX-License-Identifier: Apache-2.0
"""The storage under the metadata logic: tablets of ordered rows, changed by whole batches.

Rows of one tablet are ordered by (kind, key, seq), bytewise. A commit is atomic, durable and conditional on the tablet's
state; it carries the row changes of many mutations and one feed record. Real forms: embedded (members of journal + SQLite),
Cassandra (a tablet is a partition); and an in-memory form of many tablets for tests and the simulator. One contract suite.

The tablets of a cell cut the object addresses into ranges, each tablet's `child` being its neighbour to the right; how ranges
move is made of three calls (`fill`, `reshape`, `clear`) and decided above (drystone_metadata.tablets).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType, Protocol

from drystone_core.errors import ErrorCode, Refused, Stale

TabletId = NewType("TabletId", bytes)
"""Up to 32 bytes; the embedded cell has exactly one, CELL_TABLET."""
CELL_TABLET = TabletId(b"cell")


class RowKey(NamedTuple):
    """Address of a row in its tablet."""

    kind: int
    """1 … 255, see drystone_core.formats.rows."""
    key: bytes
    """For object rows: bucket id (8 bytes, big endian) + object key."""
    seq: bytes = b""
    """Orders rows of one key: version sequence, upload id, part number …"""


class TabletPhase(StrEnum):
    """Only an open tablet serves object rows and takes commits."""

    OPEN = "open"
    FILLING = "filling"
    """Being copied to; becomes open when the tablet to its left has given up its range."""
    CLOSED = "closed"
    """Being copied from, to the tablet that `note` names, or moved there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TabletState:
    """A tablet's statics."""

    head: int = 0
    """Sequence number of the last commit."""
    epoch: int = 0
    batch_id: bytes = b""
    """Of the last commit: tells after an unknown outcome whether ours went in."""
    floor_us: int = 0
    """No blob stamped earlier may be named any more (R7). Monotone."""
    generation: int = 1
    """Bucket generation (R2)."""
    phase: TabletPhase = TabletPhase.OPEN
    low: bytes = b""
    """Object rows of keys k with low <= k < high; high empty = no end. Rows of other kinds have no range."""
    high: bytes = b""
    child: TabletId = TabletId(b"")
    """The tablet whose low is this one's high; empty = none."""
    note: bytes = b""
    """What is being done with ranges here (drystone_metadata.tablets.notes); opaque to storages."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a commit's writer believes; anything else in the tablet makes the commit stale."""

    head: int
    epoch: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One group commit: becomes sequence expected.head + 1."""

    batch_id: bytes
    """16 random bytes."""
    floor_us: int
    """The tablet's floor from now on (>= the present one)."""
    generation: int
    """The tablet's generation from now on."""
    puts: Sequence[tuple[RowKey, bytes]] = field(default_factory=tuple)
    deletes: Sequence[RowKey] = field(default_factory=tuple)
    """Deletes apply before puts."""
    feed: bytes = b""
    """The encoded feed record; kept under the new sequence."""


class Committed(StrEnum):
    COMMITTED = "committed"
    STALE = "stale"
    """Head, epoch or generation moved on: nothing was changed; re-read and decide again."""
    UNKNOWN = "unknown"
    """It may or may not have happened: `state()` must settle it before anything else is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Rows brought from another tablet, whatever the range of this one. Not a commit: there is no record of it in the feed."""

    batch_id: bytes
    """16 random bytes."""
    puts: Sequence[tuple[RowKey, bytes]] = field(default_factory=tuple)
    deletes: Sequence[RowKey] = field(default_factory=tuple)
    """Deletes apply before puts."""
    feed: Sequence["FeedRow"] = field(default_factory=tuple)
    """Records as they stood in the other tablet, with its sequences."""


class KeyOutOfRange(Stale):
    """The tablet does not hold what was asked for (R7): the caller's map of tablets is old."""


class UnknownTablet(Refused):
    """There is no such tablet (any more)."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.NO_SUCH_BUCKET, "unknown tablet")


class FeedRow(NamedTuple):
    seq: int
    batch_id: bytes
    record: bytes


class RowReader(Protocol):
    """Where rows are read."""

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        """Many rows at once; verified (a row whose CRC fails raises Damaged, it never reads as absent)."""
        ...

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        """Rows with start <= row < end in order, at most `limit`."""
        ...


class TabletStorage(RowReader, Protocol):
    """All methods raise Unavailable when too few members/replicas answer, and FileNotFoundError-free KeyError never:
    an unknown tablet is UnknownTablet. What lies outside the tablet's range, and any object row of a tablet that is not
    open, is KeyOutOfRange (ranges.py)."""

    async def create(
        self,
        tablet: TabletId,
        *,
        low: bytes,
        high: bytes,
        generation: int,
        phase: TabletPhase = TabletPhase.OPEN,
        child: TabletId = TabletId(b""),
    ) -> None:
        """A new tablet with head 0; idempotent."""
        ...

    async def drop(self, tablet: TabletId) -> None: ...

    async def state(self, tablet: TabletId) -> TabletState:
        """Settled statics (Cassandra: a SERIAL read)."""
        ...

    async def take_over(self, tablet: TabletId) -> TabletState:
        """Settle, raise the epoch, return the statics: former owners' commits are refused from now on."""
        ...

    async def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> Committed:
        """Atomic and durable when COMMITTED. Only in an open tablet."""
        ...

    async def fill(self, tablet: TabletId, expected: TabletState, fill: Fill) -> Committed:
        """Atomic and durable when COMMITTED, in a tablet whose head, epoch, generation and phase are as expected; raises the
        head by one. The rows are not looked at by readers of the tablet as long as they are outside its range."""
        ...

    async def reshape(self, tablet: TabletId, expected: TabletState, to: TabletState) -> Committed:
        """All statics become `to` (whose epoch is expected.epoch + 1) when head, epoch, generation and phase are as expected.
        An unknown one may still happen until the epoch was raised."""
        ...

    async def clear(self, tablet: TabletId, expected: TabletState) -> Committed:
        """Remove all object rows outside the range, when epoch and phase are as expected; may be repeated."""
        ...

    async def feed(self, tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        """Feed records with seq > after, in order."""
        ...

    async def trim_feed(self, tablet: TabletId, before: int) -> None:
        """Forget feed records with seq < before."""
        ...

# SPDX-License-Identifier: Apache-2.0
"""R8: a tablet gives its upper part to a new one, while it serves.

    note MAKING  →  copy rows and recent feed  →  copy what changed meanwhile, again and again
                 →  pause: copy the rest, decide (high, child and note SPLIT in one update)  →  open the child, clear the rest

Invariants
  Q1  At the decision the child holds, row for row, what the parent has from `middle` on at the head it is decided at, the
      rows of every bucket that has addresses there, and of the feed what the memory of write ids may ask for (R1).
  Q2  What changed meanwhile is told by the owner itself, which is the only one to commit; when it cannot tell (another
      batch of its own came late), the attempt is given up.
  Q3  Nothing is removed from the parent before the child is open, and the child is dropped only when an epoch raised
      since shows that the split was not decided.
  Q4  Commits wait for the last few rows and one update, however large the tablet is.
  Q5  A note is replaced only by who has read that very note, inside the pause in which it is replaced; INTO by none here: a
      closed tablet is reopened or dropped by whoever takes it over next (merging).
"""

import asyncio
import logging
from collections.abc import Iterable

from drystone_core.check import check
from drystone_core.errors import Damaged, DrystoneError, Stale, Unavailable
from drystone_core.formats.feed import Operation, decode_record, encode_record
from drystone_core.formats.row_keys import (
    BUCKET,
    BUCKET_NAME,
    CURRENT,
    NAMED,
    NULL_AT,
    PART,
    UPLOAD,
    VERSION,
    object_address,
)
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.ports import Entropy
from drystone_metadata.batches import Phase
from drystone_metadata.committer import Committer
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import Committed, FeedRow, RowKey, TabletId, TabletPhase, TabletState, TabletStorage
from drystone_metadata.store.ranges import OBJECT_KINDS, holds
from drystone_metadata.tablets.filling import Filler
from drystone_metadata.tablets.notes import Move, Note, note_of, opened

log = logging.getLogger(__name__)
KINDS = (CURRENT, VERSION, NULL_AT, NAMED, UPLOAD, PART)
"""The object kinds there are."""
_FEED_PAGE = 64
_FEW = 256
"""So many changed rows may be copied while commits wait …"""
_ROUNDS = 20
"""… unless these rounds did not bring them down to that."""
_OF_BUCKETS = (Operation.CREATE_BUCKET, Operation.DELETE_BUCKET, Operation.CONFIGURE_BUCKET)


class _Changed:
    """Rows committed since the last look."""

    def __init__(self) -> None:
        self._rows: dict[RowKey, None] = {}
        self._broken = False

    def note(self, rows: Iterable[RowKey] | None) -> None:
        """For Committer.watcher."""
        if rows is None:
            self._broken = True
        else:
            self._rows.update(dict.fromkeys(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self) -> list[RowKey]:
        """All of them; Stale when others may have changed."""
        if self._broken:
            raise Stale("rows have changed that the owner does not know of")
        rows, self._rows = list(self._rows), {}
        return rows


class Splitter:
    """Splits one tablet that this process owns. Calls wait for one another."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        committer: Committer,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        self._storage = storage
        self._tablet = tablet
        self._committer = committer
        self._entropy = entropy
        self._settings = settings
        self._at_work = asyncio.Lock()

    async def tidy(self) -> None:
        """Undo a split that was begun and not decided, end what was decided (also another owner's).

        Stale when the tablet is closed, or is while this waits.
        """
        async with self._at_work:
            await self._tidy()

    async def _tidy(self) -> None:
        found = self._committer.state
        note = note_of(found)
        if note is None:
            return
        if self._committer.phase is not Phase.OWNER:
            raise Unavailable("this process does not own the tablet")
        if found.phase is not TabletPhase.OPEN:
            raise Stale("the tablet is closed")
        if note.move in (Move.MAKING, Move.JOINED):
            # Q3: our epoch is higher than that of whoever was making it; or all it had is here.
            await self._storage.drop(note.tablet)
        elif note.move is Move.SPLIT:
            await self._open(note.tablet)
            if await self._storage.clear(self._tablet, self._committer.state) is not Committed.COMMITTED:
                raise Unavailable("whether what was given away is cleared is not known")
        await self._reshape(found.note, b"")

    async def split(self, middle: bytes) -> TabletId:
        """Give everything from `middle` on away; the child. Whatever is raised, the tablet is whole or split."""
        async with self._at_work:
            return await self._split(middle)

    async def _split(self, middle: bytes) -> TabletId:
        await self._tidy()
        state = self._committer.state
        check(state.low < middle and (not state.high or middle < state.high), "a tablet is split inside its range")
        if not self._committer.loaded:
            raise Unavailable("the recent write ids are not in memory yet")
        child = TabletId(self._entropy.token(16))
        changed = _Changed()
        try:
            await self._reshape(b"", Note(Move.MAKING, child).encode(), changed)
            await self._fill(child, middle, changed)
        except BaseException:
            log.warning("metadata.split_given_up", extra={"child": child.hex()})
            raise
        finally:
            self._committer.watcher = None
        log.info("metadata.split", extra={"child": child.hex(), "head": self._committer.state.head})
        try:
            await self._tidy()
        except DrystoneError as error:
            log.warning("metadata.split_not_tidied", extra={"code": error.code.value})
        return child

    async def _fill(self, child: TabletId, middle: bytes, changed: _Changed) -> None:
        """Make the child, fill it, decide."""
        storage, committer = self._storage, self._committer
        state = committer.state
        sequence = (committer.writes.oldest or state.head + 1) - 1
        await storage.create(
            child,
            low=middle,
            high=state.high,
            generation=state.generation,
            phase=TabletPhase.FILLING,
            child=state.child,
        )
        made = await storage.take_over(child)
        filler = Filler(storage=storage, tablet=child, state=made, entropy=self._entropy, settings=self._settings)
        await self._copy_rows(filler)
        for _ in range(_ROUNDS):
            sequence = await self._copy_feed(filler, sequence)
            await self._copy_changed(filler, changed.take())
            if len(changed) <= _FEW:
                break
        async with committer.pause():
            await self._copy_feed(filler, sequence)
            await self._copy_changed(filler, changed.take())
            at = committer.state
            self._check_note(Note(Move.MAKING, child).encode())
            note = Note(
                Move.SPLIT,
                child,
                head=at.head,
                batch_id=at.batch_id.ljust(16, b"\0")[:16],
                floor_us=at.floor_us,
                generation=at.generation,
            )
            await committer.reshape(shaped(at, high=middle, child=child, note=note.encode()))

    async def _copy_rows(self, filler: Filler) -> None:
        state, page = filler.state, self._settings.fill_rows
        for kind in (BUCKET, BUCKET_NAME, *KINDS):
            start, end = RowKey(kind, b""), RowKey(kind + 1, b"")
            if kind in OBJECT_KINDS:
                start, end = RowKey(kind, state.low), RowKey(kind, state.high) if state.high else end
            while True:
                rows = await self._storage.scan(self._tablet, start, end, page)
                await filler.rows([row for row in rows if _belongs(state, *row)])
                if len(rows) < page:
                    break
                last = rows[-1][0]
                start = RowKey(kind, last.key, last.seq + b"\0")

    async def _copy_changed(self, filler: Filler, changed: list[RowKey]) -> None:
        """Rows as they are now. One that is read too early is in the next round's."""
        rows = [row for row in changed if row.kind in (BUCKET, BUCKET_NAME) or row.kind in OBJECT_KINDS]
        rows = [row for row in rows if holds(filler.state, row)] if rows else []
        # The child is FILLING: only its range counts here.
        values = await self._storage.read(self._tablet, rows) if rows else []
        puts, deletes = [], []
        for row, value in zip(rows, values, strict=True):
            if value is not None and _belongs(filler.state, row, value):
                puts.append((row, value))
            else:
                deletes.append(row)
        await filler.rows(puts, deletes)

    async def _copy_feed(self, filler: Filler, after: int) -> int:
        """Records after a sequence, with what they say of the child's keys; the last sequence copied."""
        while True:
            rows = await self._storage.feed(self._tablet, after, _FEED_PAGE)
            await filler.feed([_narrowed(filler.state, row) for row in rows])
            after = rows[-1].seq if rows else after
            if len(rows) < _FEED_PAGE:
                return after

    async def _open(self, child: TabletId) -> None:
        """Q3: open the child of a decided split, unless somebody has."""
        state = await self._storage.state(child)
        to = opened(self._committer.state, state)
        if to is not None:
            await self._storage.reshape(child, state, to)
            state = await self._storage.state(child)
        if state.phase is TabletPhase.FILLING:
            raise Unavailable("the child is not open yet")

    async def _reshape(self, before: bytes, note: bytes, watcher: _Changed | None = None) -> None:
        async with self._committer.pause():
            self._check_note(before)
            await self._committer.reshape(shaped(self._committer.state, note=note))
            self._committer.watcher = watcher.note if watcher is not None else None

    def _check_note(self, note: bytes) -> None:
        """Q5: what this waited for may have closed the tablet, or taken its neighbour over."""
        if self._committer.state.note != note or self._committer.state.phase is not TabletPhase.OPEN:
            raise Stale("the tablet is being joined")


def shaped(state: TabletState, **statics: object) -> TabletState:
    """The statics with some of them changed, under the next epoch."""
    values = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return TabletState(**(values | statics | {"epoch": state.epoch + 1}))


def _belongs(state: TabletState, row: RowKey, value: bytes) -> bool:
    """Whether a row belongs in the tablet: an object's by its key, a bucket's by the addresses the bucket has."""
    if row.kind == BUCKET:
        bucket8 = decode_bucket(row.key, value).bucket_id.to_bytes(8, "big")
    elif row.kind == BUCKET_NAME:
        bucket8 = row.key
    else:
        return holds(state, row)
    after = (int.from_bytes(bucket8, "big") + 1).to_bytes(8, "big")
    return state.low < after and (not state.high or bucket8 < state.high)


def _narrowed(state: TabletState, row: FeedRow) -> FeedRow:
    """A record with only the entries about the tablet's keys; every sequence keeps its record, so that none seems lost."""
    try:
        record = decode_record(row.record)
    except Damaged:
        return row
    kept = [
        entry
        for entry in record.entries
        if entry.operation not in _OF_BUCKETS
        and holds(state, RowKey(CURRENT, object_address(entry.bucket_id, entry.key)))
    ]
    return row._replace(record=encode_record(record.time_ms, kept))

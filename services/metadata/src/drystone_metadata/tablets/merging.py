# SPDX-License-Identifier: Apache-2.0
"""Joining two neighbours: the left one takes over all that the right one has, when both have been quiet for long.

    pause both, new epoch of the left  →  clear what is beyond the left one's range, copy the right one's rows there  →  close the right one (note INTO)
                →  decide: the left one's high and child become the right one's  →  drop the right one

Invariants
  G1  Both are quiet: no write id is remembered in either, so none has to be carried (R1), and the gap that the left one's
      sequence gets lies beyond the window.
  G2  The right one is closed at the head its rows were copied at; from then on nobody reads or writes there.
  G3  The left one's head is from then on at least the right one's, so versions of a key stay in the order of their commits;
      its floor at least the right one's, so what was judged dead stays dead.
  G4  Before the decision everything can be undone, by whoever owns the right one, once the epoch named in its note is over
      (notes N3); what was copied lies beyond the left one's range, and is cleared before anything is copied again.
  G5  The left one's copies of buckets are from then on the newer of the two (carrying Y1); the first tablet's rows stay as they are.
  G6  A closed copy is never widened over a key of the bucket (carrying Y2): the join waits until the deletion is ended or undone.
"""

import logging

from drystone_core.check import check
from drystone_core.errors import Stale, Unavailable
from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME, CURRENT
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.batches import Phase
from drystone_metadata.logic.view import Under
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Committed,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.store.ranges import within
from drystone_metadata.tablets.filling import Filler, Row
from drystone_metadata.tablets.notes import Move, Note, note_of, opened
from drystone_metadata.tablets.running import RunningTablet
from drystone_metadata.tablets.splitting import KINDS, shaped

log = logging.getLogger(__name__)


class Merger:
    """Joins tablets that this process owns."""

    def __init__(self, *, storage: TabletStorage, clock: Clock, entropy: Entropy, settings: MetadataSettings) -> None:
        self._storage = storage
        self._clock = clock
        self._entropy = entropy
        self._settings = settings

    def quiet(self, running: RunningTablet) -> bool:
        """G1."""
        committer = running.committer
        committer.writes.sweep(self._clock.monotonic())
        return committer.phase is Phase.OWNER and committer.loaded and not len(committer.writes)

    async def join(self, left: RunningTablet, right: RunningTablet) -> None:
        """The left one takes over; Stale or Unavailable when it did not, and then all is as before or `settle` makes it so."""
        check(right.tablet != CELL_TABLET, "the first tablet is never closed")
        await left.splitter.tidy()
        await right.splitter.tidy()
        async with right.committer.pause(), left.committer.pause():
            if not self.quiet(left) or not self.quiet(right):
                raise Unavailable("tablets are joined only when they are quiet")
            if left.committer.state.note or right.committer.state.note:
                raise Stale("another move of a range is under way")
            # A new epoch first: a clear of an earlier attempt that comes late must not meet what is copied now (G4).
            await left.committer.reshape(shaped(left.committer.state))
            before, given = left.committer.state, right.committer.state
            if before.child != right.tablet or before.high != given.low:
                raise Stale("the tablets are no neighbours")
            if await self._storage.clear(left.tablet, before) is not Committed.COMMITTED:
                raise Unavailable("whether the range beyond is clear is not known")
            await self._copy(left, right)
            into = Note(Move.INTO, left.tablet, epoch=before.epoch)
            await right.committer.reshape(shaped(given, phase=TabletPhase.CLOSED, note=into.encode()))
            now = left.committer.state
            await left.committer.reshape(
                shaped(
                    now,
                    head=max(now.head, given.head),
                    floor_us=max(now.floor_us, given.floor_us),
                    generation=max(now.generation, given.generation),
                    high=given.high,
                    child=given.child,
                    note=Note(Move.JOINED, right.tablet).encode(),
                )
            )
        log.info("metadata.joined", extra={"tablet": right.tablet.hex(), "head": left.committer.state.head})
        await left.splitter.tidy()

    async def _copy(self, left: RunningTablet, right: RunningTablet) -> None:
        """All rows of the right one, into the range beyond the left one's."""
        filler = Filler(
            storage=self._storage,
            tablet=left.tablet,
            state=left.committer.state,
            entropy=self._entropy,
            settings=self._settings,
        )
        page = self._settings.fill_rows
        try:
            for kind in KINDS:
                start, end = within(right.committer.state, RowKey(kind, b""), RowKey(kind + 1, b""))
                while True:
                    rows = await self._storage.scan(right.tablet, start, end, page)
                    await filler.rows(rows)
                    if len(rows) < page:
                        break
                    last = rows[-1][0]
                    start = RowKey(kind, last.key, last.seq + b"\0")
            await self._copy_buckets(filler, left, right)
        finally:
            left.committer.moved(filler.state)

    async def _copy_buckets(self, filler: Filler, left: RunningTablet, right: RunningTablet) -> None:
        """G5, G6."""
        start, end, page = RowKey(BUCKET, b""), RowKey(BUCKET + 1, b""), self._settings.fill_rows
        while True:
            rows = await self._storage.scan(right.tablet, start, end, page)
            here = await self._storage.read(left.tablet, [row for row, _ in rows]) if rows else []
            for (row, value), present in zip(rows, here, strict=True):
                given = decode_bucket(row.key, value)
                mine = None if present is None else decode_bucket(row.key, present)
                if mine is not None and mine.closed and mine.bucket_id == given.bucket_id:
                    await self._check_empty(right, given)
                if left.tablet != CELL_TABLET and (mine is None or _age(mine) < _age(given)):
                    await self._take_bucket(filler, left, right, (row, value), given, mine)
            if len(rows) < page:
                return
            start = RowKey(BUCKET, rows[-1][0].key + b"\0")

    async def _take_bucket(
        self,
        filler: Filler,
        left: RunningTablet,
        right: RunningTablet,
        row: Row,
        given: Bucket,
        mine: Bucket | None,
    ) -> None:
        name = RowKey(BUCKET_NAME, given.bucket_id.to_bytes(8, "big"))
        if given.closed:
            await self._check_empty(left, given)
        (named,) = await self._storage.read(right.tablet, [name])
        gone = []
        if mine is not None and mine.bucket_id != given.bucket_id:
            gone.append(RowKey(BUCKET_NAME, mine.bucket_id.to_bytes(8, "big")))
        await filler.rows([row] if named is None else [row, (name, named)], gone)

    async def _check_empty(self, running: RunningTablet, bucket: Bucket) -> None:
        """G6."""
        by_id = bucket.bucket_id.to_bytes(8, "big")
        start, end = within(running.committer.state, *Under(CURRENT, by_id).bounds)
        if await self._storage.scan(running.tablet, start, end, 1):
            raise Stale("a bucket is just being deleted")

    async def settle(self, right: RunningTablet) -> bool:
        """After taking over a closed tablet: reopen it, or drop it when it was taken over; whether it is open now."""
        state = right.committer.state
        note = note_of(state)
        if state.phase is not TabletPhase.CLOSED or (note is not None and note.move is not Move.INTO):
            return state.phase is TabletPhase.OPEN
        neighbour = await self._left_of(right.tablet, state)
        # Without a note nothing tells which epoch could decide: any of the left neighbour's so far.
        if neighbour is not None and (
            note is None or (neighbour[0] == note.tablet and neighbour[1].epoch <= note.epoch)
        ):
            # G4: whoever was about to decide it cannot any more, or just has.
            await self._storage.take_over(neighbour[0])
            neighbour = await self._left_of(right.tablet, state)
        if neighbour is None:
            await self._storage.drop(right.tablet)
            return False
        async with right.committer.pause():
            await right.committer.reshape(shaped(state, phase=TabletPhase.OPEN, note=b""))
        return True

    async def _left_of(self, tablet: TabletId, state: TabletState) -> tuple[TabletId, TabletState] | None:
        """The tablet whose child it is; None when another holds its range."""
        at = CELL_TABLET
        before: TabletState | None = None
        while True:
            try:
                found = await self._storage.state(at)
            except UnknownTablet:
                raise Unavailable("the tablets are being moved") from None
            to = opened(before, found) if before is not None else None
            if to is not None:
                await self._storage.reshape(at, found, to)
                found = await self._storage.state(at)
            if found.child == tablet:
                return at, found
            if found.phase is not TabletPhase.OPEN or (not found.child and found.high):
                raise Unavailable("the tablets are being moved")
            if found.low <= state.low and (not found.high or state.low < found.high):
                return None
            at, before = found.child, found


def _age(bucket: Bucket) -> tuple[int, int]:
    return bucket.bucket_id, bucket.generation

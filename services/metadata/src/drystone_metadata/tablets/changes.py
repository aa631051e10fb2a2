# SPDX-License-Identifier: Apache-2.0
"""R2: changes of buckets whose keys stand in several tablets, ended or undone by whoever meets them.

A walk goes along the bucket's addresses from left to right, looking at the tablets themselves: it carries the bucket to a tablet,
then reads how far that one reaches, and goes on from there. A tablet's range only shrinks by giving its upper part away
together with the copy, and only grows by taking the newer of two copies: so what was walked over carries the bucket.

Invariants
  W1  A deletion is ended only when every tablet with addresses of the bucket was closed at its generation (carrying Y3).
  W2  All steps may be done twice, at once, and by different processes.
  W3  At each tablet the bucket's row is read again, after the tablet was found: what another has ended meanwhile is not carried
      any further, least of all to tablets made since.
  W4  What was begun here goes on when its caller gives up, and is tried again every AGAIN_SECONDS while it fails and this process
      owns the first tablet: elsewhere nobody could end it. After a restart, or with another owner, the pass over `leftovers` does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME, CURRENT
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.ids import WriteId, make_write_id
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.logic.decide import Change
from drystone_metadata.store.ports import (
    CELL_TABLET,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.tablets.map import TabletMap
from drystone_metadata.tablets.reading import CellRows

log = logging.getLogger(__name__)
T = TypeVar("T")
Submit = Callable[[TabletId, Change], Awaitable[Outcome]]
"""Has a change decided in that tablet, by whichever process owns it."""
_MOVES = 64
"""Times a walk may find a tablet changed under it."""
AGAIN_SECONDS = 3.0
"""Between two attempts at ending what was begun here (W4)."""


class _Superseded(Exception):
    """Somebody else has ended or changed what was begun."""


class BucketChanges:
    """Carries buckets to tablets, and ends what was begun. Keep `run()` running."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablets: TabletMap,
        submit: Submit,
        ours: Callable[[TabletId], bool],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """`ours(tablet)`: whether this process owns it."""
        self._ours = ours
        self._rows = CellRows(storage, tablets)
        self._storage = storage
        self._map = tablets
        self._submit = submit
        self._clock = clock
        self._entropy = entropy
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending: dict[tuple[int, int], asyncio.Task[None]] = {}
        """By bucket id and generation: whoever meets a change waits for the same end of it."""
        self._unended: set[str] = set()
        """Buckets with a change that may be left half done."""

    async def run(self) -> None:
        """W4, until cancelled."""
        try:
            while True:
                await self._clock.sleep(AGAIN_SECONDS)
                await self.again()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def again(self) -> None:
        """One attempt at each change that was left half done here."""
        if not self._ours(CELL_TABLET):
            self._unended.clear()  # whoever owns the first tablet next looks for leftovers at once
        for name in sorted(self._unended):
            self._unended.discard(name)
            try:
                found = await self.bucket(name)
                if found is not None and found.pending:
                    await self.end(found)
            except DrystoneError as error:
                self._unended.add(name)
                log.warning("metadata.change_not_ended", extra={"bucket": name, "reason": str(error)})

    async def whole(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Do something that may leave a change of a bucket half done: it goes on when the caller is cancelled (W4)."""
        return await self._outcome(self._begin(name, work))

    def _begin(self, name: str, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, name))
        return task

    def _ended(self, name: str, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), Refused):
            self._unended.add(name)

    @staticmethod
    async def _outcome(task: "asyncio.Task[T]") -> T:
        await asyncio.wait({task})
        if task.cancelled():
            raise Unavailable("metadata service ends")
        return task.result()

    async def bucket(self, name: str) -> Bucket | None:
        """As the first tablet has it; None when absent."""
        key = name.encode()
        (value,) = await self._storage.read(CELL_TABLET, [RowKey(BUCKET, key)])
        return None if value is None else decode_bucket(key, value)

    async def carry(self, bucket: Bucket, tablet: TabletId) -> None:
        """The tablet's copy becomes at least this new; BucketNotEmpty when it cannot be closed."""
        if tablet != CELL_TABLET:
            await self._submit(tablet, CarryBucket(write_id=self._id(), bucket=bucket.name, value=bucket))

    async def end(self, bucket: Bucket) -> None:
        """End a change that is begun in the first tablet (its row as it was read there).

        Left to the first tablet's owner: Unavailable elsewhere, until that has done it (W4).
        """
        if not self._ours(CELL_TABLET):
            raise Unavailable("the bucket is just being changed", BucketName=bucket.name)
        at = (bucket.bucket_id, bucket.generation)
        ending = self._ending.get(at)
        if ending is None:
            ending = self._ending[at] = self._begin(bucket.name, self._end(bucket))
            ending.add_done_callback(lambda _: self._ending.pop(at, None))
        await self._outcome(ending)

    async def _end(self, bucket: Bucket) -> None:
        done = not bucket.closed or not await self._has_keys(bucket)
        try:
            if done:
                await self._walk(bucket, self._carry_begun)
        except _Superseded:
            return
        except Refused as refused:
            if not bucket.closed or refused.code is not ErrorCode.BUCKET_NOT_EMPTY:
                raise
            done = False
        await self._submit(
            CELL_TABLET,
            EndChange(
                write_id=self._id(),
                bucket=bucket.name,
                bucket_id=bucket.bucket_id,
                generation=bucket.generation,
                done=done,
            ),
        )
        if bucket.closed and done and not await self._known(bucket):
            await self._walk(bucket, self._bury)

    async def _carry_begun(self, bucket: Bucket, tablet: TabletId) -> None:
        """W3."""
        now = await self.bucket(bucket.name)
        if now is None or (now.bucket_id, now.generation) != (bucket.bucket_id, bucket.generation):
            raise _Superseded
        await self.carry(bucket, tablet)

    async def _has_keys(self, bucket: Bucket) -> bool:
        """Whether any tablet has a key of it just now: a deletion that sees one need not close anything."""
        start = RowKey(CURRENT, bucket.bucket_id.to_bytes(8, "big"))
        end = RowKey(CURRENT, (bucket.bucket_id + 1).to_bytes(8, "big"))
        return bool(await self._rows.scan(CELL_TABLET, start, end, 1))

    async def leftovers(self, tablet: TabletId) -> AsyncIterator[None]:
        """End changes begun in the first tablet; bury what deletions left in another one. Of a tablet that this process
        owns; yields after each bounded piece."""
        start, end = RowKey(BUCKET, b""), RowKey(BUCKET + 1, b"")
        while True:
            page = await self._storage.scan(tablet, start, end, 256)
            buckets = [decode_bucket(row.key, value) for row, value in page]
            if tablet == CELL_TABLET:
                for begun in [one for one in buckets if one.pending]:
                    await self.end(begun)
            closed = [one for one in buckets if one.closed and tablet != CELL_TABLET]
            names = [RowKey(BUCKET_NAME, one.bucket_id.to_bytes(8, "big")) for one in closed]
            here = await self._storage.read(tablet, names) if names else []
            for one, name in zip(closed, here, strict=True):
                if name is not None and not await self._known(one):
                    await self._bury(one, tablet)
            if len(page) < 256:
                return
            start = RowKey(BUCKET, page[-1][0].key + b"\0")
            yield

    async def _known(self, bucket: Bucket) -> bool:
        """Whether the first tablet still has the bucket: its id, not its name."""
        (name,) = await self._storage.read(CELL_TABLET, [RowKey(BUCKET_NAME, bucket.bucket_id.to_bytes(8, "big"))])
        return name is not None

    async def _bury(self, bucket: Bucket, tablet: TabletId) -> None:
        """In a tablet of another process that one's own pass does it."""
        if tablet != CELL_TABLET and self._ours(tablet):
            change = BuryBucket(write_id=self._id(), bucket=bucket.name, bucket_id=bucket.bucket_id)
            await self._submit(tablet, change)

    async def _walk(self, bucket: Bucket, step: Callable[[Bucket, TabletId], Awaitable[None]]) -> None:
        """Do `step` in every tablet that has addresses of the bucket."""
        at, end = bucket.bucket_id.to_bytes(8, "big"), (bucket.bucket_id + 1).to_bytes(8, "big")
        for _ in range(_MOVES):
            while True:
                spot = await self._map.look(at)
                try:
                    await step(bucket, spot.tablet)
                    state = await self._storage.state(spot.tablet)
                except (KeyOutOfRange, UnknownTablet):
                    break
                if state.phase is not TabletPhase.OPEN or at < state.low or (state.high and at >= state.high):
                    break
                if not state.high or state.high >= end:
                    return
                at = state.high
        raise Unavailable("the bucket's tablets are being moved")

    def _id(self) -> WriteId:
        return make_write_id(self._clock.wall_us(), self._entropy.token(16))

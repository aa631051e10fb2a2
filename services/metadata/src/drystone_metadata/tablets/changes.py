# SPDX-License-Identifier: Apache-2.0
"""R2: changes of buckets whose keys stand in several tablets, ended or undone by whoever meets them.

A walk goes along the bucket's addresses from left to right, looking at the tablets themselves: it carries the bucket to the next
few tablets at once, each step taken by that tablet's owner (handing), then reads how far each of them reaches, and goes on from
there. A tablet's range only shrinks by giving its upper part away together with the copy, and only grows by taking the newer
of two copies: so what was walked over carries the bucket.

Invariants
  W1  A deletion is ended only when every tablet with addresses of the bucket was closed at its generation (carrying Y3).
  W2  All steps may be done twice, at once, and by different processes.
  W3  Before each few tablets the bucket's row is read again, after they were found: what another has ended meanwhile is not carried
      any further, least of all to tablets made since.
  W4  What was begun here goes on when its caller gives up, and is tried again every AGAIN_SECONDS while it fails and this process
      owns the first tablet: elsewhere nobody could end it. After a restart, or with another owner, the pass over `leftovers` does.
  W5  A change is ended by the first tablet's owner alone: who meets one elsewhere has that owner end it, and waits for no longer
      than anybody waits for it here.
  W6  Who deletes a bucket is answered when it is gone; burying what is left in its tablets is begun beside, tried again as in W4,
      and done by the passes of their owners where that is forgotten, as when this process ends.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME, CURRENT
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.ids import WriteId, make_write_id
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.store.ports import (
    CELL_TABLET,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.tablets.handing import EndBegun, Step
from drystone_metadata.tablets.map import Spot, TabletMap
from drystone_metadata.tablets.owning import NotOwner
from drystone_metadata.tablets.reading import CellRows
from drystone_runtime.rpc.call_context import outliving

log = logging.getLogger(__name__)
T = TypeVar("T")
_MOVES = 64
"""Times a walk may find a tablet changed under it."""
AT_ONCE = 16
"""Tablets of a walk whose owners are asked together."""
_UNBURIED = 1024
"""Deleted buckets remembered to be buried."""
AGAIN_SECONDS = 3.0
"""Between two attempts at ending what was begun here (W4)."""


class _Superseded(Exception):
    """Somebody else has ended or changed what was begun."""


class Steps(Protocol):
    """Has steps taken by whoever owns their tablets."""

    async def step(self, tablet: TabletId, step: Step) -> None:
        """Decided and durable when it returns."""
        ...

    async def end(self, bucket: Bucket) -> None:
        """Have the first tablet's owner end a change (the bucket's row as it was read there)."""
        ...


class BucketChanges:
    """Carries buckets to tablets, and ends what was begun. Keep `run()` running."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablets: TabletMap,
        steps: Steps,
        ours: Callable[[TabletId], bool],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """`ours(tablet)`: whether this process owns it."""
        self._ours = ours
        self._rows = CellRows(storage, tablets)
        self._storage = storage
        self._map = tablets
        self._steps = steps
        self._clock = clock
        self._entropy = entropy
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending: dict[tuple[int, int], asyncio.Task[None]] = {}
        """By bucket id and generation: whoever meets a change waits for the same end of it."""
        self._asking: dict[tuple[int, int], _Asking] = {}
        """Likewise, of changes that the first tablet's owner is ending (W5)."""
        self._unended: set[str] = set()
        """Buckets with a change that may be left half done."""
        self._unburied: deque[Bucket] = deque()

    @property
    def under_way(self) -> int:
        """Changes that are being ended here, or are to be tried again."""
        return len(self._ending) + len(self._unended)

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
        while self._unburied and await self._bury_all(self._unburied.popleft()):
            pass  # after a failure the others wait for the next turn: whoever is silent holds this up once

    async def whole(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Do something that may leave a change of a bucket half done: it goes on when the caller is cancelled (W4)."""
        return await self._outcome(self._begin(name, work))

    def _begin(self, name: str, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work, context=outliving())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, name))
        return task

    def _ended(self, name: str, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None or isinstance(task.exception(), Refused | NotOwner):
            return  # ended, or nothing was begun here; if it was, the first tablet's next owner ends it
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
            await self._steps.step(tablet, CarryBucket(write_id=self._id(), bucket=bucket.name, value=bucket))

    async def end(self, bucket: Bucket) -> None:
        """End a change that is begun in the first tablet (its row as it was read there), or have it ended (W5)."""
        if self._ours(CELL_TABLET):
            await self._end_here(bucket)
            return
        at = (bucket.bucket_id, bucket.generation)
        asking = self._asking.get(at)
        if asking is None:
            asking = self._asking[at] = _Asking(self._steps.end(bucket))
        try:
            await asking.answer()
        finally:
            if asking.over and self._asking.get(at) is asking:
                del self._asking[at]

    async def take(self, begun: EndBegun) -> None:
        """End a change that another process has met, unless that was done meanwhile. Only where the first tablet is ours."""
        found = await self.bucket(begun.bucket)
        if (
            found is not None
            and found.pending
            and (found.bucket_id, found.generation) == (begun.bucket_id, begun.generation)
        ):
            await self._end_here(found)

    async def _end_here(self, bucket: Bucket) -> None:
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
        await self._steps.step(
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
            self._begin(bucket.name, self._bury_all(bucket))  # W6: beside

    async def _bury_all(self, bucket: Bucket) -> bool:
        """W6; whether it is done."""
        try:
            await self._walk(bucket, self._bury)
        except DrystoneError as error:
            log.info("metadata.not_buried", extra={"bucket": bucket.name, "reason": str(error)})
            if len(self._unburied) < _UNBURIED:
                self._unburied.append(bucket)
            return False
        return True

    async def _carry_begun(self, bucket: Bucket, tablets: Sequence[TabletId]) -> None:
        """W3."""
        now = await self.bucket(bucket.name)
        if now is None or (now.bucket_id, now.generation) != (bucket.bucket_id, bucket.generation):
            raise _Superseded
        await _all([self.carry(bucket, tablet) for tablet in tablets])

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
                    await self._bury(one, [tablet])
            if len(page) < 256:
                return
            start = RowKey(BUCKET, page[-1][0].key + b"\0")
            yield

    async def _known(self, bucket: Bucket) -> bool:
        """Whether the first tablet still has the bucket: its id, not its name."""
        (name,) = await self._storage.read(CELL_TABLET, [RowKey(BUCKET_NAME, bucket.bucket_id.to_bytes(8, "big"))])
        return name is not None

    async def _bury(self, bucket: Bucket, tablets: Sequence[TabletId]) -> None:
        bury = BuryBucket(write_id=self._id(), bucket=bucket.name, bucket_id=bucket.bucket_id)
        await _all([self._steps.step(tablet, bury) for tablet in tablets if tablet != CELL_TABLET])

    async def _walk(self, bucket: Bucket, step: Callable[[Bucket, Sequence[TabletId]], Awaitable[None]]) -> None:
        """Do `step` in every tablet that has addresses of the bucket, in the next few of them at once."""
        at, end = bucket.bucket_id.to_bytes(8, "big"), (bucket.bucket_id + 1).to_bytes(8, "big")
        moves = 0
        while moves < _MOVES:
            tablets = [spot.tablet for spot in await self._ahead(at, end)]
            reached: bytes | None = at
            try:
                await step(bucket, tablets)
                reached = await self._reached(at, tablets, end)
            except (KeyOutOfRange, UnknownTablet):
                pass
            if reached is None:
                return
            moves += reached == at
            at = reached
        raise Unavailable("the bucket's tablets are being moved")

    async def _ahead(self, at: bytes, end: bytes) -> list[Spot]:
        """The next few tablets from an address on, below `end`."""
        spots = [await self._map.look(at)]
        while len(spots) < AT_ONCE and spots[-1].high and spots[-1].high < end:
            spots.append(await self._map.look(spots[-1].high))
        return spots

    async def _reached(self, at: bytes, tablets: Sequence[TabletId], end: bytes) -> bytes | None:
        """How far these reach now, without a gap from `at` on; None: to `end`."""
        for tablet in tablets:
            state = await self._storage.state(tablet)
            if state.phase is not TabletPhase.OPEN or at < state.low or (state.high and at >= state.high):
                break
            if not state.high or state.high >= end:
                return None
            at = state.high
        return at

    def _id(self) -> WriteId:
        return make_write_id(self._clock.wall_us(), self._entropy.token(16))


class _Asking:
    """A call that several wait for; it is given up when nobody does any more."""

    def __init__(self, call: Coroutine[Any, Any, None]) -> None:
        # No single caller's deadline ends it: the last one to leave does.
        self._task = asyncio.get_running_loop().create_task(call, context=outliving())
        self._waiting = 0
        self.over = False
        """Nobody may join any more."""

    async def answer(self) -> None:
        """What it answers."""
        self._waiting += 1
        try:
            await asyncio.wait({self._task})
        finally:
            self._waiting -= 1
            self.over = self._task.done() or not self._waiting
            if not self._waiting:
                self._task.cancel()
        if self._task.cancelled():
            raise Unavailable("metadata service ends")
        self._task.result()


async def _all(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them, whatever becomes of the others; then what failed, a definite refusal first: that one decides the change."""
    failures = [one for one in await asyncio.gather(*steps, return_exceptions=True) if one is not None]
    failures.sort(key=lambda one: not isinstance(one, Refused) or isinstance(one, UnknownTablet))
    if failures:
        raise failures[0]

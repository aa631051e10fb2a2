# SPDX-License-Identifier: Apache-2.0
"""A watch over etcd that outlives streams, members and compaction.

Invariants
  T1  `_next` is the first revision not yet given to the reader; only what was received moves it, so that a stream that
      breaks at any point is taken up where the reader is. (etcd's header revision says what the member has, not what it
      has sent: going by it loses events.)
  T2  What came twice is given once; a response holds whole revisions, so a commit is never torn.
  T3  Compacted, or a member that is behind what was seen: all is listed, linearizably, and given as a Resync.
  T4  A stream from which nothing comes though a sign of life was asked for is left for another member.
  T5  `seen_at` is a moment at which the whole cluster had a revision that this stream's member has passed since: a member
      cut off from the others, or behind them, does not move it.
States    LISTING --snapshot--> STREAMING --break--> STREAMING (another member);  --compacted--> LISTING
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc

from drystone.etcd.v1 import etcd_pb2
from drystone_core.check import check
from drystone_core.coordination import Changes, Deleted, Document, Resync, Revision, Snapshot, Written
from drystone_core.errors import Busy, Damaged, DrystoneError, ErrorCode, Refused, Unavailable, Unreachable
from drystone_core.ports import Clock
from drystone_runtime.background import Background
from drystone_runtime.coordination.etcd_calls import WATCH, Verdict, judge, meaning
from drystone_runtime.coordination.etcd_connection import EtcdConnection
from drystone_runtime.rpc.cancellation import cancellable

log = logging.getLogger(__name__)
QUEUE = 64
"""Changes that wait for the reader; beyond it etcd waits."""
PAUSE = 0.1
"""Seconds before a broken stream is taken up again."""
_DELETE = 1
_PROGRESS = etcd_pb2.WatchRequest(progress_request=etcd_pb2.WatchProgressRequest())

Item = Changes | Resync | DrystoneError | float
"""For the reader; a float: up to what came before, the reader has everything as of this monotonic time."""


class EtcdWatch:
    """The Watch of the etcd coordinator."""

    def __init__(
        self,
        *,
        connection: EtcdConnection,
        begin: bytes,
        end: bytes,
        after: Revision | None,
        listed: Callable[[], Awaitable[Snapshot]],
        reached: Callable[[], Awaitable[int]],
        document: Callable[[Any], Document],
        progress: float,
        patience: float,
        clock: Clock,
        background: Background,
    ) -> None:
        """Keys in [begin, end). `listed` reads them all, `reached` the cluster's revision, `document` makes one of a KeyValue;
        seconds between signs of life that are asked for, and until a silent stream is given up."""
        self._connection, self._clock = connection, clock
        self._begin, self._end = begin, end
        self._next = after + 1 if after is not None else 0
        self._listed, self._reached, self._document = listed, reached, document
        self._progress, self._patience = progress, patience
        self._queue: asyncio.Queue[Item] = asyncio.Queue(QUEUE)
        self._seen = -math.inf
        self._asked: float | None = None
        """When the earliest sign of life was asked for that has not come."""
        self._goal: tuple[int, float] | None = None
        """The cluster's revision at a moment; once the member has passed it, the reader had everything then."""
        self._heard = 0.0
        self._reading = False
        self._closed = self._quiet = False
        self._pump = background.once("coordination.watch", self._run())

    async def next(self) -> Changes | Resync:
        """The next change."""
        while True:
            check(not self._closed, "a closed watch is read no more")
            item = await self._queue.get()
            if isinstance(item, DrystoneError):
                raise item
            if not isinstance(item, float):
                return item
            self._seen = max(self._seen, item)

    def seen_at(self) -> float:
        """When what was returned was last known to be everything."""
        return self._seen

    async def close(self) -> None:
        """Leave the stream."""
        self._closed = True
        while not self._pump.done():
            self._pump.cancel()
            await asyncio.wait((self._pump,), timeout=1.0)

    async def _run(self) -> None:
        """Fill the queue for ever, or until etcd lets us read no more."""
        while True:
            try:
                if self._next == 0:
                    await self._list()
                await self._stream()
            except (Refused, Damaged) as error:
                await self._queue.put(error)
                return
            except DrystoneError as error:
                if not self._quiet:
                    log.info("watch.broken", extra={"reason": str(error), "key": self._begin.decode()})
                self._quiet = True
                if isinstance(error, Busy):
                    self._next = 0  # too much to catch up with: read it in pages
            except Exception as error:  # the outermost loop: a bug must not leave the reader waiting for ever
                await self._queue.put(DrystoneError(ErrorCode.INTERNAL_ERROR, f"a watch ended: {error!r}"))
                raise
            await self._clock.sleep(PAUSE)

    async def _list(self) -> None:
        asked = self._clock.monotonic()
        snapshot = await self._listed()
        await self._queue.put(Resync(snapshot=snapshot))
        await self._queue.put(asked)
        self._next = snapshot.revision + 1

    async def _stream(self) -> None:
        """One stream's life; returns when everything has to be listed."""
        endpoint, call = await self._connection.stream(WATCH)
        self._asked, self._goal, self._heard = None, None, self._clock.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._ask(call))
                await self._read(endpoint, call)
                asking.cancel()
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
            if isinstance(error, Unavailable):
                self._connection.failed(endpoint, error.message)
            raise error from None
        finally:
            call.cancel()

    async def _read(self, endpoint: str, call: Any) -> None:
        # From the last revision the reader has, not the one after it: etcd 3.6 gives no sign of life to a watch that begins
        # in the future (3.5.1 does), and on a quiet store it would never come. What comes twice is left out (T2).
        start = max(1, self._next - 1)
        create = etcd_pb2.WatchCreateRequest(key=self._begin, range_end=self._end, start_revision=start)
        try:
            with cancellable():
                await call.write(etcd_pb2.WatchRequest(create_request=create))
            while True:
                self._reading = True
                with cancellable():
                    response = await call.read()
                self._reading, self._heard = False, self._clock.monotonic()
                if response is grpc.aio.EOF:
                    raise Unreachable(f"etcd at {endpoint} ended the stream")
                if not await self._take(endpoint, response):
                    return
        except asyncio.InvalidStateError as error:
            raise Unreachable(f"etcd at {endpoint} ended the stream") from error
        except grpc.aio.AioRpcError as error:
            if judge(error) is Verdict.TOKEN:
                self._connection.forget_token()
                raise Unavailable(f"etcd at {endpoint} asks for a new token") from error
            raise meaning(error, where=endpoint) from error

    async def _take(self, endpoint: str, response: Any) -> bool:
        """One response; False: list everything."""
        self._quiet = False
        if response.canceled:
            return self._canceled(endpoint, response)
        if response.created and response.header.revision < self._next - 1:
            # Behind what we have (it may catch up), or restored from a backup: a linearizable list tells.
            self._next = 0
            return False
        if response.events:
            await self._tell(response.events)
        elif not response.created:
            self._asked = None
            if self._goal is not None and response.header.revision >= self._goal[0]:
                await self._queue.put(self._goal[1])
                self._goal = None
        return True

    def _canceled(self, endpoint: str, response: Any) -> bool:
        if response.compact_revision:
            log.info("watch.compacted", extra={"key": self._begin.decode(), "revision": response.compact_revision})
            self._next = 0
            return False
        if "permission denied" in response.cancel_reason or "token" in response.cancel_reason:
            # An expired token reads like a missing right: a listing with a new one tells which it is.
            self._connection.forget_token()
            self._next = 0
            return False
        raise Unavailable(f"etcd at {endpoint} ended the watch: {response.cancel_reason or 'no reason given'}")

    async def _tell(self, raw: Any) -> None:
        events: list[Written | Deleted] = []
        for each in raw:
            if each.kv.mod_revision < self._next:
                continue
            document = self._document(each.kv)
            if each.type == _DELETE:
                events.append(Deleted(key=document.key, revision=document.revision))
            else:
                events.append(Written(document=document))
        if events:
            last = Revision(raw[-1].kv.mod_revision)
            await self._queue.put(Changes(revision=last, events=tuple(events)))
            self._next = last + 1

    async def _ask(self, call: Any) -> None:
        """Ask for signs of life; raise Unreachable when none comes (T4)."""
        while True:
            await self._clock.sleep(self._progress)
            now = self._clock.monotonic()
            if self._asked is not None and self._reading and now - max(self._asked, self._heard) > self._patience:
                raise Unreachable("a watch gave no sign of life")
            if self._goal is None:
                with suppress(Unavailable, Busy):
                    self._goal = (await self._reached(), now)
            self._asked = self._asked if self._asked is not None else self._clock.monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    with cancellable():
                        await call.write(_PROGRESS)
            except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise Unreachable("nothing can be sent on the stream of a watch") from error

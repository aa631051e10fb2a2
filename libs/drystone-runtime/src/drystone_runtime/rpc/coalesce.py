# SPDX-License-Identifier: Apache-2.0
"""Batching without timers: while one call is in flight, what arrives gathers into the next.

Invariants
  Q1  At most `flights` calls are in flight and at most `waiting` items wait; beyond it Busy.
  Q2  Every item's future is settled exactly once: with its own answer, its own error, or the call's error.
  Q3  Items go out in the order of their arrival.
  Q4  An item waits no longer than its caller (call_context.DEADLINE), and the call it travels in takes no longer than the
      most patient of its items allows. What nobody waits for any more is not sent.
  Q5  A call carries the request ids of its items (the first IDS, then how many more), and the trace of the first that has one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from drystone_core.check import check
from drystone_core.errors import Busy, ErrorCode, Unavailable
from drystone_runtime.background import Background
from drystone_runtime.logs import REQUEST_ID
from drystone_runtime.rpc.call_context import DEADLINE, TRACE

IDS = 8
"""Request ids told of one call."""
Q = TypeVar("Q")
A = TypeVar("A")


class Coalescer(Generic[Q, A]):
    """Turns single calls into bulk calls."""

    def __init__(
        self,
        *,
        send: Callable[[Sequence[Q]], Awaitable[Sequence[A | BaseException]]],
        background: Background,
        batch: int = 256,
        flights: int = 2,
        more: int = 8,
        waiting: int = 16_384,
    ) -> None:
        """`send` answers item by item, an exception standing in a failed item's place. `more`: while a call is in flight,
        another one begins only for so many items: what few wait for shares the next call."""
        self._more = more
        self._send = send
        self._background = background
        self._batch, self._flights, self._limit = batch, flights, waiting
        self._waiting: deque[_Item[Q, A]] = deque()
        self._flying = 0

    def submit(self, item: Q) -> "asyncio.Future[A]":
        """Its answer, once the call it travels in has returned; Busy when too many wait."""
        if len(self._waiting) >= self._limit:
            raise Busy("too many calls wait for this service")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        deadline = DEADLINE.get()
        if deadline is not None:
            timer = loop.call_later(deadline - time.monotonic(), _too_late, future)
            future.add_done_callback(lambda _: timer.cancel())
        self._waiting.append(_Item(item, future, deadline, REQUEST_ID.get(), TRACE.get()))
        if not self._flying or (self._flying < self._flights and len(self._waiting) >= self._more):
            self._flying += 1
            self._background.once("rpc.coalesce", self._fly())
        return future

    async def _fly(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                if not batch:
                    continue
                DEADLINE.set(_most_patient(batch))
                REQUEST_ID.set(_ids(batch))
                TRACE.set(next((one.trace for one in batch if one.trace), ""))
                try:
                    answers = await self._send([one.item for one in batch])
                    check(len(answers) == len(batch), "a bulk call answers item by item")
                except BaseException as error:
                    failure = (
                        error if isinstance(error, Exception) else ConnectionAbortedError("the call was cancelled")
                    )
                    answers = [failure] * len(batch)
                    if not isinstance(error, Exception):
                        raise
                finally:
                    _settle(batch, answers)
        finally:
            self._flying -= 1

    def _next(self) -> "list[_Item[Q, A]]":
        batch: list[_Item[Q, A]] = []
        while self._waiting and len(batch) < self._batch:
            one = self._waiting.popleft()
            if not one.future.done():
                batch.append(one)
        return batch


class _Item(NamedTuple, Generic[Q, A]):
    item: Q
    future: "asyncio.Future[A]"
    deadline: float | None
    """Monotonic."""
    request_id: str
    trace: str


def _ids(batch: "Sequence[_Item[Q, A]]") -> str:
    ids = list(dict.fromkeys(one.request_id for one in batch if one.request_id))
    more = f",+{len(ids) - IDS}" if len(ids) > IDS else ""
    return ",".join(ids[:IDS]) + more


def _most_patient(batch: "Sequence[_Item[Q, A]]") -> float | None:
    latest = 0.0
    for one in batch:
        if one.deadline is None:
            return None
        latest = max(latest, one.deadline)
    return latest


def _too_late(future: "asyncio.Future[A]") -> None:
    if not future.done():
        future.set_exception(Unavailable("the caller's time is over", ErrorCode.DEADLINE_EXCEEDED))


def _settle(batch: "Sequence[_Item[Q, A]]", answers: Sequence[A | BaseException]) -> None:
    for (_, future, *_), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

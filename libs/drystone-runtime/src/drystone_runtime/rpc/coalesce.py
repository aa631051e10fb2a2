# SPDX-License-Identifier: Apache-2.0
"""Batching without timers: while one call is in flight, what arrives gathers into the next.

Invariants
  Q1  At most `flights` calls are in flight and at most `waiting` items wait; beyond it Busy.
  Q2  Every item's future is settled exactly once: with its own answer, its own error, or the call's error.
  Q3  Items go out in the order of their arrival.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from drystone_core.check import check
from drystone_core.errors import Busy
from drystone_runtime.background import Background

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
        waiting: int = 16_384,
    ) -> None:
        """`send` answers item by item, an exception standing in a failed item's place."""
        self._send = send
        self._background = background
        self._batch, self._flights, self._limit = batch, flights, waiting
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._flying = 0

    def submit(self, item: Q) -> "asyncio.Future[A]":
        """Its answer, once the call it travels in has returned; Busy when too many wait."""
        if len(self._waiting) >= self._limit:
            raise Busy("too many calls wait for this service")
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flying < self._flights:
            self._flying += 1
            self._background.once("rpc.coalesce", self._fly())
        return future

    async def _fly(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                try:
                    answers = await self._send([item for item, _ in batch])
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


def _settle(batch: Sequence[tuple[Q, "asyncio.Future[A]"]], answers: Sequence[A | BaseException]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

# SPDX-License-Identifier: Apache-2.0
"""Running a coroutine without a task for as long as it does not wait.

Creating, scheduling and finishing a task costs about as much as parsing a request. So a coroutine is stepped once by
hand; only if it suspends does a task take over, and that first yields what the coroutine is waiting for.

Invariants
  S1  All steps run in one context (contextvars), the task's included.
  S2  Exceptions and cancellation reach the coroutine exactly as if it had been in the task from the beginning; also a
      cancellation that comes before the task's own first step.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any


def start(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None] | None:
    """Run until the first real wait; returns the task that does the rest, or None when it has ended.

    What the coroutine raises before its first wait is raised here.
    """
    context = copy_context()
    try:
        waits_for = context.run(coroutine.send, None)
    except StopIteration:
        return None
    return loop.create_task(_Started(coroutine, waits_for), context=context)


class _Started(Coroutine[Any, Any, None]):
    """A coroutine that has already run up to its first wait."""

    __slots__ = ("_coroutine", "_first", "_stepped")

    def __init__(self, coroutine: Coroutine[Any, Any, None], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first
        self._stepped = False

    def send(self, value: Any, /) -> Any:
        if self._stepped:
            return self._coroutine.send(value)
        self._stepped = True
        first, self._first = self._first, None
        return first

    def throw(self, *error: Any) -> Any:
        self._stepped = True
        self._first = None
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()

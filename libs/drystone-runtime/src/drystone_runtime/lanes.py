# SPDX-License-Identifier: Apache-2.0
"""Blocking disk calls off the loop: one thread per disk, groups of calls with one wake-up of the loop.

Invariants
  L1  Calls of one lane run one after the other, in the order of their submission.
  L2  A group wakes the loop once: when its last call has ended, or when its deadline passed.
  L3  After the deadline a result is dropped and a call that has not begun is skipped: its caller was told TimeoutError.
A hung disk parks its lane's thread (a daemon: it does not keep the process alive) and nothing else (R5).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

from drystone_core.ports import Lane

T = TypeVar("T")
log = logging.getLogger(__name__)
_LATE = object()
"""Stands for a result that has not come."""


class ThreadLane:
    """A daemon thread that runs what is submitted, in order."""

    __slots__ = ("_busy_since", "_queue", "_thread", "name", "submit")

    def __init__(self, name: str) -> None:
        self.name = name
        self._busy_since: float | None = None
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.submit: Callable[[Callable[[], None]], None] = self._queue.put
        """The queue's own method: a submission costs one C call."""
        self._thread = threading.Thread(target=self._run, name=f"lane-{name}", daemon=True)
        self._thread.start()

    def busy_since(self) -> float | None:
        """Monotonic time at which the running call began; None when idle."""
        return self._busy_since

    def stop(self) -> None:
        """Let the thread end after what is queued; does not wait (it may hang in the kernel)."""
        self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for a stopped thread; False when it still runs."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        get, monotonic = self._queue.get, time.monotonic
        while True:
            call = get()
            if call is None:
                return
            self._busy_since = monotonic()
            try:
                call()
            except BaseException:  # a submitted call must not raise; the lane outlives one that does
                log.exception("lane.call_raised", extra={"lane": self.name})
            del call
            self._busy_since = None


class _Group:
    """Calls that end together. Its methods with `_` run on the loop, `run` on the lanes."""

    __slots__ = ("ended", "future", "late", "left", "loop", "results", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.results: list[Any] = [_LATE] * size
        self.ended = count(1)
        """`next()` on it is one C call and therefore atomic: whoever draws `left` was the last."""
        self.left = size
        self.late = False
        self.timer: asyncio.TimerHandle | None = None

    def run(self, index: int, call: Callable[[], Any]) -> None:
        if self.late:
            return
        try:
            self.results[index] = call()
        except BaseException as error:
            self.results[index] = error
        if next(self.ended) == self.left:
            try:
                self.loop.call_soon_threadsafe(self.finish)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

    def run_one(self, call: Callable[[], Any]) -> None:
        if self.late:
            return
        wake: Callable[[Any], None] = self.resolve
        try:
            value: Any = call()
        except BaseException as error:
            wake, value = self.fail, error
        try:
            self.loop.call_soon_threadsafe(wake, value)
        except RuntimeError:
            pass

    def finish(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_result(self.results)

    def resolve(self, value: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            if isinstance(error, StopIteration):  # a Future refuses it
                error = RuntimeError("a disk call raised StopIteration")
            self.future.set_exception(error)

    def expire(self) -> None:
        self.late = True
        if not self.future.done():
            self.future.set_result([TimeoutError("disk call late") if r is _LATE else r for r in list(self.results)])

    def expire_one(self) -> None:
        self.late = True
        if not self.future.done():
            self.future.set_exception(TimeoutError("disk call late"))


class LoopLanes:
    """The `Lanes` port over a real loop. Both methods return a bare Future: no coroutine, no task."""

    __slots__ = ()

    def scatter(
        self, calls: Sequence[tuple[Lane, Callable[[], Any]]], *, deadline: float | None = None
    ) -> "asyncio.Future[list[Any]]":
        """Results in order; an exception stands in its call's place, TimeoutError for those late at `deadline`."""
        loop = asyncio.get_running_loop()
        group = _Group(loop, len(calls))
        if not calls:
            group.future.set_result([])
            return group.future
        if deadline is not None:
            group.timer = loop.call_later(max(0.0, deadline - time.monotonic()), group.expire)
        run = group.run
        for index, (lane, call) in enumerate(calls):
            lane.submit(partial(run, index, call))
        return group.future

    def run(self, lane: Lane, call: Callable[[], T], *, deadline: float | None = None) -> "asyncio.Future[T]":
        """One call; raises what it raised, or TimeoutError."""
        loop = asyncio.get_running_loop()
        group = _Group(loop, 1)
        if deadline is not None:
            group.timer = loop.call_later(max(0.0, deadline - time.monotonic()), group.expire_one)
        lane.submit(partial(group.run_one, call))
        return group.future

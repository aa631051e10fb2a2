# SPDX-License-Identifier: Apache-2.0
"""Supervised tasks: the one place that creates them.

Invariants
  B1  Every task has a name and an owner that keeps a reference to it and awaits it at stop.
  B2  An exception is never lost: it is logged with the task's name, and a task that is to run for ever starts again
      after a pause that doubles with each quick failure. Only Unreachable (a process that is just being replaced) is one
      quiet line for the whole time it lasts, and a short pause.
  B3  After `stop()` no task of this owner runs, and none can be started.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from drystone_core.check import check
from drystone_core.errors import Unreachable
from drystone_core.ports import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffSettings:
    """The pause before a failed task starts again, seconds."""

    first: float = 0.5
    most: float = 60.0
    calm: float = 120.0
    """A task that ran this long before it failed starts again after `first`."""
    away: float = 1.0
    """Of a task that needs somebody who is away just now (Unreachable); it says so once, without a trace."""


class Background:
    """Owns tasks. One per service (or per object whose tasks end together)."""

    def __init__(self, *, clock: Clock, backoff: BackoffSettings | None = None, limit: int = 10_000) -> None:
        self._clock = clock
        self._backoff = backoff or BackoffSettings()
        self._limit = limit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run `work()` for ever: when it raises it is logged and started again; when it returns it is done."""
        return self._start(name, self._supervise(name, work))

    def once(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` to its end; an exception is logged (and also stands in the task for whoever awaits it)."""
        return self._start(name, work)

    @property
    def names(self) -> list[str]:
        """Of the tasks now running, sorted."""
        return sorted(task.get_name() for task in self._tasks)

    @property
    def stopped(self) -> bool:
        """No task can be started any more."""
        return self._stopped

    async def stop(self, *, within: float = 10.0) -> None:
        """Cancel all tasks and wait for their ends; those late after `within` seconds are logged and left."""
        self._stopped = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within)
            for task in late:
                log.error("background.task_would_not_stop", extra={"task": task.get_name()})

    def _start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        if self._stopped:
            work.close()
            check(False, f"background task {name} started after stop")
        if len(self._tasks) >= self._limit:
            work.close()
            check(False, f"more than {self._limit} background tasks at {name}")
        task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background.task_failed", extra={"task": task.get_name()}, exc_info=error)

    async def _supervise(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause, away = self._backoff.first, False
        while True:
            began = self._clock.monotonic()
            try:
                return await work()
            except Unreachable as error:
                calm = self._clock.monotonic() - began >= self._backoff.away
                if calm or not away:
                    log.info("background.task_waits", extra={"task": name, "reason": error.message or error.code.value})
                away = True
            except Exception:
                away = False
                log.exception("background.task_restarts", extra={"task": name})
            if self._clock.monotonic() - began >= self._backoff.calm:
                pause = self._backoff.first
            if away:
                await self._clock.sleep(self._backoff.away)
                continue
            await self._clock.sleep(pause)
            pause = min(pause * 2, self._backoff.most)

# SPDX-License-Identifier: Apache-2.0
"""A session kept alive over any store: renewed in time, over by the local clock when nobody answers.

Invariants
  L1  `left` counts from the moment a renewal was *asked for*, less MARGIN, so the holder's time is over before the store's.
  L2  Once over, over: a late answer revives nothing.
  L3  Whoever waits in `ended` is told when the time is over, at the latest; after a pause of the process `check` tells it
      whatever the loop runs first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from drystone_core.coordination import Session, SessionId
from drystone_core.errors import DrystoneError, ErrorCode, Stale
from drystone_core.ports import Clock
from drystone_runtime.background import Background

T = TypeVar("T")
log = logging.getLogger(__name__)
RETRY = 0.2
"""Seconds between attempts while the coordinator does not answer."""
MARGIN = 0.1
"""Part of the time to live given up for clocks that run unevenly and for acting after a check."""


class LeasedSession:
    """The Session of both coordinators."""

    def __init__(
        self,
        *,
        session: SessionId,
        ttl: float,
        asked: float,
        renew: Callable[[float], Awaitable[float]],
        revoke: Callable[[], Awaitable[None]],
        clock: Clock,
        background: Background,
    ) -> None:
        """`asked`: monotonic time before the lease was asked for. `renew` gets the seconds it may take, gives those to live."""
        self._id = session
        self._ttl = ttl
        self._until = asked + ttl * (1 - MARGIN)
        self._renew, self._revoke = renew, revoke
        self._clock = clock
        self._over = asyncio.Event()
        self._reason = ""
        self._keeper = background.once("coordination.session", self._keep())

    @property
    def id(self) -> SessionId:
        """What documents are bound to."""
        return self._id

    def left(self) -> float:
        """Seconds for which it certainly lives on."""
        return 0.0 if self._over.is_set() else max(0.0, self._until - self._clock.monotonic())

    def check(self) -> None:
        """Raise Stale (FENCED) when it is over."""
        if self.left() <= 0:
            self._end("the coordinator did not answer in time, or this process was paused")
            raise Stale(f"the session is over: {self._reason}", ErrorCode.FENCED)

    async def ended(self) -> str:
        """Wait for its end; why."""
        await self._over.wait()
        return self._reason

    async def close(self) -> None:
        """End it, for everybody if the store answers."""
        lost = self._over.is_set()
        self._end("closed")
        self._keeper.cancel()
        if not lost:
            await self._revoke_quietly()

    def _end(self, reason: str) -> None:
        if not self._over.is_set():
            self._reason = reason
            self._over.set()

    async def _keep(self) -> None:
        try:
            await self._renew_in_time()
        except Exception as error:  # a bug: whoever waits must be told all the same
            self._end(f"its renewal failed: {error!r}")
            raise
        if self._reason != "closed":
            log.error("session.lost", extra={"session": self._id, "reason": self._reason})
            await self._revoke_quietly()

    async def _renew_in_time(self) -> None:
        pause, silent = self._ttl / 3, ""
        while (left := self.left()) > 0:
            await self._clock.sleep(min(pause, left))
            asked = self._clock.monotonic()
            if (left := self.left()) <= 0:
                break
            try:
                ttl = await self._renew(left)
            except DrystoneError as error:
                pause, silent = self._ttl / 12, f": {error}"
                continue
            if ttl <= 0:
                self._end("the coordinator ended it")
            elif self.left() > 0:
                self._until = asked + ttl * (1 - MARGIN)
                pause, silent = self._ttl / 3, ""
        self._end(f"not renewed in time{silent}")

    async def _revoke_quietly(self) -> None:
        try:
            await self._revoke()
        except DrystoneError as error:
            log.info("session.not_revoked", extra={"session": self._id, "reason": str(error)})


async def unless_over(session: Session, waiting: Awaitable[T]) -> T:
    """What `waiting` gives; Stale (FENCED) when the session is over first."""
    wanted = asyncio.ensure_future(waiting)
    over = asyncio.ensure_future(session.ended())
    try:
        await asyncio.wait((wanted, over), return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise Stale(f"the session is over: {over.result()}", ErrorCode.FENCED)
        return wanted.result()
    finally:
        for task in (wanted, over):
            task.cancel()
        await asyncio.wait((wanted, over))

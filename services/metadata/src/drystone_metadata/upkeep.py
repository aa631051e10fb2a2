# SPDX-License-Identifier: Apache-2.0
"""What the metadata service does beside its commits: give memory back, bound the feed, sweep rows nobody can reach, end
uploads of writers that are gone, raise the floor where nobody writes.

Invariants
  U1  Each turn does a bounded piece of work; between turns it sleeps.
  U2  A failure (no quorum, an owner changed) ends the turn and the passes under way, not the upkeep.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from drystone_core.errors import DrystoneError
from drystone_core.ports import Clock
from drystone_metadata.abandoned import AbandonedUploads
from drystone_metadata.batches import Phase
from drystone_metadata.committer import Committer
from drystone_metadata.feed_retention import FeedRetention
from drystone_metadata.logic.conditions import AHEAD_US
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.sweeping import Sweeper

log = logging.getLogger(__name__)


class _Passes:
    """Pass after pass of something done in steps, each `interval` seconds after the end of the one before."""

    __slots__ = ("_at", "_interval", "_next", "_steps", "whole")

    def __init__(self, steps: Callable[[], AsyncIterator[None]], interval: float) -> None:
        self._steps = steps
        self._interval = interval
        self._at: AsyncIterator[None] | None = None
        self._next = 0.0
        self.whole = 0
        """Passes that came to their end."""

    def begin_at(self, when: float) -> None:
        """Begin anew at that monotonic time."""
        self._at, self._next = None, when

    async def step(self, now: float) -> None:
        """One step, if one is due."""
        if now < self._next:
            return
        if self._at is None:
            self._at = self._steps()
        try:
            await anext(self._at)
        except StopAsyncIteration:
            self.begin_at(now + self._interval)
            self.whole += 1


class Upkeep:
    """Keep `run()` running beside the committer's."""

    def __init__(
        self,
        *,
        committer: Committer,
        retention: FeedRetention,
        sweeper: Sweeper,
        abandoned: AbandonedUploads,
        clock: Clock,
        settings: MetadataSettings,
        floor: Callable[[], Awaitable[object]],
        leftovers: Callable[[], AsyncIterator[None]],
    ) -> None:
        """`floor()` has the floor raised in a commit of its own; `leftovers()` is a pass that ends what others began."""
        self._committer = committer
        self._sweeper = sweeper
        self._floor = floor
        self._clock = clock
        self._settings = settings
        self._measured = False
        self._sweeps = _Passes(sweeper.steps, settings.sweep_interval)
        self._looks = _Passes(abandoned.steps, settings.upload_looks)
        self._leftovers = _Passes(leftovers, settings.sweep_interval)
        self._floors = _Passes(self._raise_floor, settings.sweep_interval)
        self._mutations, self._changed_us = -1, 0
        self._next_trim = 0.0
        self.retention = retention
        self.abandoned = abandoned

    @property
    def passes(self) -> int:
        """Whole passes of the sweeper."""
        return self._sweeps.whole

    async def run(self) -> None:
        """Until cancelled, or the tablet is another's."""
        self._begin_passes()
        while self._committer.phase is not Phase.LOST:
            await self._clock.sleep(self._settings.upkeep_pause)
            if self._committer.loaded:
                await self.turn()

    async def turn(self) -> None:
        """One bounded piece of everything that is due."""
        now = self._clock.monotonic()
        self._committer.writes.sweep(now)
        try:
            if not self._measured:
                await self.retention.measure()
                self._measured = True
            self.retention.note()
            if now >= self._next_trim and not await self._trim():
                self._next_trim = now + self._settings.feed_interval
            await self._sweeps.step(now)
            await self._looks.step(now)
            await self._floors.step(now)
            await self._leftovers.step(now)
        except DrystoneError as error:
            self._begin_passes()
            log.warning("metadata.upkeep_failed", extra={"code": error.code.value, "reason": error.message})

    def _begin_passes(self) -> None:
        when = self._clock.monotonic() + self._settings.sweep_after
        self._sweeps.begin_at(when)
        self._looks.begin_at(when)
        self._floors.begin_at(when)
        self._leftovers.begin_at(self._clock.monotonic())

    async def _raise_floor(self) -> AsyncIterator[None]:
        """Once after the last change, as soon as that lets the floor pass whatever could be stamped until then."""
        committer = self._committer
        if committer.mutations != self._mutations:
            self._mutations, self._changed_us = committer.mutations, committer.cell_us() + AHEAD_US
        if committer.state.floor_us < self._changed_us < committer.cell_us() - int(self._settings.floor_age * 1e6):
            await self._floor()
        yield

    async def _trim(self) -> bool:
        trimmed = await self.retention.step()
        if trimmed:
            log.info("metadata.feed_trimmed", extra={"through": self.retention.trimmed, "left": self.retention.size})
        return trimmed

# SPDX-License-Identifier: Apache-2.0
"""What the metadata service does beside its commits: give memory back, bound the feed, sweep rows nobody can reach.

Invariants
  U1  Each turn does a bounded piece of work; between turns it sleeps.
  U2  A failure (no quorum, an owner changed) ends the turn, not the upkeep.
"""

import logging
from collections.abc import AsyncIterator

from drystone_core.errors import DrystoneError
from drystone_core.ports import Clock
from drystone_metadata.committer import Committer, Phase
from drystone_metadata.feed_retention import FeedRetention
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.sweeping import Sweeper

log = logging.getLogger(__name__)


class Upkeep:
    """Keep `run()` running beside the committer's."""

    def __init__(
        self,
        *,
        committer: Committer,
        retention: FeedRetention,
        sweeper: Sweeper,
        clock: Clock,
        settings: MetadataSettings,
    ) -> None:
        self._committer = committer
        self._sweeper = sweeper
        self._clock = clock
        self._settings = settings
        self._measured = False
        self._pass: AsyncIterator[None] | None = None
        self._next_pass = 0.0
        self._next_trim = 0.0
        self.retention = retention
        self.passes = 0
        """Whole passes of the sweeper."""

    async def run(self) -> None:
        """Until cancelled, or the tablet is another's."""
        self._next_pass = self._clock.monotonic() + self._settings.sweep_after
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
            if now >= self._next_pass:
                await self._sweep(now)
        except DrystoneError as error:
            self._pass = None
            self._next_pass = now + self._settings.sweep_after
            log.warning("metadata.upkeep_failed", extra={"code": error.code.value, "reason": error.message})

    async def _trim(self) -> bool:
        trimmed = await self.retention.step()
        if trimmed:
            log.info("metadata.feed_trimmed", extra={"through": self.retention.trimmed, "left": self.retention.size})
        return trimmed

    async def _sweep(self, now: float) -> None:
        if self._pass is None:
            self._pass = self._sweeper.steps()
        try:
            await anext(self._pass)
        except StopAsyncIteration:
            self._pass = None
            self._next_pass = now + self._settings.sweep_interval
            self.passes += 1

# SPDX-License-Identifier: Apache-2.0
"""The tablets that this process owns, of all that a cell has.

Invariants
  O1  Who owns is a matter of speed: two that both believe it commit on the same tablet's epoch, and one of them is refused.
  O2  A mutation is taken only while this process believes that it owns the tablet; otherwise Stale, with the owner's name,
      before anything was decided.
  O3  An owner that learns of another one takes nothing new, ends what it has begun, and lets go.
  O4  Who lost a tablet although it should own it takes it over again, ever more slowly while that repeats.
  O5  A tablet of another process is taken over for a moment only when that one does not answer (handing H3); its owner takes it
      back (O4).
States of a tablet  another's --the ring says us--> taking over --> ours --the ring says another, or its epoch was raised--> another's
"""

import asyncio
import logging
from collections.abc import Callable

from drystone_core.errors import DrystoneError, ErrorCode, Stale
from drystone_core.mutations import Outcome
from drystone_core.ports import Clock, Entropy
from drystone_metadata.batches import Phase
from drystone_metadata.listing.versions import Pause
from drystone_metadata.logic.decide import Change
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import KeyOutOfRange, TabletId, TabletPhase, TabletStorage, UnknownTablet
from drystone_metadata.tablets.map import TabletMap
from drystone_metadata.tablets.merging import Merger
from drystone_metadata.tablets.running import Leftovers, RunningTablet, nothing_left
from drystone_metadata.tablets.sizes import Sizing

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.05
"""Between two looks at who should own the tablets known."""
MAP_SECONDS = 5.0
"""Between two looks at which tablets there are, longer when there are many; one that somebody asks for is met at once."""
PAUSES = (0.2, 1.0)
"""Seconds after a tablet was lost, or could not be taken over: at first, and at most."""
CALM_SECONDS = 10.0
"""A tablet owned for so long was taken over well."""
LET_GO_SECONDS = 10.0
"""What was begun may take so long when another should own the tablet."""


class NotOwner(Stale):
    """Another process should decide this."""

    def __init__(self, **details: str) -> None:
        super().__init__("another process owns the tablet", ErrorCode.STALE, **details)


class OwnedTablets:
    """Keep `run()` running; `submit` has a change decided here."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablets: TabletMap,
        name: str,
        owner: Callable[[TabletId], str | None],
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
        leftovers: Leftovers = nothing_left,
    ) -> None:
        """`owner(tablet)`: the name of the process that should own it now, as far as this one knows."""
        self._storage, self._map, self._name, self._owner = storage, tablets, name, owner
        self._clock, self._entropy, self._settings = clock, entropy, settings
        self.leftovers = leftovers
        self._sizes: dict[TabletId, Sizing] = {}
        self._keeping: dict[TabletId, asyncio.Task[None]] = {}
        self._running: dict[TabletId, RunningTablet] = {}
        self.merger = Merger(storage=storage, clock=clock, entropy=entropy, settings=settings)
        self.take_overs = 0
        """Times this process became the owner of some tablet."""

    @property
    def running(self) -> dict[TabletId, RunningTablet]:
        """Tablets in which mutations are taken here."""
        return {
            tablet: one
            for tablet, one in self._running.items()
            if one.committer.phase in (Phase.OWNER, Phase.UNSETTLED)
        }

    async def submit(self, tablet: TabletId, change: Change) -> Outcome:
        """Decided and durable when it returns; Stale when another process should decide it (O2)."""
        one = self._running.get(tablet)
        if one is not None and one.committer.phase in (Phase.OWNER, Phase.UNSETTLED):
            return await one.committer.submit(change)
        raise self.not_owner(tablet)

    def not_owner(self, tablet: TabletId) -> NotOwner:
        """What is said to who asks here for another process's tablet."""
        return NotOwner(owner=self._owner(tablet) or "", tablet=tablet.hex())

    def owns(self, tablet: TabletId) -> bool:
        """Whether mutations of the tablet are taken here."""
        return tablet in self.running

    async def take_over_for(self, tablet: TabletId, change: Change) -> Outcome:
        """Have it decided here whoever owns the tablet (O5); KeyOutOfRange when that is not open."""
        one = RunningTablet(
            storage=self._storage, tablet=tablet, clock=self._clock, entropy=self._entropy, settings=self._settings
        )
        await one.committer.start()
        if one.committer.state.phase is not TabletPhase.OPEN:
            raise KeyOutOfRange("the tablet is being moved")
        work = asyncio.ensure_future(one.committer.run())
        try:
            return await one.committer.submit(change)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def pause(self, tablet: TabletId) -> Pause | None:
        """Of a tablet that is ours."""
        one = self._running.get(tablet)
        return one.committer.pause if one is not None else None

    async def run(self) -> None:
        """Own every tablet that this process should; until cancelled."""
        looked = -MAP_SECONDS
        try:
            while True:
                if self._clock.monotonic() - looked >= MAP_SECONDS * (1 + len(self._map.spots) / 100):
                    looked = self._clock.monotonic()
                    try:
                        await self._map.all()
                    except DrystoneError as error:
                        log.warning("metadata.map_not_read", extra={"reason": str(error)})
                self.look()
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            await self.stop()

    def look(self) -> None:
        """Begin to keep the tablets known that should be ours."""
        for tablet in {spot.tablet for spot in self._map.spots} | self._map.closed:
            task = self._keeping.get(tablet)
            if self._owner(tablet) == self._name and (task is None or task.done()):
                self._keeping[tablet] = asyncio.ensure_future(self._keep(tablet))
        for tablet in [tablet for tablet, task in self._keeping.items() if task.done()]:
            del self._keeping[tablet]

    async def stop(self) -> None:
        """Let go of everything at once."""
        tasks = list(self._keeping.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeping.clear()

    async def let_go(self) -> None:
        """Wait until others should own all tablets and this process has let go; what is begun ends."""
        until = self._clock.monotonic() + LET_GO_SECONDS
        while self._clock.monotonic() < until:
            if not any(not task.done() for task in self._keeping.values()):
                return
            await self._clock.sleep(LOOK_SECONDS)

    async def _keep(self, tablet: TabletId) -> None:
        """Own a tablet as long as this process should and there is such a tablet (O4)."""
        pause = PAUSES[0]
        while self._owner(tablet) == self._name:
            since = self._clock.monotonic()
            try:
                await self._own(tablet)
            except UnknownTablet:
                self._map.forget(tablet)
                return
            except DrystoneError as error:
                log.warning("metadata.not_taken_over", extra={"tablet": tablet.hex(), "reason": str(error)})
            if self._clock.monotonic() - since > CALM_SECONDS:
                pause = PAUSES[0]
            elif self._owner(tablet) == self._name:
                await self._clock.sleep(pause)
                pause = min(pause * 2, PAUSES[1])

    async def _own(self, tablet: TabletId) -> None:
        """Take the tablet over and commit, until it is lost or should be another's; UnknownTablet when it is gone."""
        one = RunningTablet(
            storage=self._storage,
            tablet=tablet,
            clock=self._clock,
            entropy=self._entropy,
            settings=self._settings,
            leftovers=self.leftovers,
        )
        await one.committer.start()
        if one.committer.state.phase is not TabletPhase.OPEN and not await self.merger.settle(one):
            if one.committer.state.phase is TabletPhase.CLOSED:
                raise UnknownTablet
            raise Stale("the tablet is not open yet")
        work = [asyncio.ensure_future(part) for part in (one.committer.run(), one.upkeep.run(), self._keep_size(one))]
        self._running[tablet] = one
        self.take_overs += 1
        log.info("metadata.owns", extra={"tablet": tablet.hex(), "epoch": one.committer.state.epoch})
        try:
            await one.splitter.tidy()
            while self._wants(one) and not work[0].done():
                await self._clock.sleep(LOOK_SECONDS)
            self._running.pop(tablet, None)
            work[2].cancel()  # what is closed now is reopened or dropped by who takes it over next
            await self._end_begun(one)
        finally:
            self._running.pop(tablet, None)
            for task in work:
                task.cancel()
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("metadata.owner_failed", extra={"reason": str(result)})
            log.info("metadata.owns_no_more", extra={"tablet": tablet.hex(), "owner": self._owner(tablet) or ""})
        if one.committer.state.phase is TabletPhase.CLOSED:
            await self._storage.state(tablet)  # UnknownTablet when it was joined to its neighbour

    def _wants(self, one: RunningTablet) -> bool:
        committer = one.committer
        return (
            committer.phase is not Phase.LOST
            and committer.state.phase is TabletPhase.OPEN
            and self._owner(one.tablet) == self._name
        )

    async def _keep_size(self, one: RunningTablet) -> None:
        """Split the tablet when it is large; join it with its right neighbour when both are small, quiet, and ours (R8)."""
        sizing = self._sizes[one.tablet] = Sizing(one, self._settings)
        try:
            while True:
                await self._clock.sleep(self._settings.size_looks)
                try:
                    await self._look_at_size(one, sizing)
                except DrystoneError as error:
                    log.warning("metadata.not_resized", extra={"tablet": one.tablet.hex(), "reason": str(error)})
        finally:
            self._sizes.pop(one.tablet, None)

    async def _look_at_size(self, one: RunningTablet, sizing: Sizing) -> None:
        await one.splitter.tidy()
        if sizing.due:
            async for _ in sizing.steps():
                await self._clock.sleep(self._settings.upkeep_pause / 10)
        size = sizing.size
        if size is not None and size.large(self._settings):
            await one.splitter.split(size.middle)
            sizing.size = None
            await self._map.look(size.middle)
            return
        right, other = self._running.get(one.committer.state.child), self._sizes.get(one.committer.state.child)
        if right is None or other is None or other.size is None or size is None:
            return
        if size.small_with(other.size, self._settings) and self.merger.quiet(one) and self.merger.quiet(right):
            await self.merger.join(one, right)
            sizing.size = None
            await self._map.look(one.committer.state.low)

    async def _end_begun(self, one: RunningTablet) -> None:
        """O3. What waits for a store that does not answer is given up: its outcome is unknown to the caller, who asks again."""
        until = self._clock.monotonic() + LET_GO_SECONDS
        while one.committer.phase is not Phase.LOST and not one.committer.idle and self._clock.monotonic() < until:
            await self._clock.sleep(LOOK_SECONDS / 10)

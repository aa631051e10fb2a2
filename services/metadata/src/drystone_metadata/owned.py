# SPDX-License-Identifier: Apache-2.0
"""The metadata service of a cell: one process of several, which owns some tablets and reads all of them.

A mutation of another process's tablet is answered NotOwner, with the tablet, its owner, and the keys of the bucket it holds
(cell_metadata, tablets/owning O2). Bucket changes are the first tablet's owner's, and their steps in each tablet that one's
owner's: the processes ask one another (tablets/handing).
"""

import asyncio
from collections.abc import Callable

from drystone_core.cell import TabletCounts
from drystone_core.ports import Clock, Entropy
from drystone_metadata.cell_metadata import TabletsMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import CELL_TABLET, TabletId, TabletStorage
from drystone_metadata.tablets.handing import Ask, EndBegun, Handing, Step
from drystone_metadata.tablets.map import TabletMap
from drystone_metadata.tablets.owning import OwnedTablets


class OwnedMetadata(TabletsMetadata):
    """MetadataNodeService of a cell; keep `run()` running."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        name: str,
        owner: Callable[[TabletId], str | None],
        ask: Ask,
        registered: Callable[[], bool],
        lease: float,
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        """`owner(tablet)`: the name of the process that should own it now, as far as this one knows; `ask`: has another process
        take a step; `registered`: whether the others count on this one; `lease`: seconds after which it is gone when silent."""
        self.map = TabletMap(storage)
        self.tablets = OwnedTablets(
            storage=storage,
            tablets=self.map,
            name=name,
            owner=owner,
            clock=clock,
            entropy=entropy,
            settings=settings,
        )
        self.handing = Handing(
            name=name,
            owns=self.tablets.owns,
            owner=owner,
            registered=registered,
            here=self.take,
            ask=ask,
            take_over=self._take_over,
            clock=clock,
            entropy=entropy,
            lease=lease,
        )
        super().__init__(
            storage=storage,
            tablets=self.map,
            submit=self.tablets.submit,
            steps=self.handing,
            ours=self.tablets.owns,
            pause=self.tablets.pause,
            clock=clock,
            entropy=entropy,
            settings=settings,
        )
        self.tablets.leftovers = self.changes.leftovers

    async def take(self, tablet: TabletId, step: Step) -> None:
        """Take a step of a bucket's change in a tablet that this process owns; NotOwner otherwise (handing H1)."""
        if not isinstance(step, EndBegun):
            await self.tablets.submit(tablet, step)
        elif self.tablets.owns(CELL_TABLET):
            await self.changes.take(step)
        else:
            raise self.tablets.not_owner(CELL_TABLET)

    def counts(self) -> TabletCounts:
        """Of the tablets that this process owns."""
        running = self.tablets.running.values()
        moves = sum(1 for one in running if one.committer.state.note)
        return TabletCounts(len(running), moves, self.changes.under_way)

    async def _take_over(self, tablet: TabletId, step: Step) -> None:
        if not isinstance(step, EndBegun):
            await self.tablets.take_over_for(tablet, step)

    async def run(self) -> None:
        """Own every tablet that this process should, and end the changes of buckets begun here; until cancelled."""
        ending = asyncio.ensure_future(self.changes.run())
        try:
            await self.tablets.run()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def let_go(self) -> None:
        """Wait until others should own all tablets and this process has let go; what is begun ends."""
        await self.tablets.let_go()

# SPDX-License-Identifier: Apache-2.0
"""A tablet that this process owns: who commits, and the upkeep beside it."""

from collections.abc import AsyncIterator, Callable, Sequence

from drystone_core.ids import make_write_id
from drystone_core.ports import Clock, Entropy
from drystone_metadata.abandoned import AbandonedUploads
from drystone_metadata.committer import Committer
from drystone_metadata.feed_retention import FeedRetention
from drystone_metadata.logic.housekeeping import RaiseFloor
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import RowKey, TabletId, TabletStorage
from drystone_metadata.store.ranges import OBJECT_KINDS, within
from drystone_metadata.sweeping import Sweeper
from drystone_metadata.tablets.splitting import Splitter
from drystone_metadata.upkeep import Upkeep

Leftovers = Callable[[TabletId], AsyncIterator[None]]
"""A pass over changes of buckets that others left half done in a tablet."""


async def nothing_left(_tablet: TabletId) -> AsyncIterator[None]:
    """Where there is one tablet, none is ever half done."""
    for _ in ():
        yield


class RunningTablet:
    """`committer.start()`, then keep `committer.run()` and `upkeep.run()` running."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
        leftovers: Leftovers = nothing_left,
    ) -> None:
        self.tablet = tablet
        self.committer = committer = Committer(
            storage=storage, tablet=tablet, clock=clock, entropy=entropy, settings=settings
        )
        self.rows = rows = OwnRows(storage, committer)
        self.upkeep = Upkeep(
            committer=committer,
            retention=FeedRetention(storage=storage, tablet=tablet, committer=committer, settings=settings),
            sweeper=Sweeper(
                rows=rows, tablet=tablet, mutate=committer.submit, clock=clock, entropy=entropy, settings=settings
            ),
            abandoned=AbandonedUploads(
                rows=rows, tablet=tablet, mutate=committer.submit, clock=clock, entropy=entropy, settings=settings
            ),
            clock=clock,
            settings=settings,
            floor=lambda: committer.submit(RaiseFloor(write_id=make_write_id(clock.wall_us(), entropy.token(16)))),
            leftovers=lambda: leftovers(tablet),
        )
        self.splitter = Splitter(
            storage=storage, tablet=tablet, committer=committer, entropy=entropy, settings=settings
        )


class OwnRows:
    """RowReader for those who look at everything in the tablet: scans of object rows are kept within its range."""

    def __init__(self, storage: TabletStorage, committer: Committer) -> None:
        self._storage = storage
        self._committer = committer

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        return await self._storage.read(tablet, keys)

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        if start.kind in OBJECT_KINDS:
            start, end = within(self._committer.state, start, end)
        return await self._storage.scan(tablet, start, end, limit)

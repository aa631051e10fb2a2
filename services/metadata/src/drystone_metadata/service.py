# SPDX-License-Identifier: Apache-2.0
"""The metadata service in this process: MetadataService over one tablet that holds everything."""

from collections.abc import Awaitable, Sequence

from drystone_core.cell import TabletCounts
from drystone_core.listing import VersionPage
from drystone_core.mutations import Outcome
from drystone_core.ports import Clock, Entropy
from drystone_core.services import BlobName
from drystone_metadata.feed_retention import FeedCursor, read_feed
from drystone_metadata.listing.versions import list_versions
from drystone_metadata.liveness import dead_blobs
from drystone_metadata.logic.decide import Change
from drystone_metadata.reads import MetadataReads
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import FeedRow, TabletId, TabletStorage
from drystone_metadata.tablets.running import RunningTablet


class LocalMetadata(MetadataReads):
    """MetadataService. `start()`, then keep `run()` and `upkeep.run()` running; mutations are answered by `run()`."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings | None = None,
    ) -> None:
        settings = settings or MetadataSettings()
        running = RunningTablet(storage=storage, tablet=tablet, clock=clock, entropy=entropy, settings=settings)
        self._storage = storage
        self.committer, self.upkeep = running.committer, running.upkeep
        super().__init__(rows=storage, tablet=tablet, settings=settings, committer=running.committer)

    async def start(self) -> None:
        """Create the tablet when this is the first start, and own it."""
        await self._storage.create(self._tablet, low=b"", high=b"", generation=1)
        await self.own()

    async def own(self) -> None:
        """Take the tablet over from whoever owned it."""
        await self.committer.start()

    async def run(self) -> None:
        """The committer's loop; until cancelled."""
        await self.committer.run()

    async def changes(self, cursor: FeedCursor, limit: int = 1000) -> list[FeedRow]:
        """Feed records after the cursor; Stale when the consumer must resync by a scan."""
        return await read_feed(self._storage, self._tablet, cursor, limit)

    def counts(self) -> TabletCounts:
        """One tablet, which is never moved."""
        return TabletCounts(1)

    def mutate(self, mutation: Change) -> Awaitable[Outcome]:
        """Decided and durable when it returns. Concurrent calls share one commit."""
        return self.committer.submit(mutation)

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionPage:
        """Keys ascending, versions and delete markers of a key newest first."""
        found = await self.bucket(bucket)
        return await list_versions(
            self._storage,
            self._tablet,
            found.bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
            pause=self.committer.pause,
        )

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        """For each: is the blob dead (R7)? What cannot be judged at one head is not dead yet."""
        return await dead_blobs(self._storage, self._tablet, names)

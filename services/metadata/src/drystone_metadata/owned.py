# SPDX-License-Identifier: Apache-2.0
"""A tablet that one process of several owns at a time: the owner commits, every process reads.

Invariants
  O1  Who owns is a matter of speed: two that both believe it commit on the same tablet's epoch, and one of them is refused.
  O2  A mutation is taken only while this process believes that it owns the tablet; otherwise Stale, with the owner's name,
      before anything was decided.
  O3  An owner that learns of another one takes nothing new, ends what it has begun, and lets go.
  O4  Who lost the tablet although it should own it takes it over again, ever more slowly while that repeats.
States  READER --the ring says us--> taking over --> OWNER --the ring says another, or the epoch was raised--> READER
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from drystone_core.errors import DrystoneError, Stale
from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Clock
from drystone_core.services import BlobName, ObjectName
from drystone_metadata.batches import Phase
from drystone_metadata.logic.decide import Change
from drystone_metadata.service import LocalMetadata

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.05
"""Between two looks at who should own the tablet."""
PAUSES = (0.1, 5.0)
"""Seconds after a tablet was lost, or could not be taken over: at first, and at most."""
CALM_SECONDS = 10.0
"""A tablet owned for so long was taken over well."""
LET_GO_SECONDS = 10.0
"""What was begun may take so long when another should own the tablet."""


class OwnedMetadata:
    """MetadataNodeService of a cell; keep `run()` running."""

    def __init__(self, *, local: LocalMetadata, name: str, owner: Callable[[], str | None], clock: Clock) -> None:
        """`owner()`: the name of the process that should own the tablet now, as far as this one knows."""
        self._local, self._name, self._owner, self._clock = local, name, owner, clock
        self._takes = False
        self.take_overs = 0
        """Times this process became the owner."""

    @property
    def owns(self) -> bool:
        """Whether mutations are taken here."""
        return self._takes and self._local.committer.phase in (Phase.OWNER, Phase.UNSETTLED)

    async def run(self) -> None:
        """Own the tablet whenever this process should; until cancelled."""
        pause = PAUSES[0]
        while True:
            if self._owner() != self._name:
                await self._clock.sleep(LOOK_SECONDS)
                continue
            since = self._clock.monotonic()
            try:
                await self._own()
            except DrystoneError as error:
                log.warning("metadata.not_taken_over", extra={"reason": str(error)})
            if self._clock.monotonic() - since > CALM_SECONDS:
                pause = PAUSES[0]
            elif self._owner() == self._name:
                await self._clock.sleep(pause)
                pause = min(pause * 2, PAUSES[1])

    async def _own(self) -> None:
        """Take the tablet over and commit, until it is lost or should be another's."""
        local = self._local
        await local.own()
        self._takes = True
        self.take_overs += 1
        log.info("metadata.owns", extra={"epoch": local.committer.state.epoch})
        work = [asyncio.ensure_future(local.run()), asyncio.ensure_future(local.upkeep.run())]
        try:
            while local.committer.phase is not Phase.LOST and self._owner() == self._name and not work[0].done():
                await self._clock.sleep(LOOK_SECONDS)
            self._takes = False
            await self._let_go()
        finally:
            self._takes = False
            for task in work:
                task.cancel()
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("metadata.owner_failed", extra={"reason": str(result)})
            log.info("metadata.owns_no_more", extra={"owner": self._owner() or ""})

    async def _let_go(self) -> None:
        """O3. What waits for a store that does not answer is given up: its outcome is unknown to the caller, who asks again."""
        until = self._clock.monotonic() + LET_GO_SECONDS
        committer = self._local.committer
        while committer.phase is not Phase.LOST and not committer.idle and self._clock.monotonic() < until:
            await self._clock.sleep(LOOK_SECONDS / 10)

    async def let_go(self) -> None:
        """Wait until another should own the tablet and this process has let go; what is begun ends."""
        until = self._clock.monotonic() + LET_GO_SECONDS
        while (self._takes or self._owner() == self._name) and self._clock.monotonic() < until:
            await self._clock.sleep(LOOK_SECONDS)

    def mutate(self, mutation: Change) -> Awaitable[Outcome]:
        """Decided and durable when it returns; Stale when another process should decide it (O2)."""
        if not self.owns:
            raise Stale("another process owns the tablet", owner=self._owner() or "")
        return self._local.mutate(mutation)

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        return await self._local.bucket(name, age=age)

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        return await self._local.buckets(owner, prefix=prefix, after=after, limit=limit)

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        return await self._local.object(bucket, key, version_id)

    async def objects(self, names: Sequence[ObjectName]) -> list[ObjectVersion | DrystoneError]:
        return await self._local.objects(names)

    async def list_objects(
        self, bucket: str, *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> ObjectPage:
        return await self._local.list_objects(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

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
        return await self._local.list_versions(
            bucket, prefix=prefix, delimiter=delimiter, after_key=after_key, after_version=after_version, limit=limit
        )

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadPage:
        return await self._local.list_uploads(
            bucket, prefix=prefix, delimiter=delimiter, after_key=after_key, after_upload=after_upload, limit=limit
        )

    async def list_parts(
        self, bucket: str, key: Key, upload_id: UploadId, *, after: int = 0, limit: int = 1000
    ) -> PartPage:
        return await self._local.list_parts(bucket, key, upload_id, after=after, limit=limit)

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        return await self._local.dead_blobs(names)

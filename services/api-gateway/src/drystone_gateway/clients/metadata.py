# SPDX-License-Identifier: Apache-2.0
"""The metadata processes of a cell as one MetadataService: mutations go to the owner, reads to any.

Invariants
  M1  Mutations go to the owners of their tablets, for as long as it takes (mutations.py).
  M2  What a process says about the matter itself (Refused, Damaged, Busy) is passed on at once.
  M3  A read is asked of at most `tries` processes, in the order of choice.py, each for `late` seconds.
  M4  Who takes a bucket as it was up to a second ago learns so when that matters: a mutation names the bucket's id, a read
      its name. What is refused because the bucket is another by now is to be tried again, not missing.
  M5  Which tablet a key is in is learnt from refusals (routes.py); who owns a tablet, from the ring.
Owners change within seconds; until then mutations wait here instead of failing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from drystone_core.cell import TabletCounts
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Stale, Unavailable
from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Mutation, Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Clock, Entropy
from drystone_core.services import BlobName, MetadataService
from drystone_gateway.clients.choice import Choice, Peer
from drystone_gateway.clients.mutations import Mutations, MutationSettings
from drystone_gateway.clients.routes import FIRST_TABLET
from drystone_runtime.background import Background
from drystone_runtime.rpc.patience import within

T = TypeVar("T")


class MetadataClient(MetadataService, Protocol):
    """One metadata process far away."""

    async def mutate_all(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """Item by item, an error standing in a failed item's place."""
        ...

    async def counts(self) -> TabletCounts:
        """What the process has to do."""
        ...


@dataclass(slots=True, eq=False, kw_only=True)
class MetadataNode(Peer):
    """A metadata process as a gateway sees it."""

    client: MetadataClient


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMetadataSettings:
    """Limits; seconds."""

    tries: int = 3
    full: int = 64
    """Reads under way at a process before others are sent to the next."""
    avoid: float = 2.0
    """A process that failed is asked last for so long."""
    late: float = 3.0
    """A read that has no answer by then is asked of another process."""
    buckets: int = 4096
    """Remembered at most."""
    mutations: MutationSettings = field(default_factory=MutationSettings)


class CellMetadata:
    """MetadataService over the processes `nodes()` tells at each call; `owner(tablet)` names a tablet's owner."""

    def __init__(
        self,
        *,
        nodes: Callable[[], Sequence[MetadataNode]],
        owner: Callable[[bytes], str | None],
        clock: Clock,
        entropy: Entropy,
        background: Background,
        settings: CellMetadataSettings | None = None,
    ) -> None:
        self._nodes, self._owner, self._clock, self._entropy = nodes, owner, clock, entropy
        self._settings = settings or CellMetadataSettings()
        self._background = background
        self._mutations = Mutations(
            send=self._send, owner=owner, clock=clock, entropy=entropy, background=background,
            settings=self._settings.mutations,
        )  # fmt: skip
        self._choice = Choice(
            seed=entropy.token(8), clock=clock, tries=self._settings.tries, full=self._settings.full,
            avoid=self._settings.avoid,
        )  # fmt: skip
        self._buckets: dict[str, tuple[Bucket, float]] = {}
        """As they were at that monotonic time (M4)."""
        self._looks: dict[str, asyncio.Task[None]] = {}
        """Buckets being looked at."""

    @property
    def repeated(self) -> int:
        """Mutations sent again."""
        return self._mutations.repeated

    def mutate(self, mutation: Mutation) -> Awaitable[Outcome]:
        """Decided and durable when it returns; Unavailable when no owner decides it in time (mutations.py)."""
        return self._judged(mutation, self._mutations.submit(mutation))

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        now = self._clock.monotonic()
        known = self._buckets.get(name)
        if age and known is not None and now - known[1] <= age:
            if now - known[1] > age / 2:
                self._look_once(name)  # ahead of those who will ask, so that none of them waits
            return known[0]
        if age:
            await asyncio.shield(self._look_once(name))
            known = self._buckets.get(name)
            if known is not None and now - known[1] <= age:
                return known[0]
        # A look that began before we were asked may tell what is so, but not what is not.
        return await self._look_at(name)

    def _look_once(self, name: str) -> "asyncio.Task[None]":
        """One look for all who want one now."""
        look = self._looks.get(name)
        if look is None:
            look = self._looks[name] = self._background.once("bucket.look", self._look(name))
        return look

    async def _look(self, name: str) -> None:
        try:
            await self._look_at(name)
        except DrystoneError:
            pass  # whoever asks next hears of it
        finally:
            self._looks.pop(name, None)

    async def _look_at(self, name: str) -> Bucket:
        now = self._clock.monotonic()
        try:
            found = await self._ask(lambda client: client.bucket(name))
        except Refused:
            self._buckets.pop(name, None)
            raise
        if len(self._buckets) >= self._settings.buckets:
            self._buckets.clear()
        self._buckets[name] = found, now
        return found

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        return await self._ask(lambda client: client.buckets(owner, prefix=prefix, after=after, limit=limit))

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        return await self._ask(lambda client: client.object(bucket, key, version_id))

    async def list_objects(
        self, bucket: str, *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> ObjectPage:
        return await self._ask(
            lambda client: client.list_objects(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        )

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
        """Asked of the owner first: it can hold its commits for as long as a page takes."""
        return await self._ask(
            lambda client: client.list_versions(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                after_key=after_key,
                after_version=after_version,
                limit=limit,
            ),
            first=self._owner(FIRST_TABLET),
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
        return await self._ask(
            lambda client: client.list_uploads(
                bucket, prefix=prefix, delimiter=delimiter, after_key=after_key, after_upload=after_upload, limit=limit
            )
        )

    async def list_parts(
        self, bucket: str, key: Key, upload_id: UploadId, *, after: int = 0, limit: int = 1000
    ) -> PartPage:
        return await self._ask(lambda client: client.list_parts(bucket, key, upload_id, after=after, limit=limit))

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        return await self._ask(lambda client: client.dead_blobs(names))

    async def _ask(self, call: Callable[[MetadataClient], Awaitable[T]], *, first: str | None = None) -> T:
        failure: DrystoneError | None = None
        for node in self._choice.gathered(self._nodes(), first=first):
            try:
                with node.counted():
                    async with within(self._settings.late, f"the metadata process {node.name}"):
                        return await call(node.client)
            except (Unavailable, Stale) as error:
                failure = self._failed(node, error)
        raise failure or Unavailable("no metadata process is known")

    def _failed(self, node: MetadataNode, error: DrystoneError) -> DrystoneError:
        self._choice.failed(node)
        return error

    async def _judged(self, mutation: Mutation, decided: "asyncio.Future[Outcome]") -> Outcome:
        """Where our picture of the bucket may have been old, a client hears 503 instead of 404 (M4)."""
        try:
            return await decided
        except Refused as refused:
            if refused.code is not ErrorCode.NO_SUCH_BUCKET:
                raise
            known = self._buckets.pop(mutation.bucket, None)
            # What the mutation names, not what is remembered: another that was refused may have dropped that already.
            meant = getattr(mutation, "bucket_id", None) or (known[0].bucket_id if known is not None else None)
            if meant is None:
                raise
            now = await self.bucket(mutation.bucket)
            if now.bucket_id == meant:
                raise
            raise Unavailable("the bucket was deleted and made anew meanwhile: try again") from refused

    async def _send(self, name: str, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """One bulk call to the process of that name."""
        node = next((node for node in self._nodes() if node.name == name), None)
        if node is None:
            raise Unavailable("the tablet's owner is not known here yet")
        try:
            return await node.client.mutate_all(batch)
        except (Unavailable, Stale) as error:
            raise Unavailable(self._failed(node, error).message) from error

# SPDX-License-Identifier: Apache-2.0
"""The metadata processes of a cell as one MetadataService: mutations go to the owner, reads to any.

Invariants
  M1  A mutation is sent again, with the same write id, while its owner is away or is just changing: whoever decides it first
      decides it once (R1), and who asks again gets that answer.
  M2  What a process says about the matter itself (Refused, Damaged, Busy) is passed on at once.
  M3  A read is asked of at most `tries` processes; in the order of choice.py.
  M4  A process that does not answer holds nobody for longer than `late` (a read), or than it is the owner (a mutation).
  M5  Who takes a bucket as it was up to a second ago learns so when that matters: a mutation names the bucket's id, a read
      its name. What is refused because the bucket is another by now is to be tried again, not missing.
  M6  Which tablet a key is in is learnt from refusals (routes.py); who owns a tablet, from the ring.
Owners change within seconds; until then mutations wait here instead of failing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Stale, Unavailable
from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Mutation, Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Clock, Entropy
from drystone_core.services import BlobName, MetadataService
from drystone_gateway.clients.choice import Choice, Peer
from drystone_gateway.clients.routes import FIRST_TABLET, Routes
from drystone_runtime.background import Background
from drystone_runtime.rpc.call_context import bounded
from drystone_runtime.rpc.coalesce import Coalescer
from drystone_runtime.rpc.patience import within

T = TypeVar("T")


class MetadataClient(MetadataService, Protocol):
    """One metadata process far away."""

    async def mutate_all(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """Item by item, an error standing in a failed item's place."""
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
    look: float = 0.25
    """Between two looks whether a mutation still waits at the right process."""
    patience: float = 20.0
    """A mutation waits so long for an owner that decides it."""
    buckets: int = 4096
    """Remembered at most."""
    redirects: int = 8
    """A mutation that is told where it belongs is sent there at once, so many times."""
    pauses: tuple[float, float] = (0.02, 0.5)
    """Before a mutation is sent again: at first, and at most."""


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
        self._mutations: Coalescer[Mutation, Outcome] = Coalescer(
            send=self._mutate_all, background=background, flights=4
        )
        self._choice = Choice(
            seed=entropy.token(8), clock=clock, tries=self._settings.tries, full=self._settings.full,
            avoid=self._settings.avoid,
        )  # fmt: skip
        self._routes = Routes()
        self._buckets: dict[str, tuple[Bucket, float]] = {}
        """As they were at that monotonic time (M5)."""
        self.repeated = 0
        """Mutations sent again."""

    def mutate(self, mutation: Mutation) -> "asyncio.Future[Outcome]":
        """Decided and durable when it returns; Unavailable when no owner decides it in time."""
        return self._mutations.submit(mutation)

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        now = self._clock.monotonic()
        known = self._buckets.get(name)
        if known is not None and now - known[1] <= age:
            return known[0]
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

    async def _mutate_all(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """One bulk call to the owner; those it could not decide are sent again (M1)."""
        settings = self._settings
        until = self._clock.monotonic() + bounded(settings.patience)
        answers: list[Outcome | BaseException] = [Unavailable("no metadata process is known")] * len(batch)
        left, pause = list(range(len(batch))), settings.pauses[0]
        redirects = 0
        while True:
            found = await self._to_owners([batch[i] for i in left])
            for index, answer in zip(left, found, strict=True):
                answers[index] = answer
            left = [index for index in left if _undecided(answers[index])]
            learnt = [self._learn(batch[index], answers[index]) for index in left]
            if not left or self._clock.monotonic() + pause >= until:
                return [await self._final(mutation, answer) for mutation, answer in zip(batch, answers, strict=True)]
            redirects += 1
            if all(learnt) and redirects <= settings.redirects:
                continue
            self.repeated += len(left)
            await self._clock.sleep(self._entropy.uniform(pause / 2, pause))
            pause = min(pause * 2, settings.pauses[1])

    def _learn(self, mutation: Mutation, answer: Outcome | BaseException) -> bool:
        """Whether it is now known where it belongs."""
        return isinstance(answer, Stale) and self._routes.learn(mutation, answer.details)

    async def _to_owners(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """One bulk call to each owner of some of the tablets."""
        groups: dict[str | None, list[int]] = {}
        tablets = [self._routes.tablet(mutation) for mutation in batch]
        for index, tablet in enumerate(tablets):
            groups.setdefault(self._owner(tablet), []).append(index)
        calls = [
            self._to_owner(name, {tablets[i] for i in indices}, [batch[i] for i in indices])
            for name, indices in groups.items()
        ]
        answers: list[Outcome | BaseException] = [Unavailable("not sent")] * len(batch)
        for indices, found in zip(groups.values(), await asyncio.gather(*calls), strict=True):
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
        return answers

    async def _to_owner(
        self, name: str | None, tablets: Iterable[bytes], batch: Sequence[Mutation]
    ) -> list[Outcome | BaseException]:
        node = next((node for node in self._nodes() if node.name == name), None)
        if node is None:
            return [Unavailable("no metadata process owns the tablet just now")] * len(batch)
        asking = asyncio.ensure_future(node.client.mutate_all(batch))
        try:
            while not asking.done() and all(self._owner(tablet) == name for tablet in tablets):
                await asyncio.wait((asking,), timeout=self._settings.look)
            if not asking.done():
                raise Unavailable("the tablet's owner has changed")
            return await asking
        except (Unavailable, Stale) as error:
            self._failed(node, error)
            return [Unavailable(error.message)] * len(batch)
        finally:
            asking.cancel()

    async def _final(self, mutation: Mutation, answer: Outcome | BaseException) -> Outcome | BaseException:
        """Where nobody decided, or where our picture of the bucket may have been old, a client hears 503."""
        if isinstance(answer, Stale) and _undecided(answer):
            return Unavailable(answer.message)
        if not isinstance(answer, Refused) or answer.code is not ErrorCode.NO_SUCH_BUCKET:
            return answer
        known = self._buckets.pop(mutation.bucket, None)
        if known is None:
            return answer
        try:
            now = await self.bucket(mutation.bucket)
        except DrystoneError as error:
            return error
        same = now.bucket_id == known[0].bucket_id
        return answer if same else Unavailable("the bucket was deleted and made anew meanwhile: try again")


def _undecided(answer: Outcome | BaseException) -> bool:
    """Nobody has decided it (as far as is known): it may be sent again, elsewhere if need be. Stale without an owner is said
    about the matter itself."""
    return isinstance(answer, Unavailable) or (isinstance(answer, Stale) and "owner" in answer.details)

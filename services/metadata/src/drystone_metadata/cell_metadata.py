# SPDX-License-Identifier: Apache-2.0
"""The metadata service over many tablets: MetadataService, with reads of any tablet and mutations decided in the key's.

Invariants
  M1  What is known here of where keys and buckets are may be old: the tablet that decides refuses what is not its own, and
      the mutation is then sent where it belongs. Nothing was decided by a refusal of that sort.
  M2  A mutation about an object is decided by the tablet's own copy of its bucket, which is at least as new as every
      acknowledged change of the bucket (logic/carrying.py); a tablet without one gets it from the first tablet first.
  M3  A change of a bucket is acknowledged when all tablets with its keys carry it (R2); DeleteBucket when the bucket is gone.
  M4  A bucket is carried to a tablet that was there before the bucket's row was read: a tablet made since has the tombstones that
      it needs only for what its parent knew.
  M5  A mutation of an object waits for a change of its bucket for a moment only, then it is Unavailable and its gateway sends it
      again: it shares its call with mutations of other buckets, which wait as long as it does.
"""

from collections.abc import Awaitable, Callable, Sequence

from drystone_core.check import check
from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import object_address
from drystone_core.ids import BucketId
from drystone_core.listing import VersionPage
from drystone_core.mutations import ConfigureBucket, DeleteBucket, Outcome
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_core.services import BlobName
from drystone_metadata.listing.versions import Pause
from drystone_metadata.logic.decide import Change, Internal, OfBuckets
from drystone_metadata.logic.view import BucketChanging, NotCarried
from drystone_metadata.reads import MetadataReads
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import CELL_TABLET, TabletId, TabletStorage
from drystone_metadata.tablets.changes import BucketChanges, Steps
from drystone_metadata.tablets.handing import EndBegun, Step
from drystone_metadata.tablets.map import Spot, TabletMap
from drystone_metadata.tablets.owning import NotOwner
from drystone_metadata.tablets.reading import MOVED, CellRows, dead_across, versions_across
from drystone_runtime.rpc.patience import within

Submit = Callable[[TabletId, Change], Awaitable[Outcome]]
"""Has a change decided in a tablet of this process; NotOwner when it is another's."""
_ATTEMPTS = 24
_SOON = 0.25
"""Seconds that a mutation of an object waits for a change of its bucket: much longer than one takes while all owners answer, and
short beside a lease, which one takes when an owner hangs."""
_KNOWN = 65536
"""Ids of buckets remembered."""


class TabletsMetadata(MetadataReads):
    """MetadataService over the tablets of a cell. What it has decided goes through `submit`."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablets: TabletMap,
        submit: Submit,
        ours: Callable[[TabletId], bool],
        pause: Callable[[TabletId], Pause | None],
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
        steps: Steps | None = None,
    ) -> None:
        """`ours`: whether this process owns a tablet; `pause`: of one that it owns, else None. Without `steps` it owns all."""
        super().__init__(rows=CellRows(storage, tablets), tablet=CELL_TABLET, settings=settings, committer=None)
        self._storage = storage
        self._map = tablets
        self._submit = submit
        self._pause = pause
        self._ids: dict[str, BucketId] = {}
        """Where to look for a bucket's keys first (M1)."""
        self.changes = BucketChanges(
            storage=storage,
            tablets=tablets,
            steps=steps or _OwnSteps(submit),
            ours=ours,
            clock=clock,
            entropy=entropy,
        )

    def mutate(self, mutation: Change) -> Awaitable[Outcome]:
        """Decided and durable when it returns. Concurrent calls of one tablet share commits."""
        if isinstance(mutation, Internal):
            raise Refused(ErrorCode.INVALID_REQUEST, "a change of this sort belongs to one tablet")
        if isinstance(mutation, OfBuckets):
            return self.changes.whole(mutation.bucket, self._of_bucket(mutation))
        return self._of_object(mutation)

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        """NoSuchBucket when absent; always as it is now. One whose change is not carried by all tablets yet is seen only after it is (R2)."""
        for _ in range(_ATTEMPTS):
            found = await super().bucket(name)
            if not found.pending or found.closed:
                return found
            await self.changes.end(found)
        raise Unavailable("the bucket changes too fast to be read")

    async def _of_object(self, mutation: Change) -> Outcome:
        """Decide it in the tablet of its key, and have that know the bucket first."""
        name, key = mutation.bucket, getattr(mutation, "key")  # noqa: B009 - every mutation of an object has one
        for _ in range(_ATTEMPTS):
            bucket_id = self._ids.get(name)
            if bucket_id is None:
                bucket_id = (await self._open_bucket(name)).bucket_id
            address = object_address(bucket_id, key)
            spot = self._map.known(address) or await self._map.look(address)
            try:
                return await self._submit(spot.tablet, mutation)
            except NotOwner as elsewhere:
                raise _redirect(elsewhere, spot, address[:8]) from None
            except MOVED:
                self._ids.pop(name, None)
                await self._map.look(address)
            except NotCarried:
                # First the tablet, then the bucket: what deletes the bucket after it was read closes that very tablet (M4).
                self._ids.pop(name, None)
                spot = await self._map.look(address)
                found = await self._open_bucket(name)
                if found.bucket_id == bucket_id:
                    await self._carry(found, spot.tablet)
            except BucketChanging as changing:
                await self._soon_ended(changing.bucket)
        raise Unavailable("the tablet of the key is being moved")

    async def _open_bucket(self, name: str) -> Bucket:
        """The bucket as the first tablet has it, once no deletion of it is under way; NoSuchBucket."""
        for _ in range(_ATTEMPTS):
            found = await self.changes.bucket(name)
            if found is None:
                raise Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name)
            if not found.closed:
                if len(self._ids) >= _KNOWN:
                    self._ids.clear()
                self._ids[name] = found.bucket_id
                return found
            await self._soon_ended(found)
        raise Unavailable("the bucket changes too fast to be used")

    async def _soon_ended(self, bucket: Bucket) -> None:
        """M5. Whoever ends the change goes on with it, and is asked again by the next who meets it."""
        async with within(_SOON, "who changes the bucket"):
            await self.changes.end(bucket)

    async def _carry(self, bucket: Bucket, tablet: TabletId) -> None:
        try:
            await self.changes.carry(bucket, tablet)
        except MOVED:
            return  # the next look finds where the key is now

    async def _of_bucket(self, mutation: OfBuckets) -> Outcome:
        """Decide it in the first tablet, and have the others carry it."""
        for _ in range(_ATTEMPTS):
            try:
                outcome = await self._submit(CELL_TABLET, mutation)
            except BucketChanging as changing:
                begun = changing.bucket
            else:
                await self._carried(mutation)
                return outcome
            await self.changes.end(begun)
            if isinstance(mutation, DeleteBucket) and begun.pending[8:] == mutation.write_id[8:]:
                now = await self.changes.bucket(mutation.bucket)
                if now is None or now.bucket_id != begun.bucket_id:
                    return Outcome()
                if now.generation > begun.generation:
                    raise Refused(ErrorCode.BUCKET_NOT_EMPTY, BucketName=mutation.bucket)
        raise Unavailable("the bucket changes too fast to be changed")

    async def _carried(self, mutation: OfBuckets) -> None:
        """M3, for a configuration: until nothing is pending, since what has superseded it must be carried in its place."""
        if not isinstance(mutation, ConfigureBucket):
            return
        for _ in range(_ATTEMPTS):
            now = await self.changes.bucket(mutation.bucket)
            if now is None or not now.pending:
                return
            await self.changes.end(now)
        raise Unavailable("the bucket changes too fast to be changed")

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
        return await versions_across(
            self._storage,
            self._map,
            found.bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
            pause=self._pause,
        )

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        """For each: is the blob dead (R7)? What cannot be judged at one head is not dead yet."""
        return await dead_across(self._storage, self._map, names)


class _OwnSteps:
    """Steps where no other process could take one."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit

    async def step(self, tablet: TabletId, step: Step) -> None:
        check(not isinstance(step, EndBegun), "a change is ended as a whole by whoever owns the first tablet")
        if not isinstance(step, EndBegun):
            await self._submit(tablet, step)

    async def end(self, bucket: Bucket) -> None:
        raise Unavailable("the bucket is just being changed", BucketName=bucket.name)


def _redirect(elsewhere: NotOwner, spot: Spot, bucket8: bytes) -> NotOwner:
    """With the keys of the bucket that the tablet holds (hex; `high` empty = all that follow), so that others find it again."""
    low, high = (bound[8:] if bound[:8] == bucket8 else b"" for bound in (spot.low, spot.high))
    return NotOwner(**dict(elsewhere.details), low=low.hex(), high=high.hex())

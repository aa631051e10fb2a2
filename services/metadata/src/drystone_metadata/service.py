# SPDX-License-Identifier: Apache-2.0
"""The metadata service in this process: MetadataService over one tablet.

Invariants
  L1  Reads see every acknowledged mutation: they read the storage, never the committer's view.
  L2  A cached bucket is the current one, or the one before a change not yet acknowledged (R2). In a cell other processes
      change buckets: there a bucket is used only after its row was read, together with the row it is used for.
  L3  A decoded row is reused only for the same stored bytes under the same address, so it needs no invalidation.
  L4  Methods do not suspend when the storage does not.
"""

from collections.abc import Awaitable, Sequence

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.formats.row_keys import (
    BUCKET,
    BUCKET_OWNER,
    CURRENT,
    NULL_AT,
    VERSION,
    object_address,
    owner_address,
    parse_version,
)
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.formats.rows import decode_object
from drystone_core.formats.rowseal import unseal, verify
from drystone_core.ids import NULL_VERSION, Key, UploadId, VersionId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Clock, Entropy
from drystone_core.services import BlobName, ObjectName
from drystone_metadata.abandoned import AbandonedUploads
from drystone_metadata.committer import Committer
from drystone_metadata.feed_retention import FeedCursor, FeedRetention, read_feed
from drystone_metadata.listing.keys import list_objects
from drystone_metadata.listing.uploads import list_parts, list_uploads
from drystone_metadata.listing.versions import list_versions
from drystone_metadata.liveness import dead_blobs
from drystone_metadata.logic.decide import Change
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import FeedRow, RowKey, TabletId, TabletStorage
from drystone_metadata.sweeping import Sweeper
from drystone_metadata.upkeep import Upkeep


class LocalMetadata:
    """MetadataService. `start()`, then keep `run()` and `upkeep.run()` running; mutations are answered by `run()`."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings | None = None,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes change the tablet as well (L2)."""
        self._storage = storage
        self._tablet = tablet
        self._settings = settings or MetadataSettings()
        self._decoded: dict[bytes, tuple[bytes, ObjectVersion]] = {}
        self._shared = shared
        self._seen: dict[str, tuple[bytes, Bucket]] = {}
        """Buckets as their rows were seen last, with the row (L2)."""
        self.committer = Committer(
            storage=storage, tablet=tablet, clock=clock, entropy=entropy, settings=self._settings
        )
        self.upkeep = Upkeep(
            committer=self.committer,
            retention=FeedRetention(storage=storage, tablet=tablet, committer=self.committer, settings=self._settings),
            sweeper=Sweeper(
                storage=storage,
                tablet=tablet,
                mutate=self.committer.submit,
                clock=clock,
                entropy=entropy,
                settings=self._settings,
            ),
            abandoned=AbandonedUploads(
                storage=storage,
                tablet=tablet,
                mutate=self.committer.submit,
                clock=clock,
                entropy=entropy,
                settings=self._settings,
            ),
            clock=clock,
            settings=self._settings,
        )

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

    def mutate(self, mutation: Change) -> Awaitable[Outcome]:
        """Decided and durable when it returns. Concurrent calls share one commit."""
        return self.committer.submit(mutation)

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        """NoSuchBucket when absent; always as it is now."""
        if self._shared:
            (value,) = await self._storage.read(self._tablet, [RowKey(BUCKET, name.encode())])
            return self._see(name, value)
        found = self.committer.buckets.get(name)
        if found is not None:
            return found
        mark = self.committer.bucket_mark
        key = name.encode()
        (value,) = await self._storage.read(self._tablet, [RowKey(BUCKET, key)])
        if value is None:
            raise Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name)
        found = decode_bucket(key, value)
        if mark == self.committer.bucket_mark and not mark & 1:
            self.committer.buckets[name] = found
        return found

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        """By name."""
        low = owner_address(owner, max(prefix, after))
        if after >= prefix and after:
            low += b"\0"
        high = owner_address(owner, prefix) + b"\xff"
        rows = await self._storage.scan(
            self._tablet, RowKey(BUCKET_OWNER, low), RowKey(BUCKET_OWNER, high), max(limit, 0)
        )
        start = len(owner_address(owner))
        for row, value in rows:
            verify(BUCKET_OWNER, row.key, b"", value)
        keys = [RowKey(BUCKET, row.key[start:]) for row, _ in rows]
        values = await self._storage.read(self._tablet, keys) if keys else []
        return [decode_bucket(key.key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        """The current version (a delete marker included), or the one named."""
        if self._shared:
            (answer,) = await self.objects([ObjectName(bucket, key, version_id)])
            if isinstance(answer, DrystoneError):
                raise answer
            return answer
        found = self.committer.buckets.get(bucket) or await self.bucket(bucket)
        address = found.bucket_id.to_bytes(8, "big") + key
        (value,) = await self._storage.read(self._tablet, (RowKey(CURRENT, address),))
        if version_id is not None:
            return await self._version(address, value, version_id)
        if value is None:
            raise Refused(ErrorCode.NO_SUCH_KEY, Key=key.decode("utf-8", "replace"))
        return self._decode(address, value)

    async def objects(self, names: Sequence[ObjectName]) -> list[ObjectVersion | DrystoneError]:
        """Many at once, each with its own refusal; one reading of the storage where buckets are as last seen."""
        answers: list[ObjectVersion | DrystoneError | None] = [None] * len(names)
        waiting = list(range(len(names)))
        if not self._shared:
            for index in waiting:
                answers[index] = await self._one(names[index])
        while any(answer is None for answer in answers):
            unseen = {names[i].bucket for i in waiting if names[i].bucket not in self._seen}
            if unseen:
                await self._see_all(sorted(unseen))
            waiting = await self._read_known([names[i] for i in waiting], waiting, answers)
        return [answer for answer in answers if answer is not None]

    async def _one(self, name: ObjectName) -> ObjectVersion | DrystoneError:
        try:
            return await self.object(name.bucket, name.key, name.version_id)
        except DrystoneError as error:
            return error

    async def _read_known(
        self, names: Sequence[ObjectName], places: Sequence[int], answers: list[ObjectVersion | DrystoneError | None]
    ) -> list[int]:
        """Answer what can be answered; the places of names whose bucket is not as it was seen."""
        seen = {name.bucket: self._seen.get(name.bucket) for name in names}
        rows = [RowKey(BUCKET, bucket.encode()) for bucket in seen]
        addresses = [object_address(known[1].bucket_id, n.key) if (known := seen[n.bucket]) else b"" for n in names]
        rows += [RowKey(CURRENT, address) for address in addresses if address]
        found = dict(zip(rows, await self._storage.read(self._tablet, rows), strict=True))
        again = []
        for name, address, place in zip(names, addresses, places, strict=True):
            known, row = seen[name.bucket], found[RowKey(BUCKET, name.bucket.encode())]
            if row is None:
                self._seen.pop(name.bucket, None)
                answers[place] = Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name.bucket)
            elif known is None or row != known[0]:
                self._see(name.bucket, row)
                again.append(place)
            else:
                answers[place] = await self._answer(name, address, found[RowKey(CURRENT, address)])
        return again

    async def _answer(self, name: ObjectName, address: bytes, value: bytes | None) -> ObjectVersion | DrystoneError:
        try:
            if name.version_id is not None:
                return await self._version(address, value, name.version_id)
            if value is not None:
                return self._decode(address, value)
        except DrystoneError as error:
            return error
        return Refused(ErrorCode.NO_SUCH_KEY, Key=name.key.decode("utf-8", "replace"))

    async def _see_all(self, buckets: Sequence[str]) -> None:
        rows = await self._storage.read(self._tablet, [RowKey(BUCKET, bucket.encode()) for bucket in buckets])
        for bucket, row in zip(buckets, rows, strict=True):
            if row is not None:
                self._see(bucket, row)

    def _see(self, name: str, row: bytes | None) -> Bucket:
        """The bucket its row says, remembered with the row; NoSuchBucket when there is none."""
        if row is None:
            self._seen.pop(name, None)
            raise Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name)
        known = self._seen.get(name)
        if known is not None and known[0] == row:
            return known[1]
        found = decode_bucket(name.encode(), row)
        if len(self._seen) >= self._settings.cached_rows:
            self._seen.clear()
        self._seen[name] = row, found
        return found

    def _decode(self, address: bytes, value: bytes) -> ObjectVersion:
        """A current row, decoded or from the cache of decoded rows."""
        hit = self._decoded.get(value)
        if hit is not None and hit[0] == address:
            return hit[1]
        version = decode_object(CURRENT, address, b"", value).version
        cache = self._decoded
        if len(value) <= 1024:
            if len(cache) >= self._settings.cached_rows:
                cache.clear()
            cache[value] = (address, version)
        return version

    async def _version(self, address: bytes, value: bytes | None, version_id: VersionId) -> ObjectVersion:
        """One version by id; `value` is the key's current row."""
        if value is not None:
            version = self._decode(address, value)
            if version.version_id == version_id:
                return version
        order = parse_version(version_id)
        if version_id == NULL_VERSION:
            # The pointer with the current row: the null version is in one of the two.
            pointer, value = await self._storage.read(
                self._tablet, (RowKey(NULL_AT, address), RowKey(CURRENT, address))
            )
            order = None if pointer is None else unseal(NULL_AT, address, b"", pointer)
            if order is None and value is not None:
                version = self._decode(address, value)
                if version.version_id == version_id:
                    return version
        if order is not None:
            # Read with the current row again: a version that is being promoted is in one of the two.
            keys = (RowKey(VERSION, address, order), RowKey(CURRENT, address))
            row, current = await self._storage.read(self._tablet, keys)
            if row is not None:
                version = decode_object(VERSION, address, order, row).version
                if version.version_id == version_id:
                    return version
            if current is not None and (version := self._decode(address, current)).version_id == version_id:
                return version
        raise Refused(ErrorCode.NO_SUCH_VERSION, VersionId=version_id)

    async def list_objects(
        self, bucket: str, *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> ObjectPage:
        """Current versions that are not delete markers, keys > `after`."""
        found = await self.bucket(bucket)
        return await list_objects(
            self._storage,
            self._tablet,
            found.bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            limit=limit,
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
        """Uploads in progress by key, then by initiation."""
        found = await self.bucket(bucket)
        return await list_uploads(
            self._storage,
            self._tablet,
            found.bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
        )

    async def list_parts(
        self, bucket: str, key: Key, upload_id: UploadId, *, after: int = 0, limit: int = 1000
    ) -> PartPage:
        """Parts with their blobs; NoSuchUpload when absent."""
        found = await self.bucket(bucket)
        address = object_address(found.bucket_id, key)
        return await list_parts(self._storage, self._tablet, address, upload_id, after=after, limit=limit)

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        """For each: is the blob dead (R7)? What cannot be judged at one head is not dead yet."""
        return await dead_blobs(self._storage, self._tablet, names)

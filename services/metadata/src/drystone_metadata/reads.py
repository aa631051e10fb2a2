# SPDX-License-Identifier: Apache-2.0
"""Reading metadata: buckets, versions, uploads, from wherever rows are read.

Invariants
  L1  Reads see every acknowledged mutation: they read the storage, never the committer's view.
  L2  A cached bucket is the current one, or the one before a change not yet acknowledged (R2). In a cell other processes
      change buckets: there a bucket is used only after its row was read, together with the row it is used for.
  L3  A decoded row is reused only for the same stored bytes under the same address, so it needs no invalidation.
  L4  Methods do not suspend when the storage does not (but where many names share one failed reading).
  L5  Of many names read together each has its own answer: a damaged row, or a tablet that cannot be read, fails no other's.
"""

import asyncio
from collections.abc import Sequence

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
from drystone_core.listing import ObjectPage, PartPage, UploadPage
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.services import ObjectName
from drystone_metadata.committer import Committer
from drystone_metadata.listing.keys import list_objects
from drystone_metadata.listing.uploads import list_parts, list_uploads
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import RowKey, RowReader, TabletId

_APART = 32
"""Names read at once where each is read for itself."""


class MetadataReads:
    """The reads of MetadataService that need rows only."""

    def __init__(
        self, *, rows: RowReader, tablet: TabletId, settings: MetadataSettings, committer: Committer | None
    ) -> None:
        """`committer`: of the only process that changes buckets, if there is one (L2)."""
        self._rows = rows
        self._tablet = tablet
        self._settings = settings
        self._committer = committer
        self._decoded: dict[bytes, tuple[bytes, ObjectVersion]] = {}
        self._seen: dict[str, tuple[bytes, Bucket]] = {}
        """Buckets as their rows were seen last, with the row (L2)."""

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        """NoSuchBucket when absent; always as it is now."""
        if self._committer is None:
            (value,) = await self._rows.read(self._tablet, [RowKey(BUCKET, name.encode())])
            return self._see(name, value)
        committer = self._committer
        found = committer.buckets.get(name)
        if found is not None:
            return found
        mark = committer.bucket_mark
        key = name.encode()
        (value,) = await self._rows.read(self._tablet, [RowKey(BUCKET, key)])
        if value is None:
            raise Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name)
        found = decode_bucket(key, value)
        if mark == committer.bucket_mark and not mark & 1:
            committer.buckets[name] = found
        return found

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        """By name."""
        low = owner_address(owner, max(prefix, after))
        if after >= prefix and after:
            low += b"\0"
        high = owner_address(owner, prefix) + b"\xff"
        rows = await self._rows.scan(self._tablet, RowKey(BUCKET_OWNER, low), RowKey(BUCKET_OWNER, high), max(limit, 0))
        start = len(owner_address(owner))
        for row, value in rows:
            verify(BUCKET_OWNER, row.key, b"", value)
        keys = [RowKey(BUCKET, row.key[start:]) for row, _ in rows]
        values = await self._rows.read(self._tablet, keys) if keys else []
        return [decode_bucket(key.key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        """The current version (a delete marker included), or the one named."""
        if self._committer is None:
            (answer,) = await self.objects([ObjectName(bucket, key, version_id)])
            if isinstance(answer, DrystoneError):
                raise answer
            return answer
        found = self._committer.buckets.get(bucket) or await self.bucket(bucket)
        address = found.bucket_id.to_bytes(8, "big") + key
        (value,) = await self._rows.read(self._tablet, (RowKey(CURRENT, address),))
        if version_id is not None:
            return await self._version(address, value, version_id)
        if value is None:
            raise Refused(ErrorCode.NO_SUCH_KEY, Key=key.decode("utf-8", "replace"))
        return self._decode(address, value)

    async def objects(self, names: Sequence[ObjectName]) -> list[ObjectVersion | DrystoneError]:
        """Many at once, each with its own refusal; one reading of the storage where buckets are as last seen."""
        answers: list[ObjectVersion | DrystoneError | None] = [None] * len(names)
        waiting = list(range(len(names)))
        if self._committer is not None:
            for index in waiting:
                answers[index] = await self._one(names[index])
        while any(answer is None for answer in answers):
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
        try:
            found = dict(zip(rows, await self._rows.read(self._tablet, rows), strict=True))
        except DrystoneError as error:
            if len(names) > 1:
                return await self._read_apart(names, places, answers)
            answers[places[0]] = error
            return []
        again = []
        for name, address, place in zip(names, addresses, places, strict=True):
            known, row = seen[name.bucket], found[RowKey(BUCKET, name.bucket.encode())]
            if row is None:
                self._seen.pop(name.bucket, None)
                answers[place] = Refused(ErrorCode.NO_SUCH_BUCKET, BucketName=name.bucket)
            elif known is None or row != known[0]:
                try:
                    self._see(name.bucket, row)
                    again.append(place)
                except DrystoneError as error:
                    answers[place] = error
            else:
                answers[place] = await self._answer(name, address, found[RowKey(CURRENT, address)])
        return again

    async def _read_apart(
        self, names: Sequence[ObjectName], places: Sequence[int], answers: list[ObjectVersion | DrystoneError | None]
    ) -> list[int]:
        """L5: one reading each, some at a time; as `_read_known`."""
        again: list[int] = []
        for at in range(0, len(names), _APART):
            parts = zip(names[at : at + _APART], places[at : at + _APART], strict=True)
            for left in await asyncio.gather(*(self._read_known([name], [place], answers) for name, place in parts)):
                again += left
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
            pointer, value = await self._rows.read(self._tablet, (RowKey(NULL_AT, address), RowKey(CURRENT, address)))
            order = None if pointer is None else unseal(NULL_AT, address, b"", pointer)
            if order is None and value is not None:
                version = self._decode(address, value)
                if version.version_id == version_id:
                    return version
        if order is not None:
            # Read with the current row again: a version that is being promoted is in one of the two.
            keys = (RowKey(VERSION, address, order), RowKey(CURRENT, address))
            row, current = await self._rows.read(self._tablet, keys)
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
            self._rows,
            self._tablet,
            found.bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            limit=limit,
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
            self._rows,
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
        return await list_parts(self._rows, self._tablet, address, upload_id, after=after, limit=limit)

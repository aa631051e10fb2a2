# SPDX-License-Identifier: Apache-2.0
"""The reference model: what buckets, versions, uploads and listings mean, in plain dicts and lists, naive on purpose.

`apply` takes a mutation and the ids a real service assigned to it (version id, upload id, time: the model cannot guess
those) and returns the outcome expected, or raises the refusal expected. Nothing here is fast.
"""

from dataclasses import dataclass, field, replace

from drystone_core.errors import ErrorCode, Refused, Stale
from drystone_core.extents import BlobRef
from drystone_core.ids import NULL_VERSION, BlobId, Key, Uid, UploadId, VersionId
from drystone_core.mutations import (
    AbortUpload,
    CompleteUpload,
    ConfigureBucket,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Mutation,
    Outcome,
    Preconditions,
    PutObject,
    PutPart,
    ReplaceMetadata,
    SwapBlobs,
)
from drystone_core.objects import ObjectVersion, Part, Versioning


@dataclass(slots=True)
class ModelUpload:
    """An upload in progress."""

    create: CreateUpload
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class ModelBucket:
    """Versions newest first; a key without versions is not in the dict."""

    owner: str
    versioning: Versioning = Versioning.NEVER
    keys: dict[Key, list[ObjectVersion]] = field(default_factory=dict)
    uploads: dict[UploadId, ModelUpload] = field(default_factory=dict)
    completed: dict[Uid, UploadId] = field(default_factory=dict)
    part_of: dict[Uid, Uid] = field(default_factory=dict)
    """Uid of a part → uid of the object it became part of."""

    def current(self, key: Key) -> ObjectVersion | None:
        """The newest version that is no delete marker, if it is the newest at all."""
        versions = self.keys.get(key)
        return versions[0] if versions and not versions[0].delete_marker else None


class Model:
    """Buckets by name."""

    def __init__(self) -> None:
        self.buckets: dict[str, ModelBucket] = {}

    def bucket(self, name: str) -> ModelBucket:
        """NoSuchBucket when absent."""
        if name not in self.buckets:
            raise Refused(ErrorCode.NO_SUCH_BUCKET)
        return self.buckets[name]

    def apply(self, mutation: Mutation | ConfigureBucket, given: Outcome) -> Outcome:
        """The outcome expected; `given` is the real one, taken for its ids and time only."""
        match mutation:
            case CreateBucket():
                return self._create_bucket(mutation, given)
            case DeleteBucket():
                if self.bucket(mutation.bucket).keys:
                    raise Refused(ErrorCode.BUCKET_NOT_EMPTY)
                del self.buckets[mutation.bucket]
                return Outcome()
            case ConfigureBucket():
                bucket = self.bucket(mutation.bucket)
                bucket.versioning = mutation.versioning or bucket.versioning
                return Outcome()
            case PutObject():
                return self._put(self.bucket(mutation.bucket), mutation, given)
            case DeleteObject():
                return self._delete(self.bucket(mutation.bucket), mutation, given)
            case ReplaceMetadata():
                return self._replace(self.bucket(mutation.bucket), mutation, given)
            case CreateUpload():
                bucket = self.bucket(mutation.bucket)
                upload_id = given.upload_id or UploadId("")
                bucket.uploads[upload_id] = ModelUpload(mutation)
                return Outcome(upload_id=upload_id, modified_ms=given.modified_ms)
            case PutPart():
                upload = self._upload(self.bucket(mutation.bucket), mutation.upload_id, mutation.key)
                upload.parts[mutation.part.number] = replace(mutation.part, modified_ms=given.modified_ms)
                return Outcome(modified_ms=given.modified_ms, etag=mutation.part.etag)
            case CompleteUpload():
                return self._complete(self.bucket(mutation.bucket), mutation, given)
            case AbortUpload():
                bucket = self.bucket(mutation.bucket)
                self._upload(bucket, mutation.upload_id, mutation.key)
                del bucket.uploads[mutation.upload_id]
                return Outcome(upload_id=mutation.upload_id)
            case SwapBlobs():
                return self._swap(self.bucket(mutation.bucket), mutation)

    def _create_bucket(self, mutation: CreateBucket, given: Outcome) -> Outcome:
        present = self.buckets.get(mutation.bucket)
        if present is not None:
            mine = present.owner == mutation.owner
            raise Refused(ErrorCode.BUCKET_ALREADY_OWNED_BY_YOU if mine else ErrorCode.BUCKET_ALREADY_EXISTS)
        self.buckets[mutation.bucket] = ModelBucket(mutation.owner)
        return Outcome(modified_ms=given.modified_ms)

    def _put(self, bucket: ModelBucket, put: PutObject, given: Outcome) -> Outcome:
        found = bucket.current(put.key)
        check(put.conditions, found)
        if put.expected_uid is not None:
            if found is None or (found.uid, found.modified_ms) != (put.expected_uid, put.expected_ms):
                raise Stale
        if put.registered is not None:
            bucket.uploads.pop(put.registered, None)
        version = ObjectVersion(
            key=put.key,
            uid=put.uid,
            version_id=new_id(bucket, given),
            modified_ms=given.modified_ms,
            size=put.size,
            etag=put.etag,
            headers=put.headers,
            metadata=put.metadata,
            storage_class=put.storage_class,
            checksum=put.checksum,
            parts=put.parts,
            parts_count=put.parts_count,
            blobs=put.blobs,
            manifest=put.manifest,
            tags=put.tags,
        )
        return add(bucket, version)

    def _delete(self, bucket: ModelBucket, delete: DeleteObject, given: Outcome) -> Outcome:
        check(delete.conditions, bucket.current(delete.key))
        versions = bucket.keys.get(delete.key, [])
        if delete.version_id is not None:
            gone = [version for version in versions if version.version_id == delete.version_id]
            keep(bucket, delete.key, [version for version in versions if version not in gone])
            return Outcome(version_id=delete.version_id, delete_marker=bool(gone) and gone[0].delete_marker)
        if bucket.versioning is Versioning.NEVER:
            keep(bucket, delete.key, [])
            return Outcome()
        marker = ObjectVersion(
            key=delete.key,
            uid=Uid(b""),
            version_id=new_id(bucket, given),
            modified_ms=given.modified_ms,
            delete_marker=True,
        )
        add(bucket, marker)
        return Outcome(version_id=marker.version_id, delete_marker=True, modified_ms=given.modified_ms)

    def _replace(self, bucket: ModelBucket, change: ReplaceMetadata, given: Outcome) -> Outcome:
        found = bucket.current(change.key)
        check(change.conditions, found)
        if found is None:
            raise Refused(ErrorCode.NO_SUCH_KEY)
        if found.uid != change.expected_uid or bucket.versioning is not Versioning.NEVER:
            raise Stale
        bucket.keys[change.key][0] = replace(
            found,
            headers=change.headers,
            metadata=change.metadata,
            storage_class=change.storage_class,
            checksum=change.checksum or found.checksum,
            tags=found.tags if change.tags is None else change.tags,
            modified_ms=given.modified_ms,
        )
        return Outcome(modified_ms=given.modified_ms, etag=found.etag)

    def _complete(self, bucket: ModelBucket, complete: CompleteUpload, given: Outcome) -> Outcome:
        found = bucket.current(complete.key)
        upload = bucket.uploads.get(complete.upload_id)
        if upload is None or upload.create.key != complete.key:
            if found is None or bucket.completed.get(found.uid) != complete.upload_id:
                raise Refused(ErrorCode.NO_SUCH_UPLOAD)
            return done(bucket, found, complete.upload_id)
        check(complete.conditions, found)
        numbers = [part.number for part in complete.parts]
        named = [upload.parts.get(part.number) for part in complete.parts]
        for at, (asked, part) in enumerate(zip(complete.parts, named, strict=True)):
            if at and numbers[at - 1] >= asked.number:
                raise Refused(ErrorCode.INVALID_PART_ORDER)
            if part is None or (part.uid, part.etag) != (asked.uid, asked.etag):
                raise Refused(ErrorCode.INVALID_PART)
        parts = [part for part in named if part is not None]
        if not parts or sum(part.size for part in parts) != complete.size:
            raise Refused(ErrorCode.INVALID_PART)
        inline = complete.manifest is None
        version = ObjectVersion(
            key=complete.key,
            uid=complete.uid,
            version_id=new_id(bucket, given),
            modified_ms=given.modified_ms,
            size=complete.size,
            etag=complete.etag,
            headers=upload.create.headers,
            metadata=upload.create.metadata,
            storage_class=upload.create.storage_class,
            checksum=complete.checksum,
            parts=tuple(replace(part, blobs=()) for part in parts) if inline else (),
            parts_count=len(parts),
            blobs=tuple(ref for part in parts for ref in part.blobs) if inline else (),
            manifest=complete.manifest,
        )
        del bucket.uploads[complete.upload_id]
        bucket.completed[complete.uid] = complete.upload_id
        bucket.part_of.update((part.uid, complete.uid) for part in parts)
        add(bucket, version)
        return done(bucket, version, complete.upload_id)

    def _swap(self, bucket: ModelBucket, swap: SwapBlobs) -> Outcome:
        uid = bucket.part_of.get(swap.uid, swap.uid)
        for versions in [bucket.keys.get(swap.key, [])]:
            for at, version in enumerate(versions):
                blobs = swapped(version.blobs, swap) if version.uid == uid else None
                if blobs is not None:
                    versions[at] = replace(version, blobs=blobs)
                    return Outcome()
        for upload in bucket.uploads.values():
            for number, part in upload.parts.items():
                blobs = swapped(part.blobs, swap) if (part.uid, upload.create.key) == (swap.uid, swap.key) else None
                if blobs is not None:
                    upload.parts[number] = replace(part, blobs=blobs)
                    return Outcome()
        raise Stale

    def _upload(self, bucket: ModelBucket, upload_id: UploadId, key: Key) -> ModelUpload:
        upload = bucket.uploads.get(upload_id)
        if upload is None or upload.create.key != key:
            raise Refused(ErrorCode.NO_SUCH_UPLOAD)
        return upload

    def named(self, name: str) -> set[BlobId]:
        """Every blob that some row of a bucket names."""
        bucket = self.buckets[name]
        refs: list[BlobRef] = []
        for versions in bucket.keys.values():
            for version in versions:
                refs += [*version.blobs, *([version.manifest] if version.manifest else [])]
        refs += [ref for up in bucket.uploads.values() for part in up.parts.values() for ref in part.blobs]
        return {ref.blob_id for ref in refs}

    def list_keys(
        self, name: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> tuple[list[bytes], list[bytes], bool, bytes]:
        """(keys, common prefixes, truncated, next_after) of ListObjects."""
        bucket = self.bucket(name)
        entries: list[tuple[bytes, bool]] = []
        for key in sorted(bucket.keys):
            if bucket.current(key) is None or not key.startswith(prefix):
                continue
            entry = group(key, prefix, delimiter)
            skipped = entry[1] and after == entry[0]
            if key > after and not skipped and entry not in entries:
                entries.append(entry)
        page, truncated = entries[: max(limit, 0)], 0 < limit < len(entries)
        names = [text for text, common in page if not common]
        return names, [text for text, common in page if common], truncated, page[-1][0] if truncated else b""

    def list_versions(self, name: str, prefix: bytes, delimiter: bytes) -> list[tuple[bytes, str, bool]]:
        """(key, version id, latest) in order; a common prefix is (prefix, "", False). All of them."""
        out: list[tuple[bytes, str, bool]] = []
        bucket = self.bucket(name)
        for key in sorted(bucket.keys):
            if not key.startswith(prefix):
                continue
            text, common = group(key, prefix, delimiter)
            if not common:
                out += [(key, version.version_id, at == 0) for at, version in enumerate(bucket.keys[key])]
            elif (text, "", False) not in out:
                out.append((text, "", False))
        return out


def group(key: bytes, prefix: bytes, delimiter: bytes) -> tuple[bytes, bool]:
    """What a key shows as: itself, or the common prefix it lies under (True)."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return (key, False) if at < 0 else (key[: at + len(delimiter)], True)


def new_id(bucket: ModelBucket, given: Outcome) -> VersionId:
    """The id of a new version: null unless versioning is on."""
    assigned = given.version_id or VersionId("missing")
    return assigned if bucket.versioning is Versioning.ENABLED else NULL_VERSION


def add(bucket: ModelBucket, version: ObjectVersion) -> Outcome:
    """A new newest version; a null one replaces the null one there is."""
    versions = bucket.keys.get(version.key, [])
    others = [old for old in versions if version.version_id != NULL_VERSION or old.version_id != NULL_VERSION]
    keep(bucket, version.key, [version, *others])
    return done(bucket, version, None)


def done(bucket: ModelBucket, version: ObjectVersion, upload_id: UploadId | None) -> Outcome:
    """The outcome of naming a version."""
    shown = None if bucket.versioning is Versioning.NEVER else version.version_id
    return Outcome(version_id=shown, modified_ms=version.modified_ms, etag=version.etag, upload_id=upload_id)


def keep(bucket: ModelBucket, key: Key, versions: list[ObjectVersion]) -> None:
    """A key's versions from now on."""
    bucket.keys.pop(key, None)
    if versions:
        bucket.keys[key] = versions


def swapped(blobs: tuple[BlobRef, ...], swap: SwapBlobs) -> tuple[BlobRef, ...] | None:
    """The blobs after a swap, None when the old ones do not stand there in a row."""
    ids = [ref.blob_id for ref in blobs]
    for at in range(len(ids)):
        if ids[at : at + len(swap.old)] == list(swap.old):
            return blobs[:at] + swap.new + blobs[at + len(swap.old) :]
    return None


def check(conditions: Preconditions, found: ObjectVersion | None) -> None:
    """The refusal conditions ask for."""
    if conditions.if_none_match and found is not None:
        raise Refused(ErrorCode.PRECONDITION_FAILED)
    wanted = (conditions.if_match or None, conditions.if_match_size, conditions.if_match_modified_ms)
    if wanted == (None, None, None):
        return
    if found is None:
        raise Refused(ErrorCode.NO_SUCH_KEY)
    etag, size, modified = wanted
    bad = etag not in (None, "*", found.etag) or size not in (None, found.size)
    if bad or (modified is not None and modified // 1000 != found.modified_ms // 1000):
        raise Refused(ErrorCode.PRECONDITION_FAILED)

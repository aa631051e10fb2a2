# SPDX-License-Identifier: Apache-2.0
"""Every change of metadata as a value, with its outcome. Decided by drystone_metadata.logic in the step that commits it.

A mutation that is refused raises `Refused` from `MetadataService.mutate`; a repeat with the same write id gets the
original outcome (or the original refusal). Where bytes were stored for a bucket before they are named, `bucket_id` says
for which one: a bucket of the same name made meanwhile is another, and the bytes' only name (R3) is not in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from drystone_core.extents import BlobRef
from drystone_core.ids import BlobId, BucketId, Key, Uid, UploadId, VersionId, WriteId
from drystone_core.objects import Checksum, ChecksumType, ObjectVersion, Part, Versioning


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """Conditions on the CURRENT version of the key, decided in the commit. A current delete marker counts as absent."""

    if_match: str = ""
    """ETag without quotes, or `*`; absent object → NoSuchKey."""
    if_none_match: bool = False
    """`If-None-Match: *`; an existing object → PreconditionFailed."""
    if_match_size: int | None = None
    if_match_modified_ms: int | None = None
    """DELETE only (x-amz-if-match-last-modified-time), second granularity."""


NO_CONDITIONS = Preconditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBucket:
    write_id: WriteId
    bucket: str
    owner: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBucket:
    """BucketNotEmpty while any version, delete marker or listed upload… (uploads in progress do not count) is left."""

    write_id: WriteId
    bucket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureBucket:
    """Changes a bucket's state and raises its generation. Not on the wire yet, hence not part of `Mutation`."""

    write_id: WriteId
    bucket: str
    versioning: Versioning | None = None
    """None = as it is; NEVER cannot be gone back to (InvalidBucketState)."""
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """Sub-resource name → its new document; empty bytes remove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutObject:
    """Name bytes that are already durable (or none: an empty object)."""

    write_id: WriteId
    bucket: str
    key: Key
    uid: Uid
    size: int
    etag: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    blobs: tuple[BlobRef, ...]
    storage_class: str = "STANDARD"
    checksum: Checksum | None = None
    conditions: Preconditions = NO_CONDITIONS
    manifest: BlobRef | None = None
    parts: tuple[Part, ...] = ()
    parts_count: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    registered: UploadId | None = None
    """The internal upload row that named the blobs so far (long PUTs); removed in the same commit."""
    bucket_id: BucketId | None = None
    """NoSuchBucket when the bucket has another id by now; None = whichever has the name."""
    expected_uid: Uid | None = None
    """Stale unless it is the current version's: of a copy onto itself (R6). None = whatever is current."""
    expected_ms: int | None = None
    """With it, the time of its modification: new metadata keeps the uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceMetadata:
    """Copy of a key onto itself with REPLACE in an unversioned bucket: keeps uid and bytes (R6)."""

    write_id: WriteId
    bucket: str
    key: Key
    expected_uid: Uid
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    storage_class: str = "STANDARD"
    checksum: Checksum | None = None
    tags: Mapping[str, str] | None = None
    conditions: Preconditions = NO_CONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    write_id: WriteId
    bucket: str
    key: Key
    version_id: VersionId | None = None
    conditions: Preconditions = NO_CONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUpload:
    write_id: WriteId
    bucket: str
    key: Key
    owner: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: ChecksumType = ChecksumType.FULL_OBJECT
    internal: bool = False
    bucket_id: BucketId | None = None
    """As PutObject's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPart:
    """Adds or replaces a part; NoSuchUpload when the upload is gone. With `internal` uploads it registers blobs of a long PUT."""

    write_id: WriteId
    bucket: str
    key: Key
    upload_id: UploadId
    part: Part
    bucket_id: BucketId | None = None
    """As PutObject's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletePart:
    number: int
    etag: str
    """Without quotes."""
    uid: Uid
    """Of the part row the gateway read; a part replaced meanwhile → InvalidPart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteUpload:
    """Makes the upload the key's new version without moving bytes.

    The gateway has read the upload and its parts, checked order, sizes and checksums and (when large) written the
    manifest; the logic checks again that upload and part uids are the same and that conditions hold.
    A repeated Complete of an upload whose object is still this uid gets the same outcome.
    """

    write_id: WriteId
    bucket: str
    key: Key
    upload_id: UploadId
    uid: Uid
    parts: tuple[CompletePart, ...]
    etag: str
    size: int
    checksum: Checksum | None = None
    manifest: BlobRef | None = None
    conditions: Preconditions = NO_CONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortUpload:
    write_id: WriteId
    bucket: str
    key: Key
    upload_id: UploadId


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBlobs:
    """Compaction or a class move: the row with `uid` names `new` where it named `old`; Stale when it does not any more."""

    write_id: WriteId
    bucket: str
    key: Key
    uid: Uid
    old: tuple[BlobId, ...]
    new: tuple[BlobRef, ...]


Mutation = (
    CreateBucket
    | DeleteBucket
    | PutObject
    | ReplaceMetadata
    | DeleteObject
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
    | SwapBlobs
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the commit decided; fields that do not apply keep their defaults."""

    version_id: VersionId | None = None
    """Of the version or delete marker made or removed; None in a never-versioned bucket."""
    delete_marker: bool = False
    """DELETE made a marker, or removed one (with version_id)."""
    modified_ms: int = 0
    upload_id: UploadId | None = None
    etag: str = ""
    replaced: ObjectVersion | None = None
    """Reserved for callers that need what was current before; not filled on hot paths."""

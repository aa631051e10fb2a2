# SPDX-License-Identifier: Apache-2.0
"""What the metadata service knows about buckets, object versions, uploads and parts: immutable values.

Times are Unix milliseconds (S3 shows them at second or millisecond granularity). ETags are stored without quotes.
`headers` holds system metadata by lower-case name exactly as it is replayed (content-type, cache-control,
content-disposition, content-encoding, content-language, expires, x-amz-website-redirect-location);
`metadata` holds user metadata by lower-case name without `x-amz-meta-`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from drystone_core.extents import BlobRef
from drystone_core.ids import BucketId, ContentId, Key, Uid, UploadId, VersionId


class Versioning(StrEnum):
    """A bucket's versioning; NEVER answers an empty GetBucketVersioning."""

    NEVER = ""
    ENABLED = "Enabled"
    SUSPENDED = "Suspended"


class ChecksumType(StrEnum):
    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


@dataclass(frozen=True, slots=True)
class Checksum:
    """A stored S3 checksum."""

    algorithm: str
    """CRC32, CRC32C, CRC64NVME, SHA1, SHA256, SHA512, MD5, XXHASH3, XXHASH64 or XXHASH128."""
    value: str
    """As S3 shows it: base64, with `-N` for a composite of N parts."""
    type: ChecksumType = ChecksumType.FULL_OBJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    bucket_id: BucketId
    name: str
    owner: str
    """Account id, 12 digits."""
    created_ms: int
    region: str
    generation: int = 1
    """Raised by every change of the bucket's state; part of every commit's condition (R2)."""
    versioning: Versioning = Versioning.NEVER
    config: Mapping[str, bytes] = field(default_factory=dict)
    """Sub-resource name → stored document; empty until the engines that act on them exist."""
    closed: bool = False
    """Being deleted; in a tablet's copy: nothing is decided by it before the first tablet was asked again."""
    pending: bytes = b""
    """Write id of the change that not all tablets are known to carry yet; empty = none. Only in the first tablet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An uploaded part, or a part of a completed multipart object."""

    number: int
    """1 … 10,000."""
    size: int
    etag: str
    """32 hex digits."""
    modified_ms: int
    uid: Uid
    checksum: Checksum | None = None
    blobs: tuple[BlobRef, ...] = ()
    """Empty in a completed object's `parts`: there the object's own blobs hold the bytes, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """One version of one key (a delete marker too): what GET and HEAD answer from."""

    key: Key
    uid: Uid
    version_id: VersionId
    """NULL_VERSION for a null version."""
    modified_ms: int
    delete_marker: bool = False
    size: int = 0
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    checksum: Checksum | None = None
    parts: tuple[Part, ...] = ()
    """Parts of a multipart object in order (numbers, sizes, checksums); empty for a single PUT, and in `manifest` form."""
    parts_count: int = 0
    """0 = not multipart; also right when the parts stand in the manifest."""
    blobs: tuple[BlobRef, ...] = ()
    """The bytes, in order; empty for an empty object and in `manifest` form."""
    manifest: BlobRef | None = None
    """Set when the extents (with the part index) exceed 8 KiB encoded: they stand in this blob instead."""
    content_id: ContentId = ContentId(b"")
    envelope: bytes = b""
    """Encryption envelope; empty = plaintext."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart upload in progress, or a long single PUT that registered its blobs (`internal`)."""

    key: Key
    upload_id: UploadId
    initiated_ms: int
    owner: str
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    """Fixed at Create; empty = the client named none (CRC64NVME full object is then computed)."""
    checksum_type: ChecksumType = ChecksumType.FULL_OBJECT
    internal: bool = False
    """Never listed."""

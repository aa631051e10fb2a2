# SPDX-License-Identifier: Apache-2.0
"""What one service asks of another. Each Protocol has a direct form (same process) and a gRPC client with one contract suite.

Methods are coroutines; the direct forms do not suspend when the answer is at hand, so a caller on the loop pays no task switch.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from drystone_core.cell import TabletCounts
from drystone_core.errors import DrystoneError
from drystone_core.extents import BlobRef, StripedExtent
from drystone_core.ids import BlobId, BucketId, DiskId, Key, Uid, UploadId, VersionId, VolumeId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Mutation, Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Buffer


class MetadataService(Protocol):
    """Buckets, versions, uploads. Raises Refused (NoSuchBucket, NoSuchKey, …), Unavailable, Busy."""

    def mutate(self, mutation: Mutation) -> Awaitable[Outcome]:
        """Decided and durable when it returns. Concurrent calls share one commit."""
        ...

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        """NoSuchBucket when absent. What was so at most `age` seconds ago will do."""
        ...

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        """By name."""
        ...

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        """The current version (a delete marker included: the caller answers 404 with its id), or the one named.

        Raises NoSuchBucket, NoSuchKey, NoSuchVersion.
        """
        ...

    async def list_objects(
        self, bucket: str, *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> ObjectPage:
        """Current versions that are not delete markers, keys > `after`."""
        ...

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionPage: ...

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadPage: ...

    async def list_parts(
        self, bucket: str, key: Key, upload_id: UploadId, *, after: int = 0, limit: int = 1000
    ) -> PartPage:
        """Parts with their blobs; NoSuchUpload when absent."""
        ...

    async def dead_blobs(self, names: Sequence["BlobName"]) -> list[bool]:
        """For each: is the blob dead (R7), judged at the settled head? Once True, always True."""
        ...


class ObjectName(NamedTuple):
    """A version of an object, by its bucket's name."""

    bucket: str
    key: Key
    version_id: VersionId | None = None
    """None: the current one."""


class MetadataNodeService(MetadataService, Protocol):
    """A metadata service as its gRPC server uses it: many reads of one call are one reading."""

    async def objects(self, names: Sequence[ObjectName]) -> list[ObjectVersion | DrystoneError]:
        """Each name's version, or why it has none."""
        ...

    def counts(self) -> TabletCounts:
        """What this process has to do now, from memory."""
        ...


class BlobName(NamedTuple):
    """The one name of a blob (R6), as the blob table stores it."""

    blob_id: BlobId
    bucket_id: BucketId
    key: Key
    uid: Uid
    part: int
    """0 for a single PUT."""
    offset: int
    """Of this blob in the object or part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobHeader:
    """What a blob will be named; its id is given at the append."""

    bucket_id: BucketId
    key: Key
    uid: Uid
    part: int = 0
    offset: int = 0
    kind: int = 0
    """0 data, 1 manifest, 2 name (a zero-byte object, or a Complete), 3 checkpoint."""
    disk_class: str = ""
    """Class of the disks it must lie on; empty = any. Not stored: the disks say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallBlob:
    """A blob of at most PACK_LIMIT payload bytes."""

    header: BlobHeader
    payload: Buffer
    trailer: bytes


class BlobWriter(Protocol):
    """Streams one large blob. Exactly one of finish() and abort() ends it; abort() may be called after any error."""

    async def space(self) -> memoryview:
        """A writable piece buffer (≤ PIECE_LIMIT bytes) from a bounded pool; Busy when none comes free in time."""
        ...

    async def write(self, length: int) -> None:
        """Hand over the first `length` bytes of the last space().

        Fewer than the buffer holds: the last piece, or, when `expected` bytes were announced, a smaller stripe.
        Returns when the next piece may be received: its stripe need not be durable yet.
        """
        ...

    def contended(self) -> bool:
        """Buffers run short: who does not fill the one he holds should hand it over as it is."""
        ...

    def let_go(self) -> None:
        """Begin to write a last piece that waits for its trailer, which then costs a small stripe of its own."""
        ...

    async def finish(self, trailer: bytes) -> BlobRef:
        """All pieces and the trailer durable on all slots."""
        ...

    def abort(self) -> None: ...


class ReadChunk(NamedTuple):
    """Verified bytes. `release` gives pooled memory back: call it exactly once, after the bytes have left the process."""

    data: memoryview
    release: "ReleaseFn"


class ReleaseFn(Protocol):
    def __call__(self) -> None: ...


class StorageService(Protocol):
    """Durable blobs. Raises Busy (pool), Unavailable (too few disks; code InsufficientStorage when full), Damaged."""

    def append(self, blob: SmallBlob) -> Awaitable[BlobRef]:
        """Durable on all k+m slots when it returns. Concurrent calls share a stripe and its flush."""
        ...

    def writer(self, header: BlobHeader, *, expected: int) -> BlobWriter:
        """For a blob of more than PACK_LIMIT bytes; `expected` bytes sizes the pieces (0 = unknown)."""
        ...

    def read_now(self, blobs: Sequence[BlobRef], start: int, length: int) -> Buffer | None:
        """The verified bytes when they are small and can be had without blocking, else None (then use `read`)."""
        ...

    def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Verified bytes of the concatenated blobs, in order, in chunks of at most 1 MiB; rebuilds what is missing.

        Raises Damaged before the first wrong byte would be yielded.
        """
        ...


class StorageNodeService(StorageService, Protocol):
    """A storage node as gateways on other hosts use it: they cut large blobs into pieces themselves."""

    async def locate(self, volumes: Sequence[VolumeId]) -> list[tuple[DiskId | None, ...]]:
        """For each volume the disk of each slot (None: not known); empty when the volume is not known."""
        ...

    async def append_piece(
        self,
        header: BlobHeader,
        *,
        blob_id: BlobId,
        piece_offset: int,
        payload: Buffer,
        trailer: bytes = b"",
        last: bool = False,
    ) -> StripedExtent:
        """One piece (at most PIECE_LIMIT bytes) as one stripe, durable on all slots when it returns.

        `payload` may be changed afterwards. Raises Busy, Unavailable.
        """
        ...

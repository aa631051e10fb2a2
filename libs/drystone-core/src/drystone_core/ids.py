# SPDX-License-Identifier: Apache-2.0
"""Identifiers, each a distinct type. See docs/glossary.md for what each names.

Blob ids and write ids begin with a time so that age can be judged from the id alone:
  BlobId   8 bytes append time (Unix microseconds, big endian) + 8 random bytes
  WriteId  8 bytes issue time (Unix microseconds, big endian) + 16 bytes (random, or a digest of the client's retry identity)
"""

from typing import NewType

ClusterId = NewType("ClusterId", str)
"""32 lower-case hex characters."""
DiskId = NewType("DiskId", str)
"""32 lower-case hex characters."""
VolumeId = NewType("VolumeId", int)
"""Unsigned 64 bits; shown as 16 lower-case hex characters (`volume_text`)."""
BucketId = NewType("BucketId", int)
"""Unsigned 63 bits, never reused within a cell."""
BlobId = NewType("BlobId", bytes)
"""16 bytes, see the module docstring."""
WriteId = NewType("WriteId", bytes)
"""24 bytes, see the module docstring."""
Uid = NewType("Uid", bytes)
"""16 random bytes: one naming of bytes, unique per mutation, never reused."""
ContentId = NewType("ContentId", bytes)
"""16 random bytes encryption is bound to; copied unchanged when bytes move."""
Key = NewType("Key", bytes)
"""An object key: 1 to 1024 bytes of UTF-8, compared bytewise."""
VersionId = NewType("VersionId", str)
"""32 lower-case URL-safe characters, newest sorts first; `null` is spelled NULL_VERSION."""
UploadId = NewType("UploadId", str)
"""32 lower-case URL-safe characters."""
RequestId = NewType("RequestId", str)
"""16 upper-case hex characters."""
Term = NewType("Term", int)

NULL_VERSION = VersionId("null")


def volume_text(volume: VolumeId) -> str:
    """The 16-character name of a volume, as in file names and on the command line."""
    return f"{volume:016x}"


def make_blob_id(stamp_us: int, random8: bytes) -> BlobId:
    """A blob id appended at `stamp_us` (Unix microseconds)."""
    return BlobId(stamp_us.to_bytes(8, "big") + random8)


def blob_stamp_us(blob_id: BlobId) -> int:
    """When the blob was appended, Unix microseconds."""
    return int.from_bytes(blob_id[:8], "big")


def make_write_id(issued_us: int, identity16: bytes) -> WriteId:
    """A write id issued at `issued_us` (Unix microseconds)."""
    return WriteId(issued_us.to_bytes(8, "big") + identity16)


def write_issued_us(write_id: WriteId) -> int:
    """When the mutation was issued, Unix microseconds."""
    return int.from_bytes(write_id[:8], "big")

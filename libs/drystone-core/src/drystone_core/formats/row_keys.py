# SPDX-License-Identifier: Apache-2.0
"""Addresses of metadata rows: the kinds there are, and how their keys and seqs are spelled.

Invariants
  A1  seq has one length per kind (rowseal S3).
  A2  Orders sort newest first, upload ids oldest first: both in the sequence of the commits that gave them.
Format  docs/formats/rows.md (v1). Integers inside addresses are big endian.
"""

from typing import Final

from drystone_core.check import check
from drystone_core.ids import NULL_VERSION, BucketId, Key, UploadId, VersionId

BUCKET: Final = 1
"""key = bucket's name → the bucket."""
BUCKET_NAME: Final = 2
"""key = bucket id (8 bytes) → its name."""
BUCKET_OWNER: Final = 3
"""key = owner + NUL + name → empty."""
CURRENT: Final = 10
"""key = object address → the current version or delete marker, exactly one per key that has versions."""
VERSION: Final = 11
"""key = object address, seq = order (16 bytes) → a version that is not current."""
NULL_AT: Final = 12
"""key = object address → order of the null version among VERSION rows."""
NAMED: Final = 13
"""key = object address, seq = uid (16 bytes) → where the bytes named by this uid are, unless it is the current row."""
UPLOAD: Final = 20
"""key = object address, seq = upload id (16 bytes) → the upload."""
PART: Final = 21
"""key = object address, seq = upload id + part number (2 bytes) → the part."""
DOCUMENT: Final = 30
"""key = the document's name → opaque bytes."""

ORDER_SIZE: Final = 16
_SEQUENCES: Final = 1 << 48
_POSITIONS: Final = 1 << 16


def make_order(sequence: int, position: int, random8: bytes) -> bytes:
    """The order of a version made by the commit `sequence` at `position` of its batch: later ones sort first."""
    check(0 < sequence < _SEQUENCES and 0 <= position < _POSITIONS, "commit sequence out of range")
    return (_SEQUENCES - sequence).to_bytes(6, "big") + (_POSITIONS - 1 - position).to_bytes(2, "big") + random8


def make_upload_id(sequence: int, position: int, random8: bytes) -> UploadId:
    """The id of an upload created by the commit `sequence` at `position`: later ones sort last."""
    check(0 < sequence < _SEQUENCES and 0 <= position < _POSITIONS, "commit sequence out of range")
    return UploadId((sequence.to_bytes(6, "big") + position.to_bytes(2, "big") + random8).hex())


def make_bucket_id(sequence: int, position: int) -> BucketId:
    """A bucket id no other commit of the cell gives."""
    check(0 < sequence < 1 << 47 and 0 <= position < _POSITIONS, "commit sequence out of range")
    return BucketId(sequence << 16 | position)


def object_address(bucket: BucketId, key: Key) -> bytes:
    """The `key` of every row about an object."""
    return bucket.to_bytes(8, "big") + key


def owner_address(owner: str, name: str = "") -> bytes:
    """The key of a BUCKET_OWNER row; without a name, what all rows of the owner begin with."""
    return owner.encode() + b"\0" + name.encode()


def version_text(order: bytes, *, null: bool) -> VersionId:
    """The version id of a row."""
    return NULL_VERSION if null else VersionId(order.hex())


def parse_version(version_id: str) -> bytes | None:
    """The order a version id stands for; None when it is not one of ours (`null` included)."""
    return _parse_hex(version_id)


def parse_upload(upload_id: str) -> bytes | None:
    """The seq of an upload id; None when it is not one of ours."""
    return _parse_hex(upload_id)


def part_seq(upload: bytes, number: int) -> bytes:
    """The seq of a part row."""
    return upload + number.to_bytes(2, "big")


def _parse_hex(text: str) -> bytes | None:
    if len(text) != 2 * ORDER_SIZE or text != text.lower():
        return None
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if len(raw) == ORDER_SIZE else None

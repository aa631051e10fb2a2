# SPDX-License-Identifier: Apache-2.0
"""The change feed: one record per commit, lean: what changed, by whose write id, with which outcome, which blobs went.

Invariants
  F1  A record has one entry per mutation that had an effect, in the order decided, and nothing of those without.
  F2  An entry carries what a repeat of its write id is answered with (R1).
  F3  Readers raise Damaged at a format or flag they do not know.
Format  docs/formats/feed.md (v1), little endian; sealed with CRC32C.
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct, error
from typing import Final, NamedTuple

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.ids import NULL_VERSION, BlobId, BucketId, Key, Uid, UploadId, VersionId, WriteId
from drystone_core.mutations import Outcome

FORMAT: Final = 1
_RECORD: Final = Struct("<BBHQ")
"""format, must flags, entries, commit time (Unix ms)."""
_ENTRY: Final = Struct("<BHHIQ16s24s")
"""operation, key length, outcome length, blobs removed, bucket id, uid, write id."""
_LENGTHS: Final = Struct("<HHI")
"""Of an entry, behind its operation."""
_OUTCOME: Final = Struct("<BQ")
"""flags, modified_ms."""
_DELETE_MARKER: Final = 0x01
_NULL: Final = 0x02
_VERSION: Final = 0x04
_UPLOAD: Final = 0x08
_ETAG: Final = 0x10
_KNOWN: Final = 0x1F
_CRC_SIZE: Final = 4


class Operation(IntEnum):
    """What an entry says happened."""

    CREATE_BUCKET = 1
    DELETE_BUCKET = 2
    CONFIGURE_BUCKET = 3
    PUT_OBJECT = 10
    REPLACE_METADATA = 11
    DELETE_OBJECT = 12
    CREATE_UPLOAD = 20
    PUT_PART = 21
    COMPLETE_UPLOAD = 22
    ABORT_UPLOAD = 23
    SWAP_BLOBS = 30


class FeedEntry(NamedTuple):
    """One mutation's effect."""

    operation: int
    bucket_id: BucketId
    key: Key
    """Bucket's name for bucket operations."""
    uid: Uid
    """Of the version named or removed; zeros when there is none."""
    write_id: WriteId
    outcome: bytes
    """See encode_outcome."""
    removed: Sequence[BlobId]
    """Blobs this mutation took the name from: where reclaim looks first."""


class FeedRecord(NamedTuple):
    """One commit."""

    time_ms: int
    entries: list[FeedEntry]


def encode_outcome(outcome: Outcome) -> bytes:
    """What a repeat is answered with, in a few bytes."""
    flags = _DELETE_MARKER if outcome.delete_marker else 0
    tail = b""
    version = outcome.version_id
    if version is not None:
        if version == NULL_VERSION:
            flags |= _NULL
        else:
            flags |= _VERSION
            tail = bytes.fromhex(version)
    if outcome.upload_id is not None:
        flags |= _UPLOAD
        tail += bytes.fromhex(outcome.upload_id)
    if outcome.etag:
        flags |= _ETAG
        tail += outcome.etag.encode()
    return _OUTCOME.pack(flags, outcome.modified_ms) + tail


def decode_outcome(data: bytes) -> Outcome:
    """The inverse of encode_outcome."""
    flags, modified = _OUTCOME.unpack_from(data)
    if flags & ~_KNOWN:
        raise Damaged("feed outcome of a newer format", flags=str(flags))
    at = _OUTCOME.size
    version: VersionId | None = NULL_VERSION if flags & _NULL else None
    upload: UploadId | None = None
    if flags & _VERSION:
        version = VersionId(data[at : at + 16].hex())
        at += 16
    if flags & _UPLOAD:
        upload = UploadId(data[at : at + 16].hex())
        at += 16
    etag = data[at:].decode() if flags & _ETAG else ""
    return Outcome(
        version_id=version,
        delete_marker=flags & _DELETE_MARKER != 0,
        modified_ms=modified,
        upload_id=upload,
        etag=etag,
    )


def encode_record(time_ms: int, entries: Sequence[FeedEntry]) -> bytes:
    """The record of one commit."""
    out = [_RECORD.pack(FORMAT, 0, len(entries), time_ms)]
    pack = _ENTRY.pack
    for operation, bucket_id, key, uid, write_id, outcome, removed in entries:
        out.append(pack(operation, len(key), len(outcome), len(removed), bucket_id, uid, write_id))
        out.append(key)
        out.append(outcome)
        out.extend(removed)
    body = b"".join(out)
    return body + crc32c(body).to_bytes(_CRC_SIZE, "little")


def decode_record(data: bytes) -> FeedRecord:
    """The inverse of encode_record; Damaged when it is not intact."""
    if len(data) < _RECORD.size + _CRC_SIZE:
        raise Damaged("feed record: short")
    if crc32c(data[:-_CRC_SIZE]) != int.from_bytes(data[-_CRC_SIZE:], "little"):
        raise Damaged("feed record fails its checksum")
    try:
        return _decode(data)
    except error as exc:
        raise Damaged("feed record: short") from exc


def record_time_ms(data: bytes) -> int:
    """When the record was committed, Unix ms; unverified."""
    time_ms: int = _RECORD.unpack_from(data)[3]
    return time_ms


def write_identities(data: bytes) -> tuple[int, list[bytes]]:
    """(commit time in Unix ms, the identities of the write ids) of a record, without decoding the rest of it."""
    if len(data) < _RECORD.size + _CRC_SIZE or crc32c(data[:-_CRC_SIZE]) != int.from_bytes(data[-_CRC_SIZE:], "little"):
        raise Damaged("feed record fails its checksum")
    form, must, count, time_ms = _RECORD.unpack_from(data)
    if form != FORMAT or must:
        raise Damaged("feed record of a newer format", format=str(form), flags=str(must))
    identities = []
    at, lengths, size = _RECORD.size + 1, _LENGTHS.unpack_from, _ENTRY.size
    for _ in range(count):
        key_length, outcome_length, removed = lengths(data, at)
        identities.append(data[at + size - 17 : at + size - 1])
        at += size + key_length + outcome_length + 16 * removed
    return time_ms, identities


def _decode(data: bytes) -> FeedRecord:
    form, must, count, time_ms = _RECORD.unpack_from(data)
    if form != FORMAT or must:
        raise Damaged("feed record of a newer format", format=str(form), flags=str(must))
    entries = []
    at = _RECORD.size
    for _ in range(count):
        operation, key_length, outcome_length, removed_count, bucket_id, uid, write_id = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        key = data[at : at + key_length]
        at += key_length
        outcome = data[at : at + outcome_length]
        at += outcome_length
        end = at + 16 * removed_count
        removed = [BlobId(data[i : i + 16]) for i in range(at, end, 16)]
        at = end
        entries.append(FeedEntry(operation, bucket_id, Key(key), uid, write_id, outcome, removed))
    return FeedRecord(time_ms, entries)

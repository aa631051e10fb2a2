# SPDX-License-Identifier: Apache-2.0
"""The embedded metadata journal, format 1: segment headers, records, what they say. Bytes: docs/formats/journal.md.

Invariants
  J1  Segment headers and records begin on 4 KiB boundaries; no block that holds a durable record is written again.
  J2  A record names its term, segment and offset, and its hash is keyed with the segment's random nonce: neither what a
      recycled segment held before nor bytes a tenant chose can be taken for a record.
  J3  `previous` is the hash of the record before: a log is one chain, records of another history do not fit into it.
Records are the same bytes on every member. Integers are big endian.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

import awscrt.checksums  # type: ignore[import-untyped]

from drystone_core.check import check
from drystone_core.errors import Damaged
from drystone_core.ids import DiskId

BLOCK = 4096
HASH_SIZE = 16
VERSION = 1
GENESIS = bytes(HASH_SIZE)
"""`previous` of a cell's first record."""
MAX_PAYLOAD = 64 << 20

Row = tuple[int, bytes, bytes]
"""(kind, key, seq): drystone_metadata.store.ports.RowKey is one."""

_SEGMENT = struct.Struct(">8sHHI16sQQ16sH")
_SEGMENT_MAGIC = b"DRYJSEG\n"
_RECORD = struct.Struct(">4sBBHQQQQIQ16s")
_RECORD_MAGIC = b"DSJR"
_HEADER_SIZE = _RECORD.size + HASH_SIZE
_BATCH = struct.Struct(">QQQBIII")
_PUT = struct.Struct(">BHBI")
_DELETE = struct.Struct(">BHB")
_ZEROS = bytes(BLOCK)
_crc64nvme: Callable[[bytes], int] = awscrt.checksums.crc64nvme


class RecordKind(IntEnum):
    """What a record does to the tablet."""

    TERM = 1
    """A new term and its member set."""
    BATCH = 2
    """One group commit."""
    CREATE = 3
    DROP = 4
    EPOCH = 5
    """A take-over: the tablet's epoch from now on."""
    TRIM = 6
    """Feed records below are forgotten."""


_KINDS = frozenset(RecordKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The first block of a segment file."""

    cluster: bytes
    """16 bytes."""
    term: int
    segment: int
    """0, 1, 2 … within the term."""
    nonce: bytes
    """16 random bytes, the key of the record hashes."""
    members: tuple[DiskId, ...]
    """The member set of the term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A verified record."""

    kind: RecordKind
    term: int
    index: int
    """Position in the chain, from 1."""
    previous: bytes
    hash: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """What a BATCH record says."""

    head: int
    """The tablet's head from now on."""
    batch_id: bytes
    floor_us: int
    generation: int
    puts: Sequence[tuple[Row, bytes]]
    deletes: Sequence[Row]
    feed: bytes


def encode_segment(header: SegmentHeader) -> bytes:
    """The header block."""
    fixed = _SEGMENT.pack(
        _SEGMENT_MAGIC,
        VERSION,
        0,
        BLOCK,
        header.cluster,
        header.term,
        header.segment,
        header.nonce,
        len(header.members),
    )
    body = fixed + b"".join(bytes.fromhex(member) for member in header.members)
    check(len(body) + HASH_SIZE <= BLOCK, "too many members for a segment header")
    return (body + blake2b(body, digest_size=HASH_SIZE).digest()).ljust(BLOCK, b"\0")


def decode_segment(block: bytes) -> SegmentHeader | None:
    """The header, None when the block is not a valid one; Damaged for a version this code does not know."""
    if len(block) < BLOCK or block[:8] != _SEGMENT_MAGIC:
        return None
    _, version, flags, size, cluster, term, segment, nonce, count = _SEGMENT.unpack_from(block)
    end = _SEGMENT.size + 16 * count
    if end + HASH_SIZE > BLOCK or blake2b(block[:end], digest_size=HASH_SIZE).digest() != block[end : end + HASH_SIZE]:
        return None
    if version != VERSION or flags or size != BLOCK:
        raise Damaged(f"journal segment of format {version} flags {flags:#x}: a newer release wrote it")
    members = tuple(DiskId(block[at : at + 16].hex()) for at in range(_SEGMENT.size, end, 16))
    return SegmentHeader(cluster=cluster, term=term, segment=segment, nonce=nonce, members=members)


def encode_record(
    *, kind: RecordKind, term: int, index: int, segment: int, offset: int, nonce: bytes, previous: bytes, payload: bytes
) -> tuple[bytes, bytes]:
    """(the record padded to whole blocks, its hash)."""
    size = len(payload)
    check(size <= MAX_PAYLOAD, "journal record too large")
    header = _RECORD.pack(
        _RECORD_MAGIC, VERSION, kind, 0, term, index, segment, offset, size, _crc64nvme(payload), previous
    )
    digest = blake2b(header, digest_size=HASH_SIZE, key=nonce).digest()
    pad = -(_HEADER_SIZE + size) % BLOCK
    return b"".join((header, digest, payload, _ZEROS[:pad])), digest


def decode_records(data: bytes, header: SegmentHeader) -> list[Record]:
    """All valid records of a segment file's content.

    Invalid blocks (never written, torn, rotten) are passed over: what is missing shows when the chain is walked.
    """
    records: list[Record] = []
    view = memoryview(data)
    at = BLOCK
    while at + _HEADER_SIZE <= len(data):
        if data[at : at + 4] != _RECORD_MAGIC:
            at += BLOCK
            continue
        _, version, kind, flags, term, index, segment, offset, size, crc, previous = _RECORD.unpack_from(data, at)
        digest = blake2b(view[at : at + _RECORD.size], digest_size=HASH_SIZE, key=header.nonce).digest()
        start = at + _HEADER_SIZE
        placed = term == header.term and segment == header.segment and offset == at
        if not placed or digest != data[at + _RECORD.size : start]:
            at += BLOCK
            continue
        if version != VERSION or flags or kind not in _KINDS:
            raise Damaged(f"journal record of format {version} kind {kind} flags {flags:#x}: a newer release wrote it")
        at += record_size(size)
        payload = data[start : start + size]
        if len(payload) == size and _crc64nvme(payload) == crc:
            records.append(
                Record(kind=RecordKind(kind), term=term, index=index, previous=previous, hash=digest, payload=payload)
            )
    return records


def record_size(payload: int) -> int:
    """Bytes a record of `payload` bytes takes, whole blocks."""
    return -(-(_HEADER_SIZE + payload) // BLOCK) * BLOCK


def encode_batch(
    *,
    head: int,
    batch_id: bytes,
    floor_us: int,
    generation: int,
    puts: Sequence[tuple[Row, bytes]],
    deletes: Sequence[Row],
    feed: bytes,
) -> bytes:
    """The payload of a BATCH record."""
    parts = [
        _BATCH.pack(head, floor_us, generation, len(batch_id), len(feed), len(deletes), len(puts)), batch_id, feed
    ]  # fmt: skip
    add = parts.append
    pack = _DELETE.pack
    for kind, key, seq in deletes:
        add(pack(kind, len(key), len(seq)))
        add(key)
        add(seq)
    pack = _PUT.pack
    for (kind, key, seq), value in puts:
        add(pack(kind, len(key), len(seq), len(value)))
        add(key)
        add(seq)
        add(value)
    return b"".join(parts)


def decode_batch(payload: bytes) -> BatchRecord:
    """The inverse of `encode_batch`; Damaged when the lengths do not add up."""
    try:
        head, floor_us, generation, id_size, feed_size, delete_count, put_count = _BATCH.unpack_from(payload)
        at = _BATCH.size
        batch_id = payload[at : (at := at + id_size)]
        feed = payload[at : (at := at + feed_size)]
        deletes: list[Row] = []
        for _ in range(delete_count):
            kind, key_size, seq_size = _DELETE.unpack_from(payload, at)
            at += _DELETE.size
            deletes.append((kind, payload[at : (at := at + key_size)], payload[at : (at := at + seq_size)]))
        puts: list[tuple[Row, bytes]] = []
        for _ in range(put_count):
            kind, key_size, seq_size, value_size = _PUT.unpack_from(payload, at)
            at += _PUT.size
            row = (kind, payload[at : (at := at + key_size)], payload[at : (at := at + seq_size)])
            puts.append((row, payload[at : (at := at + value_size)]))
    except struct.error as error:
        raise Damaged("journal batch ends early") from error
    if at != len(payload):
        raise Damaged("journal batch has the wrong length")
    return BatchRecord(
        head=head, batch_id=batch_id, floor_us=floor_us, generation=generation, puts=puts, deletes=deletes, feed=feed
    )


def encode_term(members: Sequence[DiskId], reason: str) -> bytes:
    """The payload of a TERM record."""
    return bytes([len(members)]) + b"".join(bytes.fromhex(member) for member in members) + reason.encode()


def decode_term(payload: bytes) -> tuple[tuple[DiskId, ...], str]:
    """(members, reason)."""
    end = 1 + 16 * payload[0]
    return tuple(DiskId(payload[at : at + 16].hex()) for at in range(1, end, 16)), payload[end:].decode()


def encode_number(value: int) -> bytes:
    """The payload of EPOCH (the epoch) and TRIM (the first sequence kept)."""
    return value.to_bytes(8, "big")


def decode_number(payload: bytes) -> int:
    """The inverse of `encode_number`."""
    if len(payload) != 8:
        raise Damaged("journal number has the wrong length")
    return int.from_bytes(payload, "big")


_CREATE = struct.Struct(">QHH")


def encode_create(*, low: bytes, high: bytes, generation: int) -> bytes:
    """The payload of a CREATE record."""
    return _CREATE.pack(generation, len(low), len(high)) + low + high


def decode_create(payload: bytes) -> tuple[bytes, bytes, int]:
    """(low, high, generation)."""
    generation, low, high = _CREATE.unpack_from(payload)
    at = _CREATE.size
    if at + low + high != len(payload):
        raise Damaged("journal create record has the wrong length")
    return payload[at : at + low], payload[at + low :], generation

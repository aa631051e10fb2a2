# SPDX-License-Identifier: Apache-2.0
"""A record: one slot's part of one stripe. Head (header and block CRCs), blob table, payload.

Format    docs/formats/shard.md (v1).
Invariants
  D1  Starts on a RECORD_ALIGN boundary and names its own volume, slot and offset (R1, R2).
  D2  The head is under a BLAKE2b-16 keyed with the volume's nonce; it carries the keyed digest of the blob table, so
      bytes a client chose can never pass for a record (R2).
  D3  Table, geometry, span and payload_at are equal in all slots of the stripe; slot, stored length and CRCs differ.
  D4  Bytes of the fragment beyond `stored_length` are zeros and are not written.
"""

import hashlib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from drystone_core.extents import BLOCK, RECORD_ALIGN
from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer
from drystone_core.stripes import HEAD_BYTES, Geometry

MAGIC = b"\x89DSTRIPE"
VERSION = 1
PIECE = 0x0001
"""Flag: the stripe holds one piece of a large blob (not a pack)."""
_MUST_UNDERSTAND = 0xFF00
"""Flags in this half that a reader does not know make it refuse the record."""

_BODY = struct.Struct("<8sHHBBBxQQQIIIIIIQ16s24x")
_DIGEST_AT = _BODY.size
_blake2b = hashlib.blake2b


@dataclass(frozen=True, slots=True)
class RecordHead:
    """A verified head."""

    volume: VolumeId
    slot: int
    offset: int
    sequence: int
    fragment_length: int
    stored_length: int
    table_length: int
    entries: int
    payload_at: int
    span: int
    piece: bool
    table_digest: bytes
    crcs: "array[int]"
    """CRC32C per BLOCK of the stored bytes."""

    @property
    def table_at(self) -> int:
        """From the record's start."""
        return HEAD_BYTES + 4 * ((self.fragment_length + BLOCK - 1) // BLOCK)


def table_digest(table: Buffer, nonce: bytes) -> bytes:
    """Keyed digest of a blob table."""
    return _blake2b(table, digest_size=16, key=nonce).digest()


class HeadEncoder:
    """Encodes the k+m heads of one stripe; what they share is given once."""

    __slots__ = ("_blocks", "_fixed", "_k", "_m", "_nonce", "_shape")

    def __init__(
        self,
        *,
        volume: VolumeId,
        k: int,
        m: int,
        nonce: bytes,
        offset: int,
        sequence: int,
        shape: Geometry,
        table_length: int,
        entries: int,
        digest: bytes,
        piece: bool,
    ) -> None:
        self._nonce = nonce
        self._k, self._m = k, m
        self._blocks = struct.Struct(f"<{shape.blocks}I")
        self._fixed = (PIECE if piece else 0, volume, offset, sequence)
        self._shape = (table_length, entries, shape.payload_at, shape.span, digest, shape.blocks, shape.fragment_length)

    def encode(self, slot: int, stored_length: int, crcs: Sequence[int]) -> bytes:
        """Header and block CRCs of one slot; missing CRCs (of blocks not stored) are zero."""
        flags, volume, offset, sequence = self._fixed
        table_length, entries, payload_at, span, digest, blocks, fragment_length = self._shape
        body = _BODY.pack(
            MAGIC,
            VERSION,
            flags,
            slot,
            self._k,
            self._m,
            volume,
            offset,
            sequence,
            fragment_length,
            stored_length,
            blocks,
            table_length,
            entries,
            payload_at,
            span,
            digest,
        )
        if len(crcs) < blocks:
            crcs = [*crcs, *([0] * (blocks - len(crcs)))]
        table = self._blocks.pack(*crcs)
        return body + _blake2b(body + table, digest_size=16, key=self._nonce).digest() + table


def head_length(fragment_length: int) -> int:
    """Bytes of header and block CRCs for a fragment of that length: what to read to verify blocks."""
    return HEAD_BYTES + 4 * ((fragment_length + BLOCK - 1) // BLOCK)


def looks_like_record(data: Buffer, at: int = 0) -> bool:
    """Cheap first test of a scan; only `decode_head` decides."""
    return data[at : at + 8] == MAGIC


def decode_head(data: Buffer, *, nonce: bytes, volume: VolumeId, slot: int, offset: int) -> RecordHead | None:
    """The head at the start of `data`, None unless every byte of it verifies for exactly this place."""
    if len(data) < HEAD_BYTES or bytes(data[:8]) != MAGIC:
        return None
    (
        _magic, version, flags, own_slot, _k, _m, own_volume, own_offset, sequence, fragment_length,
        stored_length, blocks, table_length, entries, payload_at, span, digest,
    ) = _BODY.unpack_from(data)  # fmt: skip
    if version != VERSION or flags & _MUST_UNDERSTAND:
        return None
    if own_slot != slot or own_volume != volume or own_offset != offset:
        return None
    size = HEAD_BYTES + 4 * blocks
    if blocks != (fragment_length + BLOCK - 1) // BLOCK or len(data) < size or stored_length > fragment_length:
        return None
    table = bytes(data[HEAD_BYTES:size])
    sealed = bytes(data[:_DIGEST_AT]) + table
    if bytes(data[_DIGEST_AT:HEAD_BYTES]) != _blake2b(sealed, digest_size=16, key=nonce).digest():
        return None
    if payload_at < size + table_length or span < payload_at + fragment_length or span % RECORD_ALIGN:
        return None
    crcs = array("I")
    crcs.frombytes(table)
    return RecordHead(
        own_volume, own_slot, own_offset, sequence, fragment_length, stored_length, table_length, entries,
        payload_at, span, bool(flags & PIECE), digest, crcs,
    )  # fmt: skip

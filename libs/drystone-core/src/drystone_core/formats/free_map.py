# SPDX-License-Identifier: Apache-2.0
"""The free map of a volume: which stripes' payloads were punched (R8). A sidecar file beside each shard file.

Format    docs/formats/free-map.md (v1): two copies, COPY_BYTES apart; generation g is written to copy g % 2, so a
torn write leaves the previous generation whole. The valid copy with the higher generation counts. Keyed like records
(R2).
"""

import hashlib
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from drystone_core.check import check
from drystone_core.extents import RECORD_ALIGN
from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer

MAGIC = b"\x89DFREE\n\0"
VERSION = 1
COPY_BYTES = 16 * 1024 * 1024
"""Distance of the copies (the file is sparse)."""
LIMIT = (COPY_BYTES - 64) // 4
"""Stripes one map can name; a volume of 8 GiB has at most 2 Mi."""

_HEAD = struct.Struct("<8sHHQBxHQI")
HEAD_BYTES = 64
_DIGEST_AT = HEAD_BYTES - 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMap:
    """One generation."""

    volume: VolumeId
    slot: int
    generation: int
    """From 1 on; 0 = nothing was ever freed."""
    records: frozenset[int]
    """Record offsets, bytes."""


def free_map_name(shard_name: str) -> str:
    """The sidecar of a shard file."""
    return shard_name + ".free"


def copy_offset(generation: int) -> int:
    """Where that generation is written."""
    return (generation % 2) * COPY_BYTES


def encode_free_map(free: FreeMap, nonce: bytes) -> bytes:
    """The bytes to write at `copy_offset(generation)`."""
    check(len(free.records) <= LIMIT, "free map: too many stripes")
    units = array("I", sorted(_units(free.records)))
    body = units.tobytes()
    head = _HEAD.pack(MAGIC, VERSION, 0, free.volume, free.slot, 0, free.generation, len(units)).ljust(
        _DIGEST_AT, b"\0"
    )
    return head + hashlib.blake2b(head + body, digest_size=16, key=nonce).digest() + body


def body_length(head: Buffer) -> int | None:
    """How many bytes follow the first HEAD_BYTES of a copy; None when that is no head."""
    if len(head) < HEAD_BYTES:
        return None
    magic, _version, _flags, _volume, _slot, _zero, _generation, count = _HEAD.unpack_from(head)
    return 4 * count if magic == MAGIC and count <= LIMIT else None


def decode_free_map(data: Buffer, nonce: bytes, *, volume: VolumeId, slot: int) -> FreeMap | None:
    """One copy; None unless it verifies for this volume and slot."""
    length = body_length(data)
    if length is None or len(data) < HEAD_BYTES + length:
        return None
    _magic, version, flags, own_volume, own_slot, _zero, generation, _count = _HEAD.unpack_from(data)
    if version != VERSION or flags or own_volume != volume or own_slot != slot:
        return None
    body = bytes(data[HEAD_BYTES : HEAD_BYTES + length])
    sealed = bytes(data[:_DIGEST_AT]) + body
    if hashlib.blake2b(sealed, digest_size=16, key=nonce).digest() != bytes(data[_DIGEST_AT:HEAD_BYTES]):
        return None
    units = array("I")
    units.frombytes(body)
    return FreeMap(
        volume=volume, slot=slot, generation=generation, records=frozenset(unit * RECORD_ALIGN for unit in units)
    )


def newest(copies: Iterable[FreeMap | None]) -> FreeMap | None:
    """The valid copy with the highest generation."""
    return max((free for free in copies if free is not None), key=lambda free: free.generation, default=None)


def _units(records: Iterable[int]) -> list[int]:
    for record in records:
        check(record % RECORD_ALIGN == 0, "free map: offset is not a record's")
    return [record // RECORD_ALIGN for record in records]

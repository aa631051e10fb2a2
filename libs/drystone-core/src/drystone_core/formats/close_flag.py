# SPDX-License-Identifier: Apache-2.0
"""The sector that ends a volume: all zero = open, anything else = closed.

Format    docs/formats/shard.md (v1). The flag fits one 512-byte device sector, so it is never torn; and even a torn or
unreadable one means closed, because only an all-zero sector lets an append be acknowledged (invariant 6).
"""

import hashlib
import struct
from dataclasses import dataclass

from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer

MAGIC = b"\x89DCLOSE\n"
VERSION = 1
SECTOR = 4096
PROBE = 64
"""Bytes at CLOSE_FLAG_AT that decide open or closed."""

_FLAG = struct.Struct("<8sHHQB3xQQ")
_OPEN = bytes(PROBE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseFlag:
    """What the closer knew."""

    volume: VolumeId
    slot: int
    stamp_us: int
    """When it was closed, Unix microseconds."""
    end: int
    """Where records ended as far as the closer knew; 0 = unknown (scan)."""


def encode_close_flag(flag: CloseFlag, nonce: bytes) -> bytes:
    """The 4 KiB sector."""
    body = _FLAG.pack(MAGIC, VERSION, 0, flag.volume, flag.slot, flag.stamp_us, flag.end)
    digest = hashlib.blake2b(body, digest_size=16, key=nonce).digest()
    return (body + digest).ljust(SECTOR, b"\0")


def is_closed(sector: Buffer) -> bool:
    """True unless the first PROBE bytes are all zero."""
    return bytes(sector[:PROBE]) != _OPEN[: len(sector)]


def decode_close_flag(sector: Buffer, nonce: bytes) -> CloseFlag | None:
    """What the flag says; None when the volume is open or the flag does not verify (`is_closed` tells which)."""
    body = bytes(sector[: _FLAG.size])
    if len(body) < _FLAG.size:
        return None
    magic, version, flags, volume, slot, stamp_us, end = _FLAG.unpack(body)
    digest = bytes(sector[_FLAG.size : _FLAG.size + 16])
    if magic != MAGIC or version != VERSION or flags:
        return None
    if digest != hashlib.blake2b(body, digest_size=16, key=nonce).digest():
        return None
    return CloseFlag(volume=VolumeId(volume), slot=slot, stamp_us=stamp_us, end=end)

# SPDX-License-Identifier: Apache-2.0
"""The first sector of a shard file: which volume and slot it is, how it is coded, and the nonce that keys its records.

Format    docs/formats/shard.md (v1): 4 KiB header, 4 KiB close flag, records from RECORDS_AT.
Invariants
  H1  The nonce is the same in all slots of a volume and never shown by any API (R2).
  H2  A header with an unknown must-understand flag is refused, never guessed at.
"""

import struct
from dataclasses import dataclass

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ports import Buffer
from drystone_core.profiles import Profile

MAGIC = b"\x89DSHARD\n"
VERSION = 1
SECTOR = 4096
CLOSE_FLAG_AT = 4096
RECORDS_AT = 8192
CODE_CAUCHY = 1
"""isa_l_rs_cauchy."""

_HEADER = struct.Struct("<8sHHQBBBB16s")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHeader:
    """Who this file is."""

    volume: VolumeId
    slot: int
    profile: Profile
    nonce: bytes
    """16 bytes."""
    code: int = CODE_CAUCHY


def shard_name(volume: VolumeId, slot: int) -> str:
    """Name of the shard file on its disk."""
    return f"volumes/{volume_text(volume)}.{slot}"


def parse_shard_name(name: str) -> tuple[VolumeId, int] | None:
    """(volume, slot) of a file name in `volumes/` (with or without the folder), None for any other name."""
    text, dot, slot = name.rpartition("/")[2].rpartition(".")
    if not dot or len(text) != 16 or not slot.isdecimal() or len(slot) > 2 or int(slot) > 27:
        return None
    try:
        return VolumeId(int(text, 16)), int(slot)
    except ValueError:
        return None


def encode_shard_header(header: ShardHeader) -> bytes:
    """The 4 KiB header sector."""
    profile = header.profile
    body = _HEADER.pack(MAGIC, VERSION, 0, header.volume, header.slot, profile.k, profile.m, header.code, header.nonce)
    return (body + _CRC.pack(crc32c(body))).ljust(SECTOR, b"\0")


def decode_shard_header(data: Buffer) -> ShardHeader:
    """Raises Damaged when it is no header, is torn, or is of a later format."""
    if len(data) < _HEADER.size + _CRC.size:
        raise Damaged("shard header: short")
    body = bytes(data[: _HEADER.size])
    magic, version, flags, volume, slot, k, m, code, nonce = _HEADER.unpack(body)
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    if magic != MAGIC or crc != crc32c(body):
        raise Damaged("shard header: no valid header")
    if version != VERSION or flags or code != CODE_CAUCHY:
        raise Damaged("shard header: written by a later version", version=str(version), flags=str(flags))
    if not (1 <= k <= 20 and m <= 8 and slot < k + m):
        raise Damaged("shard header: slot or profile out of range")
    return ShardHeader(volume=VolumeId(volume), slot=slot, profile=Profile(k, m), nonce=nonce, code=code)

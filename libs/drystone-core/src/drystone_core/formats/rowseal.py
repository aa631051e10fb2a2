# SPDX-License-Identifier: Apache-2.0
"""The checksum every stored metadata row carries (R11): CRC32C over kind, key, seq and value.

Invariants
  S1  A value is stored as `body + CRC32C` (4 bytes, little endian), the CRC seeded with the row's address.
  S2  A row read under another address, or with any bit changed, raises Damaged; it never reads as absent.
  S3  `seq` has one length per kind, so that (key, seq) is unambiguous in the running checksum.
Format  docs/formats/rows.md. CRC32C of a message followed by its own CRC is the constant RESIDUE, so that verifying
needs no slicing. Rows are short: joining their parts costs less than a call of the checksum for each.
"""

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged

RESIDUE = 0x48674BC7
SEAL_SIZE = 4
_SEEDS = tuple(crc32c(bytes((kind,))) for kind in range(256))


def seal(kind: int, key: bytes, seq: bytes, body: bytes) -> bytes:
    """The bytes to store under (kind, key, seq)."""
    crc = crc32c(key + seq + body, _SEEDS[kind])
    return body + crc.to_bytes(4, "little")


def intact(kind: int, key: bytes, seq: bytes, stored: bytes) -> bool:
    """Whether `stored` is what was sealed for this address."""
    return crc32c(key + seq + stored, _SEEDS[kind]) == RESIDUE


def verify(kind: int, key: bytes, seq: bytes, stored: bytes) -> None:
    """Raise Damaged unless the row is intact."""
    if not intact(kind, key, seq, stored):
        raise Damaged("metadata row fails its checksum", kind=str(kind))


def unseal(kind: int, key: bytes, seq: bytes, stored: bytes) -> bytes:
    """The verified body; Damaged otherwise."""
    verify(kind, key, seq, stored)
    return stored[:-SEAL_SIZE]

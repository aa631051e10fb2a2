# SPDX-License-Identifier: Apache-2.0
"""The blob table of a stripe: which blobs lie in it and what each is named. The same bytes in every slot.

Format    docs/formats/shard.md (v1). An entry is 80 fixed bytes and the key. It carries all of the blob's one name
(R6):
bucket, key, uid, part, offset; so liveness can be judged, and names recovered, from volumes alone.
"""

import struct
from dataclasses import dataclass

from drystone_core.errors import Damaged
from drystone_core.ids import BlobId, BucketId, Key, Uid
from drystone_core.ports import Buffer
from drystone_core.services import BlobHeader, BlobName

KIND_DATA = 0
KIND_MANIFEST = 1
KIND_NAME = 2
KIND_CHECKPOINT = 3

LAST_PIECE = 0x01
"""Flag: the last (or only) piece of the blob; the trailer follows the payload."""
HAS_CRC = 0x02
"""Flag: `crc` is the CRC32C of the payload (packed blobs; pieces rely on block CRCs)."""

ENTRY_BYTES = 80
_ENTRY = struct.Struct("<BBBxHxxIIIIIQQ16s16s4x")
pack_entry = _ENTRY.pack
"""(kind, flags, fragment, key length, part, position, length, trailer length, crc, bucket, offset, blob id, uid)."""


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One blob, or one piece of a large blob, in a stripe."""

    kind: int
    flags: int
    fragment: int
    """Of a packed blob; 0 for a piece."""
    position: int
    """Of the payload in the fragment (a piece: in the stripe, always 0)."""
    length: int
    """Payload bytes in this stripe."""
    trailer_length: int
    """The trailer follows the payload directly."""
    crc: int
    blob_id: BlobId
    bucket_id: BucketId
    key: Key
    uid: Uid
    part: int
    offset: int
    """Of these bytes in the object or part."""

    @property
    def name(self) -> BlobName:
        """The blob's one name (for a piece: with the piece's offset)."""
        return BlobName(self.blob_id, self.bucket_id, self.key, self.uid, self.part, self.offset)


def encode_entry(entry: BlobEntry) -> bytes:
    """One entry."""
    return (
        pack_entry(
            entry.kind,
            entry.flags,
            entry.fragment,
            len(entry.key),
            entry.part,
            entry.position,
            entry.length,
            entry.trailer_length,
            entry.crc,
            entry.bucket_id,
            entry.offset,
            entry.blob_id,
            entry.uid,
        )
        + entry.key
    )


def piece_entry(
    header: BlobHeader, *, blob_id: BlobId, offset: int, length: int, trailer_length: int, last: bool
) -> bytes:
    """The single entry of a piece's stripe; `offset` is the piece's own in the object or part."""
    return (
        pack_entry(
            header.kind,
            LAST_PIECE if last else 0,
            0,
            len(header.key),
            header.part,
            0,
            length,
            trailer_length,
            0,
            header.bucket_id,
            offset,
            blob_id,
            header.uid,
        )
        + header.key
    )


def decode_table(data: Buffer, entries: int) -> list[BlobEntry]:
    """All entries; Damaged when the table's length does not fit (its digest was checked by the caller)."""
    found: list[BlobEntry] = []
    at = 0
    size = len(data)
    for _ in range(entries):
        if at + ENTRY_BYTES > size:
            raise Damaged("blob table: short")
        (
            kind,
            flags,
            fragment,
            key_length,
            part,
            position,
            length,
            trailer_length,
            crc,
            bucket_id,
            offset,
            blob_id,
            uid,
        ) = _ENTRY.unpack_from(data, at)
        at += ENTRY_BYTES
        key = Key(bytes(data[at : at + key_length]))
        at += key_length
        found.append(
            BlobEntry(
                kind,
                flags,
                fragment,
                position,
                length,
                trailer_length,
                crc,
                BlobId(blob_id),
                BucketId(bucket_id),
                key,
                Uid(uid),
                part,
                offset,
            )
        )
    if at != size:
        raise Damaged("blob table: length does not match its entries")
    return found

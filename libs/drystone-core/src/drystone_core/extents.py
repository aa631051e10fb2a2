# SPDX-License-Identifier: Apache-2.0
"""Where bytes lie: blobs, extents and how an object's bytes are made of them.

An object version is a list of blobs. A blob lies in extents. Two kinds exist; both are immutable values:
`PackedExtent` is a whole small blob inside ONE fragment of one stripe (reading it is one read on one disk);
`StripedExtent` is a run of equally long, equally spaced stripes of one volume.
All offsets and lengths are bytes.
"""

from dataclasses import dataclass

from drystone_core.ids import BlobId, VolumeId

RECORD_ALIGN = 4096
"""Records start on multiples of this (R1)."""
BLOCK = 65536
"""Bytes of a fragment covered by one CRC32C."""
PACK_LIMIT = 128 * 1024
"""Blobs up to this many payload bytes are packed whole into a fragment."""
PIECE_LIMIT = 8 * 1024 * 1024
"""A large blob is cut into pieces of at most this many bytes; each piece is one stripe."""
BLOB_ALIGN = 64
"""Blobs in a pack start on multiples of this; fragment lengths are multiples of it."""


@dataclass(frozen=True, slots=True)
class PackedExtent:
    """A whole small blob inside one fragment."""

    volume: VolumeId
    record: int
    """Offset of the stripe's record in every shard file; a multiple of RECORD_ALIGN."""
    payload_at: int
    """From the record's start to the fragment's payload (header and tables lie before it); equal in all slots."""
    fragment: int
    """0 … k-1."""
    position: int
    """Of the blob in the fragment."""
    length: int
    crc: int
    """CRC32C of the blob's payload."""


@dataclass(frozen=True, slots=True)
class StripedExtent:
    """`count` stripes, the i-th record at `record + i * stride`, each holding `piece` bytes of the blob.

    Byte b of a piece lies in fragment b // fragment_length at b % fragment_length. `fragment_length * k >= piece`; what
    follows the piece in the stripe (trailer, padding) is not the blob's payload.
    """

    volume: VolumeId
    record: int
    stride: int
    count: int
    payload_at: int
    fragment_length: int
    piece: int

    @property
    def length(self) -> int:
        """Payload bytes of the whole run."""
        return self.piece * self.count


Extent = PackedExtent | StripedExtent


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob and where it lies."""

    blob_id: BlobId
    length: int
    """Payload bytes: the sum over its extents."""
    extents: tuple[Extent, ...]

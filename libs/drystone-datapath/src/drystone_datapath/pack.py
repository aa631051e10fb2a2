# SPDX-License-Identifier: Apache-2.0
"""Blobs to records: builds all k+m records of one stripe in memory. No I/O; one pass, one copy.

A pack joins small blobs whole into k fragments; a piece is cut in place. Parity is coded and every stored block
summed in column slices of at most codec.SLICE data bytes, while they are warm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drystone_core.check import check
from drystone_core.crc import block_crcs, crc32c
from drystone_core.extents import BLOB_ALIGN, BLOCK, PackedExtent, StripedExtent
from drystone_core.formats.blob_table import HAS_CRC, LAST_PIECE, pack_entry, piece_entry
from drystone_core.formats.record import HeadEncoder, table_digest
from drystone_core.ids import BlobId, VolumeId
from drystone_core.ports import Buffer
from drystone_core.services import BlobHeader, SmallBlob
from drystone_core.stripes import Geometry, geometry, piece_fragment_length
from drystone_datapath.codec import SLICE, Codec

_PADS = tuple(bytes(length) for length in range(BLOB_ALIGN))


class StripePlace(NamedTuple):
    """Where a stripe goes."""

    volume: VolumeId
    nonce: bytes
    offset: int
    sequence: int


class Stripe(NamedTuple):
    """What to write: for slot i the buffers in order, at the place's offset."""

    buffers: list[list[Buffer]]
    shape: Geometry


@dataclass(slots=True, eq=False, kw_only=True)
class Piece:
    """One piece of a large blob, in a buffer with room for trailer and padding after it."""

    header: BlobHeader
    """Names the whole blob."""
    blob_id: BlobId
    offset: int
    """Of the piece in the blob; its entry adds the header's own offset."""
    view: memoryview
    """Writable; as long as the k fragments that payload, trailer and padding make."""
    length: int
    """Payload bytes."""
    trailer: bytes = b""
    last: bool = False
    tainted: bool = False
    """Set when a late disk call may still read `view`: the buffer must be discarded."""


def build_pack(
    blobs: Sequence[SmallBlob], ids: Sequence[BlobId], place: StripePlace, codec: Codec, parity: Sequence[memoryview]
) -> tuple[Stripe, list[PackedExtent]]:
    """The records of a pack, and each blob's extent. `parity`: m writable views of at least the fragment length."""
    k = codec.k
    fill = [0] * k
    parts: list[list[Buffer]] = [[] for _ in range(k)]
    table: list[bytes] = []
    placed: list[tuple[int, int, int, int]] = []
    for blob, blob_id in zip(blobs, ids, strict=True):
        header, payload, trailer = blob.header, blob.payload, blob.trailer
        key = header.key
        length, size = len(payload), len(payload) + len(trailer)
        crc = crc32c(payload)
        position = min(fill)
        fragment = fill.index(position)
        pad = -size % BLOB_ALIGN
        parts[fragment] += (payload, trailer, _PADS[pad])
        fill[fragment] = position + size + pad
        table.append(
            pack_entry(
                header.kind,
                LAST_PIECE | HAS_CRC,
                fragment,
                len(key),
                header.part,
                position,
                length,
                len(trailer),
                crc,
                header.bucket_id,
                header.offset,
                blob_id,
                header.uid,
            )
        )
        table.append(key)
        placed.append((fragment, position, length, crc))
    entries = b"".join(table)
    fragment_length = max(*fill, BLOB_ALIGN)
    shape = geometry(fragment_length=fragment_length, table_length=len(entries), page_aligned=False)
    data: list[Buffer] = []
    for filled, chunks in zip(fill, parts, strict=True):
        if filled < fragment_length:
            chunks.append(bytes(fragment_length - filled))
        data.append(b"".join(chunks))
    coded = [view[:fragment_length] for view in parity]
    _encode(codec, data, coded, fragment_length)
    stored: list[Buffer] = [
        part if filled == fragment_length else memoryview(part)[:filled]
        for part, filled in zip(data, fill, strict=True)
    ]
    stored.extend(coded)
    sums = [block_crcs(part) for part in stored]
    stripe = _seal(place, codec, shape, entries, len(blobs), stored, sums)
    volume, offset, payload_at = place.volume, place.offset, shape.payload_at
    return stripe, [
        PackedExtent(volume, offset, payload_at, fragment, position, length, crc)
        for fragment, position, length, crc in placed
    ]


def piece_geometry(total: int, k: int, table_length: int) -> Geometry:
    """The geometry of a piece of `total` bytes (payload and trailer)."""
    return geometry(fragment_length=piece_fragment_length(total, k), table_length=table_length, page_aligned=True)


def build_piece(
    piece: Piece, place: StripePlace, codec: Codec, parity: Sequence[memoryview], heads: Sequence[memoryview]
) -> tuple[Stripe, StripedExtent]:
    """The records of a piece and its extent. Writes trailer and padding into the piece's buffer after the payload.

    `heads`: a page for each slot. With it every buffer of a slot is whole pages, as writes past the page cache need.
    """
    k = codec.k
    total = piece.length + len(piece.trailer)
    entry = piece_entry(
        piece.header,
        blob_id=piece.blob_id,
        offset=piece.header.offset + piece.offset,
        length=piece.length,
        trailer_length=len(piece.trailer),
        last=piece.last,
    )
    shape = piece_geometry(total, k, len(entry))
    fragment_length = shape.fragment_length
    view = piece.view
    check(k * fragment_length <= len(view), "piece buffer has no room for trailer and padding")
    view[piece.length : total] = piece.trailer
    view[total : k * fragment_length] = bytes(k * fragment_length - total)
    data = [view[index * fragment_length : (index + 1) * fragment_length] for index in range(k)]
    coded = [part[:fragment_length] for part in parity]
    sums = _encode_and_sum(codec, data, coded, fragment_length)
    stored: list[Buffer] = [*data, *coded]
    for index in range(k):
        if _is_zero(data[index], sums[index]):
            stored[index], sums[index] = b"", []
    check(shape.payload_at == len(heads[0]), "a piece's header and table fit in a page")
    stripe = _seal(place, codec, shape, entry, 1, stored, sums, heads)
    extent = StripedExtent(place.volume, place.offset, shape.span, 1, shape.payload_at, fragment_length, piece.length)
    return stripe, extent


def _encode(codec: Codec, data: Sequence[Buffer], parity: Sequence[memoryview], length: int) -> None:
    if length * codec.k <= SLICE:
        codec.encode_into(data, parity)
        return
    step = SLICE // codec.k & -BLOCK or BLOCK
    views = [memoryview(part) for part in data]
    for at in range(0, length, step):
        end = min(at + step, length)
        codec.encode_into([part[at:end] for part in views], [part[at:end] for part in parity])


def _encode_and_sum(
    codec: Codec, data: Sequence[memoryview], parity: Sequence[memoryview], length: int
) -> list[list[int]]:
    step = SLICE // codec.k & -BLOCK or BLOCK
    everything = [*data, *parity]
    sums: list[list[int]] = [[] for _ in everything]
    at = 0
    while at < length:
        end = length if length - at <= step + BLOCK else at + step
        codec.encode_into([part[at:end] for part in data], [part[at:end] for part in parity])
        for found, part in zip(sums, everything, strict=True):
            for low in range(at, end, BLOCK):
                found.append(crc32c(part[low : min(low + BLOCK, end)]))
        at = end
    return sums


_ZERO_BLOCK = bytes(BLOCK)
_ZERO_SUM = crc32c(_ZERO_BLOCK)


def _is_zero(part: memoryview, sums: list[int]) -> bool:
    """All bytes are zero; the checksum of the first block answers for nearly every other fragment."""
    if len(part) >= BLOCK and sums[0] != _ZERO_SUM:
        return False
    return all(
        part[at : at + BLOCK].tobytes().count(0) == min(BLOCK, len(part) - at) for at in range(0, len(part), BLOCK)
    )


def _seal(
    place: StripePlace,
    codec: Codec,
    shape: Geometry,
    table: bytes,
    entries: int,
    stored: Sequence[Buffer],
    sums: Sequence[Sequence[int]],
    heads: Sequence[memoryview] | None = None,
) -> Stripe:
    encoder = HeadEncoder(
        volume=place.volume,
        k=codec.k,
        m=codec.m,
        nonce=place.nonce,
        offset=place.offset,
        sequence=place.sequence,
        shape=shape,
        table_length=len(table),
        entries=entries,
        digest=table_digest(table, place.nonce),
        piece=heads is not None,
    )
    padded = table.ljust(shape.payload_at - shape.table_at, b"\0")
    encode = encoder.encode
    buffers: list[list[Buffer]] = []
    for slot, (part, found) in enumerate(zip(stored, sums, strict=True)):
        length = len(part)
        head: Buffer = encode(slot, length, found)
        if heads is not None:
            page = heads[slot]
            page[: len(head)], page[len(head) :] = head, padded
            buffers.append([page, part] if length else [page])
        else:
            buffers.append([head, padded, part] if length else [head, padded])
    return Stripe(buffers, shape)

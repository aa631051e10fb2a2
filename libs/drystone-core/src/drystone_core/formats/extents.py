# SPDX-License-Identifier: Apache-2.0
"""BlobRefs as bytes: on every PUT and GET, so one fixed struct for the common blob and no loops over bits.

Format    docs/formats/extents.md (v1). First byte of a blob = kind:
  1 inline, one packed extent (46 bytes)   2 inline, a list of extents   3 manifest, 4 shared (reserved)
Records and strides are stored in units of RECORD_ALIGN. A reader refuses kinds it does not know.
"""

import struct
from collections.abc import Sequence

from drystone_core.errors import Damaged
from drystone_core.extents import RECORD_ALIGN, BlobRef, Extent, PackedExtent, StripedExtent
from drystone_core.ids import BlobId, VolumeId
from drystone_core.ports import Buffer

KIND_PACKED = 1
KIND_LIST = 2
KIND_MANIFEST = 3
KIND_SHARED = 4
EXTENT_PACKED = 1
EXTENT_STRIPED = 2

_ONE = struct.Struct("<B16sQIIBIII")
_LIST = struct.Struct("<B16sQI")
_PACKED = struct.Struct("<BQIIBIII")
_STRIPED = struct.Struct("<BQIIIIII")
_COUNT = struct.Struct("<I")
_pack_one = _ONE.pack
_unpack_one = _ONE.unpack_from
_ONE_SIZE = _ONE.size


def encode_blob(ref: BlobRef) -> bytes:
    """One blob."""
    extents = ref.extents
    if len(extents) == 1:
        only = extents[0]
        if type(only) is PackedExtent and only.length == ref.length:
            return _pack_one(
                KIND_PACKED, ref.blob_id, only.volume, only.record // RECORD_ALIGN, only.payload_at, only.fragment,
                only.position, only.length, only.crc,
            )  # fmt: skip
    parts = [_LIST.pack(KIND_LIST, ref.blob_id, ref.length, len(extents))]
    parts.extend(encode_extent(extent) for extent in extents)
    return b"".join(parts)


def decode_blob(data: Buffer, at: int = 0) -> tuple[BlobRef, int]:
    """The blob at `at` and where the next thing begins; Damaged when it cannot be understood."""
    try:
        kind = data[at]
        if kind == KIND_PACKED:
            _, blob_id, volume, record, payload_at, fragment, position, length, crc = _unpack_one(data, at)
            extent = PackedExtent(volume, record * RECORD_ALIGN, payload_at, fragment, position, length, crc)
            return BlobRef(blob_id, length, (extent,)), at + _ONE_SIZE
        if kind != KIND_LIST:
            raise Damaged(f"blob reference of unknown kind {kind}")
        _, blob_id, length, count = _LIST.unpack_from(data, at)
        at += _LIST.size
        extents: list[Extent] = []
        for _ in range(count):
            found, at = decode_extent(data, at)
            extents.append(found)
    except (struct.error, IndexError) as exc:
        raise Damaged("blob reference: short") from exc
    return BlobRef(BlobId(blob_id), length, tuple(extents)), at


def encode_blobs(refs: Sequence[BlobRef]) -> bytes:
    """A counted list of blobs."""
    if len(refs) == 1:
        return b"\x01\0\0\0" + encode_blob(refs[0])
    return b"".join((_COUNT.pack(len(refs)), *map(encode_blob, refs)))


def decode_blobs(data: Buffer, at: int = 0) -> tuple[tuple[BlobRef, ...], int]:
    """The counted list at `at` and where the next thing begins."""
    try:
        (count,) = _COUNT.unpack_from(data, at)
    except struct.error as exc:
        raise Damaged("blob references: short") from exc
    at += 4
    if count == 1:
        ref, at = decode_blob(data, at)
        return (ref,), at
    refs = []
    for _ in range(count):
        ref, at = decode_blob(data, at)
        refs.append(ref)
    return tuple(refs), at


def encode_extent(extent: Extent) -> bytes:
    """One extent with its kind byte."""
    if isinstance(extent, PackedExtent):
        return _PACKED.pack(
            EXTENT_PACKED, extent.volume, extent.record // RECORD_ALIGN, extent.payload_at, extent.fragment,
            extent.position, extent.length, extent.crc,
        )  # fmt: skip
    return _STRIPED.pack(
        EXTENT_STRIPED, extent.volume, extent.record // RECORD_ALIGN, extent.stride // RECORD_ALIGN, extent.count,
        extent.payload_at, extent.fragment_length, extent.piece,
    )  # fmt: skip


def decode_extent(data: Buffer, at: int) -> tuple[Extent, int]:
    """The extent at `at` and where the next thing begins."""
    kind = data[at]
    if kind == EXTENT_STRIPED:
        _, volume, record, stride, count, payload_at, fragment_length, piece = _STRIPED.unpack_from(data, at)
        striped = StripedExtent(
            VolumeId(volume), record * RECORD_ALIGN, stride * RECORD_ALIGN, count, payload_at, fragment_length, piece
        )
        return striped, at + _STRIPED.size
    if kind == EXTENT_PACKED:
        _, volume, record, payload_at, fragment, position, length, crc = _PACKED.unpack_from(data, at)
        packed = PackedExtent(VolumeId(volume), record * RECORD_ALIGN, payload_at, fragment, position, length, crc)
        return packed, at + _PACKED.size
    raise Damaged(f"extent of unknown kind {kind}")

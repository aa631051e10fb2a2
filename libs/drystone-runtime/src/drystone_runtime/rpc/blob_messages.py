# SPDX-License-Identifier: Apache-2.0
"""Blobs and extents to and from messages."""

from collections.abc import Iterable

from drystone.common.v1 import blobs_pb2
from drystone_core.errors import ErrorCode, Refused
from drystone_core.extents import BlobRef, Extent, PackedExtent, StripedExtent
from drystone_core.ids import BlobId, BucketId, Key, Uid, VolumeId
from drystone_core.services import BlobName


def blob_message(blob: BlobRef) -> blobs_pb2.BlobRef:
    """To the wire."""
    return blobs_pb2.BlobRef(
        blob_id=blob.blob_id, length=blob.length, extents=[_extent_message(extent) for extent in blob.extents]
    )


def blob_messages(blobs: Iterable[BlobRef]) -> list[blobs_pb2.BlobRef]:
    """To the wire, in order."""
    return [blob_message(blob) for blob in blobs]


def blob_value(message: blobs_pb2.BlobRef) -> BlobRef:
    """From the wire."""
    return BlobRef(BlobId(message.blob_id), message.length, tuple(_extent_value(extent) for extent in message.extents))


def blob_values(messages: Iterable[blobs_pb2.BlobRef]) -> tuple[BlobRef, ...]:
    """From the wire, in order."""
    return tuple(blob_value(message) for message in messages)


def name_message(name: BlobName) -> blobs_pb2.BlobName:
    """To the wire."""
    return blobs_pb2.BlobName(
        blob_id=name.blob_id, bucket_id=name.bucket_id, key=name.key, uid=name.uid, part=name.part, offset=name.offset
    )


def name_value(message: blobs_pb2.BlobName) -> BlobName:
    """From the wire."""
    return BlobName(
        BlobId(message.blob_id),
        BucketId(message.bucket_id),
        Key(message.key),
        Uid(message.uid),
        message.part,
        message.offset,
    )


def striped_message(extent: StripedExtent) -> blobs_pb2.StripedExtent:
    """To the wire."""
    return blobs_pb2.StripedExtent(
        volume=extent.volume,
        record=extent.record,
        stride=extent.stride,
        count=extent.count,
        payload_at=extent.payload_at,
        fragment_length=extent.fragment_length,
        piece=extent.piece,
    )


def striped_value(s: blobs_pb2.StripedExtent) -> StripedExtent:
    """From the wire."""
    return StripedExtent(VolumeId(s.volume), s.record, s.stride, s.count, s.payload_at, s.fragment_length, s.piece)


def _extent_message(extent: Extent) -> blobs_pb2.Extent:
    if isinstance(extent, PackedExtent):
        packed = blobs_pb2.PackedExtent(
            volume=extent.volume,
            record=extent.record,
            payload_at=extent.payload_at,
            fragment=extent.fragment,
            position=extent.position,
            length=extent.length,
            crc=extent.crc,
        )
        return blobs_pb2.Extent(packed=packed)
    return blobs_pb2.Extent(striped=striped_message(extent))


def _extent_value(message: blobs_pb2.Extent) -> Extent:
    form = message.WhichOneof("form")
    if form == "packed":
        e = message.packed
        return PackedExtent(VolumeId(e.volume), e.record, e.payload_at, e.fragment, e.position, e.length, e.crc)
    if form == "striped":
        return striped_value(message.striped)
    raise Refused(ErrorCode.INVALID_ARGUMENT, "an extent has a form of a newer release")

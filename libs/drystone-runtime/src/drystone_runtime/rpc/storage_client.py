# SPDX-License-Identifier: Apache-2.0
"""A storage node over gRPC: small appends travel together in bulk calls, reads stream."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import grpc

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_core.cell import DiskStatus, NodeStatus
from drystone_core.extents import BlobRef, StripedExtent
from drystone_core.ids import BlobId, DiskId, VolumeId
from drystone_core.ports import Buffer
from drystone_core.services import BlobHeader, ReadChunk, SmallBlob
from drystone_runtime.background import Background
from drystone_runtime.rpc.blob_messages import blob_messages, blob_value, striped_value
from drystone_runtime.rpc.bulk import Bulk, BulkMethods
from drystone_runtime.rpc.channel import stream, unary_again
from drystone_runtime.rpc.coalesce import Coalescer
from drystone_runtime.rpc.retry import Retries
from drystone_runtime.rpc.status import from_detail

SHORT_BYTES = 256 * 1024
"""Bytes of a short range at most."""
SHORT_RANGES = 64
"""In one call."""
BULK = BulkMethods(
    pb.DESCRIPTOR.services_by_name["StorageService"], requests={"AppendPiece": "payload"}, answers={"Read": "bytes"}
)
"""Of the StorageService."""
_KINDS = (pb.BLOB_KIND_DATA, pb.BLOB_KIND_MANIFEST, pb.BLOB_KIND_NAME, pb.BLOB_KIND_CHECKPOINT)
_STATES: Mapping[int, str] = MappingProxyType(
    {
        pb.DISK_STATE_UNSPECIFIED: "unknown",
        pb.DISK_STATE_HEALTHY: "healthy",
        pb.DISK_STATE_SUSPECT: "suspect",
        pb.DISK_STATE_FAILED: "failed",
    }
)


class RpcStorage:
    """Appends, reads and status of a storage node somewhere else."""

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        background: Background,
        timeout: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        """`timeout`: seconds a call (a whole read) may take. With `retries` an append is repeated: what it may have left
        behind the first time is never named, and swept; a read is not, because bytes of it may have gone on already."""
        self._stub = BULK.at_client(storage_pb2_grpc.StorageServiceStub(channel), channel)
        self._timeout = timeout
        self._shorts: Coalescer[pb.ShortRange, bytes] = Coalescer(
            send=self._read_all, background=background, batch=SHORT_RANGES, flights=1
        )
        self._retries = retries
        self._appends: Coalescer[SmallBlob, BlobRef] = Coalescer(
            send=self._append_all, background=background, batch=128
        )

    def append(self, blob: SmallBlob) -> "asyncio.Future[BlobRef]":
        """Durable on all slots when done."""
        return self._appends.submit(blob)

    async def append_piece(
        self,
        header: BlobHeader,
        *,
        blob_id: BlobId,
        piece_offset: int,
        payload: Buffer,
        trailer: bytes = b"",
        last: bool = False,
    ) -> StripedExtent:
        """One piece of a large blob (at most 8 MiB), one stripe, durable on all slots."""
        request = pb.AppendPieceRequest(
            bucket_id=header.bucket_id,
            key=header.key,
            uid=header.uid,
            part=header.part,
            offset=header.offset,
            kind=_KINDS[header.kind],
            blob_id=blob_id,
            piece_offset=piece_offset,
            trailer=trailer,
            last=last,
            disk_class=header.disk_class,
        )
        answer: pb.AppendPieceResponse = await self._call(self._stub.AppendPiece, Bulk(request, (payload,)))
        return striped_value(answer.extent)

    def read_short(self, blobs: Sequence[BlobRef], start: int, length: int) -> "asyncio.Future[bytes]":
        """Verified bytes of a range of at most SHORT_BYTES; concurrent calls travel together."""
        return self._shorts.submit(pb.ShortRange(blobs=blob_messages(blobs), start=start, length=length))

    async def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Verified bytes in order."""
        request = pb.ReadRequest(blobs=blob_messages(blobs), start=start, length=length)
        async for answer in stream(self._stub.Read, request, timeout=self._timeout):
            yield ReadChunk(memoryview(answer.payload[0]), _nothing)

    async def locate(self, volumes: Sequence[VolumeId]) -> list[tuple[DiskId | None, ...]]:
        """On which disks the volumes lie, as that node knows it."""
        answer: pb.LocateVolumesResponse = await self._call(
            self._stub.LocateVolumes, pb.LocateVolumesRequest(volumes=volumes)
        )
        return [tuple(DiskId(disk) if disk else None for disk in place.disks) for place in answer.places]

    async def status(self) -> NodeStatus:
        """Disks and volumes."""
        answer: pb.GetStatusResponse = await self._call(self._stub.GetStatus, pb.GetStatusRequest())
        disks = tuple(
            DiskStatus(
                disk_id=disk.disk_id,
                path=disk.label,
                state=_STATES[disk.state],
                total_bytes=disk.total_bytes,
                free_bytes=disk.free_bytes,
                disk_class=disk.disk_class,
            )
            for disk in answer.disks
        )
        return NodeStatus(
            profile=answer.profile,
            disks=disks,
            open_volumes=answer.open_volumes,
            closed_volumes=answer.closed_volumes,
            degraded_volumes=answer.degraded_volumes,
        )

    async def _read_all(self, batch: Sequence[pb.ShortRange]) -> list[bytes | BaseException]:
        answer: pb.ReadShortResponse = await self._call(self._stub.ReadShort, pb.ReadShortRequest(ranges=batch))
        return [
            result.bytes if result.WhichOneof("outcome") == "bytes" else from_detail(result.error)
            for result in answer.results
        ]

    async def _call(self, method: Any, request: Any) -> Any:
        return await unary_again(method, request, timeout=self._timeout, retries=self._retries)

    async def _append_all(self, batch: Sequence[SmallBlob]) -> list[BlobRef | BaseException]:
        items = [
            pb.AppendItem(
                bucket_id=blob.header.bucket_id,
                key=blob.header.key,
                uid=blob.header.uid,
                part=blob.header.part,
                offset=blob.header.offset,
                kind=_KINDS[blob.header.kind],
                payload=bytes(blob.payload),
                trailer=blob.trailer,
                disk_class=blob.header.disk_class,
            )
            for blob in batch
        ]
        answer: pb.AppendResponse = await self._call(self._stub.Append, pb.AppendRequest(items=items))
        return [
            blob_value(result.blob) if result.HasField("blob") else from_detail(result.error)
            for result in answer.results
        ]


def _nothing() -> None:
    """Bytes of a message need no giving back."""

# SPDX-License-Identifier: Apache-2.0
"""Serves a StorageService over gRPC. Items of a bulk append start together, so they share a stripe and its flush."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import grpc

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_core.cell import NodeStatus
from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.extents import PACK_LIMIT, PIECE_LIMIT, BlobRef
from drystone_core.ids import BlobId, BucketId, Key, Uid, VolumeId
from drystone_core.services import BlobHeader, SmallBlob, StorageNodeService
from drystone_runtime.rpc.blob_messages import blob_message, blob_values, striped_message
from drystone_runtime.rpc.bulk import Bulk
from drystone_runtime.rpc.server import RpcService
from drystone_runtime.rpc.status import to_detail
from drystone_runtime.rpc.storage_client import BULK, SHORT_BYTES, SHORT_RANGES

SERVICE = "drystone.storage.v1.StorageService"
VOLUMES = 256
ITEMS = 1024
_KINDS: Mapping[int, int] = MappingProxyType(
    {
        pb.BLOB_KIND_DATA: 0,
        pb.BLOB_KIND_MANIFEST: 1,
        pb.BLOB_KIND_NAME: 2,
        pb.BLOB_KIND_CHECKPOINT: 3,
    }
)
_STATES: Mapping[str, pb.DiskState] = MappingProxyType(
    {
        "healthy": pb.DISK_STATE_HEALTHY,
        "suspect": pb.DISK_STATE_SUSPECT,
        "failed": pb.DISK_STATE_FAILED,
    }
)


def storage_service(storage: StorageNodeService, status: Callable[[], Awaitable[NodeStatus]]) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(storage, status)
    return RpcService(
        name=SERVICE,
        register=lambda server: storage_pb2_grpc.add_StorageServiceServicer_to_server(servicer, BULK.at_server(server)),
    )


class _Servicer(storage_pb2_grpc.StorageServiceServicer):
    def __init__(self, storage: StorageNodeService, status: Callable[[], Awaitable[NodeStatus]]) -> None:
        self._storage = storage
        self._status = status

    async def Append(self, request: pb.AppendRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.AppendResponse:
        if len(request.items) > ITEMS:
            raise Refused(ErrorCode.INVALID_ARGUMENT, f"{len(request.items)} items in one call; at most {ITEMS}")
        settled = await asyncio.gather(*(self._append(item) for item in request.items), return_exceptions=True)
        results = []
        for result in settled:
            if isinstance(result, DrystoneError):
                results.append(pb.AppendResult(error=to_detail(result)))
            elif isinstance(result, BaseException):
                raise result
            else:
                results.append(pb.AppendResult(blob=blob_message(result)))
        return pb.AppendResponse(results=results)

    async def _append(self, item: pb.AppendItem) -> BlobRef:
        """One item: its refusal is its own."""
        return await self._storage.append(_blob(item))

    async def AppendPiece(
        self, asked: Bulk[pb.AppendPieceRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AppendPieceResponse:
        request, (payload,) = asked
        if len(payload) > PIECE_LIMIT:
            raise Refused(ErrorCode.ENTITY_TOO_LARGE, f"a piece has at most {PIECE_LIMIT} bytes")
        extent = await self._storage.append_piece(
            _header(request),
            blob_id=BlobId(request.blob_id),
            piece_offset=request.piece_offset,
            payload=payload,
            trailer=request.trailer,
            last=request.last,
        )
        return pb.AppendPieceResponse(extent=striped_message(extent))

    async def ReadShort(
        self, request: pb.ReadShortRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReadShortResponse:
        if len(request.ranges) > SHORT_RANGES or any(one.length > SHORT_BYTES for one in request.ranges):
            raise Refused(
                ErrorCode.INVALID_ARGUMENT, f"at most {SHORT_RANGES} ranges of {SHORT_BYTES} bytes are read at once"
            )
        if len(request.ranges) == 1:
            return pb.ReadShortResponse(results=[await self._short(request.ranges[0])])
        return pb.ReadShortResponse(results=await asyncio.gather(*(self._short(one) for one in request.ranges)))

    async def _short(self, one: pb.ShortRange) -> pb.ShortResult:
        """One range: its refusal is its own."""
        blobs = blob_values(one.blobs)
        now = self._storage.read_now(blobs, one.start, one.length)
        if now is not None:
            return pb.ShortResult(bytes=bytes(now))
        found = bytearray()
        try:
            async for chunk in self._storage.read(blobs, one.start, one.length):
                found += chunk.data
                chunk.release()
        except DrystoneError as error:
            return pb.ShortResult(error=to_detail(error))
        return pb.ShortResult(bytes=bytes(found))

    async def Read(
        self, request: pb.ReadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Bulk[pb.ReadResponse]]:
        async for chunk in self._storage.read(blob_values(request.blobs), request.start, request.length):
            try:
                yield Bulk(pb.ReadResponse(), (chunk.data,))
            finally:
                chunk.release()

    async def LocateVolumes(
        self, request: pb.LocateVolumesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.LocateVolumesResponse:
        if len(request.volumes) > VOLUMES:
            raise Refused(ErrorCode.INVALID_ARGUMENT, f"at most {VOLUMES} volumes are located at once")
        found = await self._storage.locate([VolumeId(volume) for volume in request.volumes])
        return pb.LocateVolumesResponse(places=[pb.VolumePlace(disks=[disk or "" for disk in one]) for one in found])

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        status = await self._status()
        disks = [
            pb.DiskStatus(
                disk_id=disk.disk_id,
                label=disk.path,
                state=_STATES.get(disk.state, pb.DISK_STATE_UNSPECIFIED),
                total_bytes=disk.total_bytes,
                free_bytes=disk.free_bytes,
                disk_class=disk.disk_class,
            )
            for disk in status.disks
        ]
        return pb.GetStatusResponse(
            disks=disks,
            open_volumes=status.open_volumes,
            closed_volumes=status.closed_volumes,
            degraded_volumes=status.degraded_volumes,
            profile=status.profile,
        )


def _blob(item: pb.AppendItem) -> SmallBlob:
    if len(item.payload) > PACK_LIMIT:
        raise Refused(ErrorCode.ENTITY_TOO_LARGE, f"at most {PACK_LIMIT} bytes are appended in one message")
    return SmallBlob(header=_header(item), payload=item.payload, trailer=item.trailer)


def _header(item: pb.AppendItem | pb.AppendPieceRequest) -> BlobHeader:
    kind = _KINDS.get(item.kind)
    if kind is None:
        raise Refused(ErrorCode.INVALID_ARGUMENT, "an append names no kind of blob")
    return BlobHeader(
        bucket_id=BucketId(item.bucket_id),
        key=Key(item.key),
        uid=Uid(item.uid),
        part=item.part,
        offset=item.offset,
        kind=kind,
        disk_class=item.disk_class,
    )

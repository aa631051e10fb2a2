# SPDX-License-Identifier: Apache-2.0
"""Serves RepairNode, ScrubNode and ReclaimNode over gRPC, for the keepers in another process."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from drystone.storage.v1 import upkeep_pb2 as pb
from drystone.storage.v1 import upkeep_pb2_grpc
from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import VolumeId
from drystone_core.upkeep import ReclaimNode, RepairNode, ScrubNode, StripeNames
from drystone_runtime.rpc.blob_messages import name_message
from drystone_runtime.rpc.server import RpcService
from drystone_runtime.rpc.upkeep_client import wound_message, wound_value

SERVICE = "drystone.storage.v1.UpkeepService"
NAMES = 8192
"""Names in one message, about."""


def upkeep_service(repair: RepairNode, reclaim: ReclaimNode, scrub: ScrubNode) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(repair, reclaim, scrub)
    return RpcService(
        name=SERVICE, register=lambda server: upkeep_pb2_grpc.add_UpkeepServiceServicer_to_server(servicer, server)
    )


class _Servicer(upkeep_pb2_grpc.UpkeepServiceServicer):
    def __init__(self, repair: RepairNode, reclaim: ReclaimNode, scrub: ScrubNode) -> None:
        self._repair, self._reclaim, self._scrub = repair, reclaim, scrub

    async def ListWounds(
        self, request: pb.ListWoundsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListWoundsResponse:
        return pb.ListWoundsResponse(wounds=[wound_message(wound) for wound in await self._repair.wounds()])

    async def Heal(self, request: pb.HealRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.HealResponse:
        if not request.bytes_per_second:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "healing needs a rate above 0 bytes a second")
        written = await self._repair.heal(wound_value(request.wound), bytes_per_second=request.bytes_per_second)
        return pb.HealResponse(bytes_written=written)

    async def ListVolumesToScrub(
        self, request: pb.ListVolumesToScrubRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListVolumesToScrubResponse:
        return pb.ListVolumesToScrubResponse(volumes=await self._scrub.closed_volumes_to_scrub())

    async def Scrub(self, request: pb.ScrubRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.ScrubResponse:
        if not request.bytes_per_second:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "scrubbing needs a rate above 0 bytes a second")
        found = await self._scrub.scrub(VolumeId(request.volume), bytes_per_second=request.bytes_per_second)
        return pb.ScrubResponse(
            bytes_read=found.bytes_read,
            fragments=found.fragments,
            slots_damaged=found.slots_damaged,
            slots_unread=found.slots_unread,
            stripes_incomplete=found.stripes_incomplete,
        )

    async def ListClosedVolumes(
        self, request: pb.ListClosedVolumesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListClosedVolumesResponse:
        return pb.ListClosedVolumesResponse(volumes=await self._reclaim.closed_volumes())

    async def GetVolumeNames(
        self, request: pb.GetVolumeNamesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GetVolumeNamesResponse]:
        found = await self._reclaim.volume_names(VolumeId(request.volume))
        gathered: list[pb.StripeNames] = []
        names = 0
        for stripe in found.stripes:
            gathered.append(_stripe_message(stripe))
            names += len(stripe.names)
            if names >= NAMES:
                yield pb.GetVolumeNamesResponse(stripes=gathered)
                gathered, names = [], 0
        yield pb.GetVolumeNamesResponse(stripes=gathered, complete=found.complete)

    async def FreeStripes(
        self, request: pb.FreeStripesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.FreeStripesResponse:
        freed = await self._reclaim.free_stripes(VolumeId(request.volume), list(request.records))
        return pb.FreeStripesResponse(bytes_freed=freed)

    async def RetireVolume(
        self, request: pb.RetireVolumeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetireVolumeResponse:
        return pb.RetireVolumeResponse(bytes_freed=await self._reclaim.retire(VolumeId(request.volume)))


def _stripe_message(stripe: StripeNames) -> pb.StripeNames:
    return pb.StripeNames(
        record=stripe.record,
        stored=stripe.stored,
        names=[name_message(name) for name in stripe.names],
        droppable=stripe.droppable,
        freed=stripe.freed,
    )

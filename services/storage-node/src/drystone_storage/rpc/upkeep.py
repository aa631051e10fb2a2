# SPDX-License-Identifier: Apache-2.0
"""Serves RepairNode, ScrubNode and ReclaimNode over gRPC, for the keepers in another process."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import grpc

from drystone.storage.v1 import upkeep_pb2 as pb
from drystone.storage.v1 import upkeep_pb2_grpc
from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.formats.coordination import LIFECYCLE, REPLICATION
from drystone_core.ids import VolumeId
from drystone_core.upkeep import ReclaimNode, RepairNode, ScrubNode, StripeNames
from drystone_datapath.faults import DamagedFragment
from drystone_runtime.rpc.blob_messages import name_message
from drystone_runtime.rpc.server import RpcService
from drystone_runtime.rpc.upkeep_client import wound_message, wound_value

SERVICE = "drystone.storage.v1.UpkeepService"
NAMES = 8192
"""Names in one message, about."""
T = TypeVar("T")
Look = Callable[[VolumeId, Sequence[int]], Awaitable[object]]
"""Take in what the disks say of a volume; the slots that were healed."""


class OrderFence(Protocol):
    """Lets only the leader's orders through."""

    async def carry_out(self, election: str, token: int, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives; Stale (FENCED) for a leader that was superseded, also when that happens under way."""
        ...


def upkeep_service(
    repair: RepairNode,
    reclaim: ReclaimNode,
    scrub: ScrubNode,
    *,
    look: Look | None = None,
    fence: OrderFence | None = None,
) -> RpcService:
    """What an RpcServer registers. `look`, `fence`: of a node among others; one by itself takes every order."""
    servicer = _Servicer(repair, reclaim, scrub, look, fence)
    return RpcService(
        name=SERVICE, register=lambda server: upkeep_pb2_grpc.add_UpkeepServiceServicer_to_server(servicer, server)
    )


class _Servicer(upkeep_pb2_grpc.UpkeepServiceServicer):
    def __init__(
        self,
        repair: RepairNode,
        reclaim: ReclaimNode,
        scrub: ScrubNode,
        look: Look | None,
        fence: OrderFence | None,
    ) -> None:
        self._repair, self._reclaim, self._scrub = repair, reclaim, scrub
        self._look, self._fence = look, fence

    async def ListWounds(
        self, request: pb.ListWoundsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListWoundsResponse:
        wounds = await self._repair.wounds()
        return pb.ListWoundsResponse(wounds=map(wound_message, wounds), waiting=wounds.waiting)

    async def Heal(self, request: pb.HealRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.HealResponse:
        if not request.bytes_per_second:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "healing needs a rate above 0 bytes a second")
        wound, rate = wound_value(request.wound), request.bytes_per_second
        written = await self._ordered(
            REPLICATION, request.token, lambda: _or_unavailable(self._repair.heal(wound, bytes_per_second=rate))
        )
        return pb.HealResponse(bytes_written=written)

    async def ListVolumesToScrub(
        self, request: pb.ListVolumesToScrubRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListVolumesToScrubResponse:
        return pb.ListVolumesToScrubResponse(volumes=await self._scrub.closed_volumes_to_scrub())

    async def Scrub(self, request: pb.ScrubRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.ScrubResponse:
        if not request.bytes_per_second:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "scrubbing needs a rate above 0 bytes a second")
        volume, rate = VolumeId(request.volume), request.bytes_per_second
        found = await self._ordered(
            REPLICATION, request.token, lambda: _or_unavailable(self._scrub.scrub(volume, bytes_per_second=rate))
        )
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
        volume, records = VolumeId(request.volume), list(request.records)
        freed = await self._ordered(
            LIFECYCLE, request.token, lambda: _or_unavailable(self._reclaim.free_stripes(volume, records))
        )
        return pb.FreeStripesResponse(bytes_freed=freed)

    async def RetireVolume(
        self, request: pb.RetireVolumeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetireVolumeResponse:
        volume = VolumeId(request.volume)
        freed = await self._ordered(LIFECYCLE, request.token, lambda: _or_unavailable(self._reclaim.retire(volume)))
        return pb.RetireVolumeResponse(bytes_freed=freed)

    async def LookAgain(
        self, request: pb.LookAgainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.LookAgainResponse:
        if self._look is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "this node has its volumes for itself")
        await self._look(VolumeId(request.volume), list(request.healed))
        return pb.LookAgainResponse()

    async def _ordered(self, election: str, token: int, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._fence is None:
            return await work()
        return await self._fence.carry_out(election, token, work)


async def _or_unavailable(work: Awaitable[T]) -> T:
    """A disk that fails under an order is no bug of ours: whoever ordered it tries again later, or elsewhere."""
    try:
        return await work
    except (OSError, DamagedFragment) as error:
        raise Unavailable(f"the order failed: {error}") from error


def _stripe_message(stripe: StripeNames) -> pb.StripeNames:
    return pb.StripeNames(
        record=stripe.record,
        stored=stripe.stored,
        names=[name_message(name) for name in stripe.names],
        droppable=stripe.droppable,
        freed=stripe.freed,
    )

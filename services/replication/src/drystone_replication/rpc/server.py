# SPDX-License-Identifier: Apache-2.0
"""Serves the replication service over gRPC."""

from typing import Any, Protocol

import grpc

from drystone.replication.v1 import replication_pb2 as pb
from drystone.replication.v1 import replication_pb2_grpc
from drystone_core.cell import RepairStatus, ScrubPassStatus
from drystone_runtime.rpc.scrub_messages import scrub_pass_message
from drystone_runtime.rpc.server import RpcService

SERVICE = "drystone.replication.v1.ReplicationService"


class RepairView(Protocol):
    """What is told of repair; a Repairer is one."""

    def status(self) -> RepairStatus: ...


class ScrubControl(Protocol):
    """What is told of scrubbing, and asked of it; a Scrubber is one."""

    def status(self) -> ScrubPassStatus: ...

    async def start_pass(self, *, anew: bool = False) -> bool:
        """False: one is under way and goes on."""
        ...


def replication_service(repair: RepairView, scrub: ScrubControl) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(repair, scrub)
    return RpcService(
        name=SERVICE,
        register=lambda server: replication_pb2_grpc.add_ReplicationServiceServicer_to_server(servicer, server),
    )


class _Servicer(replication_pb2_grpc.ReplicationServiceServicer):
    def __init__(self, repair: RepairView, scrub: ScrubControl) -> None:
        self._repair, self._scrub = repair, scrub

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        status = self._repair.status()
        return pb.GetStatusResponse(
            running=status.running,
            slots_pending=status.slots_pending,
            slots_repaired=status.slots_repaired,
            bytes_repaired=status.bytes_repaired,
            failures=status.failures,
            bytes_pending=status.bytes_pending,
            volumes_endangered=status.endangered,
            slots_hopeless=status.hopeless,
            slots_waiting=status.waiting,
            nodes_unasked=status.unasked,
            seconds_left=status.seconds_left,
            scrub_pass=scrub_pass_message(self._scrub.status()),
        )

    async def StartScrub(
        self, request: pb.StartScrubRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.StartScrubResponse:
        return pb.StartScrubResponse(began=await self._scrub.start_pass(anew=request.anew))

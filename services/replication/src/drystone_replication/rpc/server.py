# SPDX-License-Identifier: Apache-2.0
"""Serves the replication service's status over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc

from drystone.replication.v1 import replication_pb2 as pb
from drystone.replication.v1 import replication_pb2_grpc
from drystone_core.cell import RepairStatus
from drystone_runtime.rpc.server import RpcService

SERVICE = "drystone.replication.v1.ReplicationService"


def replication_service(status: Callable[[], RepairStatus]) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(status)
    return RpcService(
        name=SERVICE,
        register=lambda server: replication_pb2_grpc.add_ReplicationServiceServicer_to_server(servicer, server),
    )


class _Servicer(replication_pb2_grpc.ReplicationServiceServicer):
    def __init__(self, status: Callable[[], RepairStatus]) -> None:
        self._status = status

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        status = self._status()
        return pb.GetStatusResponse(
            running=status.running,
            slots_pending=status.slots_pending,
            slots_repaired=status.slots_repaired,
            bytes_repaired=status.bytes_repaired,
            failures=status.failures,
            bytes_pending=status.bytes_pending,
            volumes_endangered=status.endangered,
            slots_hopeless=status.hopeless,
            seconds_left=status.seconds_left,
        )

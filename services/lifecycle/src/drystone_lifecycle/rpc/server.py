# SPDX-License-Identifier: Apache-2.0
"""Serves the lifecycle service's status over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc

from drystone.lifecycle.v1 import lifecycle_pb2 as pb
from drystone.lifecycle.v1 import lifecycle_pb2_grpc
from drystone_core.cell import ReclaimStatus
from drystone_runtime.rpc.server import RpcService

SERVICE = "drystone.lifecycle.v1.LifecycleService"


def lifecycle_service(status: Callable[[], ReclaimStatus]) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(status)
    return RpcService(
        name=SERVICE,
        register=lambda server: lifecycle_pb2_grpc.add_LifecycleServiceServicer_to_server(servicer, server),
    )


class _Servicer(lifecycle_pb2_grpc.LifecycleServiceServicer):
    def __init__(self, status: Callable[[], ReclaimStatus]) -> None:
        self._status = status

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        status = self._status()
        return pb.GetStatusResponse(
            running=status.running,
            passes=status.passes,
            volumes_freed=status.volumes_freed,
            stripes_freed=status.stripes_freed,
            bytes_freed=status.bytes_freed,
            failures=status.failures,
            stripes_waiting=status.stripes_waiting,
        )

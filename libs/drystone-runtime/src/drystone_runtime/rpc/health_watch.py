# SPDX-License-Identifier: Apache-2.0
"""Readiness follows what a service needs: the other service's own health is watched, for as long as we run."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drystone_core.ports import Clock
from drystone_runtime.rpc.cancellation import raise_if_cancelled
from drystone_runtime.rpc.health import Dependency

AGAIN_SECONDS = 0.5
"""Between the end of one watch and the next."""
WATCH_SECONDS = 300.0
"""A watch is begun anew after so long, on the connection that is in use then: none holds an old one open for ever."""
_SERVING = health_pb2.HealthCheckResponse.SERVING


async def follow(channel: grpc.aio.Channel, dependency: Dependency, *, clock: Clock, service: str = "") -> None:
    """Keep `dependency` as ready as `service` at the other end says it is; never returns.

    A dead connection is found by keepalive; a closing server ends the watch.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    while True:
        reason = "its health is not served any more"
        try:
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=WATCH_SECONDS):
                dependency.set("" if answer.status == _SERVING else "it says that it is not ready")
        except grpc.aio.AioRpcError as error:
            raise_if_cancelled()
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not dependency.reason:
                continue
            reason = error.details() or error.code().name
        dependency.down(reason)
        await clock.sleep(AGAIN_SECONDS)

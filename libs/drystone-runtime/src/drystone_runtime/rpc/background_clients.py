# SPDX-License-Identifier: Apache-2.0
"""What the background services say of themselves, over gRPC."""

import grpc

from drystone.lifecycle.v1 import lifecycle_pb2, lifecycle_pb2_grpc
from drystone.replication.v1 import replication_pb2, replication_pb2_grpc
from drystone_core.cell import ReclaimStatus, RepairStatus, ScrubPassStatus
from drystone_runtime.rpc.channel import unary
from drystone_runtime.rpc.scrub_messages import scrub_pass_value


async def reclaim_status(channel: grpc.aio.Channel, *, timeout: float) -> ReclaimStatus:
    """The lifecycle service's; Unavailable when it does not answer within `timeout` seconds."""
    stub = lifecycle_pb2_grpc.LifecycleServiceStub(channel)
    said: lifecycle_pb2.GetStatusResponse = await unary(
        stub.GetStatus, lifecycle_pb2.GetStatusRequest(), timeout=timeout
    )
    return ReclaimStatus(
        running=said.running,
        passes=said.passes,
        volumes_freed=said.volumes_freed,
        stripes_freed=said.stripes_freed,
        stripes_waiting=said.stripes_waiting,
        bytes_freed=said.bytes_freed,
        failures=said.failures,
    )


async def replication_status(channel: grpc.aio.Channel, *, timeout: float) -> tuple[RepairStatus, ScrubPassStatus]:
    """The replication service's; Unavailable when it does not answer within `timeout` seconds."""
    stub = replication_pb2_grpc.ReplicationServiceStub(channel)
    said: replication_pb2.GetStatusResponse = await unary(
        stub.GetStatus, replication_pb2.GetStatusRequest(), timeout=timeout
    )
    repair = RepairStatus(
        running=said.running,
        slots_pending=said.slots_pending,
        slots_repaired=said.slots_repaired,
        bytes_pending=said.bytes_pending,
        bytes_repaired=said.bytes_repaired,
        failures=said.failures,
        endangered=said.volumes_endangered,
        hopeless=said.slots_hopeless,
        waiting=said.slots_waiting,
        unasked=tuple(said.nodes_unasked),
        seconds_left=said.seconds_left,
    )
    return repair, scrub_pass_value(said.scrub_pass)


async def start_scrub(channel: grpc.aio.Channel, *, anew: bool, timeout: float) -> bool:
    """Have a pass begun; False = one goes on. Unavailable when the service does not answer within `timeout` seconds."""
    stub = replication_pb2_grpc.ReplicationServiceStub(channel)
    said: replication_pb2.StartScrubResponse = await unary(
        stub.StartScrub, replication_pb2.StartScrubRequest(anew=anew), timeout=timeout
    )
    return said.began

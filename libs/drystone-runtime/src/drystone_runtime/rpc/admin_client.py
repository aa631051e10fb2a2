# SPDX-License-Identifier: Apache-2.0
"""The operator's view over gRPC, for the command line: blocking calls, values in and out."""

from typing import Any

import grpc

from drystone.admin.v1 import admin_pb2 as pb
from drystone.admin.v1 import admin_pb2_grpc
from drystone.common.v1 import errors_pb2
from drystone_core.cell import (
    CellStatus,
    DiskStatus,
    FragmentReport,
    MemberStatus,
    NodeStatus,
    ObjectReport,
    ProcessStatus,
    ReclaimStatus,
    RepairStatus,
    StripeReport,
)
from drystone_core.errors import DrystoneError, Unavailable
from drystone_runtime.rpc.status import DETAIL_KEY, from_detail


class AdminClient:
    """Talks to an admin socket."""

    def __init__(self, target: str, *, timeout: float = 30.0) -> None:
        """`target` is `unix:/path` or HOST:PORT."""
        options = [("grpc.default_authority", "localhost")]
        self._stub = admin_pb2_grpc.AdminServiceStub(grpc.insecure_channel(target, options=options))
        self._timeout = timeout

    def status(self) -> CellStatus:
        """One screen; Unavailable when nobody answers."""
        try:
            said: pb.GetStatusResponse = self._stub.GetStatus(pb.GetStatusRequest(), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return _status(said)

    def inspect_object(self, bucket: str, key: bytes, version_id: str) -> ObjectReport:
        """Every fragment of one object version."""
        request = pb.InspectObjectRequest(bucket=bucket, key=key, version_id=version_id)
        try:
            said: pb.InspectObjectResponse = self._stub.InspectObject(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        stripes = tuple(
            StripeReport(
                volume=stripe.volume,
                record=stripe.record,
                profile=stripe.profile,
                form=stripe.form,
                length=stripe.length,
                fragments=tuple(
                    FragmentReport(slot=part.slot, disk=part.disk, state=part.state, problem=part.problem)
                    for part in stripe.fragments
                ),
            )
            for stripe in said.stripes
        )
        return ObjectReport(version_id=said.version_id, size=said.size, etag=said.etag, stripes=stripes)


def _status(said: pb.GetStatusResponse) -> CellStatus:
    disks = tuple(
        DiskStatus(
            disk_id=disk.disk_id,
            path=disk.path,
            state=disk.state,
            total_bytes=disk.total_bytes,
            free_bytes=disk.free_bytes,
        )
        for disk in said.disks
    )
    node = NodeStatus(
        profile=said.profile,
        disks=disks,
        open_volumes=said.open_volumes,
        closed_volumes=said.closed_volumes,
        degraded_volumes=said.degraded_volumes,
    )
    background = said.background
    return CellStatus(
        version=said.version,
        cluster_id=said.cluster_id,
        endpoint=said.endpoint,
        uptime_seconds=said.uptime_seconds,
        node=node,
        metadata_writable=said.metadata_writable,
        members=tuple(MemberStatus(path=one.path, role=one.role, head=one.head) for one in said.members),
        reclaim=ReclaimStatus(bytes_freed=background.bytes_freed),
        repair=RepairStatus(
            running=background.repair_running,
            slots_pending=background.slots_pending,
            slots_repaired=background.slots_repaired,
            bytes_repaired=background.bytes_repaired,
            failures=background.repair_failures,
        ),
        processes=tuple(ProcessStatus(role=one.role, pid=one.pid, restarts=one.restarts) for one in said.processes),
    )


def _meaning(error: grpc.RpcError) -> DrystoneError:
    call: Any = error  # a failed blocking call is also a grpc.Call; the stubs cannot say so
    for key, value in call.trailing_metadata() or ():
        if key == DETAIL_KEY and isinstance(value, bytes):
            return from_detail(errors_pb2.ErrorDetail.FromString(value))
    return Unavailable(call.details() or "")

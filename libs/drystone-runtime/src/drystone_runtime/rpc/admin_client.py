# SPDX-License-Identifier: Apache-2.0
"""The operator's view over gRPC, for the command line: blocking calls, values in and out."""

from typing import Any

import grpc

from drystone.admin.v1 import admin_pb2 as pb
from drystone.admin.v1 import admin_pb2_grpc
from drystone.common.v1 import errors_pb2
from drystone_core.cell import (
    CellProcess,
    CellStatus,
    DiskStatus,
    FragmentReport,
    GatewayStatus,
    MemberStatus,
    NodeStatus,
    ObjectReport,
    ProcessStatus,
    ReclaimStatus,
    RepairStatus,
    RpcMethodStatus,
    ScrubStatus,
    StripeReport,
    TabletCounts,
)
from drystone_core.check import check
from drystone_core.errors import DrystoneError, Unavailable, Unreachable
from drystone_core.layout import LayoutChange, LayoutReport
from drystone_core.storage_classes import StorageClasses
from drystone_runtime.addresses import UNIX
from drystone_runtime.rpc.layout_messages import change_message, report_value
from drystone_runtime.rpc.scrub_messages import scrub_pass_value
from drystone_runtime.rpc.status import DETAIL_KEY, from_detail


class AdminClient:
    """Talks to an admin socket."""

    def __init__(self, target: str, *, timeout: float = 30.0) -> None:
        """`target` is `unix:/path`: its mode authorises."""
        check(target.startswith(UNIX), "without TLS only unix sockets are called")
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

    def start_scrub(self, anew: bool) -> bool:
        """Have a pass of scrubbing begun; False: one is under way and goes on."""
        try:
            said: pb.StartScrubResponse = self._stub.StartScrub(pb.StartScrubRequest(anew=anew), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return said.began

    def layout(self) -> LayoutReport:
        """A cell's layout in effect beside the staged one."""
        try:
            said: pb.GetLayoutResponse = self._stub.GetLayout(pb.GetLayoutRequest(), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return report_value(said.layout)

    def plan_layout(self, change: LayoutChange) -> LayoutReport:
        """Stage a change; Refused with what stands against it."""
        try:
            said: pb.PlanLayoutResponse = self._stub.PlanLayout(change_message(change), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return report_value(said.layout)

    def apply_layout(self) -> LayoutReport:
        """Put the staged layout in effect; Refused when there is none, or it changed meanwhile."""
        try:
            said: pb.ApplyLayoutResponse = self._stub.ApplyLayout(pb.ApplyLayoutRequest(), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return report_value(said.layout)

    def revert_layout(self) -> LayoutReport:
        """Drop what is staged; Refused when nothing is."""
        try:
            said: pb.RevertLayoutResponse = self._stub.RevertLayout(pb.RevertLayoutRequest(), timeout=self._timeout)
        except grpc.RpcError as error:
            raise _meaning(error) from error
        return report_value(said.layout)

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
                    FragmentReport(
                        slot=part.slot,
                        disk=part.disk,
                        state=part.state,
                        problem=part.problem,
                        file=part.file,
                        offset=part.offset,
                        length=part.length,
                    )
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
            disk_class=disk.disk_class,
        )
        for disk in said.disks
    )
    node = NodeStatus(
        profile=said.profile,
        disks=disks,
        open_volumes=said.open_volumes,
        closed_volumes=said.closed_volumes,
        degraded_volumes=said.degraded_volumes,
        scrub=ScrubStatus(
            volumes=said.scrub.volumes,
            verified=said.scrub.verified,
            passes=said.scrub.passes,
            bytes_read=said.scrub.bytes_read,
            slots_damaged=said.scrub.slots_damaged,
            stripes_incomplete=said.scrub.stripes_incomplete,
        ),
    )
    return CellStatus(
        version=said.version,
        cluster_id=said.cluster_id,
        endpoint=said.endpoint,
        uptime_seconds=said.uptime_seconds,
        node=node,
        metadata_writable=said.metadata_writable,
        term=said.metadata_term,
        background_answers=said.background.answers,
        members=tuple(
            MemberStatus(path=one.path, role=one.role, head=one.head, lag=one.lag, reason=one.reason)
            for one in said.members
        ),
        reclaim=_reclaim(said.background),
        repair=_repair(said.background),
        gateway=_gateway(said.gateway),
        scrub_pass=scrub_pass_value(said.scrub_pass) if said.HasField("scrub_pass") else None,
        rpc=tuple(
            RpcMethodStatus(method=one.method, calls=one.calls, failures=one.failures, seconds=one.seconds)
            for one in said.rpc
        ),
        cell=tuple(
            CellProcess(
                role=one.role,
                name=one.name,
                endpoint=one.endpoint,
                zone=one.zone,
                state=one.state,
                part=one.part,
                clock_fault=one.clock_fault,
                tablets=TabletCounts(one.tablets.tablets, one.tablets.moves, one.tablets.changes)
                if one.HasField("tablets")
                else None,
            )
            for one in said.cell
        ),
        classes=StorageClasses(tuple((one.name, one.disk_class) for one in said.storage_classes)),
        processes=tuple(
            ProcessStatus(role=one.role, pid=one.pid, restarts=one.restarts, uptime_seconds=one.uptime_seconds)
            for one in said.processes
        ),
    )


def _gateway(said: pb.Gateway) -> GatewayStatus:
    return GatewayStatus(
        connections=said.connections,
        requests_now=said.requests_now,
        connections_total=said.connections_total,
        requests=said.requests,
        answers_4xx=said.answers_4xx,
        answers_5xx=said.answers_5xx,
        answers_503=said.answers_503,
        bytes_in=said.bytes_in,
        bytes_out=said.bytes_out,
        refused_connections=said.refused_connections,
        refused_requests=said.refused_requests,
        refused_bodies=said.refused_bodies,
        refused_heads=said.refused_heads,
        slow_clients=said.slow_clients,
        broken_answers=said.broken_answers,
        failures=said.failures,
    )


def _reclaim(said: pb.Background) -> ReclaimStatus:
    return ReclaimStatus(
        running=said.reclaim_running,
        passes=said.reclaim_passes,
        volumes_freed=said.volumes_freed,
        stripes_freed=said.stripes_freed,
        stripes_waiting=said.stripes_waiting,
        bytes_freed=said.bytes_freed,
        failures=said.reclaim_failures,
    )


def _repair(said: pb.Background) -> RepairStatus:
    return RepairStatus(
        running=said.repair_running,
        slots_pending=said.slots_pending,
        slots_repaired=said.slots_repaired,
        bytes_pending=said.bytes_pending,
        bytes_repaired=said.bytes_repaired,
        failures=said.repair_failures,
        endangered=said.volumes_endangered,
        hopeless=said.slots_hopeless,
        waiting=said.slots_waiting,
        unasked=tuple(said.nodes_unasked),
        seconds_left=said.repair_seconds_left,
    )


def _meaning(error: grpc.RpcError) -> DrystoneError:
    call: Any = error  # a failed blocking call is also a grpc.Call; the stubs cannot say so
    for key, value in call.trailing_metadata() or ():
        if key == DETAIL_KEY and isinstance(value, bytes):
            return from_detail(errors_pb2.ErrorDetail.FromString(value))
    away = call.code() is grpc.StatusCode.UNAVAILABLE
    return (Unreachable if away else Unavailable)(call.details() or "")

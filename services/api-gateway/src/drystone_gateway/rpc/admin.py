# SPDX-License-Identifier: Apache-2.0
"""Serves the operator's view over gRPC. What it shows comes from a Protocol, so that standalone and cluster share it."""

from typing import Any, Protocol

import grpc

from drystone.admin.v1 import admin_pb2 as pb
from drystone.admin.v1 import admin_pb2_grpc
from drystone_core.cell import CellStatus, DiskStatus, GatewayStatus, ObjectReport, TabletCounts
from drystone_core.ids import Key, VersionId
from drystone_core.layout import LayoutChange, LayoutReport
from drystone_runtime.rpc.layout_messages import change_value, report_message
from drystone_runtime.rpc.scrub_messages import scrub_pass_message
from drystone_runtime.rpc.server import RpcService

SERVICE = "drystone.admin.v1.AdminService"


class AdminView(Protocol):
    """What an operator may ask."""

    async def status(self) -> CellStatus:
        """One screen."""
        ...

    async def inspect_object(self, bucket: str, key: Key, version_id: VersionId | None) -> ObjectReport:
        """Every fragment of one object version, read and verified; raises NoSuchBucket, NoSuchKey, NoSuchVersion."""
        ...

    async def start_scrub(self, *, anew: bool) -> bool:
        """Begin a pass of scrubbing; False: one is under way and goes on. Unavailable while nobody can."""
        ...

    async def layout(self) -> LayoutReport:
        """A cell's layout in effect beside the staged one; the four of layouts are Refused by a store that is alone."""
        ...

    async def plan_layout(self, change: LayoutChange) -> LayoutReport:
        """Stage a change. Refused, Unavailable."""
        ...

    async def apply_layout(self) -> LayoutReport:
        """Put what is staged in effect. Refused, Unavailable."""
        ...

    async def revert_layout(self) -> LayoutReport:
        """Drop what is staged. Refused, Unavailable."""
        ...


def admin_service(view: AdminView) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(view)
    return RpcService(
        name=SERVICE, register=lambda server: admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    )


class _Servicer(admin_pb2_grpc.AdminServiceServicer):
    def __init__(self, view: AdminView) -> None:
        self._view = view

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        return _status_message(await self._view.status())

    async def InspectObject(
        self, request: pb.InspectObjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.InspectObjectResponse:
        version = VersionId(request.version_id) if request.version_id else None
        return _report_message(await self._view.inspect_object(request.bucket, Key(request.key), version))

    async def StartScrub(
        self, request: pb.StartScrubRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.StartScrubResponse:
        return pb.StartScrubResponse(began=await self._view.start_scrub(anew=request.anew))

    async def GetLayout(
        self, request: pb.GetLayoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetLayoutResponse:
        return pb.GetLayoutResponse(layout=report_message(await self._view.layout()))

    async def PlanLayout(
        self, request: pb.PlanLayoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PlanLayoutResponse:
        return pb.PlanLayoutResponse(layout=report_message(await self._view.plan_layout(change_value(request))))

    async def ApplyLayout(
        self, request: pb.ApplyLayoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ApplyLayoutResponse:
        return pb.ApplyLayoutResponse(layout=report_message(await self._view.apply_layout()))

    async def RevertLayout(
        self, request: pb.RevertLayoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RevertLayoutResponse:
        return pb.RevertLayoutResponse(layout=report_message(await self._view.revert_layout()))


def _status_message(status: CellStatus) -> pb.GetStatusResponse:
    node = status.node
    return pb.GetStatusResponse(
        health=_health(int(status.health())),
        reasons=[
            pb.HealthReason(
                code=reason.code,
                severity=_health(int(reason.severity)),
                summary=reason.summary,
                next_step=reason.next_step,
            )
            for reason in status.reasons()
        ],
        version=status.version,
        cluster_id=status.cluster_id,
        endpoint=status.endpoint,
        profile=node.profile,
        uptime_seconds=status.uptime_seconds,
        disks=[_disk_message(disk) for disk in node.disks],
        storage_classes=[
            pb.StorageClass(name=name, disk_class=disk_class) for name, disk_class in status.classes.mapped
        ],
        open_volumes=node.open_volumes,
        closed_volumes=node.closed_volumes,
        degraded_volumes=node.degraded_volumes,
        metadata_writable=status.metadata_writable,
        metadata_term=status.term,
        members=[
            pb.Member(path=one.path, role=one.role, head=one.head, lag=one.lag, reason=one.reason)
            for one in status.members
        ],
        background=_background_message(status),
        scrub=pb.Scrub(
            volumes=node.scrub.volumes,
            verified=node.scrub.verified,
            passes=node.scrub.passes,
            bytes_read=node.scrub.bytes_read,
            slots_damaged=node.scrub.slots_damaged,
            stripes_incomplete=node.scrub.stripes_incomplete,
        ),
        gateway=_gateway_message(status.gateway),
        scrub_pass=None if status.scrub_pass is None else scrub_pass_message(status.scrub_pass),
        rpc=[
            pb.RpcMethod(method=one.method, calls=one.calls, failures=one.failures, seconds=one.seconds)
            for one in status.rpc
        ],
        cell=[
            pb.CellProcess(
                role=one.role,
                name=one.name,
                endpoint=one.endpoint,
                zone=one.zone,
                state=one.state,
                part=one.part,
                clock_fault=one.clock_fault,
                tablets=_counts_message(one.tablets),
            )
            for one in status.cell
        ],
        processes=[
            pb.Process(role=one.role, pid=one.pid, restarts=one.restarts, uptime_seconds=one.uptime_seconds)
            for one in status.processes
        ],
    )


def _disk_message(disk: DiskStatus) -> pb.Disk:
    return pb.Disk(
        disk_id=disk.disk_id,
        path=disk.path,
        state=disk.state,
        total_bytes=disk.total_bytes,
        free_bytes=disk.free_bytes,
        disk_class=disk.disk_class,
    )


def _counts_message(counts: TabletCounts | None) -> pb.TabletCounts | None:
    if counts is None:
        return None
    return pb.TabletCounts(tablets=counts.tablets, moves=counts.moves, changes=counts.changes)


def _gateway_message(one: GatewayStatus) -> pb.Gateway:
    return pb.Gateway(
        connections=one.connections,
        requests_now=one.requests_now,
        connections_total=one.connections_total,
        requests=one.requests,
        answers_4xx=one.answers_4xx,
        answers_5xx=one.answers_5xx,
        answers_503=one.answers_503,
        bytes_in=one.bytes_in,
        bytes_out=one.bytes_out,
        refused_connections=one.refused_connections,
        refused_requests=one.refused_requests,
        refused_bodies=one.refused_bodies,
        refused_heads=one.refused_heads,
        slow_clients=one.slow_clients,
        broken_answers=one.broken_answers,
        failures=one.failures,
    )


def _background_message(status: CellStatus) -> pb.Background:
    repair, reclaim = status.repair, status.reclaim
    return pb.Background(
        answers=status.background_answers,
        repair_running=repair.running,
        slots_pending=repair.slots_pending,
        slots_repaired=repair.slots_repaired,
        slots_hopeless=repair.hopeless,
        slots_waiting=repair.waiting,
        nodes_unasked=repair.unasked,
        volumes_endangered=repair.endangered,
        bytes_pending=repair.bytes_pending,
        bytes_repaired=repair.bytes_repaired,
        repair_failures=repair.failures,
        repair_seconds_left=repair.seconds_left,
        reclaim_running=reclaim.running,
        reclaim_passes=reclaim.passes,
        reclaim_failures=reclaim.failures,
        volumes_freed=reclaim.volumes_freed,
        stripes_freed=reclaim.stripes_freed,
        stripes_waiting=reclaim.stripes_waiting,
        bytes_freed=reclaim.bytes_freed,
    )


def _report_message(report: ObjectReport) -> pb.InspectObjectResponse:
    return pb.InspectObjectResponse(
        version_id=report.version_id,
        size=report.size,
        etag=report.etag,
        stripes=[
            pb.Stripe(
                volume=stripe.volume,
                record=stripe.record,
                profile=stripe.profile,
                form=stripe.form,
                length=stripe.length,
                fragments=[
                    pb.Fragment(
                        slot=part.slot,
                        disk=part.disk,
                        state=part.state,
                        problem=part.problem,
                        file=part.file,
                        offset=part.offset,
                        length=part.length,
                    )
                    for part in stripe.fragments
                ],
            )
            for stripe in report.stripes
        ],
    )


def _health(number: int) -> pb.Health:
    return (pb.HEALTH_UNSPECIFIED, pb.HEALTH_OK, pb.HEALTH_WARN, pb.HEALTH_ERROR)[number]

# SPDX-License-Identifier: Apache-2.0
"""A cell's layout and changes of it, to and from messages."""

from drystone.admin.v1 import admin_pb2 as pb
from drystone_core.ids import DiskId
from drystone_core.layout import DiskPlace, LayoutChange, LayoutReport, LayoutRow


def change_message(value: LayoutChange) -> pb.PlanLayoutRequest:
    """To the wire."""
    return pb.PlanLayoutRequest(
        weights=[pb.DiskWeight(disk=disk, weight=weight) for disk, weight in value.weights],
        drain=value.drain,
        undrain=value.undrain,
        level=value.level,
    )


def change_value(message: pb.PlanLayoutRequest) -> LayoutChange:
    """From the wire."""
    return LayoutChange(
        weights=tuple((each.disk, each.weight) for each in message.weights),
        drain=tuple(message.drain),
        undrain=tuple(message.undrain),
        level=message.level,
    )


def report_message(value: LayoutReport) -> pb.Layout:
    """To the wire."""
    return pb.Layout(
        version=value.version,
        level=value.level,
        profile=value.profile,
        disks=[_row_message(row) for row in value.disks],
        staged_version=value.staged_version,
        staged_level=value.staged_level,
        bytes_to_move=value.bytes_to_move,
        warnings=value.warnings,
    )


def report_value(message: pb.Layout) -> LayoutReport:
    """From the wire."""
    return LayoutReport(
        version=message.version,
        level=message.level,
        profile=message.profile,
        disks=tuple(_row_value(row) for row in message.disks),
        staged_version=message.staged_version,
        staged_level=message.staged_level,
        bytes_to_move=message.bytes_to_move,
        warnings=tuple(message.warnings),
    )


def _row_message(row: LayoutRow) -> pb.LayoutDisk:
    place = row.place
    return pb.LayoutDisk(
        disk_id=place.disk,
        node=place.node,
        zone=place.zone,
        rack=place.rack,
        disk_class=place.disk_class,
        state=place.state,
        total_bytes=place.total,
        free_bytes=place.free,
        weight=row.weight,
        draining=row.draining,
        staged_weight=row.staged_weight,
        staged_draining=row.staged_draining,
    )


def _row_value(row: pb.LayoutDisk) -> LayoutRow:
    place = DiskPlace(
        disk=DiskId(row.disk_id),
        node=row.node,
        zone=row.zone,
        rack=row.rack,
        disk_class=row.disk_class,
        state=row.state,
        total=row.total_bytes,
        free=row.free_bytes,
    )
    return LayoutRow(
        place=place,
        weight=row.weight,
        draining=row.draining,
        staged_weight=row.staged_weight,
        staged_draining=row.staged_draining,
    )

# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of a standalone store, answered from its parts."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from drystone_cli import VERSION
from drystone_cli.shard_reading import RecordReport, verify_record
from drystone_core.cell import (
    CellStatus,
    FragmentReport,
    GatewayStatus,
    MemberStatus,
    ObjectReport,
    ProcessStatus,
    ReclaimStatus,
    RepairStatus,
    StripeReport,
)
from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.formats.shard import shard_name
from drystone_core.ids import Key, VersionId, VolumeId, volume_text
from drystone_core.layout import LayoutChange, LayoutReport
from drystone_datapath.volume import DiskState, Volume
from drystone_gateway.operations.blob_layout import BlobLayout
from drystone_runtime.rpc.background_clients import reclaim_status, replication_status, start_scrub
from drystone_runtime.rpc.channel import open_channel

if TYPE_CHECKING:
    from drystone_cli.standalone import Standalone

PATIENCE = 1.0
"""Seconds the background process may take to say how it is."""
GETTING_UP = 15.0
"""Seconds after the main process's start during which a background process that is not there yet worries nobody."""
STRIPES = 2_000
"""Stripes one inspection reads at most."""


class StandaloneView:
    """An AdminView of a running standalone store."""

    def __init__(self, store: "Standalone") -> None:
        self._store = store
        self._background = open_channel(f"unix:{store.spec.background_socket}")

    async def status(self) -> CellStatus:
        """One screen; what the background process does not say in time stands as nothing done."""
        store = self._store
        opened = store.node.store
        assert opened is not None
        node, replication, reclaim = await asyncio.gather(
            store.node.status(),
            replication_status(self._background, timeout=PATIENCE),
            reclaim_status(self._background, timeout=PATIENCE),
            return_exceptions=True,
        )
        if isinstance(node, BaseException):
            raise node
        repair, scrub_pass = (None, None) if isinstance(replication, BaseException) else replication
        uptime = store.world.clock.monotonic() - store.began
        return CellStatus(
            version=VERSION,
            cluster_id=opened.cluster_id,
            endpoint=store.spec.endpoint,
            uptime_seconds=int(uptime),
            node=replace(node, degraded_volumes=len(self._hurt_volumes())),
            metadata_writable=bool(store.members and store.members.status()["writable"]),
            term=store.members.status()["term"] if store.members else 0,
            background_answers=repair is not None or uptime < GETTING_UP,
            members=self._members(),
            repair=repair or RepairStatus(),
            reclaim=reclaim if isinstance(reclaim, ReclaimStatus) else ReclaimStatus(),
            gateway=store.s3.status() if store.s3 is not None else GatewayStatus(),
            scrub_pass=scrub_pass,
            classes=store.spec.settings.storage.storage_classes(),
            processes=_processes(Path(store.spec.state) / "processes.json", store.world.clock.wall_us() // 1_000_000),
        )

    async def start_scrub(self, *, anew: bool) -> bool:
        """Asked of the background process; Unavailable while it is away."""
        return await start_scrub(self._background, anew=anew, timeout=PATIENCE)

    async def layout(self) -> LayoutReport:
        """Only cells have one."""
        raise Refused(
            ErrorCode.NOT_IMPLEMENTED,
            "a standalone store has no layout: it uses all disks it was given, by free space; layouts are for cells",
        )

    async def plan_layout(self, change: LayoutChange) -> LayoutReport:
        """As `layout`."""
        return await self.layout()

    async def apply_layout(self) -> LayoutReport:
        """As `layout`."""
        return await self.layout()

    async def revert_layout(self) -> LayoutReport:
        """As `layout`."""
        return await self.layout()

    async def inspect_object(self, bucket: str, key: Key, version_id: VersionId | None) -> ObjectReport:
        """Reads and verifies every fragment the version lies in, on the disks' own lanes."""
        metadata = self._store.metadata
        assert metadata is not None
        version = await metadata.object(bucket, key, version_id)
        blobs = list(version.blobs)
        if version.manifest is not None:
            parts = await BlobLayout(storage=self._store.node).parts(version, 0, 10_000)
            blobs = [*(blob for part in parts for blob in part.blobs), version.manifest]
        stripes = [
            await self._stripe(volume, record, form, length)
            for volume, record, form, length in _stripes(blobs)[:STRIPES]
        ]
        return ObjectReport(version_id=version.version_id, size=version.size, etag=version.etag, stripes=tuple(stripes))

    async def _stripe(self, volume_id: VolumeId, record: int, form: str, length: int) -> StripeReport:
        volume = self._store.node.registry.get(volume_id)
        if volume is None:
            raise Unavailable(f"volume {volume_text(volume_id)} is not known")
        at_hand = [slot for slot in volume.slots if slot is not None]
        calls = [
            (
                slot.unit.lane,
                partial(
                    verify_record,
                    slot.file,
                    nonce=volume.nonce,
                    volume=volume_id,
                    slot=slot.index,
                    offset=record,
                    freed=record in volume.freed,
                ),
            )
            for slot in at_hand
        ]
        results = await self._store.world.lanes.scatter(calls, deadline=self._store.world.clock.monotonic() + 10.0)
        found = {slot.index: result for slot, result in zip(at_hand, results, strict=True)}
        return StripeReport(
            volume=volume_text(volume_id),
            record=record,
            profile=volume.profile.name,
            form=form,
            length=length,
            fragments=tuple(_fragment(volume, index, found.get(index)) for index in range(volume.profile.slots)),
        )

    def _hurt_volumes(self) -> set[VolumeId]:
        """Volumes with a slot that is away, or known to hold damaged bytes that repair has not rebuilt yet."""
        registry = self._store.node.registry
        away = {
            volume.volume_id
            for volume in registry.volumes()
            if any(slot is None or slot.unit.state is DiskState.FAILED for slot in volume.slots)
        }
        return away | {place.volume for place in registry.bad}

    def _members(self) -> tuple[MemberStatus, ...]:
        members = self._store.members
        opened = self._store.node.store
        assert members is not None
        assert opened is not None
        said = members.status()
        paths = {disk.known.disk_id: disk.known.path for disk in opened.disks}
        roles = {"member": "follower", "failed": "away"}
        return tuple(
            MemberStatus(
                path=paths.get(member["disk"], member["disk"]),
                role="primary" if member["disk"] == said["primary"] else roles[member["standing"]],
                head=said["head"] if member["complete"] else 0,
                lag=member["lag"] or 0,
                reason=member["reason"] or "",
            )
            for member in said["members"]
            if member["standing"] in roles
        )


def _fragment(volume: Volume, index: int, result: object) -> FragmentReport:
    slot = volume.slots[index]
    if slot is None:
        return FragmentReport(slot=index, disk="", state="away", problem="its disk is not at hand")
    disk = slot.unit.label
    file = f"{disk}/{shard_name(volume.volume_id, index)}"
    if not isinstance(result, RecordReport):
        return FragmentReport(slot=index, disk=disk, state="away", problem=str(result) or "late", file=file)
    head = result.head
    return FragmentReport(
        slot=index,
        disk=disk,
        state="bad" if result.problem else "ok",
        problem=result.problem,
        file=file,
        offset=head.offset + head.payload_at if head else result.offset,
        length=head.stored_length if head else 0,
    )


def _stripes(blobs: Iterable[BlobRef]) -> list[tuple[VolumeId, int, str, int]]:
    """(volume, record, form, object bytes) of every stripe, in the order of the bytes."""
    found = []
    for blob in blobs:
        for extent in blob.extents:
            if isinstance(extent, PackedExtent):
                found.append((extent.volume, extent.record, "packed", extent.length))
            else:
                found += [
                    (extent.volume, extent.record + index * extent.stride, "striped", extent.piece)
                    for index in range(extent.count)
                ]
    return found


def _processes(path: Path, now: int) -> tuple[ProcessStatus, ...]:
    """As the supervisor wrote them; `now` is Unix time in seconds."""
    try:
        return tuple(
            ProcessStatus(
                role=one["role"],
                pid=one["pid"],
                restarts=one["restarts"],
                uptime_seconds=max(0, now - one["started"]),
            )
            for one in json.loads(path.read_text())
        )
    except (OSError, ValueError, KeyError):
        return ()

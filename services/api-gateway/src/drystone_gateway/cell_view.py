# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of a cell, answered by any of its gateways: from the coordinator's documents and the services."""

import asyncio
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed

from drystone_core.cell import (
    CellProcess,
    CellStatus,
    DiskStatus,
    NodeStatus,
    ObjectReport,
    ReclaimStatus,
    RepairStatus,
    RpcMethodStatus,
    ScrubPassStatus,
    TabletCounts,
)
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.coordination import (
    DISKS,
    ELECTIONS,
    NODES,
    VOLUMES,
    ClockDocument,
    DiskDocument,
    LeaderDocument,
    NodeDocument,
    clock_key,
    decode,
    election_key,
)
from drystone_core.identity import ServiceKind
from drystone_core.ids import Key, VersionId
from drystone_core.layout import LayoutChange, LayoutReport
from drystone_gateway.cell import CellServices
from drystone_gateway.cell_layout import CellLayout
from drystone_gateway.clients.metadata import MetadataNode
from drystone_gateway.serving import S3Serving
from drystone_runtime.rpc.background_clients import reclaim_status, replication_status, start_scrub
from drystone_runtime.rpc.links import Link
from drystone_runtime.rpc.process import Process

PATIENCE = 2.0
"""Seconds a service may take to say how it is."""


class CellView:
    """An AdminView of a cell."""

    def __init__(self, services: CellServices, s3: S3Serving, process: Process) -> None:
        self._services, self._s3, self._process = services, s3, process
        self._began = process.clock.monotonic()
        self._layout = CellLayout(
            coordinator=services.place.coordinator,
            cache=services.place.cache,
            level=process.settings.node.level,
            profile=self._profile,
            disk_classes=process.settings.storage.storage_classes().disk_classes,
        )
        self._links: dict[tuple[str, ServiceKind], Link] = {}

    async def status(self) -> CellStatus:
        """One screen; what a service does not say in time stands as unknown."""
        repair, reclaim, nodes, tablets = await asyncio.gather(
            self._repair(), self._reclaim(), self._nodes(), self._tablets()
        )
        server = self._process.settings.server
        scheme = "https" if server.tls_cert else "http"
        return CellStatus(
            version=installed("drystone-gateway"),
            cluster_id=self._services.place.cell,
            endpoint=f"{scheme}://{server.listen}",
            uptime_seconds=int(self._process.clock.monotonic() - self._began),
            node=self._disks(nodes),
            metadata_writable=self._services.owner() is not None,
            background_answers=repair is not None,
            repair=repair[0] if repair else RepairStatus(),
            scrub_pass=repair[1] if repair else None,
            reclaim=reclaim or ReclaimStatus(),
            gateway=self._s3.status(),
            cell=tuple(self._processes(tablets)),
            rpc=tuple(self._calls()),
            classes=self._process.settings.storage.storage_classes(),
        )

    async def start_scrub(self, *, anew: bool) -> bool:
        """Asked of the replication process that leads; Unavailable while none does."""
        link = self._leader(ServiceKind.REPLICATION)
        if link is None:
            raise Unavailable("no replication process leads just now")
        return await start_scrub(link, anew=anew, timeout=PATIENCE)

    async def inspect_object(self, bucket: str, key: Key, version_id: VersionId | None) -> ObjectReport:
        """Only a store that is alone can look into its shard files."""
        raise Refused(
            ErrorCode.NOT_IMPLEMENTED,
            "objects are inspected in standalone stores only; on a node: drystone inspect shard",
        )

    async def layout(self) -> LayoutReport:
        """From the coordinator."""
        return await self._layout.show()

    async def plan_layout(self, change: LayoutChange) -> LayoutReport:
        """Into the coordinator, staged."""
        return await self._layout.plan(change)

    async def apply_layout(self) -> LayoutReport:
        """Into the coordinator, where all storage nodes see it."""
        return await self._layout.apply()

    async def revert_layout(self) -> LayoutReport:
        """Out of the coordinator."""
        return await self._layout.revert()

    async def _profile(self) -> str:
        return next((one.profile for one in await self._nodes() if one.profile), "")

    async def _repair(self) -> tuple[RepairStatus, ScrubPassStatus] | None:
        link = self._leader(ServiceKind.REPLICATION)
        try:
            return None if link is None else await replication_status(link, timeout=PATIENCE)
        except DrystoneError:
            return None

    async def _reclaim(self) -> ReclaimStatus | None:
        link = self._leader(ServiceKind.LIFECYCLE)
        try:
            return None if link is None else await reclaim_status(link, timeout=PATIENCE)
        except DrystoneError:
            return None

    async def _nodes(self) -> list[NodeStatus]:
        """What the storage nodes say of volumes; each knows those of the whole cell."""
        nodes = [one.client.node for one in self._services.storage_nodes.nodes(draining=True)]
        asked = [node.status() for node in nodes if node is not None]
        try:
            async with asyncio.timeout(PATIENCE):
                found = await asyncio.gather(*asked, return_exceptions=True)
        except TimeoutError:
            return []
        return [one for one in found if isinstance(one, NodeStatus)]

    def _disks(self, said: list[NodeStatus]) -> NodeStatus:
        documents = self._services.place.cache.documents
        disks = [
            decode(DiskDocument, document.value, key=key)
            for key, document in sorted(documents.items())
            if key.startswith(DISKS)
        ]
        return NodeStatus(
            profile=said[0].profile if said else "",
            disks=tuple(
                DiskStatus(
                    disk_id=disk.disk,
                    path=disk.node,
                    state=disk.state,
                    total_bytes=disk.total,
                    free_bytes=disk.free,
                    disk_class=disk.disk_class,
                )
                for disk in sorted(disks, key=lambda disk: (disk.node, disk.disk))
            ),
            open_volumes=sum(key.startswith(VOLUMES) for key in documents),
            closed_volumes=max((one.closed_volumes for one in said), default=0),
            degraded_volumes=max((one.degraded_volumes for one in said), default=0),
        )

    def _calls(self) -> Iterator[RpcMethodStatus]:
        for one in self._process.dial.counters.figures():
            ended = sum(one.codes.values())
            yield RpcMethodStatus(
                method=one.method, calls=ended, failures=ended - one.codes.get("OK", 0), seconds=one.seconds
            )

    async def _tablets(self) -> dict[str, TabletCounts]:
        """By the name of each metadata process that says so in time."""

        async def ask(node: MetadataNode) -> tuple[str, TabletCounts] | None:
            try:
                async with asyncio.timeout(PATIENCE):
                    return node.name, await node.client.counts()
            except (TimeoutError, DrystoneError):
                return None

        nodes = [one.client.metadata for one in self._services.metadata_nodes.nodes(draining=True)]
        said = await asyncio.gather(*(ask(node) for node in nodes if node is not None))
        return dict(one for one in said if one is not None)

    def _processes(self, tablets: Mapping[str, TabletCounts]) -> list[CellProcess]:
        leaders, owner = self._leaders(), self._services.owner()
        found = []
        for key, document in sorted(self._services.place.cache.documents.items()):
            if not key.startswith(NODES):
                continue
            node = decode(NodeDocument, document.value, key=key)
            part = "owns the names" if node.role == ServiceKind.METADATA and node.node == owner else ""
            part = "leads" if leaders.get(node.role) == node.node else part
            found.append(
                CellProcess(
                    role=node.role,
                    name=node.node,
                    endpoint=node.endpoint,
                    zone=node.zone,
                    state=node.state,
                    part=part,
                    clock_fault=self._clock_fault(node),
                    tablets=tablets.get(node.node) if node.role == ServiceKind.METADATA else None,
                )
            )
        return found

    def _clock_fault(self, node: NodeDocument) -> str:
        told = self._services.place.cache.get(clock_key(node.role, node.node))
        return "" if told is None else decode(ClockDocument, told.value, key=told.key).fault

    def _leaders(self) -> Mapping[str, str]:
        """Role → the process that leads."""
        documents = self._services.place.cache.documents
        return {
            key.removeprefix(ELECTIONS): decode(LeaderDocument, document.value, key=key).node
            for key, document in documents.items()
            if key.startswith(ELECTIONS)
        }

    def _leader(self, kind: ServiceKind) -> Link | None:
        """A link to the process of that kind that leads."""
        cache = self._services.place.cache
        document = cache.get(election_key(kind.value))
        if document is None:
            return None
        name = decode(LeaderDocument, document.value, key=document.key).node
        node = cache.get(f"{NODES}{kind.value}/{name}")
        if node is None:
            return None
        endpoint = decode(NodeDocument, node.value, key=node.key).endpoint
        if (endpoint, kind) not in self._links:
            self._links[endpoint, kind] = self._process.dial.open(endpoint, kind)
        return self._links[endpoint, kind]

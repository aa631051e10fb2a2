# SPDX-License-Identifier: Apache-2.0
"""The services behind a gateway of a cell: found through the coordinator, each called over a link of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from drystone_core.errors import Unavailable
from drystone_core.formats.coordination import NodeDocument
from drystone_core.identity import ServiceKind
from drystone_core.ids import DiskId, VolumeId
from drystone_gateway.clients.metadata import CellMetadata, MetadataNode
from drystone_gateway.clients.places import VolumePlaces
from drystone_gateway.clients.routes import FIRST_TABLET
from drystone_gateway.clients.storage import CellNode, CellStorage
from drystone_runtime.coordination.cache import OwnerRing
from drystone_runtime.coordination.directory import NodeDirectory
from drystone_runtime.coordination.place import Place
from drystone_runtime.rpc.health import Dependency
from drystone_runtime.rpc.links import Link
from drystone_runtime.rpc.metadata_client import RpcMetadata
from drystone_runtime.rpc.process import Process
from drystone_runtime.rpc.storage_client import RpcStorage

LOOK_SECONDS = 0.5
"""Between two looks whether there is a service of each kind."""


@dataclass(slots=True, eq=False)
class _Reached:
    """A service far away: its link, and what the gateway calls."""

    link: Link
    metadata: MetadataNode | None = None
    storage: CellNode | None = None
    node: RpcStorage | None = None
    """The same storage node, for what is asked of it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellServices:
    """What a gateway needs of its cell."""

    place: Place
    ring: OwnerRing
    metadata: CellMetadata
    storage: CellStorage
    metadata_nodes: "NodeDirectory[_Reached]"
    storage_nodes: "NodeDirectory[_Reached]"
    process: Process

    def owner(self) -> str | None:
        """The metadata process that should own the first tablet, which knows all buckets, now."""
        return self.ring.name(FIRST_TABLET)

    async def follow(self, metadata: Dependency, storage: Dependency) -> None:
        """Ready while there is a service of each kind."""
        while True:
            metadata.set("" if self.metadata_nodes.nodes() else "no metadata process is registered")
            storage.set("" if self.storage_nodes.nodes() else "no storage node is registered")
            await self.process.clock.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Leave the cell."""
        await self.place.close()
        await self.metadata_nodes.close()
        await self.storage_nodes.close()


async def cell_services(process: Process) -> CellServices:
    """Reach the coordinator; the services are dialled as they are seen. Refused, Unavailable."""
    clock, background = process.clock, process.background
    place = process.place(ServiceKind.GATEWAY.value)
    await place.open(process.settings.coordinator)
    ring = OwnerRing(cache=place.cache)
    zone = process.settings.node.zone

    def directory(kind: ServiceKind) -> NodeDirectory[_Reached]:
        return NodeDirectory(
            cache=place.cache,
            role=kind.value,
            open_client=partial(_open, process, kind, zone),
            close_client=_close,
            clock=clock,
            background=background,
        )

    metadata_nodes, storage_nodes = directory(ServiceKind.METADATA), directory(ServiceKind.STORAGE_NODE)

    async def locate(volumes: Sequence[VolumeId]) -> list[tuple[DiskId | None, ...]]:
        nodes = [one.client.node for one in storage_nodes.nodes() if one.client.node is not None]
        if not nodes:
            raise Unavailable("no storage node is known")
        return await nodes[int(process.entropy.uniform(0, len(nodes))) % len(nodes)].locate(volumes)

    places = VolumePlaces(cache=place.cache, locate=locate, clock=clock, background=background)

    services = CellServices(
        place=place,
        ring=ring,
        metadata=CellMetadata(
            nodes=lambda: [one.client.metadata for one in metadata_nodes.nodes(draining=True) if one.client.metadata],
            owner=ring.name,
            clock=clock,
            entropy=process.entropy,
            background=background,
        ),
        storage=CellStorage(
            nodes=lambda: [one.client.storage for one in storage_nodes.nodes() if one.client.storage],
            clock=clock,
            entropy=process.entropy,
            nearest=places.node_of,
        ),
        metadata_nodes=metadata_nodes,
        storage_nodes=storage_nodes,
        process=process,
    )
    needs = process.health.depend(ServiceKind.METADATA.value), process.health.depend(ServiceKind.STORAGE_NODE.value)
    background.keep("health.services", lambda: services.follow(*needs))
    return services


def _open(process: Process, kind: ServiceKind, zone: str, node: NodeDocument) -> _Reached:
    link = process.dial.open(node.endpoint, kind)
    if kind is ServiceKind.METADATA:
        client = RpcMetadata(channel=link, background=process.background)
        return _Reached(link, metadata=MetadataNode(name=node.node, client=client))
    storage = RpcStorage(channel=link, background=process.background)
    return _Reached(
        link, storage=CellNode(name=node.node, client=storage, near=bool(zone) and node.zone == zone), node=storage
    )


async def _close(reached: _Reached) -> None:
    await reached.link.close()

# SPDX-License-Identifier: Apache-2.0
"""Leaders over a CellOfNodes: each with a line to the coordinator of its own, a session, and the nodes' UpkeepServices."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from drystone_core.coordination import Coordinator, Session
from drystone_core.formats.coordination import LeaderDocument
from drystone_core.upkeep import UpkeepNode
from drystone_runtime.coordination.cell_upkeep import CellUpkeep
from drystone_runtime.coordination.election import Leadership, campaign
from drystone_runtime.coordination.embedded import EmbeddedCoordinator
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.upkeep_client import RpcUpkeep
from drystone_testing.cell_of_nodes import TTL, CellOfNodes
from drystone_testing.coordinator_rigs import CutStore


@dataclass(slots=True)
class Keeper:
    """One leader of one election."""

    cell: CellOfNodes
    line: CutStore
    coordinator: Coordinator
    session: Session
    leadership: Leadership
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    """Nodes this one does not reach although they are registered."""
    heedless: bool = False
    """It does not look whether it still leads before it orders: as if it were stopped between the look and the order."""

    def nodes(self) -> Mapping[str, UpkeepNode]:
        """The nodes that serve, as a directory would give them."""
        return {name: self.node(name) for name in self.cell.nodes}

    def node(self, name: str) -> RpcUpkeep:
        """One of them."""
        if name not in self.channels:
            socket = "nobody" if name in self.unreachable else name
            self.channels[name] = open_channel(f"unix:{self.cell.root}/{socket}.sock")
        return RpcUpkeep(self.channels[name], timeout=10.0, token=lambda: self.leadership.token)

    def upkeep(self) -> CellUpkeep:
        """All of them."""
        return CellUpkeep(nodes=self.nodes, check=self.check)

    def check(self) -> None:
        """Does it lead?"""
        if not self.heedless:
            self.leadership.check()

    async def close(self) -> None:
        """End its calls and its session."""
        for channel in self.channels.values():
            await channel.close()
        await self.coordinator.close()


async def keeper(cell: CellOfNodes, election: str, name: str = "keeper") -> Keeper:
    """Leads when this returns."""
    clock, line = cell.clock, CutStore(cell.store)
    coordinator = EmbeddedCoordinator(store=line, clock=clock)
    session = await coordinator.open_session(ttl=TTL)
    leadership = await campaign(
        coordinator=coordinator, session=session, election=election, leader=LeaderDocument(node=name), clock=clock
    )
    return Keeper(cell, line, coordinator, session, leadership)

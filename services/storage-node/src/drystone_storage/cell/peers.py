# SPDX-License-Identifier: Apache-2.0
"""The disks of other nodes as units of this one: known by their documents, watched and read like local ones.

Invariants
  P1  A disk is one unit for as long as this process lives: when it moves to another node, or its node to another address,
      the unit follows, and files open through it are opened again there.
  P2  A disk whose node is away stays known (FAILED by the watch): its slots may come back.
"""

import logging
from collections.abc import Callable, Mapping

from drystone_core.formats.coordination import DiskDocument, NodeDocument
from drystone_core.ids import DiskId
from drystone_datapath.volume import DiskState, DiskUnit
from drystone_runtime.rpc.remote_disk import BlockingChannel, Peer, RemoteDisk
from drystone_storage.cell.view import CellView
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.world import World

log = logging.getLogger(__name__)
Dial = Callable[[str], BlockingChannel]
"""A channel for blocking calls to an endpoint."""


class PeerDisks:
    """Keeps the units of remote disks in line with the view."""

    def __init__(self, *, world: World, watch: DiskWatch, dial: Dial, node: str, level: str = "node") -> None:
        """`level`: failure domain of placement: disk, node, rack or zone."""
        self._world, self._watch, self._dial = world, watch, dial
        self._node, self._level = node, level
        self._peers: dict[str, Peer] = {}
        self._disks: dict[DiskId, RemoteDisk] = {}

    def follow(self, view: CellView) -> None:
        """Take the view in."""
        for name in view.nodes:
            if name != self._node:
                self._peer(name, view.nodes)
        for disk in view.disks.values():
            node = view.nodes.get(disk.node)
            if node is None:
                continue
            if disk.node != self._node:
                self._remote(disk, node)
            watched = self._watch.get(disk.disk)
            if watched is not None:
                watched.domain = domain(disk, node, self._level)
                watched.draining = disk.state == "draining" or node.state == "draining"

    def close(self) -> None:
        """End all channels."""
        for peer in self._peers.values():
            peer.close()

    def _peer(self, name: str, nodes: Mapping[str, NodeDocument]) -> Peer:
        endpoint = nodes[name].endpoint
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(endpoint, self._dial)
        elif peer.endpoint != endpoint:
            log.info("peer.moved", extra={"node": name, "endpoint": endpoint})
            peer.move(endpoint)
        return peer

    def _remote(self, disk: DiskDocument, node: NodeDocument) -> None:
        peer = self._peers[node.node]
        known = self._disks.get(disk.disk)
        if known is not None:
            known.peer = peer
            return
        label = f"{node.node}/{disk.disk[:8]}"
        self._disks[disk.disk] = remote = RemoteDisk(peer=peer, disk_id=disk.disk, label=label)
        unit = DiskUnit(disk.disk, remote, self._world.lane(label), state=DiskState.FAILED, label=label, vouched=True)
        # FAILED until the watch has seen it: its return makes the registry take its volumes in.
        self._watch.add(unit)
        log.info("peer.disk", extra={"disk": disk.disk, "node": node.node})


def domain(disk: DiskDocument, node: NodeDocument, level: str) -> str:
    """The failure domain of a disk at that level; a node without a rack or zone is one of its own."""
    if level == "disk":
        return disk.disk
    return {"rack": node.rack, "zone": node.zone}.get(level, "") or node.node

# SPDX-License-Identifier: Apache-2.0
"""The disks of other nodes as units of this one: known by their documents, watched and read like local ones.

Invariants
  P1  A disk is one unit for as long as this process lives: when it moves to another node, or its node to another address,
      the unit follows, and files open through it are opened again there.
  P2  A disk whose node is away stays known (FAILED by the watch): its slots may come back. One that is lost, and that its
      node serves without, was replaced there and is forgotten.
  P3  Placement obeys the last layout that could be read: one that cannot be read frees no disk of what was said before.
"""

import logging
from collections.abc import Callable, Mapping

from drystone_core.formats.coordination import OWN_SIZE, DiskDocument, Layout, LayoutDisk, NodeDocument
from drystone_core.ids import DiskId
from drystone_core.layout import failure_domain
from drystone_datapath.volume import DiskState, DiskUnit
from drystone_runtime.rpc.remote_disk import BlockingChannel, Peer, RemoteDisk
from drystone_storage.cell.view import CellView
from drystone_storage.disks.watch import DiskWatch, Watched
from drystone_storage.world import World

log = logging.getLogger(__name__)
Dial = Callable[[str], BlockingChannel]
"""A channel for blocking calls to an endpoint."""


class PeerDisks:
    """Keeps the units of remote disks in line with the view."""

    def __init__(self, *, world: World, watch: DiskWatch, dial: Dial, node: str, level: str = "node") -> None:
        """`level`: failure domain of placement where the layout names none: disk, node, rack or zone."""
        self._world, self._watch, self._dial = world, watch, dial
        self._node, self._level = node, level
        self._peers: dict[str, Peer] = {}
        self._disks: dict[DiskId, RemoteDisk] = {}
        self._layout = Layout(version=0, level="")
        self._wanted: Mapping[DiskId, LayoutDisk] = {}
        self._stands: dict[DiskId, NodeDocument] = {}
        """Disk → the node that serves it, or did last."""

    def follow(self, view: CellView) -> None:
        """Take the view in."""
        if view.layout is not None and view.layout != self._layout:
            self._layout = view.layout
            self._wanted = {each.disk: each for each in view.layout.disks}
            log.info("cell.layout", extra={"version": view.layout.version, "level": view.layout.level})
        for name in view.nodes:
            if name != self._node:
                self._peer(name, view.nodes)
        for disk in view.disks.values():
            node = view.nodes.get(disk.node)
            if node is None:
                continue
            if disk.node != self._node:
                self._remote(disk, node)
            self._stands[disk.disk] = node
        for watched in self._watch.disks:
            self._obey(watched)

    def forget_replaced(self, view: CellView) -> list[DiskUnit]:
        """Disks that are away for good although their node serves: watched no more (P2); the registry forgets them."""
        gone = []
        for disk in list(self._disks):
            watched, node = self._watch.get(disk), self._stands.get(disk)
            if watched is None or node is None or disk in view.disks or node.node not in view.nodes:
                continue
            if self._watch.lost(watched.unit):
                log.info("peer.disk_replaced", extra={"disk": disk, "node": node.node})
                self._watch.remove(watched.unit)
                del self._disks[disk], self._stands[disk]
                gone.append(watched.unit)
        return gone

    def close(self) -> None:
        """End all channels."""
        for peer in self._peers.values():
            peer.close()

    def _obey(self, watched: Watched) -> None:
        """What placement may do with the disk; also while it is away, for it may be back before its document is."""
        disk = watched.unit.disk_id
        wanted, node = self._wanted.get(disk), self._stands.get(disk)
        leaves = node is not None and node.state == "draining"
        # Not by the disk's document: its node writes `draining` there because of what is decided here.
        watched.draining = leaves or (wanted is not None and wanted.draining)
        watched.weight = wanted.weight if wanted is not None else OWN_SIZE
        if node is not None:
            level = self._layout.level or self._level
            watched.domain = failure_domain(level, disk=disk, node=node.node, rack=node.rack, zone=node.zone)

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
            return  # its class stays as well: it is part of the disk's identity
        label = f"{node.node}/{disk.disk[:8]}"
        self._disks[disk.disk] = remote = RemoteDisk(peer=peer, disk_id=disk.disk, label=label)
        unit = DiskUnit(
            disk.disk,
            remote,
            self._world.lane(label),
            state=DiskState.FAILED,
            label=label,
            vouched=True,
            disk_class=disk.disk_class,
        )
        # FAILED until the watch has seen it: its return makes the registry take its volumes in.
        self._watch.add(unit)
        log.info("peer.disk", extra={"disk": disk.disk, "node": node.node})

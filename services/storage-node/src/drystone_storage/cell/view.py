# SPDX-License-Identifier: Apache-2.0
"""What a storage node makes of the coordinator's documents: who serves which disk, whose volumes are abandoned,
what the operator wants of them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from drystone_core.coordination import Document
from drystone_core.errors import Damaged
from drystone_core.formats.coordination import (
    DISKS,
    LAYOUT,
    VOLUMES,
    DiskDocument,
    Layout,
    NodeDocument,
    OpenVolume,
    decode,
    node_key,
)
from drystone_core.ids import DiskId, VolumeId

ROLE = "storage-node"
NODES = node_key(ROLE, "")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class CellView:
    """The storage nodes, their disks and the open volumes at one moment."""

    nodes: Mapping[str, NodeDocument]
    disks: Mapping[DiskId, DiskDocument]
    volumes: Mapping[VolumeId, OpenVolume]
    unreadable: tuple[str, ...] = ()
    """Sentences about documents that were left out."""
    layout: Layout | None = None
    """What the operator wants; None: nothing, or nothing that could be read."""

    def owner_lives(self, claim: OpenVolume) -> bool:
        """Is the volume's owner registered, under the incarnation that claimed it?"""
        node = self.nodes.get(claim.owner)
        return node is not None and node.incarnation == claim.incarnation

    def abandoned(self) -> list[OpenVolume]:
        """Claims whose owner is gone, by volume."""
        return [self.volumes[each] for each in sorted(self.volumes) if not self.owner_lives(self.volumes[each])]


def view_of(documents: Iterable[Document]) -> CellView:
    """The view; a document that cannot be read counts as absent and is named."""
    unreadable: list[str] = []
    nodes: dict[str, NodeDocument] = {}
    disks: dict[DiskId, DiskDocument] = {}
    volumes: dict[VolumeId, OpenVolume] = {}
    layout: Layout | None = None
    for document in documents:
        try:
            if document.key.startswith(NODES):
                node = decode(NodeDocument, document.value, key=document.key)
                nodes[node.node] = node
            elif document.key.startswith(DISKS):
                disk = decode(DiskDocument, document.value, key=document.key)
                disks[disk.disk] = disk
            elif document.key.startswith(VOLUMES):
                volume = decode(OpenVolume, document.value, key=document.key)
                volumes[volume.volume] = volume
            elif document.key == LAYOUT:
                layout = decode(Layout, document.value, key=document.key)
        except Damaged as error:
            unreadable.append(error.message)
    return CellView(nodes, disks, volumes, tuple(unreadable), layout)

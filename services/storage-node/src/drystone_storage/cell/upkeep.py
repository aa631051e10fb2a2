# SPDX-License-Identifier: Apache-2.0
"""A node among others as the keepers of its cell see it (UpkeepNode).

Invariants
  U1  Before anything is done to a volume the disks are asked what there is of it: other nodes rebuild, free and retire too,
      and what this one remembers may be old.
"""

from collections.abc import Sequence

from drystone_core.ids import VolumeId
from drystone_core.upkeep import ScrubReport, VolumeNames, Wound, Wounds
from drystone_storage.node import StorageNode


class NodeUpkeep:
    """Over one StorageNode."""

    def __init__(self, node: StorageNode) -> None:
        self._node = node

    async def look_again(self, volume: VolumeId, healed: Sequence[int] = ()) -> None:
        """Take in what the disks say of it."""
        await self._node.look_again(volume, healed)

    async def wounds(self) -> Wounds:
        """As this node knows them."""
        return await self._node.healer.wounds()

    async def heal(self, wound: Wound, *, bytes_per_second: int) -> int:
        """Rebuild the slot, unless it lies whole somewhere by now."""
        await self.look_again(wound.volume)
        return await self._node.healer.heal(wound, bytes_per_second=bytes_per_second)

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        """As this node knows them."""
        return await self._node.scrubs.closed_volumes_to_scrub()

    async def scrub(self, volume: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        """Read it through where it lies now."""
        await self.look_again(volume)
        return await self._node.scrubs.scrub(volume, bytes_per_second=bytes_per_second)

    async def closed_volumes(self) -> Sequence[VolumeId]:
        """As this node knows them."""
        return await self._node.freer.closed_volumes()

    async def volume_names(self, volume: VolumeId) -> VolumeNames:
        """Walk it where it lies now."""
        await self.look_again(volume)
        return await self._node.freer.volume_names(volume)

    async def free_stripes(self, volume: VolumeId, records: Sequence[int]) -> int:
        """Punch them in every slot, where it lies now."""
        await self.look_again(volume)
        return await self._node.freer.free_stripes(volume, records)

    async def retire(self, volume: VolumeId) -> int:
        """Delete it where it lies now."""
        await self.look_again(volume)
        return await self._node.freer.retire(volume)

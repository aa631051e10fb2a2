# SPDX-License-Identifier: Apache-2.0
"""A node among others as the keepers of its cell see it (UpkeepNode).

Invariants
  U1  Of a volume that is open elsewhere only its claim counts: which of its files were made by the time this node looked is
      no matter. Slots of it that lie on no disk at hand wait.
  U2  A slot this node has never seen may lie on a disk it has not asked since: the disks are asked before it is called
      missing, a few volumes each time.
  U3  Before anything is done to a volume the disks are asked what there is of it: other nodes rebuild, free and retire too,
      and what this one remembers may be old.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from drystone_core.formats.coordination import OpenVolume
from drystone_core.ids import VolumeId
from drystone_core.ports import Clock
from drystone_core.upkeep import ScrubReport, VolumeNames, Wound, Wounds
from drystone_datapath.volume import DiskState, Volume, VolumeState
from drystone_storage.node import StorageNode

DOUBTFUL = 16
"""Volumes looked at before wounds are told."""
AGAIN_SECONDS = 30.0
"""Before the same one is looked at again."""


class NodeUpkeep:
    """Over one StorageNode."""

    def __init__(self, node: StorageNode, claims: Callable[[], Iterable[OpenVolume]], clock: Clock) -> None:
        """`claims`: the open volumes of all nodes, as last known."""
        self._node, self._claims, self._clock = node, claims, clock
        self._looked: dict[VolumeId, float] = {}
        """When the disks were asked for a doubtful volume, monotonic."""

    async def look_again(self, volume: VolumeId, healed: Sequence[int] = ()) -> None:
        """Take in what the disks say of it."""
        await self._node.look_again(volume, healed)

    async def wounds(self) -> Wounds:
        """As this node knows them (U1, U2)."""
        await self._look_at_doubtful()
        found = await self._node.healer.wounds()
        at_hand = {
            watched.unit.disk_id for watched in self._node.watch.disks if watched.unit.state is not DiskState.FAILED
        }
        waiting = sum(
            disk not in at_hand
            for claim in self._claims() if _is_not_ours(self._node.registry.get(claim.volume))
            for disk in claim.disks
        )  # fmt: skip
        return replace(found, waiting=found.waiting + waiting)

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

    async def _look_at_doubtful(self) -> None:
        doubtful = [v.volume_id for v in self._node.registry.volumes() if _doubtful(v)]
        known, now = set(doubtful), self._clock.monotonic()
        self._looked = {volume: when for volume, when in self._looked.items() if volume in known}
        due = [volume for volume in doubtful if now - self._looked.get(volume, float("-inf")) >= AGAIN_SECONDS]
        for volume in sorted(due, key=lambda volume: self._looked.get(volume, float("-inf")))[:DOUBTFUL]:
            self._looked[volume] = now
            await self.look_again(volume)


def _is_not_ours(volume: Volume | None) -> bool:
    return volume is None or volume.state is VolumeState.ELSEWHERE


def _doubtful(volume: Volume) -> bool:
    return volume.state is VolumeState.CLOSED and None in volume.slots

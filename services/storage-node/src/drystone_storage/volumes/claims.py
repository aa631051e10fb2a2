# SPDX-License-Identifier: Apache-2.0
"""Who appends to which volume, so that nobody closes a volume its owner still uses.

Claims are for speed and order: what makes appends safe is the close flag on the slots (R3). A claim stands before the first
file of a volume is made, and goes after its close flags are durable; so a file without a flag and without a claim of a living
node is what a crash left.
"""

from collections.abc import Sequence
from typing import Protocol

from drystone_core.ids import DiskId, VolumeId
from drystone_core.profiles import Profile


class VolumeClaims(Protocol):
    """The claims of all nodes of a cell."""

    async def claim(self, volume: VolumeId, profile: Profile, disks: Sequence[DiskId], disk_class: str) -> None:
        """This node is about to make the volume, for that class (empty: any). Unavailable when that cannot be recorded: then nothing may be made."""
        ...

    async def release(self, volume: VolumeId) -> None:
        """The volume is closed on its slots (or was never made). Tried again later when it cannot be recorded now."""
        ...

    async def owned_elsewhere(self, volumes: Sequence[VolumeId]) -> frozenset[VolumeId]:
        """Those that another living node claims, as of now. Unavailable when that cannot be told."""
        ...


class SoleNode:
    """The claims of a node that has its disks for itself: there is nobody else."""

    async def claim(self, volume: VolumeId, profile: Profile, disks: Sequence[DiskId], disk_class: str) -> None:
        """Nothing to record."""

    async def release(self, volume: VolumeId) -> None:
        """Nothing was recorded."""

    async def owned_elsewhere(self, volumes: Sequence[VolumeId]) -> frozenset[VolumeId]:
        """None."""
        return frozenset()

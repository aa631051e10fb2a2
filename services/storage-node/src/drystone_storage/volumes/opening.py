# SPDX-License-Identifier: Apache-2.0
"""Opening volumes: a disk set chosen by placement, files made on it, other disks when one refuses.

Invariants
  O0  A volume is claimed before the first file of it is made; a claim without a volume is given back.
  O1  A volume is appended to only after all its k+m headers are durable (datapath F1).
  O2  A disk that refused is told to the watch and left out of the next try.
  O3  A volume lies on disks of the class it is opened for, or is not opened. Too few disks is Unavailable; too few only for want of space is Unavailable with InsufficientStorage.
"""

import logging
from functools import partial

from drystone_core.errors import ErrorCode
from drystone_core.ids import DiskId, VolumeId, volume_text
from drystone_core.placement import Placement, place_volume
from drystone_core.profiles import Profile, degraded_profile
from drystone_core.slowness import PeerTimes
from drystone_core.storage_classes import ANY_DISK, class_unavailable
from drystone_datapath.append import Appender, AppendSettings, OnFailure, OnSlow
from drystone_datapath.codec import Codecs
from drystone_datapath.faults import VolumeBroken
from drystone_datapath.volume import DiskUnit, Volume
from drystone_datapath.volume_files import create_volume
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.settings import OpenSettings
from drystone_storage.volumes.claims import VolumeClaims
from drystone_storage.volumes.registry import VolumeRegistry
from drystone_storage.world import World

log = logging.getLogger(__name__)
_SHARD_ROOM = 1 << 20
"""Free bytes beyond its reserve a disk needs for a new shard file."""


class VolumeOpener:
    """Makes new volumes of this node."""

    def __init__(
        self,
        *,
        world: World,
        watch: DiskWatch,
        registry: VolumeRegistry,
        codecs: Codecs,
        claims: VolumeClaims,
        settings: OpenSettings,
        append: AppendSettings,
    ) -> None:
        self._world, self._watch, self._registry, self._claims = world, watch, registry, claims
        self._codecs, self._settings, self._append = codecs, settings, append
        self.profile = Profile(1, 0)
        """The store's; set when its disks are opened."""

    async def create(self, disk_class: str = ANY_DISK) -> Volume:
        """A new volume on healthy disks of the class, registered; Unavailable when there are too few (O3)."""
        refused: list[DiskId] = []
        while True:
            placement = self._place(refused, disk_class)
            units = [watched.unit for disk_id in placement.disks if (watched := self._watch.get(disk_id))]
            volume_id = VolumeId(int.from_bytes(self._world.entropy.token(8), "big"))
            await self._claims.claim(volume_id, placement.profile, placement.disks, disk_class)
            try:
                volume = await create_volume(
                    volume_id=volume_id,
                    profile=placement.profile,
                    units=units,
                    lanes=self._world.lanes,
                    clock=self._world.clock,
                    entropy=self._world.entropy,
                    deadline=self._settings.create_deadline,
                )
            except VolumeBroken as broken:
                await self._claims.release(volume_id)
                for slot, error in broken.failures.items():
                    self._watch.failed(units[slot], error)
                    refused.append(units[slot].disk_id)
                continue
            self._registry.add(volume)
            log.info(
                "volume.opened",
                extra={
                    "volume": volume_text(volume_id),
                    "profile": placement.profile.name,
                    "disk_class": disk_class,
                },
            )
            return volume

    def can_do_without(self, unit: DiskUnit, disk_class: str = ANY_DISK) -> bool:
        """Could a volume of the class be opened now on healthy disks, and not on this one?"""
        choices = self._watch.choices(_SHARD_ROOM, leave_out=(unit.disk_id,), disk_class=disk_class)
        return degraded_profile(self.profile, sum(choice.usable for choice in choices)) is not None

    def appender(
        self, volume: Volume, on_failure: OnFailure, on_slow: OnSlow, before: PeerTimes | None = None
    ) -> Appender:
        """The one appender of a volume just created."""
        return Appender(
            volume=volume,
            codec=self._codecs.get(volume.profile),
            lanes=self._world.lanes,
            clock=self._world.clock,
            entropy=self._world.entropy,
            on_failure=on_failure,
            on_slow=on_slow,
            before=before,
            settings=self._append,
        )

    def _place(self, refused: list[DiskId], disk_class: str) -> Placement:
        """Healthy disks of the class; disks that were only late when too few others are left."""
        choices_of = partial(self._watch.choices, leave_out=refused, disk_class=disk_class)
        for late_too in (False, True):
            choices = choices_of(_SHARD_ROOM, late_too=late_too)
            placement = place_volume(self.profile, choices, self._draw)
            if placement is not None:
                return placement
        sound = sum(choice.usable for choice in choices_of(-(1 << 62), late_too=True))
        need = self.profile.m + 1
        of_class = f" of class {disk_class}" if disk_class != ANY_DISK else ""
        if sound >= need:
            raise class_unavailable(f"the disks{of_class} are full", disk_class, ErrorCode.INSUFFICIENT_STORAGE)
        raise class_unavailable(f"{sound} disks{of_class} can be written, {need} are needed", disk_class)

    def _draw(self) -> float:
        return self._world.entropy.uniform(0.0, 1.0)

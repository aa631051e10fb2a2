# SPDX-License-Identifier: Apache-2.0
"""Scrub: closed volumes read through, so that damage nobody reads is found while it can still be healed (ScrubNode).

Invariants
  C1  A volume counts as verified only when every slot of it was read to the end in one walk.
  C2  What is found bad becomes a wound (registry.bad) at once; nothing is written but the trimming of zeros.
  C3  A slot that was replaced during the walk is not blamed for what its old file held.
  C4  What was freed during the walk, by whichever node, is not taken for damage.
  C5  Reading keeps to the rate; one volume at a time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from drystone_core.cell import ScrubStatus
from drystone_core.errors import Unavailable
from drystone_core.ids import VolumeId, volume_text
from drystone_core.upkeep import ScrubReport
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.verify import Findings, VolumeScrub, trim
from drystone_datapath.volume import DiskUnit, Slot, Volume, VolumeState
from drystone_datapath.volume_files import write_close_flags
from drystone_storage.volumes.registry import SlotPlace, VolumeRegistry
from drystone_storage.world import World

log = logging.getLogger(__name__)
_FRAGMENT_COST = 32 << 10
"""Bytes a fragment counts for beside its own."""
OnFailure = Callable[[Volume, int, BaseException], None]
Look = Callable[[VolumeId], Awaitable[object]]
"""Takes in what the disks say of a volume now."""


@dataclass(slots=True)
class _Counts:
    """Since the process started."""

    bytes_read: int = 0
    slots_damaged: int = 0


class Scrubs:
    """Verifies closed volumes of this node and remembers which were."""

    def __init__(
        self,
        *,
        world: World,
        registry: VolumeRegistry,
        on_failure: OnFailure,
        units: Callable[[], Sequence[DiskUnit]],
        look: Look | None = None,
    ) -> None:
        """`units`: the disks at hand. `look`: among others, which free stripes of volumes that are read here."""
        self._world, self._registry, self._on_failure = world, registry, on_failure
        self._units, self._look = units, look
        self._verified: dict[VolumeId, int] = {}
        """Volume → how often it was verified since the start."""
        self._incomplete: dict[VolumeId, int] = {}
        self._trimmed: set[VolumeId] = set()
        self._counts = _Counts()
        self._one = asyncio.Lock()

    def status(self) -> ScrubStatus:
        """How far scrubbing is."""
        closed = [v.volume_id for v in self._registry.volumes() if v.state is VolumeState.CLOSED]
        times = [self._verified.get(volume_id, 0) for volume_id in closed]
        return ScrubStatus(
            volumes=len(closed),
            verified=sum(time > 0 for time in times),
            passes=min(times, default=0),
            bytes_read=self._counts.bytes_read,
            slots_damaged=self._counts.slots_damaged,
            stripes_incomplete=sum(self._incomplete.get(volume_id, 0) for volume_id in closed),
        )

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        """Those verified least often first."""
        closed = [v.volume_id for v in self._registry.volumes() if v.state is VolumeState.CLOSED]
        known = set(closed)
        self._verified = {volume_id: count for volume_id, count in self._verified.items() if volume_id in known}
        self._trimmed &= known
        self._incomplete = {volume_id: count for volume_id, count in self._incomplete.items() if volume_id in known}
        return sorted(closed, key=lambda volume_id: self._verified.get(volume_id, 0))

    async def scrub(self, volume_id: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        """Read all slots at hand of a closed volume. Unavailable when it is not closed (any more)."""
        async with self._one:
            volume = self._registry.get(volume_id)
            if volume is None or volume.state is not VolumeState.CLOSED:
                raise Unavailable(f"volume {volume_text(volume_id)} is not closed")
            before = list(volume.slots)
            walk = VolumeScrub(volume=volume, lanes=self._world.lanes, clock=self._world.clock)
            freed = len(volume.freed)
            found = await self._walk(walk, bytes_per_second)
            if (found.bad or found.incomplete) and self._look is not None:
                await self._look(volume_id)
                if len(volume.freed) != freed:
                    raise Unavailable("stripes of the volume were freed while it was read")
            damaged = self._note(volume, before, found)
            if found.whole and not found.unread:
                if walk.unflagged:
                    await write_close_flags(volume, lanes=self._world.lanes, clock=self._world.clock)
                volume.end = volume.end or found.end
                self._verified[volume_id] = self._verified.get(volume_id, 0) + 1
                self._incomplete[volume_id] = len(found.incomplete)
                if not damaged and volume.slots == before:
                    await self._registry.remove_strays(volume, self._units())
                if not damaged and volume_id not in self._trimmed:
                    self._trimmed.add(volume_id)
                    await trim(volume, found.end, lanes=self._world.lanes, clock=self._world.clock)
            return ScrubReport(
                volume=volume_id,
                bytes_read=found.read,
                fragments=found.fragments,
                slots_damaged=damaged,
                slots_unread=len(found.unread),
                stripes_incomplete=len(found.incomplete),
            )

    async def _walk(self, walk: VolumeScrub, bytes_per_second: int) -> Findings:
        clock = self._world.clock
        began, counted = clock.monotonic(), 0
        async for found in walk.run():
            self._counts.bytes_read += found.read - counted
            counted = found.read
            # A small fragment costs more than its bytes: many of them must not keep this process from serving.
            ahead = (counted + found.fragments * _FRAGMENT_COST) / bytes_per_second - (clock.monotonic() - began)
            if ahead > 0.01:
                await clock.sleep(ahead)
        return walk.found

    def _note(self, volume: Volume, before: list[Slot | None], found: Findings) -> int:
        """Make wounds of what is bad (C2, C3); how many there are."""
        damaged = 0
        for index, why in sorted(found.bad.items()):
            if volume.slots[index] is not before[index] or volume.state is not VolumeState.CLOSED:
                continue
            damaged += 1
            if SlotPlace(volume.volume_id, index) not in self._registry.bad:
                self._counts.slots_damaged += 1
                self._on_failure(volume, index, DamagedFragment(f"scrub: {why}"))
        for index, error in found.unread.items():
            if before[index] is not None and volume.slots[index] is before[index]:
                if not isinstance(error, FileNotFoundError):
                    self._on_failure(volume, index, error)
        if found.incomplete:
            log.warning(
                "scrub.incomplete_stripes",
                extra={"volume": volume_text(volume.volume_id), "stripes": len(found.incomplete)},
            )
        return damaged

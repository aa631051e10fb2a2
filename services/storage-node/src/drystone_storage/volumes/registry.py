# SPDX-License-Identifier: Apache-2.0
"""All volumes of this node by id: what readers look up, what restart finds again.

Invariants
  R1  A volume found on disk that no other living node claims is CLOSED: every slot at hand gets its close flag before
      anything else happens to it (R3). A claimed one is ELSEWHERE: read, never touched.
  R2  Nothing is truncated or deleted here except shard files of volumes known to be retired.
  R3  Two shard files of one slot: the one closed later, which is the rebuilt one, is used when both are met together; the
      other is reported and left alone until a scrub has proven the first (`remove_strays`).
  R4  Who closed or rebuilt or retired a volume may have been another node: what the disks say counts, not what was known.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from drystone_core.errors import Damaged, Unavailable
from drystone_core.formats.shard import shard_name
from drystone_core.ids import DiskId, VolumeId, volume_text
from drystone_core.ports import Clock, Lanes
from drystone_datapath.volume import DiskState, DiskUnit, Slot, Volume, VolumeState
from drystone_datapath.volume_files import OpenedShard, assemble_volume, write_close_flags
from drystone_storage.volumes.claims import VolumeClaims
from drystone_storage.volumes.shard_files import (
    CachedFile,
    FileCache,
    Listing,
    find_shards,
    list_shards,
    note_retired,
    remove_shard,
)

log = logging.getLogger(__name__)
_LOAD_SECONDS = 60.0
_FIND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """A slot of a volume."""

    volume: VolumeId
    slot: int


@dataclass(frozen=True, slots=True)
class Bad:
    """Why a slot is to be rebuilt, and the disk its file lies on."""

    reason: str
    unit: DiskUnit | None
    unreadable: bool = False
    """The disk gave an error, the bytes may be right: forgotten when the disk was away and is back."""


@dataclass(slots=True, kw_only=True)
class LoadReport:
    """What a start found."""

    volumes: int = 0
    left_open: list[Volume] = field(default_factory=list)
    """Volumes that had been left open and are closed now."""
    damaged: list[tuple[str, VolumeId, int, str]] = field(default_factory=list)
    """(disk, volume, slot, why)."""
    silent: list[str] = field(default_factory=list)
    """Disks that did not answer."""


class VolumeRegistry:
    """The node's volumes; implements VolumeMap."""

    def __init__(self, *, lanes: Lanes, clock: Clock, claims: VolumeClaims, open_files: int = 512) -> None:
        self._lanes, self._clock, self._claims, self._open_files = lanes, clock, claims, open_files
        self._volumes: dict[VolumeId, Volume] = {}
        self.get = self._volumes.get
        """The dict's own method: a look-up on the read path is one C call."""
        self._caches: dict[DiskId, FileCache] = {}
        self.retired: set[VolumeId] = set()
        self.absent: set[VolumeId] = set()
        """Volumes of which the last look found nothing on any disk it asked, and every one answered."""
        self.strays: dict[VolumeId, frozenset[DiskId]] = {}
        """Disks with a file of a slot that lies elsewhere too (R3)."""
        self.bad: dict[SlotPlace, Bad] = {}
        """Slots whose file is damaged, and why; repair rebuilds them."""

    def __len__(self) -> int:
        return len(self._volumes)

    def volumes(self) -> list[Volume]:
        """All of them, by id."""
        return [self._volumes[volume_id] for volume_id in sorted(self._volumes)]

    def add(self, volume: Volume) -> None:
        """A volume just created."""
        self._volumes[volume.volume_id] = volume

    async def load(self, units: Sequence[DiskUnit], *, sweep: bool = True) -> LoadReport:
        """Take in the shard files of these disks (all at start, one that came back later), closing what was left open.

        `sweep`: the disks are this node's own, and what cut rebuilds left on them is removed.
        """
        report = LoadReport()
        calls = [(unit.lane, partial(list_shards, unit.disk, self._cache(unit), sweep=sweep)) for unit in units]
        results = await self._lanes.scatter(calls, deadline=self._clock.monotonic() + _LOAD_SECONDS)
        listings: list[tuple[DiskUnit, Listing]] = []
        for unit, result in zip(units, results, strict=True):
            if isinstance(result, BaseException):
                unit.state = DiskState.FAILED
                report.silent.append(unit.label)
                log.error("registry.disk_unreadable", extra={"disk": unit.label, "reason": repr(result)})
            else:
                listings.append((unit, result))
                self.retired |= result.retired
        await self._remove_retired(listings)
        await self._drop_retired()
        left_open = self._take_in(listings, report)
        self._take_in_headless(listings)
        # A damaged file of a volume nobody knows is what a cut creation leaves: reported, not a wound.
        self.bad = {at: bad for at, bad in self.bad.items() if at.volume in self._volumes}
        report.left_open, report.volumes = await self._close_abandoned(left_open), len(self._volumes)
        return report

    async def find(self, volume_id: VolumeId, units: Sequence[DiskUnit]) -> Volume | None:
        """Look for one volume's files on these disks: one that another node made, or whose slots moved. None: not there."""
        calls = [(unit.lane, partial(find_shards, unit.disk, volume_id, self._cache(unit))) for unit in units]
        results = await self._lanes.scatter(calls, deadline=self._clock.monotonic() + _FIND_SECONDS)
        listings = [
            (unit, result) for unit, result in zip(units, results, strict=True) if not isinstance(result, BaseException)
        ]
        traces = any(listing.shards or listing.damaged or listing.retired for _, listing in listings)
        self.absent.discard(volume_id)
        if not traces and len(listings) == len(units):
            self.absent.add(volume_id)
        self.retired |= {volume_id for _, listing in listings if volume_id in listing.retired}
        if volume_id in self.retired:
            await self._remove_retired(listings)
            await self._drop_retired()
            return None
        self.strays.pop(volume_id, None)
        before = self._volumes.get(volume_id)
        if before is not None and before.state is not VolumeState.OPEN:
            self._forget_moved(before, listings)
        await self._close_abandoned(self._take_in(listings, LoadReport()))
        return self._volumes.get(volume_id)

    def closed_elsewhere(self, volume_id: VolumeId) -> None:
        """The owner, or who stood in for it, closed the volume: it may be scrubbed and repaired now."""
        volume = self._volumes.get(volume_id)
        if volume is not None and volume.state is VolumeState.ELSEWHERE:
            volume.state = VolumeState.CLOSED

    async def _close_abandoned(self, left_open: Sequence[Volume]) -> list[Volume]:
        """Close what nobody appends to any more (R1); returns those. When nobody can tell, nothing is closed.

        A volume with a flag on any slot takes no append whoever claims it: the other slots get theirs.
        """
        doubtful = [volume for volume in left_open if volume.state is VolumeState.ELSEWHERE]
        owned: frozenset[VolumeId] = frozenset()
        if doubtful:
            try:
                owned = await self._claims.owned_elsewhere([volume.volume_id for volume in doubtful])
            except Unavailable as error:
                log.warning("registry.claims_unknown", extra={"volumes": len(doubtful), "reason": error.message})
                owned = frozenset(volume.volume_id for volume in doubtful)
        abandoned = [volume for volume in left_open if volume.volume_id not in owned]
        for volume in abandoned:
            failed = await write_close_flags(volume, lanes=self._lanes, clock=self._clock)
            if len(failed) < sum(slot is not None for slot in volume.slots):
                await self._claims.release(volume.volume_id)
        return abandoned

    @staticmethod
    def _forget_moved(volume: Volume, listings: Sequence[tuple[DiskUnit, Listing]]) -> None:
        """A slot that lies on another disk now, or on no disk that answered, is not where it was."""
        for index, slot in enumerate(volume.slots):
            if slot is None:
                continue
            on = [unit for unit, listing in listings if any(s.header.slot == index for s in listing.shards)]
            if on and slot.unit not in on:
                volume.slots[index] = None
                slot.file.close()

    def replace_slot(self, volume: Volume, slot: int, unit: DiskUnit) -> None:
        """The slot's file now lies (rebuilt, verified, renamed) on `unit`."""
        file = CachedFile(unit.disk, shard_name(volume.volume_id, slot), self._cache(unit))
        old, volume.slots[slot] = volume.slots[slot], Slot(slot, unit, file)
        if old is not None:
            old.file.close()
        self.bad.pop(SlotPlace(volume.volume_id, slot), None)

    def disk_is_back(self, unit: DiskUnit) -> None:
        """Errors the disk gave before it went away say nothing about its files any more."""
        self.bad = {at: bad for at, bad in self.bad.items() if not (bad.unreadable and bad.unit is unit)}

    def forget_disk(self, unit: DiskUnit) -> None:
        """The disk was replaced: its slots are missing from now on, and known to be gone for good, whatever else is away."""
        self.bad = {at: bad for at, bad in self.bad.items() if bad.unit is not unit}
        for volume in self._volumes.values():
            for index, slot in enumerate(volume.slots):
                if slot is not None and slot.unit is unit:
                    volume.slots[index] = None
                    self.bad[SlotPlace(volume.volume_id, index)] = Bad("disk replaced", None)
                    slot.file.close()

    def settle(self, volume: Volume) -> None:
        """A volume just closed: its files move under the cache, so that open files stay bounded."""
        for slot in volume.slots:
            if slot is not None and not isinstance(slot.file, CachedFile):
                name = shard_name(volume.volume_id, slot.index)
                slot.file = CachedFile(slot.unit.disk, name, self._cache(slot.unit))

    async def retire(self, volume: Volume, units: Iterable[DiskUnit]) -> None:
        """Delete a volume all of whose blobs are dead: remembered on all disks at hand first, then removed everywhere."""
        at_hand = [unit for unit in units if unit.state is not DiskState.FAILED]
        deadline = self._clock.monotonic() + _LOAD_SECONDS
        calls = [(unit.lane, partial(note_retired, unit.disk, volume.volume_id)) for unit in at_hand]
        results = await self._lanes.scatter(calls, deadline=deadline)
        noted = sum(not isinstance(result, BaseException) for result in results)
        if noted < min(len(at_hand), volume.profile.m + 1) or not noted:
            raise Damaged(f"the retirement of volume {volume_text(volume.volume_id)} could not be recorded")
        self.retired.add(volume.volume_id)
        await self._drop(volume)

    async def _drop_retired(self) -> None:
        """Volumes that another node retired (R4)."""
        for volume_id in [volume_id for volume_id in self._volumes if volume_id in self.retired]:
            await self._drop(self._volumes[volume_id])

    async def _drop(self, volume: Volume) -> None:
        """Forget a retired volume and remove its files."""
        volume.state = VolumeState.RETIRED
        self._volumes.pop(volume.volume_id, None)
        self.strays.pop(volume.volume_id, None)
        self.bad = {at: bad for at, bad in self.bad.items() if at.volume != volume.volume_id}
        slots = [slot for slot in volume.slots if slot is not None and slot.unit.state is not DiskState.FAILED]
        removals = [(s.unit.lane, partial(remove_shard, s.unit.disk, volume.volume_id, s.index)) for s in slots]
        await self._lanes.scatter(removals, deadline=self._clock.monotonic() + _LOAD_SECONDS)
        for each in volume.slots:
            if each is not None:
                each.file.close()  # an open descriptor would keep the space

    def _cache(self, unit: DiskUnit) -> FileCache:
        cache = self._caches.get(unit.disk_id)
        if cache is None:
            cache = self._caches[unit.disk_id] = FileCache(self._open_files)
        return cache

    async def _remove_retired(self, listings: Sequence[tuple[DiskUnit, Listing]]) -> None:
        """Stale shard files of a disk that was away while their volume was retired."""
        removals = []
        for unit, listing in listings:
            stale = [shard for shard in listing.shards if shard.header.volume in self.retired]
            listing.shards = [shard for shard in listing.shards if shard.header.volume not in self.retired]
            removals += [
                (unit.lane, partial(remove_shard, unit.disk, shard.header.volume, shard.header.slot)) for shard in stale
            ]
        if removals:
            await self._lanes.scatter(removals, deadline=self._clock.monotonic() + _LOAD_SECONDS)

    def _take_in(self, listings: Sequence[tuple[DiskUnit, Listing]], report: LoadReport) -> list[Volume]:
        """Enter the shards; returns the volumes that have a slot without a close flag."""
        fresh: dict[VolumeId, list[tuple[DiskUnit, OpenedShard]]] = {}
        left_open: dict[VolumeId, None] = {}
        for unit, listing in listings:
            for volume_id, slot, why in listing.damaged:
                report.damaged.append((unit.label, volume_id, slot, why))
                held = self._slot(volume_id, slot)
                if held is None or held.unit is unit:
                    self.bad[SlotPlace(volume_id, slot)] = Bad(why, unit)
                log.warning(
                    "registry.shard_damaged", extra={"disk": unit.label, "volume": volume_text(volume_id), "why": why}
                )
        met = [(unit, shard) for unit, listing in listings for shard in listing.shards]
        for unit, shard in sorted(
            met, key=lambda pair: -_closed_at(pair[1])
        ):  # R3: of two for one slot, this one first
            known = self._volumes.get(shard.header.volume)
            if not shard.closed and (known is None or known.state is not VolumeState.OPEN):
                left_open[shard.header.volume] = None
            if known is None:
                fresh.setdefault(shard.header.volume, []).append((unit, shard))
            else:
                self._rejoin(known, unit, shard)
        for volume_id, shards in fresh.items():
            self._volumes[volume_id] = volume = assemble_volume(self._agreeing(shards))
            if not any(shard.closed for _, shard in shards):
                volume.state = VolumeState.ELSEWHERE
        return [self._volumes[volume_id] for volume_id in left_open if volume_id in self._volumes]

    def _slot(self, volume_id: VolumeId, index: int) -> Slot | None:
        volume = self._volumes.get(volume_id)
        return volume.slots[index] if volume is not None and index < len(volume.slots) else None

    def _take_in_headless(self, listings: Sequence[tuple[DiskUnit, Listing]]) -> None:
        """Files whose header is damaged stand in for their slot until it is rebuilt: every read verifies what it gets."""
        for unit, listing in listings:
            for volume_id, index, file in listing.headless:
                volume = self._volumes.get(volume_id)
                place = SlotPlace(volume_id, index)
                if volume is None or volume_id in self.retired or index >= len(volume.slots):
                    continue
                if volume.slots[index] is None and volume.state is VolumeState.CLOSED:
                    volume.slots[index] = Slot(index, unit, file)
                elif place in self.bad and self.bad[place].unit is unit and volume.slots[index] is not None:
                    held = volume.slots[index]
                    if held is not None and held.unit is not unit:
                        del self.bad[place]  # the slot lies elsewhere: this is a file of old

    def _rejoin(self, volume: Volume, unit: DiskUnit, shard: OpenedShard) -> None:
        """A shard of a volume already known: its disk was away."""
        header = shard.header
        if (header.profile, header.nonce) != (volume.profile, volume.nonce):
            log.warning("registry.foreign_shard", extra={"disk": unit.label, "volume": volume_text(header.volume)})
            return
        held = volume.slots[header.slot]
        if held is None or held.unit is unit or held.unit.disk_id == unit.disk_id:
            if held is not None and held.unit is unit and isinstance(held.file, CachedFile):
                held.file.let_go()  # it is opened again by its name: another node may have put a rebuilt one there
            elif volume.state is not VolumeState.OPEN:
                volume.slots[header.slot] = Slot(header.slot, unit, shard.file)
                place = SlotPlace(volume.volume_id, header.slot)
                if place in self.bad and self.bad[place].unit is None:
                    del self.bad[place]  # it was gone with its disk: somebody has rebuilt it
            if shard.freed is not None:
                volume.freed |= shard.freed.records
        elif held.unit is not unit:
            self._note_stray(volume.volume_id, unit)
            log.warning(
                "registry.slot_twice",
                extra={"volume": volume_text(header.volume), "slot": header.slot, "kept": held.unit.label},
            )

    def _note_stray(self, volume_id: VolumeId, unit: DiskUnit) -> None:
        self.strays[volume_id] = self.strays.get(volume_id, frozenset()) | {unit.disk_id}

    async def remove_strays(self, volume: Volume, units: Sequence[DiskUnit]) -> int:
        """A scrub has just proven every slot where it is known to lie: second files of them go. How many were removed.

        Which of two stays depends on their flags and disks alone, so that two nodes never remove each other's; while
        the one used here is not that one, nothing is removed.
        """
        if volume.volume_id not in self.strays:
            return 0
        calls = [(unit.lane, partial(find_shards, unit.disk, volume.volume_id, self._cache(unit))) for unit in units]
        results = await self._lanes.scatter(calls, deadline=self._clock.monotonic() + _FIND_SECONDS)
        by_slot: dict[int, list[tuple[int, DiskId, DiskUnit]]] = {}
        for unit, result in zip(units, results, strict=True):
            for shard in [] if isinstance(result, BaseException) else result.shards:
                if (shard.header.profile, shard.header.nonce) == (volume.profile, volume.nonce):
                    by_slot.setdefault(shard.header.slot, []).append((_closed_at(shard), unit.disk_id, unit))
        removals = []
        for index, files in by_slot.items():
            *strays, kept = sorted(files, key=lambda file: file[:2])
            used = volume.slots[index]
            if strays and used is not None and used.unit is kept[2]:
                removals += [(u.lane, partial(remove_shard, u.disk, volume.volume_id, index)) for _, _, u in strays]
        await self._lanes.scatter(removals, deadline=self._clock.monotonic() + _LOAD_SECONDS)
        if len(removals) == sum(len(files) - 1 for files in by_slot.values()):
            self.strays.pop(volume.volume_id, None)
        log.info("registry.strays_removed", extra={"volume": volume_text(volume.volume_id), "files": len(removals)})
        return len(removals)

    def _agreeing(self, shards: list[tuple[DiskUnit, OpenedShard]]) -> list[tuple[DiskUnit, OpenedShard]]:
        """The largest group of shards with one nonce and profile; of two for one slot the one closed later, which
        is the rebuilt one (R3)."""
        groups: dict[tuple[object, bytes], list[tuple[DiskUnit, OpenedShard]]] = {}
        for unit, shard in shards:
            groups.setdefault((shard.header.profile, shard.header.nonce), []).append((unit, shard))
        kept: dict[int, tuple[DiskUnit, OpenedShard]] = {}
        for unit, shard in max(groups.values(), key=lambda group: len({shard.header.slot for _, shard in group})):
            other = kept.get(shard.header.slot)
            if other is None or _closed_at(shard) > _closed_at(other[1]):
                kept[shard.header.slot] = (unit, shard)
            if other is not None:
                self._note_stray(shard.header.volume, unit if kept[shard.header.slot] is other else other[0])
        if len(kept) < len(shards):
            log.warning("registry.shards_disagree", extra={"volume": volume_text(shards[0][1].header.volume)})
        return [kept[slot] for slot in sorted(kept)]


def _closed_at(shard: OpenedShard) -> int:
    return shard.flag.stamp_us if shard.flag is not None else 0

# SPDX-License-Identifier: Apache-2.0
"""Finding lost and damaged slots, and rebuilding them. The storage node's side of repair (RepairNode).

Invariants
  H1  Only slots of closed volumes are rebuilt; an open volume is left and closed first.
  H2  A damaged file is replaced as a whole by a verified one, never written into (data-plane R1). Stripes that too few
      others hold are carried over from the damaged file, so that replacing it can only add redundancy.
  H3  Never two slots of one volume on one disk, not even while several are rebuilt at once.
  H4  A slot whose disk is merely away is left alone for `lost_after`: it usually comes back.
  H5  A slot goes to the failure domain that holds fewest of its volume's slots.
  H6  What is rebuilt is told apart by who rebuilds (a word in the temporary name); where it may lie, its disk says at last.
  H7  A slow disk (often it is the rebuilding that makes it slow) is rebuilt on when no other can be: better than a wound.
  H8  Where volumes keep to classes a slot goes to a disk of its volume's class; a volume that lies on several has none.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.formats.free_map import FreeMap
from drystone_core.formats.shard import RECORDS_AT, ShardHeader, shard_name
from drystone_core.ids import DiskId, VolumeId, volume_text
from drystone_core.placement import place_slot
from drystone_core.ports import Disk, DiskFile
from drystone_core.storage_classes import ANY_DISK
from drystone_core.upkeep import Wound, Wounds
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.read import Reader
from drystone_datapath.rebuild import SlotRebuild, temporary_name
from drystone_datapath.scan import scan_some
from drystone_datapath.volume import DiskState, DiskUnit, Slot, Volume, VolumeState
from drystone_datapath.volume_files import read_free_map, write_free_map
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.volumes.registry import SlotPlace, VolumeRegistry
from drystone_storage.volumes.shard_files import place_shard
from drystone_storage.world import World

log = logging.getLogger(__name__)
_STEP_SECONDS = 30.0
_COPY = 1 << 20
_VOLUMES_A_TURN = 256
"""Volumes looked at before other work on the loop has its turn."""


class Healer:
    """Rebuilds slots of this node's volumes."""

    def __init__(
        self,
        *,
        world: World,
        registry: VolumeRegistry,
        watch: DiskWatch,
        reader: Reader,
        leave: Callable[[Volume], Awaitable[None]],
        lost_after: float,
        apart: bool = False,
    ) -> None:
        """`apart`: volumes keep to disks of one class (a storage class is mapped)."""
        self._apart = apart
        self._world, self._registry, self._watch, self._reader = world, registry, watch, reader
        self._leave, self._lost_after = leave, lost_after
        self._filling: set[tuple[VolumeId, DiskId]] = set()
        """Disks that just get a slot of a volume: never two slots of one volume on one disk."""
        self._word = world.entropy.token(4).hex()
        self._healing: set[SlotPlace] = set()
        """A slot is rebuilt once at a time: a caller that was replaced may ask for what its predecessor began."""

    async def wounds(self) -> Wounds:
        """Slots that are missing or damaged and for which a disk to rebuild on exists now."""
        found: list[Wound] = []
        waiting = 0
        bad = {at.volume for at in self._registry.bad}
        volumes = [v for v in self._registry.volumes() if v.state is not VolumeState.ELSEWHERE]  # its owner tells of it
        for number, volume in enumerate(volumes):
            if number % _VOLUMES_A_TURN == _VOLUMES_A_TURN - 1:
                await self._world.clock.sleep(0)
            if volume.volume_id not in bad and _whole(volume):
                continue
            sick = self._sick(volume)
            spare = self._spare(volume, sick)
            waiting += self._merely_away(volume, sick)
            for index, reason in sick.items():
                if self._target(volume, index) is not None:
                    size = max(volume.end, RECORDS_AT)
                    found.append(Wound(volume=volume.volume_id, slot=index, spare=spare, size=size, reason=reason))
                else:
                    waiting += 1
        return Wounds(found=tuple(found), waiting=waiting)

    async def heal(self, wound: Wound, *, bytes_per_second: int) -> int:
        """Rebuild the slot: temporary file, sync, verify, rename. Raises Damaged, Unavailable, OSError, TimeoutError."""
        volume = self._registry.get(wound.volume)
        if volume is None or wound.slot not in self._sick(volume):
            return 0
        if volume.state is VolumeState.OPEN:
            await self._leave(volume)
        if volume.state is not VolumeState.CLOSED:
            raise Unavailable(f"volume {volume_text(volume.volume_id)} is not closed")
        unit = self._target(volume, wound.slot)
        if unit is None:
            raise Unavailable("no disk to rebuild the slot on")
        place, filling = SlotPlace(volume.volume_id, wound.slot), (volume.volume_id, unit.disk_id)
        if place in self._healing:
            raise Unavailable("the slot is being rebuilt already")
        self._healing.add(place)
        self._filling.add(filling)
        try:
            return await self._rebuild(volume, wound.slot, unit, bytes_per_second)
        except (DrystoneError, OSError, DamagedFragment):
            name = shard_name(volume.volume_id, wound.slot)
            unit.lane.submit(partial(_discard, unit.disk, temporary_name(name, self._word)))
            raise
        finally:
            self._healing.discard(place)
            self._filling.discard(filling)

    async def _rebuild(self, volume: Volume, index: int, unit: DiskUnit, bytes_per_second: int) -> int:
        held = DiskHeldBack(unit.disk)
        rebuild = SlotRebuild(
            volume=volume,
            missing=index,
            unit=DiskUnit(unit.disk_id, held, unit.lane, unit.state, unit.label),
            fragments=self._reader.fragments,
            lanes=self._world.lanes,
            clock=self._world.clock,
            by=self._word,
        )
        began, written = self._world.clock.monotonic(), 0
        incomplete: list[int] = []
        async for progress in rebuild.run():
            written, incomplete = progress.bytes_written, progress.incomplete
            ahead = written / bytes_per_second - (self._world.clock.monotonic() - began)
            if ahead > 0.01:
                await self._world.clock.sleep(ahead)
        await self._finish(volume, index, unit, rebuild.file, incomplete)
        return written

    async def _finish(
        self, volume: Volume, index: int, unit: DiskUnit, file: DiskFile, incomplete: Sequence[int]
    ) -> None:
        """Carry over what only the damaged file has, write the free map, give the file its name (H2)."""
        if volume.state is not VolumeState.CLOSED:
            raise Unavailable("the volume was retired while a slot of it was rebuilt")
        old = volume.slots[index]
        if old is not None and incomplete and old.unit.state is not DiskState.FAILED:
            saved = await self._run(old.unit, partial(_carry_over, old, volume, incomplete, file))
            log.info("repair.carried_over", extra={"volume": volume_text(volume.volume_id), "stripes": saved})
        await self._run(unit, file.sync)
        if volume.freed:
            header = ShardHeader(volume=volume.volume_id, slot=index, profile=volume.profile, nonce=volume.nonce)
            await self._run(unit, partial(_write_freed, unit.disk, header, frozenset(volume.freed)))
        name = shard_name(volume.volume_id, index)
        await self._run(unit, partial(place_shard, unit.disk, temporary_name(name, self._word), name))
        file.close()
        self._registry.replace_slot(volume, index, unit)

    async def _run(self, unit: DiskUnit, call: Callable[[], object]) -> object:
        deadline = self._world.clock.monotonic() + _STEP_SECONDS
        return await self._world.lanes.run(unit.lane, call, deadline=deadline)

    def _sick(self, volume: Volume) -> dict[int, str]:
        """Slots to rebuild, with the reason."""
        now = self._world.clock.monotonic()
        found: dict[int, str] = {}
        for index, slot in enumerate(volume.slots):
            bad = self._registry.bad.get(SlotPlace(volume.volume_id, index))
            if slot is None:
                # After a start with a disk away nothing tells which slots it holds: it usually comes back (H4).
                if bad is not None or not self._watch.away_for_less(self._lost_after):
                    found[index] = bad.reason if bad is not None else "missing"
            elif slot.unit.state is DiskState.FAILED:
                if self._watch.failed_for(slot.unit, now) >= self._lost_after:
                    found[index] = "disk lost"
            elif bad is not None:
                found[index] = bad.reason
        return found

    def _spare(self, volume: Volume, sick: dict[int, str]) -> int:
        """Losses left. Damaged slots count, but never make a volume hopeless: each usually lacks another stripe."""
        damaged = sum(_at_hand(volume.slots[index]) for index in sick)
        left = volume.profile.m - (len(sick) - damaged) - self._merely_away(volume, sick)
        return left if left < 0 else max(0, left - damaged)

    def _merely_away(self, volume: Volume, sick: dict[int, str]) -> int:
        return sum(
            1 for index, slot in enumerate(volume.slots)
            if index not in sick and (slot is None or slot.unit.state is DiskState.FAILED)
        )  # fmt: skip

    def _target(self, volume: Volume, index: int) -> DiskUnit | None:
        """The slot's own disk when it is healthy, else a healthy one that holds no slot of the volume (H3, H7)."""
        return self._target_among(volume, index, slow_too=False) or self._target_among(volume, index, slow_too=True)

    def _target_among(self, volume: Volume, index: int, *, slow_too: bool) -> DiskUnit | None:
        bad = self._registry.bad.get(SlotPlace(volume.volume_id, index))
        slot = volume.slots[index]
        own = slot.unit if slot is not None else bad.unit if bad is not None else None
        size = max(volume.end, _COPY)
        holders = [s.unit.disk_id for s in volume.slots if s is not None]
        holders += self._registry.strays.get(volume.volume_id, ())
        filling = [disk_id for volume_id, disk_id in self._filling if volume_id == volume.volume_id]
        disk_class = self._kept_class(volume)
        choices = self._watch.choices(size, leave_out=filling, slow_too=slow_too)
        usable = {choice.disk_id for choice in choices if choice.usable}
        if own is not None and own.disk_id in usable:
            return own
        # A slot's old disk that is away counts as a holder: it may come back with its file.
        held = [watched.domain for disk_id in self._keepers(volume, index) if (watched := self._watch.get(disk_id))]
        choices = self._watch.choices(size, leave_out=holders + filling, slow_too=slow_too, disk_class=disk_class)
        disk_id = place_slot(choices, held)
        watched = self._watch.get(disk_id) if disk_id is not None else None
        return watched.unit if watched is not None else None

    def _kept_class(self, volume: Volume) -> str:
        """The class its slots must stay on: that of its disks, where volumes keep to classes.

        With slots missing the others' class may be chance: a volume of more slots than the class has disks, away ones
        included, was written over several, before there was a mapping.
        """
        disk_class = volume.disk_class
        of_class = sum(watched.unit.disk_class == disk_class for watched in self._watch.disks)
        return disk_class if self._apart and of_class >= volume.profile.slots else ANY_DISK

    def _keepers(self, volume: Volume, index: int) -> list[DiskId]:
        """The disks at hand that hold the other slots, or are being filled with them."""
        held = [s.unit.disk_id for s in volume.slots if s is not None and s.index != index and _at_hand(s)]
        return held + [disk_id for volume_id, disk_id in self._filling if volume_id == volume.volume_id]


def _discard(disk: Disk, name: str) -> None:
    """On the lane: what a failed rebuild left; the next one would begin anew anyway."""
    try:
        disk.unlink(name)
    except OSError:
        return


def _at_hand(slot: Slot | None) -> bool:
    return slot is not None and slot.unit.state is not DiskState.FAILED


def _whole(volume: Volume) -> bool:
    """Every slot is on a disk at hand: the quick look that nearly all volumes pass."""
    return all(map(_at_hand, volume.slots))


class DiskHeldBack:
    """A disk whose rename waits: the rebuilt file gets its name only after what else must be in it is (H2)."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def open(self, name: str, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        return self._disk.open(name, create=create, exclusive=exclusive)

    def rename(self, old: str, new: str) -> None:
        """Not yet: whoever asked for the rebuild renames."""

    def unlink(self, name: str) -> None:
        self._disk.unlink(name)

    def listdir(self, folder: str) -> list[str]:
        return self._disk.listdir(folder)

    def space(self) -> tuple[int, int]:
        return self._disk.space()


def _carry_over(old: Slot, volume: Volume, records: Sequence[int], new: DiskFile) -> int:
    """Copy whole records whose heads verify in the old file; their blocks are judged by their CRCs when read."""
    saved = 0
    for record in records:
        try:
            step = scan_some(old.file, volume, old.index, record, False, 1, 1)
            if not step.records or step.records[0].head.offset != record:
                continue
            head = step.records[0].head
            end = record + head.payload_at + head.stored_length
            for at in range(record, end, _COPY):
                space = memoryview(bytearray(min(_COPY, end - at)))
                got = old.file.preadv((space,), at)
                new.pwritev([space[:got]], at, durable=False)
            saved += 1
        except OSError:
            continue
    return saved


def _write_freed(disk: Disk, header: ShardHeader, records: frozenset[int]) -> None:
    before = read_free_map(disk, header)
    generation = before.generation + 1 if before is not None else 1
    free = FreeMap(volume=header.volume, slot=header.slot, generation=generation, records=records)
    write_free_map(disk, free, header.nonce)

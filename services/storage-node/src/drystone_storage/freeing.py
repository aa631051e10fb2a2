# SPDX-License-Identifier: Apache-2.0
"""Walking closed volumes and giving back the space of their dead stripes. The storage node's side of reclaim (ReclaimNode).

Invariants (data-plane R8)
  F1  Only closed volumes; heads and tables stay, payloads are punched.
  F2  A stripe is punched only after a free map that names it, of a new generation, is durable on every slot not lost. That
      all of them answer is seen before the first map is written: what a map names is not punched again later.
  F3  Punching touches whole 4 KiB sectors of the payload only.
  F4  A volume is deleted only when the heads of all slots at hand (at least m+1, or all there ever were of one whose
      creation was cut short) name no stripe that was not judged.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from drystone_core.errors import Unavailable
from drystone_core.extents import RECORD_ALIGN
from drystone_core.formats.blob_table import KIND_DATA, KIND_MANIFEST, BlobEntry
from drystone_core.formats.free_map import FreeMap
from drystone_core.formats.shard import RECORDS_AT, ShardHeader
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ports import Disk, DiskFile
from drystone_core.services import BlobName
from drystone_core.stripes import align
from drystone_core.upkeep import StripeNames, VolumeNames
from drystone_datapath.scan import scan_slot
from drystone_datapath.volume import DiskState, Slot, Volume, VolumeState
from drystone_datapath.volume_files import read_free_map, write_free_map
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.volumes.registry import VolumeRegistry
from drystone_storage.world import World

log = logging.getLogger(__name__)
_SECONDS = 60.0


class _Place(NamedTuple):
    """Of a record, what freeing needs; kept small: a volume may have half a million."""

    payload_at: int
    span: int
    fragment_length: int


class _Walk:
    """What scans of a volume found: geometry and names by record."""

    def __init__(self) -> None:
        self.heads: dict[int, _Place] = {}
        self.names: dict[int, tuple[BlobName, ...]] = {}
        self.undroppable: set[int] = set()

    async def slot(self, world: World, volume: Volume, slot: Slot, *, pause: float) -> None:
        """Read one slot through."""
        async for step in scan_slot(volume, slot, lanes=world.lanes, clock=world.clock):
            for record in step.records:
                offset = record.head.offset
                self.heads.setdefault(
                    offset, _Place(record.head.payload_at, record.head.span, record.head.fragment_length)
                )
                if record.entries is not None and offset not in self.names:
                    self._note(offset, record.entries)
            await world.clock.sleep(pause)

    def _note(self, offset: int, entries: list[BlobEntry]) -> None:
        self.names[offset] = tuple(entry.name for entry in entries)
        if any(entry.kind not in (KIND_DATA, KIND_MANIFEST) for entry in entries):
            self.undroppable.add(offset)

    @property
    def whole(self) -> bool:
        """Records follow one another without a gap, each with a table that verified."""
        at = RECORDS_AT
        for offset in sorted(self.heads):
            if offset != at or offset not in self.names:
                return False
            at += self.heads[offset].span
        return True


class Freer:
    """Frees stripes and volumes of this node."""

    def __init__(
        self, *, world: World, registry: VolumeRegistry, watch: DiskWatch, lost_after: float, pause: float = 0.005
    ) -> None:
        self._world, self._registry, self._watch = world, registry, watch
        self._lost_after = lost_after
        self._pause = pause
        """Seconds between two steps of a scan: reclaim is never in a hurry."""
        self._judged: tuple[VolumeId, dict[int, _Place]] | None = None
        """Of the volume walked last: reclaim takes one at a time."""
        self._thorough: set[VolumeId] = set()
        """Volumes whose slots were seen to differ: walked through all slots from then on."""

    async def closed_volumes(self) -> Sequence[VolumeId]:
        return [volume.volume_id for volume in self._registry.volumes() if volume.state is VolumeState.CLOSED]

    async def volume_names(self, volume_id: VolumeId) -> VolumeNames:
        """All stripes by one slot's tables; by those of all slots where that one has gaps."""
        volume = self._closed(volume_id)
        walk = _Walk()
        for slot in _readable(volume):
            try:
                await walk.slot(self._world, volume, slot, pause=self._pause)
            except (OSError, TimeoutError) as error:
                log.warning("reclaim.scan_failed", extra={"disk": slot.unit.label, "error": repr(error)})
                continue
            if walk.whole and volume_id not in self._thorough:
                break
        self._judged = (volume_id, walk.heads)
        stripes = []
        for record in sorted(walk.heads):
            names = walk.names.get(record)
            stripes.append(
                StripeNames(
                    record=record,
                    stored=walk.heads[record].fragment_length * volume.profile.slots,
                    names=names or (),
                    droppable=names is not None and record not in walk.undroppable,
                    freed=record in volume.freed,
                )
            )
        return VolumeNames(volume=volume_id, stripes=tuple(stripes), complete=walk.whole)

    async def free_stripes(self, volume_id: VolumeId, records: Sequence[int]) -> int:
        """Punch payloads (F1 to F3). Unavailable while a slot that is not lost is away; the next pass tries again."""
        volume, heads = self._closed(volume_id), self._heads_of(volume_id)
        wanted = [record for record in records if record in heads and record not in volume.freed]
        if not wanted:
            return 0
        slots = [slot for slot in volume.slots if slot is not None]
        missing = len(slots) < len(volume.slots) and self._watch.away_for_less(self._lost_after)
        if missing or any(slot.unit.state is DiskState.FAILED for slot in slots):
            raise Unavailable("a slot of the volume is away: freeing waits")
        await self._on(slots, [slot.file.size for slot in slots])
        freed = frozenset(volume.freed) | frozenset(wanted)
        await self._on(
            slots, [partial(_write_next_map, slot.unit.disk, _header(volume, slot), freed) for slot in slots]
        )
        volume.freed |= freed
        ranges = [_payload(record, heads[record]) for record in wanted]
        await self._on(slots, [partial(_punch, slot.file, ranges) for slot in slots])
        given_back = sum(length for _, length in ranges) * len(slots)
        log.info(
            "reclaim.punched", extra={"volume": volume_text(volume_id), "stripes": len(wanted), "bytes": given_back}
        )
        return given_back

    async def retire(self, volume_id: VolumeId) -> int:
        """Delete the volume, after all slots at hand were seen to hold nothing that was not judged (F4)."""
        volume, judged = self._closed(volume_id), self._heads_of(volume_id)
        at_hand = _readable(volume)
        if len(at_hand) < volume.profile.m + 1 and not (at_hand and await self._stillborn(volume, at_hand)):
            raise Unavailable("too few slots at hand to delete the volume")
        for slot in at_hand:
            async for step in scan_slot(volume, slot, lanes=self._world.lanes, clock=self._world.clock, tables=False):
                unknown = [r.head.offset for r in step.records if r.head.offset not in judged]
                if unknown:
                    self._thorough.add(volume_id)
                    raise Unavailable(f"slot {slot.index} holds stripes that were not judged: {unknown[:3]}")
        self._closed(volume_id)
        given_back = sum(head.span for head in judged.values()) * len(at_hand)
        await self._registry.retire(volume, [watched.unit for watched in self._watch.disks])
        self._judged = None
        self._thorough.discard(volume_id)
        return given_back

    async def _stillborn(self, volume: Volume, at_hand: Sequence[Slot]) -> bool:
        """Its creation was cut short: no file is longer than its header, no disk is away, so nothing was ever appended.

        Every acknowledged stripe is in the file of every slot: one that never grew proves that there is none.
        """
        if any(watched.unit.state is DiskState.FAILED for watched in self._watch.disks):
            return False
        pairs = [(slot.unit.lane, slot.file.size) for slot in at_hand]
        sizes = await self._world.lanes.scatter(pairs, deadline=self._world.clock.monotonic() + _SECONDS)
        return all(isinstance(size, int) and size <= RECORDS_AT for size in sizes)

    async def _on(self, slots: Sequence[Slot], calls: Sequence[Callable[[], object]]) -> None:
        pairs = [(slot.unit.lane, call) for slot, call in zip(slots, calls, strict=True)]
        deadline = self._world.clock.monotonic() + _SECONDS
        results = await self._world.lanes.scatter(pairs, deadline=deadline)
        for slot, result in zip(slots, results, strict=True):
            if isinstance(result, BaseException):
                raise Unavailable(f"disk {slot.unit.label}: {result}") from result

    def _closed(self, volume_id: VolumeId) -> Volume:
        volume = self._registry.get(volume_id)
        if volume is None or volume.state is not VolumeState.CLOSED:
            raise Unavailable(f"volume {volume_text(volume_id)} is not closed")
        return volume

    def _heads_of(self, volume_id: VolumeId) -> dict[int, _Place]:
        if self._judged is None or self._judged[0] != volume_id:
            raise Unavailable(f"volume {volume_text(volume_id)} was not walked")
        return self._judged[1]


def _readable(volume: Volume) -> list[Slot]:
    """Slots at hand, those of healthy disks first."""
    found = [slot for slot in volume.slots if slot is not None and slot.unit.state is not DiskState.FAILED]
    return sorted(found, key=lambda slot: slot.unit.state is not DiskState.HEALTHY)


def _header(volume: Volume, slot: Slot) -> ShardHeader:
    return ShardHeader(volume=volume.volume_id, slot=slot.index, profile=volume.profile, nonce=volume.nonce)


def _write_next_map(disk: Disk, header: ShardHeader, records: frozenset[int]) -> None:
    """The next generation after what the slot has; never names fewer stripes than it did."""
    before = read_free_map(disk, header)
    generation = before.generation + 1 if before is not None else 1
    known = before.records if before is not None else frozenset()
    free = FreeMap(volume=header.volume, slot=header.slot, generation=generation, records=records | known)
    write_free_map(disk, free, header.nonce)


def _payload(record: int, place: _Place) -> tuple[int, int]:
    """(offset, length) of the whole sectors of the payload (F3)."""
    start = align(record + place.payload_at, RECORD_ALIGN)
    return start, max(0, record + place.span - start)


def _punch(file: DiskFile, ranges: Sequence[tuple[int, int]]) -> None:
    for offset, length in ranges:
        if length:
            file.punch(offset, length)

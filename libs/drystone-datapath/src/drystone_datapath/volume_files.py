# SPDX-License-Identifier: Apache-2.0
"""Making, opening and closing the shard files of a volume.

Invariants
  F1  A volume exists only once all k+m headers are durable; a failed creation is never appended to.
  F2  A close flag is durable before it counts; one flagged slot suffices to refuse every later append.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from drystone_core.check import check
from drystone_core.errors import Damaged
from drystone_core.formats.close_flag import (
    PROBE,
    CloseFlag,
    decode_close_flag,
    encode_close_flag,
    is_closed,
)
from drystone_core.formats.free_map import (
    COPY_BYTES,
    HEAD_BYTES,
    FreeMap,
    body_length,
    copy_offset,
    decode_free_map,
    encode_free_map,
    free_map_name,
    newest,
)
from drystone_core.formats.shard import (
    CLOSE_FLAG_AT,
    RECORDS_AT,
    SECTOR,
    ShardHeader,
    decode_shard_header,
    encode_shard_header,
    shard_name,
)
from drystone_core.ids import VolumeId
from drystone_core.ports import Clock, Disk, DiskFile, Entropy, Lanes
from drystone_core.profiles import Profile
from drystone_datapath.faults import VolumeBroken
from drystone_datapath.volume import DiskUnit, Slot, Volume, VolumeState


@dataclass(frozen=True, slots=True)
class OpenedShard:
    """A shard file as found on a disk."""

    header: ShardHeader
    file: DiskFile
    closed: bool
    flag: CloseFlag | None
    """What the close flag says, when it verifies."""
    freed: FreeMap | None


async def create_volume(
    *,
    volume_id: VolumeId,
    profile: Profile,
    units: Sequence[DiskUnit],
    lanes: Lanes,
    clock: Clock,
    entropy: Entropy,
    deadline: float = 10.0,
) -> Volume:
    """A new open volume, slot i on `units[i]`. Raises VolumeBroken with the slots that failed (F1)."""
    check(len(units) == profile.slots, "one disk per slot")
    nonce = entropy.token(16)
    calls = [
        (
            unit.lane,
            partial(_create_shard, unit.disk, ShardHeader(volume=volume_id, slot=slot, profile=profile, nonce=nonce)),
        )
        for slot, unit in enumerate(units)
    ]
    results = await lanes.scatter(calls, deadline=clock.monotonic() + deadline)
    failures = {slot: result for slot, result in enumerate(results) if isinstance(result, BaseException)}
    if failures:
        raise VolumeBroken(volume_id, failures)
    slots: list[Slot | None] = []
    for slot, (unit, file) in enumerate(zip(units, results, strict=True)):
        assert not isinstance(file, BaseException)
        slots.append(Slot(slot, unit, file))
    return Volume(volume_id, profile, nonce, slots, end=RECORDS_AT)


def _create_shard(disk: Disk, header: ShardHeader) -> DiskFile:
    file = disk.open(shard_name(header.volume, header.slot), create=True, exclusive=True)
    file.pwritev([encode_shard_header(header), bytes(SECTOR)], 0, durable=True)
    return file


def open_shard(disk: Disk, volume: VolumeId, slot: int) -> OpenedShard:
    """On the lane: open and read one shard file; Damaged when it is not the shard it is named after."""
    name = shard_name(volume, slot)
    file = disk.open(name)
    head = bytearray(CLOSE_FLAG_AT + SECTOR)
    file.preadv([memoryview(head)], 0)
    try:
        header = decode_shard_header(head)
        if header.volume != volume or header.slot != slot:
            raise Damaged("shard header names another volume or slot")
    except Damaged:
        file.close()
        raise
    sector = memoryview(head)[CLOSE_FLAG_AT:]
    return OpenedShard(
        header, file, is_closed(sector), decode_close_flag(sector, header.nonce), read_free_map(disk, header)
    )


def assemble_volume(shards: Sequence[tuple[DiskUnit, OpenedShard]]) -> Volume:
    """A closed volume from the shards at hand (at least one).

    What the slots' free maps say is united: a map names a stripe only once it is dead, and dead it stays (R7, R8), while
    generations are counted per slot (a rebuilt slot's begin anew), so the highest one need not be the fullest.

    The state is CLOSED even when no flag was found: a volume has one owner for life, and it is not us (R3). Its closer
    writes the flags with `write_close_flags`.
    """
    first = shards[0][1].header
    slots: list[Slot | None] = [None] * first.profile.slots
    end = 0
    freed: set[int] = set()
    for unit, shard in shards:
        header = shard.header
        if (header.volume, header.profile, header.nonce) != (first.volume, first.profile, first.nonce):
            raise Damaged("shard headers of one volume disagree")
        slots[header.slot] = Slot(header.slot, unit, shard.file)
        end = max(end, shard.flag.end if shard.flag else 0)
        if shard.freed is not None:
            freed |= shard.freed.records
    return Volume(first.volume, first.profile, first.nonce, slots, VolumeState.CLOSED, end, freed=freed)


async def write_close_flags(
    volume: Volume, *, lanes: Lanes, clock: Clock, deadline: float = 10.0
) -> dict[int, BaseException]:
    """A durable close flag on every slot at hand; returns the slots that failed. Idempotent."""
    volume.state = VolumeState.CLOSED
    stamp = clock.wall_us()
    slots = [slot for slot in volume.slots if slot is not None]
    calls = [
        (
            slot.unit.lane,
            partial(
                _flag_shard, slot.file,
                CloseFlag(volume=volume.volume_id, slot=slot.index, stamp_us=stamp, end=volume.end), volume.nonce,
            ),
        )
        for slot in slots
    ]  # fmt: skip
    results = await lanes.scatter(calls, deadline=clock.monotonic() + deadline)
    return {
        slot.index: result for slot, result in zip(slots, results, strict=True) if isinstance(result, BaseException)
    }


def _flag_shard(file: DiskFile, flag: CloseFlag, nonce: bytes) -> None:
    probe = memoryview(bytearray(PROBE))
    file.preadv([probe], CLOSE_FLAG_AT)
    if not is_closed(probe):
        file.pwritev([encode_close_flag(flag, nonce)], CLOSE_FLAG_AT, durable=True)


def read_free_map(disk: Disk, header: ShardHeader) -> FreeMap | None:
    """On the lane: the newest valid copy of a shard's free map; None when nothing was freed."""
    try:
        file = disk.open(free_map_name(shard_name(header.volume, header.slot)))
    except FileNotFoundError:
        return None
    try:
        return newest([_read_copy(file, at, header) for at in (0, COPY_BYTES)])
    finally:
        file.close()


def _read_copy(file: DiskFile, at: int, header: ShardHeader) -> FreeMap | None:
    head = bytearray(HEAD_BYTES)
    if file.preadv([memoryview(head)], at) < HEAD_BYTES:
        return None
    length = body_length(head)
    if length is None:
        return None
    body = bytearray(length)
    file.preadv([memoryview(body)], at + HEAD_BYTES)
    return decode_free_map(head + body, header.nonce, volume=header.volume, slot=header.slot)


def write_free_map(disk: Disk, free: FreeMap, nonce: bytes) -> None:
    """On the lane: durable before it returns; the previous generation stays in the other copy."""
    file = disk.open(free_map_name(shard_name(free.volume, free.slot)), create=True)
    try:
        file.pwritev([encode_free_map(free, nonce)], copy_offset(free.generation), durable=True)
    finally:
        file.close()

# SPDX-License-Identifier: Apache-2.0
"""Planted damage of every kind: found by reads or by a scrub, healed by a rebuild, never handed out."""

import asyncio
import os
import random

import pytest

from drystone_core.errors import Damaged
from drystone_core.extents import PackedExtent
from drystone_core.formats.free_map import FreeMap
from drystone_core.formats.shard import CLOSE_FLAG_AT, RECORDS_AT, shard_name
from drystone_core.ids import DiskId, VolumeId
from drystone_datapath.faults import BlobGone, DamagedFragment
from drystone_datapath.rebuild import SlotRebuild, temporary_name
from drystone_datapath.verify import Findings, VolumeScrub, trim
from drystone_datapath.volume import DiskUnit, Slot, VolumeState
from drystone_datapath.volume_files import open_shard, write_free_map
from drystone_testing.sim_disk import SimDisk, SimLane
from drystone_testing.volume_rig import Rig

VOLUME = VolumeId(7)
SCALE = max(1, round(float(os.environ.get("FAULT_SCALE", "1"))))


async def filled(k: int = 4, m: int = 2, *, large: int = (1 << 20) + 77, **settings: object) -> Rig:
    """A closed volume with packs, a piece and an object whose end is zeros."""
    rig = Rig(k, m, **{"allocate_step": 0, **settings})
    appender = await rig.open()
    for _ in range(3):
        await asyncio.gather(*(rig.put(appender, size) for size in (1, 4096, 70000, 131072)))
    await rig.put_large(appender, large)
    await rig.put(appender, 10)
    await appender.close()
    return rig


async def scrub(rig: Rig) -> Findings:
    """One walk over the volume."""
    job = VolumeScrub(volume=rig.volumes[VOLUME], lanes=rig.lanes, clock=rig.clock)
    async for _ in job.run():
        pass
    assert job.found.whole
    return job.found


async def heal(rig: Rig, slot: int) -> None:
    """Rebuild a slot where it lies, as the storage node does."""
    volume = rig.volumes[VOLUME]
    unit = rig.units[slot]
    job = SlotRebuild(
        volume=volume, missing=slot, unit=unit, fragments=rig.reader.fragments, lanes=rig.lanes, clock=rig.clock
    )
    last = [progress async for progress in job.run()][-1]
    assert last.verified and not last.incomplete
    held = volume.slots[slot]
    assert held is not None
    held.file = open_shard(unit.disk, VOLUME, slot).file


def size_of(rig: Rig, slot: int) -> int:
    """Bytes of a slot's file that are there to be hurt."""
    return len(rig.disk(slot).nodes[shard_name(VOLUME, slot)].data)


async def test_a_scrub_of_a_sound_volume_finds_nothing() -> None:
    """No false alarm: every fragment counts as good, in windows smaller than the volume."""
    rig = await filled(large=(9 << 20) + 5)
    found = await scrub(rig)
    assert not found.bad and not found.incomplete and not found.unread
    assert found.fragments == rig.volumes[VOLUME].sequence * 6
    assert found.end == rig.volumes[VOLUME].end


async def test_windows_with_more_records_than_one_call_takes_are_read_whole() -> None:
    """Hundreds of lone small records: none is left out, and one that is damaged in the middle is named."""
    rig = Rig(2, 1, allocate_step=0)
    appender = await rig.open()
    for _ in range(400):
        await rig.put(appender, 20)
    await appender.close()
    assert (await scrub(rig)).fragments == 1200
    extent = rig.model[300][0].extents[0]
    rig.disk(1).flip(shard_name(VOLUME, 1), (extent.record + 20) * 8)
    found = await scrub(rig)
    assert list(found.bad) == [1] and found.fragments == 1199


async def test_every_flipped_bit_is_found_and_healed_and_never_read() -> None:
    """Flips in up to m slots: reads stay right, a scrub names the slots whose files differ, rebuilding ends the damage."""
    rng = random.Random(11)
    rig = await filled(large=300_000)
    clean = [bytes(rig.disk(slot).nodes[shard_name(VOLUME, slot)].data) for slot in range(6)]
    flips = 0
    for _ in range(10 * SCALE):
        victims = rng.sample(range(6), 2)
        for slot in victims:
            for _ in range(1000):
                rig.disk(slot).flip(shard_name(VOLUME, slot), rng.randrange(size_of(rig, slot) * 8))
                flips += 1
        await rig.agree()
        found = await scrub(rig)
        assert sorted(found.bad) == sorted(victims)
        for slot in victims:
            await heal(rig, slot)
        assert not (await scrub(rig)).bad
        for slot in victims:
            now = bytes(rig.disk(slot).nodes[shard_name(VOLUME, slot)].data)
            assert len(now) <= len(clean[slot]) + 4096
        await rig.agree()
    assert flips >= 20_000


async def test_single_flips_anywhere_that_matters_are_found_by_a_scrub() -> None:
    """One flipped bit in header, flag, head, table or payload is named; one in unused space is not."""
    rig = await filled(large=300_000)
    rng = random.Random(5)
    volume = rig.volumes[VOLUME]
    name = shard_name(VOLUME, 3)
    matter: list[tuple[int, int]] = [(0, 40), (CLOSE_FLAG_AT, CLOSE_FLAG_AT + 52)]
    file = rig.disk(3).open(name)
    from drystone_datapath.scan import scan_some

    for record in scan_some(file, volume, 3, RECORDS_AT, True).records:
        head = record.head
        matter.append((head.offset, head.offset + head.table_at + head.table_length))
        start = head.offset + head.payload_at
        matter.append((start, start + head.stored_length))
    for _ in range(300 * SCALE):
        low, high = rng.choice(matter)
        if low == high:
            continue
        bit = rng.randrange(low * 8, high * 8)
        rig.disk(3).flip(name, bit)
        assert list((await scrub(rig)).bad) == [3], f"bit {bit} was not noticed"
        rig.disk(3).flip(name, bit)
    assert not (await scrub(rig)).bad


@pytest.mark.parametrize("kind", ["misdirected", "stale", "swapped slots", "other volume", "other offset", "zeroed"])
async def test_fragments_in_the_wrong_place_are_never_taken_for_right_ones(kind: str) -> None:
    """Bytes that are valid somewhere else: reads work around them, a scrub names the slot."""
    rng = random.Random(kind)
    rig = await filled(large=300_000)
    other = await filled(large=300_000)
    volume = rig.volumes[VOLUME]
    from drystone_datapath.scan import scan_some

    for _ in range(28 * SCALE):
        slot, name = rng.randrange(6), ""
        name = shard_name(VOLUME, slot)
        node = rig.disk(slot).nodes[name]
        before = bytes(node.data)
        heads = [r.head for r in scan_some(rig.disk(slot).open(name), volume, slot, RECORDS_AT, True).records]
        head = rng.choice([each for each in heads if each.stored_length])
        low, high = head.offset, head.offset + head.payload_at + head.stored_length
        if kind == "misdirected":
            aim = rng.choice([each for each in heads if each.offset != head.offset]).offset
            source, target = bytes(before[low:high]), aim
        elif kind == "stale":
            source, target = bytes(min(4096, high - low)), rng.randrange(low, high, 512)
        elif kind == "swapped slots":
            twin = (slot + rng.randrange(1, 6)) % 6
            source, target = bytes(rig.disk(twin).nodes[shard_name(VOLUME, twin)].data[low:high]), low
        elif kind == "other volume":
            source, target = bytes(other.disk(slot).nodes[name].data[low : high + 4096]), low
        elif kind == "other offset":
            source, target = bytes(before[low:high]), low + rng.choice([512, 4096, -4096])
        else:
            source, target = bytes(high - low), low
        if source == before[target : target + len(source)] or not source:
            continue
        node.data[target : target + len(source)] = source
        changed = {at for at in range(len(before)) if node.data[at] != before[at]} if len(source) < 2048 else {low}
        rig.reader = rig.make_reader()
        await rig.agree()
        found = await scrub(rig)
        padding = all(not _matters(heads, at) for at in changed) if len(source) < 2048 else False
        assert list(found.bad) == [slot] or padding, (kind, slot, target, len(source))
        node.data[:] = before
    assert not (await scrub(rig)).bad


def _matters(heads: list, at: int) -> bool:  # type: ignore[type-arg]
    return any(h.offset <= at < h.offset + h.payload_at + h.stored_length for h in heads)


async def test_a_swapped_shard_file_is_read_around_and_named() -> None:
    """A whole file renamed over another slot's, while it is open under its old content's volume."""
    rig = await filled(large=300_000)
    first, second = (rig.disk(slot).nodes[shard_name(VOLUME, slot)] for slot in (1, 4))
    first.data[:], second.data[:] = bytes(second.data), bytes(first.data)
    await rig.agree()
    assert sorted((await scrub(rig)).bad) == [1, 4]


async def test_rebuilt_file_that_ends_in_zeros_reads_right_with_heads_cached_before() -> None:
    """A head read from the old file says more bytes than the rebuilt one stores: they are zeros, not damage."""
    rig = Rig(2, 1, allocate_step=0)
    appender = await rig.open()
    body = b"x" * 70_000 + bytes(130_000)
    header = rig.blob(1).header
    from drystone_core.extents import StripedExtent
    from drystone_datapath.pack import Piece
    from drystone_datapath.write import StripedWriter

    async def sink(piece: Piece) -> StripedExtent:
        return await appender.append_piece(piece)

    writer = StripedWriter(header=header, blob_id=rig.blob_id(), expected=len(body), sink=sink, pool=rig.pieces)
    space = await writer.space()
    space[: len(body)] = body
    await writer.write(len(body))
    ref = await writer.finish(b"")
    rig.model.append((ref, body))
    await appender.close()
    await rig.agree()
    for slot in range(3):
        await heal(rig, slot)
        rig.failures.clear()
        await rig.agree()
        assert not rig.failures


async def test_two_faults_of_a_narrow_volume_are_survived() -> None:
    """1+2 with the blob's own slot and the next one damaged, heads included: the third one has it all."""
    rig = Rig(1, 2, allocate_step=0)
    appender = await rig.open()
    ref = await rig.put(appender, 5000)
    await appender.close()
    extent = ref.extents[0]
    for slot in (0, 1):
        for at in (extent.record + 20, extent.record + extent.payload_at + 99):
            rig.disk(slot).flip(shard_name(VOLUME, slot), at * 8)
    rig.reopen()
    await rig.agree()
    assert sorted((await scrub(rig)).bad) == [0, 1]


async def test_a_head_misdirected_while_a_slot_is_rebuilt_is_noticed() -> None:
    """Q4: what was read back is compared with what was written, so a record that is missing is no success."""
    rig = await filled(large=300_000)
    unit = DiskUnit(DiskId("f" * 32), SimDisk(), SimLane())
    job = SlotRebuild(
        volume=rig.volumes[VOLUME], missing=2, unit=unit, fragments=rig.reader.fragments, lanes=rig.lanes,
        clock=rig.clock,
    )  # fmt: skip
    unit.disk.fail("pwritev", nth=4, lost=True, error=None, name=".new")
    with pytest.raises(DamagedFragment):
        async for _ in job.run():
            pass
    assert unit.disk.listdir("volumes") == [temporary_name(shard_name(VOLUME, 2)).removeprefix("volumes/")]


async def test_free_maps_of_slots_with_different_generations_are_united() -> None:
    """R8: a slot that was away has a higher generation with fewer stripes; what was punched meanwhile stays known."""
    rig = await filled(large=300_000)
    volume = rig.volumes[VOLUME]
    records = [ref.extents[0].record for ref, _ in rig.model]
    old = FreeMap(volume=VOLUME, slot=0, generation=9, records=frozenset(records[:1]))
    write_free_map(rig.disk(0), old, volume.nonce)
    for slot in range(1, 6):
        new = FreeMap(volume=VOLUME, slot=slot, generation=2, records=frozenset((records[0], records[5])))
        write_free_map(rig.disk(slot), new, volume.nonce)
    rig.reopen()
    assert rig.volumes[VOLUME].freed == {records[0], records[5]}


async def test_scrub_does_not_take_holes_and_torn_ends_for_damage() -> None:
    """Freed stripes are judged by head and table; a stripe that fewer than k slots have is incomplete, nobody's fault."""
    rig = await filled(large=300_000)
    volume = rig.volumes[VOLUME]
    record = rig.model[0][0].extents[0].record
    volume.freed.add(record)
    for slot in range(6):
        name = shard_name(VOLUME, slot)
        data = rig.disk(slot).nodes[name].data
        data[record + 4096 : record + 8192] = bytes(4096)
    for slot in (1, 2, 3):
        rig.disk(slot).flip(shard_name(VOLUME, slot), (rig.model[-1][0].extents[0].record + 3) * 8)
    found = await scrub(rig)
    assert not found.bad
    assert found.incomplete == [rig.model[-1][0].extents[0].record]


async def test_reserved_space_behind_the_last_record_is_given_back_after_a_crash() -> None:
    """A crash leaves preallocated space; trimming punches zeros only, whatever lies there."""
    rig = Rig(2, 1, allocate_step=1 << 20)
    appender = await rig.open()
    await rig.put(appender, 5000)
    rig.crash(4)
    rig.reopen()
    volume = rig.volumes[VOLUME]
    end = (await scrub(rig)).end
    garbage = rig.disk(1).nodes[shard_name(VOLUME, 1)]
    garbage.write(end + 8192, b"torn", durable=True)
    assert await trim(volume, end, lanes=rig.lanes, clock=rig.clock) >= 0
    assert bytes(garbage.data[end + 8192 : end + 8196]) == b"torn"
    await rig.agree()


async def test_a_retired_volume_answers_gone_rather_than_damaged() -> None:
    """A long read that finds its files removed reads the row again instead of failing."""
    rig = await filled(large=300_000)
    volume = rig.volumes[VOLUME]
    for slot in range(6):
        rig.disk(slot).dead = True
    volume.state = VolumeState.RETIRED
    ref, body = rig.model[0]
    with pytest.raises(BlobGone):
        await rig.read([ref], 0, len(body))
    assert not rig.failures


async def test_a_slot_rebuilt_during_a_read_is_not_blamed_for_its_old_file() -> None:
    """G3: the read met the damaged file; by the time it says so the slot is another file, which is sound."""
    blamed = 0
    for steps in range(12):
        rig = await filled(large=300_000)
        volume = rig.volumes[VOLUME]
        ref, body = rig.model[3]
        extent = ref.extents[0]
        assert isinstance(extent, PackedExtent)
        index = extent.fragment
        sound = rig.disk(index).open("sound", create=True)
        sound.pwritev([bytes(rig.disk(index).nodes[shard_name(VOLUME, index)].data)], 0, durable=True)
        rig.disk(index).flip(shard_name(VOLUME, index), (extent.record + extent.payload_at + extent.position) * 8)
        old = volume.slots[index]
        assert old is not None
        reading = asyncio.ensure_future(rig.read([ref], 0, len(body)))
        for _ in range(steps):
            await asyncio.sleep(0)
        before = len(rig.failures)
        volume.slots[index] = Slot(index, old.unit, sound)
        assert await reading == body
        assert len(rig.failures) == before
        blamed += before
    assert blamed, "no read got as far as blaming the slot it had met"


async def test_more_than_m_faults_are_an_error_and_never_bytes() -> None:
    """m+1 slots damaged in one stripe: Damaged, not something that looks right."""
    rig = await filled(large=300_000)
    ref, body = rig.model[3]
    extent = ref.extents[0]
    for slot in range(6):
        rig.disk(slot).flip(shard_name(VOLUME, slot), (extent.record + extent.payload_at + 5) * 8)
    rig.reader = rig.make_reader()
    try:
        assert await rig.read([ref], 0, len(body)) == body
    except Damaged:
        pass

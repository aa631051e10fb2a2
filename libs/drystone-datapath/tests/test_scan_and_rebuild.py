# SPDX-License-Identifier: Apache-2.0
"""Scanning shard files after damage, and rebuilding whole slots, over simulated disks."""

import asyncio

import pytest

from drystone_core.formats.blob_table import ENTRY_BYTES
from drystone_core.formats.record import HeadEncoder
from drystone_core.formats.shard import RECORDS_AT, shard_name
from drystone_core.ids import DiskId, VolumeId
from drystone_core.services import SmallBlob
from drystone_core.stripes import geometry
from drystone_datapath.faults import VolumeBroken
from drystone_datapath.rebuild import RebuildProgress, SlotRebuild, temporary_name
from drystone_datapath.scan import ScannedRecord, scan_slot
from drystone_datapath.volume import DiskUnit, VolumeState
from drystone_testing.sim_disk import SimDisk, SimLane
from drystone_testing.volume_rig import Rig

VOLUME = VolumeId(7)


async def filled(k: int = 4, m: int = 2, **settings: object) -> Rig:
    """A closed volume with packs and pieces."""
    rig = Rig(k, m, **settings)
    appender = await rig.open()
    for _ in range(3):
        await asyncio.gather(*(rig.put(appender, size) for size in (1, 4096, 70000, 131072)))
    await rig.put_large(appender, (9 << 20) + 77)
    await rig.put(appender, 10)
    await appender.close()
    return rig


async def scan(rig: Rig, slot: int) -> list[ScannedRecord]:
    """All records of a slot."""
    volume = rig.volumes[VOLUME]
    held = volume.slots[slot]
    assert held is not None
    found = []
    async for step in scan_slot(volume, held, lanes=rig.lanes, clock=rig.clock, records=2):
        found += step.records
    return found


async def rebuild(rig: Rig, missing: int) -> RebuildProgress:
    """Replace a slot by a rebuilt one on a fresh disk."""
    volume = rig.volumes[VOLUME]
    volume.slots[missing] = None
    unit = DiskUnit(DiskId("f" * 32), SimDisk(), SimLane())
    job = SlotRebuild(
        volume=volume, missing=missing, unit=unit, fragments=rig.reader.fragments, lanes=rig.lanes, clock=rig.clock
    )
    last = [progress async for progress in job.run()][-1]
    assert last.verified
    rig.units[missing] = unit
    return last


async def test_scan_finds_every_record_in_every_slot_with_all_names() -> None:
    """The chain of heads describes the volume from any one slot."""
    rig = await filled()
    names = {ref.blob_id for ref, _ in rig.model}
    for slot in range(6):
        records = await scan(rig, slot)
        assert {entry.blob_id for record in records for entry in record.entries or ()} == names
        assert [record.head.sequence for record in records] == list(range(rig.volumes[VOLUME].sequence))
    entries = [entry for record in records for entry in record.entries or () if entry.key == b"large"]
    assert [entry.offset for entry in entries] == [0, 8 << 20] and entries[-1].trailer_length == 63


async def test_scan_goes_on_behind_a_damaged_head() -> None:
    """One flipped bit in a head costs that record in that slot and no other."""
    rig = await filled(allocate_step=0)
    before = await scan(rig, 1)
    rig.disk(1).flip(shard_name(VOLUME, 1), (before[2].head.offset + 20) * 8)
    after = await scan(rig, 1)
    assert [record.head.offset for record in after] == [
        record.head.offset for index, record in enumerate(before) if index != 2
    ]


async def test_stored_bytes_that_look_like_records_are_not_records() -> None:
    """R2: a client stores a copy of a real shard file; a scan forced through it finds nothing of it."""
    rig = Rig(1, 1)
    appender = await rig.open()
    await rig.put(appender, 4096)
    file = bytes(rig.disk(0).nodes[shard_name(VOLUME, 0)].data)
    evil = SmallBlob(header=rig.blob(1).header, payload=file[RECORDS_AT - 576 :][:100_000], trailer=b"")
    for shift in range(0, 4096, 64):
        blob = SmallBlob(header=evil.header, payload=bytes(shift) + bytes(evil.payload)[:16384], trailer=b"")
        rig.model.append((await appender.append(blob), bytes(blob.payload)))
    await appender.close()
    before = await scan(rig, 0)
    for record in before[1:]:
        rig.disk(0).flip(shard_name(VOLUME, 0), (record.head.offset + 9) * 8)
    assert [record.head.offset for record in await scan(rig, 0)] == [before[0].head.offset]
    await rig.agree()


async def test_forged_records_at_the_right_place_fail_without_the_nonce() -> None:
    """R2: a client who guesses volume, slot and offset still lacks the key of the checksum."""
    rig = Rig(1, 1)
    appender = await rig.open()
    volume = rig.volumes[VOLUME]
    header = rig.blob(1).header
    payload = bytearray(100_000)
    at = (
        geometry(fragment_length=100_032, table_length=ENTRY_BYTES + len(header.key), page_aligned=False).payload_at
        + volume.end
    )
    for offset in range(-(-at // 4096) * 4096, at + len(payload) - 4096, 4096):
        forged = HeadEncoder(
            volume=VOLUME,
            k=1,
            m=1,
            nonce=bytes(16),
            offset=offset,
            sequence=9,
            table_length=0,
            entries=0,
            shape=geometry(fragment_length=64, table_length=0, page_aligned=False),
            digest=bytes(16),
            piece=False,
        ).encode(0, 64, [0])
        payload[offset - at : offset - at + len(forged)] = forged
    await appender.append(SmallBlob(header=header, payload=bytes(payload), trailer=b""))
    record = (await scan(rig, 0))[0].head
    assert record.offset + record.payload_at == at
    rig.disk(0).flip(shard_name(VOLUME, 0), (record.offset + 9) * 8)
    assert await scan(rig, 0) == []


@pytest.mark.parametrize(("k", "m", "missing"), [(4, 2, 0), (4, 2, 3), (4, 2, 5), (2, 1, 1), (2, 1, 2), (1, 1, 0)])
async def test_rebuilt_slot_carries_its_share(k: int, m: int, missing: int) -> None:
    """After a rebuild any m OTHER disks may be lost: the rebuilt fragments are as good as the first ones."""
    rig = await filled(k, m)
    progress = await rebuild(rig, missing)
    assert progress.incomplete == []
    assert len(await scan_of_reopened(rig, missing)) == progress.stripes
    others = [slot for slot in range(k + m) if slot != missing][:m]
    rig.reopen(lost=tuple(others))
    rig.failures.clear()
    await rig.agree()


async def scan_of_reopened(rig: Rig, slot: int) -> list[ScannedRecord]:
    """The records of a slot as a restart sees it."""
    rig.reopen()
    return await scan(rig, slot)


async def test_rebuild_survives_damage_within_reach_and_reports_what_is_beyond() -> None:
    """One bad slot more is worked around; a stripe with fewer than k good fragments is named, not invented."""
    rig = await filled(2, 2, allocate_step=0)
    heads = [record.head for record in await scan(rig, 0)]
    rig.disk(1).flip(shard_name(VOLUME, 1), (heads[0].offset + heads[0].payload_at + 100) * 8)
    for slot in (1, 2):
        rig.disk(slot).flip(shard_name(VOLUME, slot), (heads[1].offset + heads[1].payload_at + 100) * 8)
    rig.failures.clear()
    progress = await rebuild(rig, 3)
    assert progress.incomplete == [heads[1].offset]
    assert progress.stripes == len(heads) - 1
    # Slot 2 is hurt only where nothing can be healed: a wound there would have it and slot 1 rebuilt in turn for ever.
    assert {slot for slot, _ in rig.failures} == {1}


async def test_rebuild_leaves_freed_stripes_as_holes() -> None:
    """R8: heads and tables come back, punched payloads do not."""
    rig = await filled()
    volume = rig.volumes[VOLUME]
    record = (await scan(rig, 0))[0].head
    volume.freed.add(record.offset)
    for slot in volume.slots:
        assert slot is not None
        slot.file.punch(record.offset + record.payload_at, record.fragment_length)
    progress = await rebuild(rig, 2)
    assert progress.incomplete == []
    rig.reopen()
    found = (await scan(rig, 2))[0]
    assert found.head.offset == record.offset and found.head.stored_length == 0 and found.entries


async def test_rebuild_replaces_a_half_done_one_and_needs_k_survivors() -> None:
    """A temporary file of a rebuild that died is begun anew."""
    rig = await filled(2, 1)
    volume = rig.volumes[VOLUME]
    assert volume.state is VolumeState.CLOSED
    volume.slots[2] = None
    unit = DiskUnit(DiskId("e" * 32), SimDisk(), SimLane())
    unit.disk.open(temporary_name(shard_name(VOLUME, 2)), create=True).pwritev([b"junk" * 5000], 0, durable=True)
    job = SlotRebuild(
        volume=volume, missing=2, unit=unit, fragments=rig.reader.fragments, lanes=rig.lanes, clock=rig.clock
    )
    steps = [progress async for progress in job.run()]
    assert steps[-1].verified and unit.disk.listdir("volumes") == [shard_name(VOLUME, 2).removeprefix("volumes/")]


async def test_stripe_torn_by_a_crash_is_found_by_its_whole_fragments() -> None:
    """An unacknowledged stripe with k whole fragments is content and is rebuilt to all slots."""
    rig = Rig(2, 1)
    appender = await rig.open()
    await rig.put(appender, 5000)
    rig.disk(1).fail("pwritev", lost=True)
    with pytest.raises(VolumeBroken):
        await rig.put(appender, 6000)
    await appender.close()
    rig.crash(3)
    rig.reopen()
    assert [len(await scan(rig, slot)) for slot in range(3)] == [2, 1, 2]
    progress = await rebuild(rig, 1)
    assert progress.stripes == 2 and progress.incomplete == []
    await rig.agree()

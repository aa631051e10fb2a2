# SPDX-License-Identifier: Apache-2.0
"""Appending, reading back and surviving what disks do, over simulated disks, against a dict."""

import asyncio
import errno
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drystone_core.errors import Busy, Damaged, Unavailable
from drystone_core.extents import PackedExtent, StripedExtent
from drystone_core.formats.shard import RECORDS_AT, shard_name
from drystone_core.ids import VolumeId
from drystone_core.profiles import Profile
from drystone_datapath.faults import BlobGone, SlotClosed, VolumeBroken, VolumeUnusable
from drystone_datapath.scan import scan_some
from drystone_datapath.volume import DiskState
from drystone_datapath.volume_files import open_shard, write_close_flags
from drystone_testing.sim_disk import SimLanes
from drystone_testing.volume_rig import CODECS, Rig

PROFILES = [(4, 2), (2, 1), (1, 1), (3, 2), (1, 0), (1, 2)]


@pytest.mark.parametrize(("k", "m"), PROFILES)
async def test_blobs_of_all_sizes_read_back_in_every_profile(k: int, m: int) -> None:
    """Packs, pieces and runs of pieces agree with the model, whole and in ranges."""
    rig = Rig(k, m)
    appender = await rig.open()
    await asyncio.gather(*(rig.put(appender, size) for size in (0, 1, 63, 64, 4096, 65536, 65537, 131072)))
    for size in (131073, 1 << 20, (8 << 20) + 5, (17 << 20) + 12345):
        await rig.put_large(appender, size)
    await rig.agree()
    ref, body = rig.model[-1]
    for start, length in ((0, 1), (70000, 4096), (8 << 20, 1), ((8 << 20) - 3, 9), (len(body) - 1, 1), (5, 3 << 20)):
        assert await rig.read([ref], start, length) == body[start : start + length]
        now = rig.reader.read_now([ref], start, length)
        assert now is None or bytes(now) == body[start : start + length]
    assert bytes(rig.reader.read_now([ref], 70000, 4096)) == body[70000:74096]


async def test_equal_pieces_become_one_run() -> None:
    """A 40 MiB blob written alone is a row or two, not five."""
    rig = Rig()
    appender = await rig.open()
    ref = await rig.put_large(appender, 40 << 20)
    assert len(ref.extents) == 2
    first = ref.extents[0]
    assert isinstance(first, StripedExtent) and first.count == 4
    await rig.agree()


async def test_blob_whose_end_was_unknown_reads_back() -> None:
    """The trailer then has a stripe of its own."""
    rig = Rig()
    appender = await rig.open()
    await rig.put_large(appender, 16 << 20, expected=0)
    await rig.put_large(appender, (16 << 20) + 1, expected=0)
    await rig.agree()


async def test_waiting_blobs_share_one_flush() -> None:
    """What waits becomes one stripe: a hundred concurrent blobs cost at most two flushes."""
    rig = Rig()
    appender = await rig.open()
    before = rig.lanes.scatters
    await asyncio.gather(*(rig.put(appender, 4096) for _ in range(100)))
    assert rig.lanes.scatters - before <= 2
    await rig.agree()


async def test_lone_4k_object_costs_nine_pages() -> None:
    """Two pages in its fragment and each parity, one in the empty ones."""
    rig = Rig(allocate_step=0)
    appender = await rig.open()
    await rig.put(appender, 4096)
    pages = [
        -(-(len(rig.disk(slot).nodes[shard_name(VolumeId(7), slot)].data) - RECORDS_AT) // 4096) for slot in range(6)
    ]
    assert pages == [2, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "fault", [{"error": errno.EIO}, {"error": errno.ENOSPC}, {"error": errno.EROFS}, {"hang": True}]
)
async def test_one_failing_slot_breaks_the_volume_and_nothing_is_acknowledged(fault: dict) -> None:
    """R3: error or lateness of one slot fails all waiters, names the slot, and later appends are refused."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 100)
    rig.disk(3).fail("pwritev", **fault)
    results = await asyncio.gather(*(rig.put(appender, 4096) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, VolumeBroken) and set(result.failures) == {3} for result in results)
    assert [set(failures) for _, failures in rig.broken] == [{3}]
    assert appender.broken
    with pytest.raises(VolumeBroken):
        appender.append(rig.blob(1))
    await rig.agree()


async def test_pieces_in_flight_when_a_slot_fails_are_not_acknowledged() -> None:
    """A3: stripes other slots wrote in full are not acknowledged after the first failure."""
    rig = Rig()
    appender = await rig.open()
    rig.disk(5).fail("pwritev", nth=2)
    with pytest.raises(VolumeBroken):
        await rig.put_large(appender, 40 << 20)
    with pytest.raises(VolumeBroken):
        await rig.put(appender, 10)
    await asyncio.sleep(0)
    assert rig.model == []


class HeldLanes(SimLanes):
    """Keeps the answer of one scatter back until told."""

    def __init__(self) -> None:
        super().__init__()
        self.hold: asyncio.Event | None = None
        self.held = asyncio.Event()

    async def scatter(self, calls, *, deadline=None):  # type: ignore[no-untyped-def]
        hold, self.hold = self.hold, None
        results = await super().scatter(calls, deadline=deadline)
        if hold is not None:
            self.held.set()
            await hold.wait()
        return results


async def test_stripe_that_all_slots_wrote_is_not_acknowledged_after_another_failed() -> None:
    """A3: its answer comes after the break, so its blob must be appended elsewhere."""
    lanes = HeldLanes()
    rig = Rig(lanes=lanes)
    appender = await rig.open()
    gate = lanes.hold = asyncio.Event()
    whole = asyncio.ensure_future(rig.put_large(appender, 300_000))
    await lanes.held.wait()
    rig.disk(2).fail("pwritev")
    with pytest.raises(VolumeBroken):
        await rig.put(appender, 100)
    gate.set()
    with pytest.raises(VolumeBroken):
        await whole


async def test_close_flag_on_one_slot_fences_the_owner() -> None:
    """Invariant 6: an owner that does not know of the close cannot acknowledge."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 100)
    stranger = Rig()
    stranger.units = rig.units
    stranger.volumes = dict(rig.volumes)
    stranger.reopen()
    closed = stranger.volumes[VolumeId(7)]
    closed.slots = [slot if slot is not None and slot.index == 2 else None for slot in closed.slots]
    assert await write_close_flags(closed, lanes=rig.lanes, clock=rig.clock) == {}
    with pytest.raises(VolumeBroken) as caught:
        await rig.put(appender, 100)
    assert isinstance(caught.value.failures[2], SlotClosed)
    await rig.agree()


async def test_closed_appender_refuses_and_waits_for_what_is_in_flight() -> None:
    """After close() the flags are durable, and what was acknowledged stays readable after a crash."""
    rig = Rig()
    appender = await rig.open()
    flying = asyncio.gather(*(rig.put(appender, 5000) for _ in range(5)), return_exceptions=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await appender.close() == {}
    await flying
    with pytest.raises(VolumeUnusable):
        appender.append(rig.blob(1))
    rig.crash(4)
    for slot in range(6):
        assert open_shard(rig.disk(slot), VolumeId(7), slot).closed
    rig.reopen()
    await rig.agree()


async def test_full_volume_says_so_and_still_writes_what_waits() -> None:
    """The limit is soft for what was taken, hard for what comes after."""
    rig = Rig(volume_limit=64 << 10)
    appender = await rig.open()
    await asyncio.gather(*(rig.put(appender, 60000) for _ in range(4)))
    assert appender.full
    with pytest.raises(VolumeUnusable):
        appender.append(rig.blob(1))
    await rig.agree()


async def test_too_much_waiting_is_refused_as_overload() -> None:
    """Invariant 7: what may wait for a flush is bounded; what was taken is still written."""
    rig = Rig(waiting_bytes=1 << 20)
    appender = await rig.open()
    results = await asyncio.gather(*(rig.put(appender, 131072) for _ in range(12)), return_exceptions=True)
    assert [isinstance(result, Busy) for result in results] == [False] * 9 + [True] * 3
    await rig.agree()


async def test_hung_write_that_lands_late_harms_nothing() -> None:
    """A parked disk call may land after the volume broke; what was acknowledged before still reads."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 4096)
    rig.lane(1).stalled = True
    with pytest.raises(VolumeBroken):
        await rig.put(appender, 4096)
    rig.lane(1).release()
    await rig.agree()


def given_back(rig: Rig, slot: int) -> list[tuple[int, int]]:
    """(first, end) of what was punched in a slot's file."""
    return [(at, at + length) for name, at, length in rig.disk(slot).punched if name == shard_name(VolumeId(7), slot)]


@pytest.mark.parametrize("fault", [{}, {"error": errno.EIO}, {"hang": True}], ids=["none", "error", "late"])
async def test_closing_gives_back_what_was_reserved_and_no_write_can_reach(fault: dict) -> None:
    """Broken or not: every slot whose disk moves is cut behind the last stripe begun, and only there."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 4096)
    if fault:
        rig.disk(1).fail("pwritev", **fault)
        with pytest.raises(VolumeBroken):
            await rig.put_large(appender, 300_000)
    begun = max(offset + length for slot in range(6) for _, offset, length in rig.disk(slot).trace)
    await appender.close()
    assert rig.volumes[VolumeId(7)].end >= begun
    moving = [slot for slot in range(6) if not rig.lane(slot).parked]
    assert len(moving) == (5 if "hang" in fault else 6)
    for slot in moving:
        reserved = rig.disk(slot).nodes[shard_name(VolumeId(7), slot)].size
        assert given_back(rig, slot) == [(rig.volumes[VolumeId(7)].end, reserved)]
    await rig.agree()


async def test_what_lands_after_the_close_of_a_broken_volume_is_not_cut() -> None:
    """Two stripes wait on a hung lane while the volume breaks and closes: both land whole, what lies behind is given
    back."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 4096)
    rig.lane(2).stalled = True
    stripes = asyncio.gather(
        rig.put(appender, 70_000), rig.put_large(appender, 300_000), rig.put_large(appender, 200_000),
        return_exceptions=True,
    )  # fmt: skip
    assert all(isinstance(result, VolumeBroken) for result in await stripes)
    assert set(await appender.close()) == {2}
    end, name = rig.volumes[VolumeId(7)].end, shard_name(VolumeId(7), 2)
    before = len(rig.disk(2).trace)
    rig.lane(2).release()
    late = [(offset, length) for file, offset, length in rig.disk(2).trace[before:] if file == name and offset < end]
    late = [(offset, length) for offset, length in late if offset >= RECORDS_AT]
    assert len(late) == 3
    assert given_back(rig, 2) == [(end, rig.disk(2).nodes[name].size)]
    seen = scan_some(rig.volumes[VolumeId(7)].slots[2].file, rig.volumes[VolumeId(7)], 2, RECORDS_AT, False, 99, 99)  # type: ignore[union-attr]
    assert {offset for offset, _ in late} <= {record.head.offset for record in seen.records}
    await rig.agree()


async def test_a_slot_that_is_slow_by_habit_is_told_of_and_every_stripe_acknowledged() -> None:
    """A6: packs and pieces alike; the volume stays usable, and one that is late all the same breaks as ever."""
    rig = Rig()
    appender = await rig.open()
    rig.disk(4).fail("pwritev", error=None, delay=0.2, count=10**9)
    for _ in range(40):
        await asyncio.gather(rig.put(appender, 4096), rig.put_large(appender, 300_000))
    assert set(rig.slow) == {(4,)}
    assert appender.usable and len(rig.model) == 80
    await rig.agree()
    rig.disk(4).faults[0].delay = 2.5
    with pytest.raises(VolumeBroken) as caught:
        await rig.put(appender, 1)
    assert isinstance(caught.value.failures[4], TimeoutError)
    await rig.agree()


@pytest.mark.parametrize(("k", "m"), [(4, 2), (2, 1), (3, 2)])
async def test_reads_survive_any_m_lost_disks(k: int, m: int) -> None:
    """Every set of m lost disks: small and large blobs and ranges come back."""
    rig = Rig(k, m)
    appender = await rig.open()
    await asyncio.gather(*(rig.put(appender, size) for size in (1, 4096, 100000)))
    await rig.put_large(appender, 300_000)
    for lost in itertools.combinations(range(k + m), m):
        rig.reopen(lost=lost)
        await rig.agree()
        ref, body = rig.model[-1]
        assert await rig.read([ref], 100, 4096) == body[100:4196]


async def test_more_than_m_disks_away_is_unavailable_not_wrong() -> None:
    """Never a wrong byte, never a short body; the disks may come back, so nobody calls it damage."""
    rig = Rig(2, 1)
    appender = await rig.open()
    await rig.put(appender, 4096)
    fragment = rig.model[0][0].extents[0]
    assert isinstance(fragment, PackedExtent) and fragment.fragment == 0
    rig.reopen(lost=(0, 1))
    with pytest.raises(Unavailable):
        await rig.agree()


async def test_more_than_m_rotten_fragments_are_damaged_not_wrong() -> None:
    """All slots answer and too few verify: no disk that comes back could mend it."""
    rig = Rig(2, 1)
    appender = await rig.open()
    await rig.put(appender, 4096)
    fragment = rig.model[0][0].extents[0]
    for slot in (0, 2):
        rig.disk(slot).flip(shard_name(VolumeId(7), slot), (fragment.record + fragment.payload_at + 9) * 8)
    with pytest.raises(Damaged):
        await rig.agree()


async def test_errors_hangs_and_stale_reads_are_served_from_others_and_reported() -> None:
    """EIO, hangs and stale contents on up to m disks are rebuilt around and blamed on the right slot."""
    rig = Rig()
    appender = await rig.open()
    rig.disk(0).freeze_reads(shard_name(VolumeId(7), 0))
    ref = await rig.put_large(appender, 500_000)
    body = rig.model[0][1]
    assert await rig.read([ref], 0, len(body)) == body
    assert {slot for slot, _ in rig.failures} == {0}
    rig.disk(0).dead = True
    rig.disk(1).fail("preadv", hang=True, count=10**9)
    assert await rig.read([ref], 0, len(body)) == body
    assert {slot for slot, _ in rig.failures} == {0, 1}


async def test_freed_stripe_is_gone_not_damaged() -> None:
    """R8: a punched stripe explains a bad checksum; the disk is not blamed."""
    rig = Rig()
    appender = await rig.open()
    ref = await rig.put(appender, 4096)
    extent = ref.extents[0]
    volume = rig.volumes[VolumeId(7)]
    volume.freed.add(extent.record)
    for slot in volume.slots:
        assert slot is not None
        slot.file.punch(extent.record + extent.payload_at, 8192 - extent.payload_at)
    with pytest.raises(BlobGone):
        await rig.read([ref], 0, 4096)
    assert rig.failures == []
    rig.volumes.clear()
    with pytest.raises(BlobGone):
        await rig.read([ref], 0, 4096)


async def test_misdirected_and_lost_writes_are_noticed_and_rebuilt() -> None:
    """A write that lands elsewhere, or nowhere, while reported good: heads name their offsets, so others stand in."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 4096)
    rig.disk(0).fail("pwritev", misdirect=4096, error=None)
    await rig.put(appender, 3000)
    rig.disk(4).fail("pwritev", lost=True, error=None)
    await asyncio.gather(*(rig.put(appender, 9000) for _ in range(4)))
    await rig.agree()


async def test_twenty_thousand_bit_flips_are_detected_and_healed() -> None:
    """Flips on at most m disks at a time: each read is right; flips in what is read are reported."""
    rig = Rig(2, 2, allocate_step=0)
    appender = await rig.open()
    await asyncio.gather(*(rig.put(appender, size) for size in (700, 900)))
    names = [shard_name(VolumeId(7), slot) for slot in range(4)]
    end = rig.volumes[VolumeId(7)].end
    for round_ in range(2500):
        flips = []
        for slot in rig.rng.sample(range(4), 2):
            for _ in range(4):
                bit = rig.rng.randrange(RECORDS_AT * 8, end * 8)
                rig.disk(slot).flip(names[slot], bit)
                flips.append((slot, bit))
        ref, body = rig.model[round_ % 2]
        assert await rig.read([ref], 0, len(body)) == body
        for slot, bit in flips:
            rig.disk(slot).flip(names[slot], bit)
    assert rig.failures
    await rig.agree()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(
        st.lists(st.integers(0, 131072) | st.integers(0, 300), min_size=1, max_size=6), min_size=1, max_size=5
    ),
    shape=st.sampled_from([(4, 2), (2, 1), (1, 1), (3, 2)]),
    fault=st.sampled_from(["none", "torn", "eio", "hang", "lost-disk"]),
    large=st.integers(0, 600_000),
)
def test_every_acknowledged_blob_survives_crash_and_any_m_lost_disks(
    seed: int, sizes: list[list[int]], shape: tuple[int, int], fault: str, large: int
) -> None:
    """Append, fail, crash with torn sectors, reopen without m disks: everything acknowledged is there, byte for
    byte."""

    async def story() -> None:
        rig = Rig(*shape, seed=seed)
        appender = await rig.open()
        slot = rig.rng.randrange(rig.profile.slots)
        nth = rig.rng.randrange(1, 6)
        if fault == "torn":
            rig.disk(slot).fail("pwritev", torn=True, nth=nth)
        elif fault == "eio":
            rig.disk(slot).fail("pwritev", nth=nth)
        elif fault == "hang":
            rig.disk(slot).fail("pwritev", hang=True, nth=nth)
        for group in sizes:
            await asyncio.gather(*(rig.put(appender, size) for size in group), return_exceptions=True)
        if large > 131072:
            await asyncio.gather(rig.put_large(appender, large), return_exceptions=True)
        rig.crash(seed)
        lost = tuple(rig.rng.sample(range(rig.profile.slots), rig.profile.m)) if fault == "lost-disk" else ()
        rig.reopen(lost=lost)
        await rig.agree()
        if fault in ("none", "lost-disk"):
            assert len(rig.model) == sum(map(len, sizes)) + (large > 131072)

    asyncio.run(story())


@pytest.mark.parametrize(("k", "m"), [(4, 2), (2, 1)])
async def test_no_sector_of_a_record_is_ever_written_twice(k: int, m: int) -> None:
    """R1: whatever is appended, whole 4 KiB pages belong to one write each, in every slot, failures included."""
    rig = Rig(k, m)
    appender = await rig.open()
    for size in (1, 100, 4000, 4096, 70000):
        await asyncio.gather(*(rig.put(appender, size) for _ in range(3)))
    await asyncio.gather(rig.put_large(appender, 9 << 20), rig.put_large(appender, 1 << 20), rig.put(appender, 7))
    rig.disk(0).fail("pwritev", nth=1)
    await asyncio.gather(rig.put(appender, 1), rig.put(appender, 2), return_exceptions=True)
    await appender.close()
    for slot in range(k + m):
        pages: set[int] = set()
        for name, offset, length in rig.disk(slot).trace:
            if offset < RECORDS_AT:
                continue
            assert name == shard_name(VolumeId(7), slot) and offset % 4096 == 0
            touched = set(range(offset // 4096, -(-(offset + length) // 4096)))
            assert not touched & pages
            pages |= touched
    await rig.agree()


async def test_suspect_disks_are_read_and_failed_ones_are_not() -> None:
    """A failed disk costs no call."""
    rig = Rig()
    appender = await rig.open()
    await rig.put(appender, 4096)
    rig.units[0].state = DiskState.FAILED
    before = rig.disk(0).calls["preadv"]
    await rig.agree()
    assert rig.disk(0).calls["preadv"] == before
    assert CODECS.get(Profile(4, 2)).engine is not None

# SPDX-License-Identifier: Apache-2.0
"""Repair on simulated disks: full redundancy comes back, and nothing is lost on the way."""

from collections.abc import AsyncIterator

import pytest

from drystone_core.ids import VolumeId
from drystone_core.upkeep import Wound
from drystone_datapath.volume import DiskState, Volume
from drystone_replication.repair import Repairer, RepairSettings, order
from drystone_testing.storage_bench import MIB, StorageBench

FAST = RepairSettings(bytes_per_second=1 << 50)


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    bench = StorageBench()
    await bench.start()
    yield bench
    await bench.background.stop()


def repairer_of(bench: StorageBench) -> Repairer:
    return Repairer(node=bench.node.healer, clock=bench.clock, background=bench.background, settings=FAST)


async def fill(bench: StorageBench) -> None:
    for size in (1, 700, 30_000, 131_072, 64):
        await bench.put(size)
    await bench.put_large(3 * MIB + 11)


async def check_with_any_two_lost(bench: StorageBench) -> None:
    """The strongest proof of full redundancy."""
    for first in range(len(bench.disks)):
        second = (first + 2) % len(bench.disks)
        for index in (first, second):
            bench.disks[index].dead = True
        await bench.check_all()
        for index in (first, second):
            bench.disks[index].dead = False
        await bench.node.watch.look()
        bench.node.registry.bad.clear()


def only_volume(bench: StorageBench) -> Volume:
    return max(bench.node.registry.volumes(), key=lambda volume: volume.end)


async def test_a_replaced_disk_is_filled_again(bench: StorageBench) -> None:
    """An empty directory in the place of a disk: adopted at start, all slots rebuilt, two other disks may then be lost."""
    await fill(bench)
    bench.disks[3].nodes.clear()
    await bench.crash()
    wounds = await bench.node.healer.wounds()
    assert {wound.spare for wound in wounds} == {1} and len(wounds) == 2
    repairer = repairer_of(bench)
    assert await repairer.run_once() == 2
    assert not await bench.node.healer.wounds()
    assert (await bench.node.status()).degraded_volumes == 0
    assert repairer.progress.bytes_repaired > MIB // 2 and repairer.progress.slots_pending == 0
    await check_with_any_two_lost(bench)
    await bench.crash()
    await check_with_any_two_lost(bench)


async def test_two_replaced_disks_at_once(bench: StorageBench) -> None:
    """The whole redundancy gone, and back."""
    await fill(bench)
    bench.disks[0].nodes.clear()
    bench.disks[5].nodes.clear()
    await bench.crash()
    await repairer_of(bench).run_once()
    for volume in bench.node.registry.volumes():
        assert len({slot.unit.disk_id for slot in volume.slots if slot}) == volume.profile.slots
    await check_with_any_two_lost(bench)


async def test_a_damaged_fragment_met_by_a_read_is_healed(bench: StorageBench) -> None:
    """The read rebuilds, repair replaces the file; an open volume is left first; the file is never written into."""
    number = await bench.put(60_000)
    volume = bench.node.registry.volumes()[0]
    ref, payload = bench.model[number]
    extent = ref.extents[0]
    index = extent.fragment  # type: ignore[union-attr]
    slot = volume.slots[index]
    assert slot is not None
    name = f"volumes/{volume.volume_id:016x}.{index}"
    disk = bench.places[slot.unit.label]
    disk.flip(name, 8 * (extent.record + extent.payload_at + 5))
    damaged = disk.nodes[name]
    assert await bench.get(ref) == payload
    assert len(bench.node.registry.bad) == 1
    assert await repairer_of(bench).run_once() == 1
    assert not bench.node.registry.bad and disk.nodes[name] is not damaged
    await bench.put()
    await check_with_any_two_lost(bench)


async def test_replacing_a_damaged_file_keeps_what_only_it_has(bench: StorageBench) -> None:
    """H2: slot 0 is damaged in one stripe, two other slots in another; healing slot 0 must not cost the other stripe."""
    first = await bench.put(50_000)
    second = await bench.put(50_000)
    await bench.crash()
    volume = bench.node.registry.volumes()[0]
    at = {n: bench.model[n][0].extents[0] for n in (first, second)}
    for index, extent in ((0, at[first]), (4, at[second]), (5, at[second])):
        slot = volume.slots[index]
        assert slot is not None
        where = extent.record + extent.payload_at + 100  # type: ignore[union-attr]
        bench.places[slot.unit.label].flip(f"volumes/{volume.volume_id:016x}.{index}", 8 * where)
    await bench.check_all()
    wound = Wound(volume=volume.volume_id, slot=0, spare=1, size=0, reason="test")
    from drystone_storage.volumes.registry import Bad, SlotPlace

    bench.node.registry.bad[SlotPlace(volume.volume_id, 0)] = Bad("test", volume.slots[0].unit)  # type: ignore[union-attr]
    await bench.node.healer.heal(wound, bytes_per_second=1 << 50)
    await bench.check_all()


async def test_a_lost_disk_is_rebuilt_on_a_spare_one() -> None:
    """Eight disks, six slots: a disk away for longer than `lost_after` is taken for lost; before that it is left alone."""
    bench = StorageBench(disks=8)
    await bench.start()
    await fill(bench)
    await bench.node.drain()
    held = {slot.unit.label for volume in bench.node.registry.volumes() for slot in volume.slots if slot}
    victim = bench.places[sorted(held)[0]]
    victim.dead = True
    await bench.node.watch.look()
    assert not await bench.node.healer.wounds()
    bench.clock.now += 601
    await bench.node.watch.look()
    assert await repairer_of(bench).run_once() >= 1
    others = [disk for disk in bench.disks if disk is not victim]
    for first in range(7):
        for disk in (others[first], others[(first + 3) % 7]):
            disk.dead = True
        await bench.check_all()
        for disk in others:
            disk.dead = False
        bench.node.registry.bad.clear()
    unit = next(u for u in bench.node.store.units if u.label == victim.root)  # type: ignore[union-attr]
    assert unit.state is DiskState.FAILED
    await bench.background.stop()


async def test_a_rebuild_cut_short_leaves_the_old_file(bench: StorageBench) -> None:
    """The target fails at each of its writes in turn: nothing is lost, the next try heals."""
    await fill(bench)
    bench.disks[2].nodes.clear()
    await bench.crash()
    repairer = repairer_of(bench)
    for nth in (1, 2, 5, 9):
        bench.disks[2].fail("pwritev", nth=nth, name=".new")
        await repairer.run_once()
        bench.disks[2].faults.clear()
        await bench.check_all()
        bench.clock.now += 10_000
        await bench.node.watch.look()
    assert repairer.progress.failures >= 2
    await repairer.run_once()
    assert not await bench.node.healer.wounds()
    await check_with_any_two_lost(bench)


def test_the_most_endangered_come_first() -> None:
    """Fewest spare slots, then the smallest; hopeless ones are left out."""

    def wound(number: int, spare: int, size: int) -> Wound:
        return Wound(volume=VolumeId(number), slot=0, spare=spare, size=size, reason="")

    found = order([wound(1, 1, 5), wound(2, 0, 9), wound(3, 0, 4), wound(4, -1, 1)])
    assert [w.volume for w in found] == [3, 2, 1]

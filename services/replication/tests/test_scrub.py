# SPDX-License-Identifier: Apache-2.0
"""Scrub on simulated disks: damage nobody reads is found in one pass and healed; nothing sound is touched."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from drystone_core.formats.shard import shard_name
from drystone_core.upkeep import Wound
from drystone_datapath.volume import DiskState, Volume, VolumeState
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_testing.storage_bench import MIB, StorageBench

FAST = RepairSettings(bytes_per_second=1 << 50)


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    bench = StorageBench()
    await bench.start()
    yield bench
    await bench.background.stop()


def keepers(bench: StorageBench) -> tuple[Repairer, Scrubber]:
    repairer = Repairer(node=bench.node.healer, clock=bench.clock, background=bench.background, settings=FAST)
    scrubber = Scrubber(
        node=bench.node.scrubs,
        clock=bench.clock,
        background=bench.background,
        found=repairer.poke,
        settings=ScrubSettings(bytes_per_second=1 << 50),
    )
    return repairer, scrubber


async def fill(bench: StorageBench) -> None:
    for size in (1, 700, 30_000, 131_072, 64, 90_000):
        await bench.put(size)
    await bench.put_large(3 * MIB + 11)


def files(bench: StorageBench, volume: Volume) -> list[tuple[str, str]]:
    """(disk, name) of each slot."""
    return [(slot.unit.label, shard_name(volume.volume_id, slot.index)) for slot in volume.slots if slot is not None]


async def test_planted_faults_of_every_kind_are_found_in_one_pass_and_healed(bench: StorageBench) -> None:
    """100 rounds of faults in up to m slots a volume: one pass finds them all, repair heals, a second pass finds none."""
    rng = random.Random(6)
    await fill(bench)
    await bench.crash()
    repairer, scrubber = keepers(bench)
    assert await scrubber.run_pass() == 0
    for _ in range(17):
        planted = 0
        for volume in bench.node.registry.volumes():
            places = files(bench, volume)
            for at in rng.sample(range(6), 2):
                label, name = places[at]
                node = bench.places[label].nodes[name]
                ends = [8192 + rng.randrange(100), 8192 + 128 + rng.randrange(80)]
                if len(node.data) < 8192 + 400:
                    ends = [rng.randrange(40), 4096 + rng.randrange(50)]
                kind = rng.randrange(4)
                if kind == 0:
                    bench.places[label].flip(name, 8 * ends[0] + rng.randrange(8))
                elif kind == 1:
                    bench.places[label].flip(name, 8 * ends[1] + rng.randrange(8))
                elif kind == 2:
                    del node.data[4096 + 30 :], node.durable[4096 + 30 :]
                    node.size = node.durable_size = len(node.data)
                else:
                    for image in (node.data, node.durable):
                        image[: len(image)] = bytes(len(image))
                planted += 1
        await bench.check_all()
        known = len(bench.node.registry.bad)
        await scrubber.run_pass()
        assert len(bench.node.registry.bad) == planted >= known
        assert (await bench.node.status()).degraded_volumes == len(bench.node.registry.volumes())
        await repairer.run_once()
        assert not bench.node.registry.bad
        assert await scrubber.run_pass() == 0
        assert (await bench.node.status()).degraded_volumes == 0
        bench.clock.now += 100
        await bench.node.watch.look()
    status = (await bench.node.status()).scrub
    assert status.verified == status.volumes and status.passes >= 17 and not status.stripes_incomplete
    await bench.check_all()


async def test_open_volumes_are_left_alone_and_counted_as_not_verified(bench: StorageBench) -> None:
    """Only closed volumes are scrubbed; a volume closed since counts as unverified until a pass has read it."""
    await fill(bench)
    _, scrubber = keepers(bench)
    assert await scrubber.run_pass() == 0
    assert (await bench.node.status()).scrub.volumes == 0
    await bench.node.drain()
    before = (await bench.node.status()).scrub
    assert before.volumes > 0 and before.verified == 0 and before.passes == 0
    await scrubber.run_pass()
    after = (await bench.node.status()).scrub
    assert after.verified == after.volumes and after.passes == 1


async def test_a_volume_with_a_slot_away_is_not_called_verified(bench: StorageBench) -> None:
    """What could not be read is not vouched for; damage in what could is still found."""
    await fill(bench)
    await bench.crash()
    _, scrubber = keepers(bench)
    bench.disks[2].there = False
    await bench.node.watch.look()
    await scrubber.run_pass()
    status = (await bench.node.status()).scrub
    assert status.volumes and not status.verified


async def test_a_slot_healed_while_it_is_scrubbed_is_not_blamed(bench: StorageBench) -> None:
    """C3: the verdict on the old file does not fall on the new one."""
    await fill(bench)
    await bench.crash()
    volume = max(bench.node.registry.volumes(), key=lambda volume: sum(1 for _ in files(bench, volume)))
    for volume in bench.node.registry.volumes():
        label, name = files(bench, volume)[1]
        bench.places[label].flip(name, 8 * 8200)
    repairer, scrubber = keepers(bench)
    await scrubber.run_pass()
    await asyncio.gather(scrubber.run_pass(), repairer.run_once(), scrubber.run_pass())
    await repairer.run_once()
    assert await scrubber.run_pass() == 0
    assert not bench.node.registry.bad


async def test_a_damaged_header_does_not_hide_good_records(bench: StorageBench) -> None:
    """Headers of m slots flipped and other slots damaged elsewhere: records prove themselves, so everything reads."""
    await fill(bench)
    await bench.crash()
    for volume in bench.node.registry.volumes():
        for label, name in files(bench, volume)[:2]:
            bench.places[label].flip(name, 8 * 20)
        for label, name in files(bench, volume)[2:4]:
            bench.places[label].flip(name, 8 * 8200)
    await bench.crash()
    await bench.check_all()
    repairer, scrubber = keepers(bench)
    await scrubber.run_pass()
    await repairer.run_once()
    bench.clock.now += 100_000
    await bench.node.watch.look()
    await repairer.run_once()
    assert await scrubber.run_pass() == 0
    await bench.check_all()


async def test_a_disk_away_at_the_start_is_waited_for_before_its_slots_are_rebuilt() -> None:
    """H4 holds after a restart too: which slots lie on a disk that is away is not known, and it usually comes back."""
    bench = StorageBench(disks=8)
    await bench.start()
    await fill(bench)
    await bench.crash()
    held = {slot.unit.label for volume in bench.node.registry.volumes() for slot in volume.slots if slot}
    bench.places[sorted(held)[0]].there = False
    await bench.crash()
    assert not await bench.node.healer.wounds()
    bench.clock.now += 601
    await bench.node.watch.look()
    assert await bench.node.healer.wounds()
    await bench.background.stop()


async def test_a_returned_disk_with_slots_that_moved_is_not_used_after_a_restart() -> None:
    """Two files of one slot: after a restart the rebuilt one counts, so no disk ends up with two slots of a volume."""
    bench = StorageBench(disks=7)
    await bench.start()
    await fill(bench)
    await bench.crash()
    repairer, _ = keepers(bench)
    victim = next(slot.unit.label for slot in bench.node.registry.volumes()[0].slots if slot)
    bench.places[victim].there = False
    await bench.node.watch.look()
    bench.clock.now += 601
    await bench.node.watch.look()
    await repairer.run_once()
    where = {
        (volume.volume_id, slot.index): slot.unit.label
        for volume in bench.node.registry.volumes()
        for slot in volume.slots
        if slot is not None and slot.unit.state is not DiskState.FAILED
    }
    bench.places[victim].there = True
    await bench.crash()
    for volume in bench.node.registry.volumes():
        for slot in volume.slots:
            assert slot is not None
            assert where.get((volume.volume_id, slot.index), slot.unit.label) == slot.unit.label
        assert len({slot.unit.label for slot in volume.slots if slot}) == volume.profile.slots
    await bench.check_all()
    await bench.background.stop()


async def test_a_slot_is_rebuilt_once_at_a_time(bench: StorageBench) -> None:
    """A caller that was restarted asks again for what still runs: refused, and the slot stays where it was."""
    await fill(bench)
    bench.disks[1].nodes.clear()
    await bench.crash()
    wounds = await bench.node.healer.wounds()
    wound: Wound = wounds[0]
    results = await asyncio.gather(
        *(bench.node.healer.heal(wound, bytes_per_second=1 << 50) for _ in range(3)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) >= 1
    volume = bench.node.registry.get(wound.volume)
    assert volume is not None and volume.state is VolumeState.CLOSED
    assert len({slot.unit.disk_id for slot in volume.slots if slot}) == volume.profile.slots
    held = [disk for disk in bench.disks if any(name.startswith(f"volumes/{wound.volume:016x}") for name in disk.nodes)]
    assert len(held) == 6
    await bench.check_all()


async def test_power_lost_at_any_step_of_a_rebuild_loses_nothing() -> None:
    """Cut after n steps of the loop: the damaged file or the whole new one is there, never something between."""
    for steps in range(1, 130, 4):
        bench = StorageBench(seed=steps)
        await bench.start()
        await fill(bench)
        await bench.crash()
        for volume in bench.node.registry.volumes():
            for label, name in files(bench, volume)[1:3]:
                bench.places[label].flip(name, 8 * 8200)
        repairer, scrubber = keepers(bench)
        await scrubber.run_pass()
        assert bench.node.registry.bad
        healing = asyncio.ensure_future(repairer.run_once())
        for _ in range(steps):
            await asyncio.sleep(0)
        healing.cancel()
        await asyncio.gather(healing, return_exceptions=True)
        await bench.crash()
        await bench.check_all()
        repairer, scrubber = keepers(bench)
        await scrubber.run_pass()
        await repairer.run_once()
        await bench.crash()
        assert await keepers(bench)[1].run_pass() == 0, f"cut after {steps} steps"
        await bench.check_all()
        await bench.background.stop()


async def test_only_damage_beyond_m_stays_and_it_is_counted(bench: StorageBench) -> None:
    """m+1 fragments of one stripe gone: repair does not pretend; the status goes on counting the stripe."""
    number = await bench.put(50_000)
    await fill(bench)
    await bench.crash()
    extent = bench.model[number][0].extents[0]
    volume = bench.node.registry.get(extent.volume)
    assert volume is not None
    for label, name in files(bench, volume)[:3]:
        bench.places[label].flip(name, 8 * (extent.record + 9))
    repairer, scrubber = keepers(bench)
    for _ in range(2):
        await scrubber.run_pass()
        await repairer.run_once()
        bench.clock.now += 10_000
        await bench.node.watch.look()
    assert (await bench.node.status()).scrub.stripes_incomplete == 1
    bench.model.pop(number)
    await bench.check_all()

# SPDX-License-Identifier: Apache-2.0
"""Reclaim on simulated disks: dead bytes go, live bytes never."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from drystone_core.formats.shard import ShardHeader, encode_shard_header, shard_name
from drystone_core.ids import BlobId, VolumeId
from drystone_core.profiles import Profile
from drystone_core.services import BlobName
from drystone_core.upkeep import StripeNames, VolumeNames
from drystone_datapath.volume import DiskState
from drystone_lifecycle.reclaim import Reclaimer, ReclaimSettings
from drystone_lifecycle.reclaim.judge import judge
from drystone_testing.storage_bench import MIB, StorageBench

DAY = 86_400.0


class Names:
    """The model's own account of which blobs are dead."""

    def __init__(self) -> None:
        self.dead: set[BlobId] = set()
        self.dead_also: bytes | None = None
        """Blobs of this stamp are dead too, named or not."""
        self.asked = 0

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        self.asked += len(names)
        await asyncio.sleep(0)
        return [name.blob_id in self.dead or name.blob_id[:8] == self.dead_also for name in names]


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    bench = StorageBench()
    await bench.start()
    yield bench
    await bench.background.stop()


def delete(bench: StorageBench, names: Names, number: int) -> None:
    names.dead.add(bench.model.pop(number)[0].blob_id)


async def passes(bench: StorageBench, names: Names, *, count: int = 2, grace: float = DAY) -> Reclaimer:
    """That many passes, each a grace period after the one before."""
    settings = ReclaimSettings(grace=grace, pause=0.0, bulk=3)
    reclaimer = Reclaimer(
        node=bench.node.freer, metadata=names, clock=bench.clock, background=bench.background, settings=settings
    )
    for _ in range(count):
        await reclaimer.run_pass()
        bench.clock.now += grace + 1
    return reclaimer


def shard_files(bench: StorageBench) -> int:
    return sum(name.startswith("volumes/") for disk in bench.disks for name in disk.nodes)


async def test_a_dead_volume_is_deleted_after_the_grace_period(bench: StorageBench) -> None:
    """Not in the first pass that sees it dead; the retirement is remembered on the disks."""
    names = Names()
    numbers = [await bench.put(5000) for _ in range(7)]
    numbers.append(await bench.put_large(MIB))
    await bench.crash()
    for number in numbers:
        delete(bench, names, number)
    reclaimer = await passes(bench, names, count=1)
    assert reclaimer.progress.volumes_freed == 0 and reclaimer.progress.stripes_waiting > 0
    await reclaimer.run_pass()
    assert reclaimer.progress.volumes_freed == 2 and shard_files(bench) == 0
    assert len(bench.node.registry) == 0
    assert sum(name.startswith("retired/") for disk in bench.disks for name in disk.nodes) == 12


async def test_a_dead_stripe_is_punched_and_its_neighbours_stay(bench: StorageBench) -> None:
    """In a closed volume with live stripes; free maps are on all slots; restart and repair know the hole."""
    names = Names()
    numbers = [await bench.put(90_000) for _ in range(5)]
    await bench.crash()
    volume = bench.node.registry.volumes()[0]
    delete(bench, names, numbers[1])
    delete(bench, names, numbers[3])
    reclaimer = await passes(bench, names)
    assert reclaimer.progress.stripes_freed == 2 and len(volume.freed) == 2
    assert reclaimer.progress.bytes_freed > 2 * 90_000
    await bench.check_all()
    await bench.crash()
    assert bench.node.registry.volumes()[0].freed == volume.freed
    bench.disks[0].dead = bench.disks[1].dead = True
    await bench.check_all()


@pytest.mark.parametrize("seed", range(6))
async def test_reclaim_never_frees_a_live_blob(seed: int) -> None:
    """Random writes, deletes, restarts, lost disks and passes without grace; every live blob stays readable."""
    bench = StorageBench(seed=seed + 100, limit=MIB)
    await bench.start()
    names, rng = Names(), bench.rng
    for _ in range(8):
        await asyncio.gather(*(bench.put(rng.randrange(1, 100_000)) for _ in range(rng.randrange(1, 6))))
        if rng.random() < 0.3:
            bench.model[10**6 + len(bench.model)] = bench.model.pop(await bench.put_large(MIB // 2))
        for number in [n for n in bench.model if rng.random() < 0.4]:
            delete(bench, names, number)
        bench.model = dict(enumerate(bench.model.values()))
        if rng.random() < 0.4:
            await bench.crash()
        lost = rng.choice(bench.disks) if rng.random() < 0.3 else None
        if lost is not None:
            lost.dead = True
            await bench.node.watch.look()
        bench.clock.now += 10
        await passes(bench, names, count=1, grace=0.0)
        await bench.check_all()
        if lost is not None:
            lost.dead = False
            bench.clock.now += 5000
            await bench.node.watch.look()
            await bench.advance(1.0)
    await bench.crash()
    await bench.check_all()
    await bench.background.stop()


async def test_nothing_is_punched_while_a_slot_is_away(bench: StorageBench) -> None:
    """Its free map could not be written (R8); when the disk is back the next pass frees."""
    names = Names()
    numbers = [await bench.put(90_000) for _ in range(3)]
    await bench.crash()
    delete(bench, names, numbers[0])
    bench.disks[2].dead = True
    await bench.node.watch.look()
    reclaimer = await passes(bench, names)
    assert reclaimer.progress.stripes_freed == 0 and reclaimer.progress.failures > 0
    bench.disks[2].dead = False
    await bench.node.watch.look()
    await reclaimer.run_pass()
    assert reclaimer.progress.stripes_freed == 1
    await bench.check_all()


async def test_a_returning_disk_loses_only_shards_of_retired_volumes(bench: StorageBench) -> None:
    """It was away while one volume was retired; the other volume's shards are used again."""
    names = Names()
    dead = await bench.put(4000)
    await bench.crash()
    await bench.put(4000)
    await bench.crash()
    delete(bench, names, dead)
    bench.disks[4].there = False
    await bench.crash()
    bench.clock.now += DAY
    reclaimer = await passes(bench, names)
    assert reclaimer.progress.volumes_freed == 1
    assert sum(name.startswith("volumes/") for name in bench.disks[4].nodes) == 2
    bench.disks[4].there = True
    await bench.crash()
    assert sum(name.startswith("volumes/") for name in bench.disks[4].nodes) == 1
    assert all(unit.state is DiskState.HEALTHY for unit in bench.node.store.units)  # type: ignore[union-attr]
    await bench.check_all()


async def test_a_frozen_reclaimer_frees_nothing(bench: StorageBench) -> None:
    """The brake."""
    names = Names()
    delete(bench, names, await bench.put(4000))
    await bench.crash()
    reclaimer = await passes(bench, names, count=1)
    reclaimer.freeze(True)
    await reclaimer.run_pass()
    assert reclaimer.progress.volumes_freed == 0 and shard_files(bench) == 6
    reclaimer.freeze(False)
    await reclaimer.run_pass()
    assert reclaimer.progress.volumes_freed == 1


async def test_a_stripe_one_slot_does_not_show_saves_its_volume(bench: StorageBench) -> None:
    """The last record's head is damaged in the slot that is walked: the other slots' heads tell of it, nothing is deleted."""
    names = Names()
    dead, live = await bench.put(4000), await bench.put(4000)
    await bench.crash()
    volume = bench.node.registry.volumes()[0]
    first = volume.slots[0]
    assert first is not None
    record = bench.model[live][0].extents[0].record
    bench.places[first.unit.label].flip(f"volumes/{volume.volume_id:016x}.0", 8 * (record + 20))
    delete(bench, names, dead)
    reclaimer = await passes(bench, names, count=3)
    assert reclaimer.progress.volumes_freed == 0
    await bench.check_all()


async def test_a_torn_stripe_does_not_keep_its_volume(bench: StorageBench) -> None:
    """An append that failed on slot 0 lies in the other slots: seen at the deletion, judged in the next pass, then gone."""
    names = Names()
    numbers = [await bench.put(4000)]
    volume = bench.node.registry.volumes()[0]
    first = volume.slots[0]
    assert first is not None
    bench.places[first.unit.label].fail("pwritev", lost=True, name="volumes/")
    numbers.append(await bench.put(4000))
    torn = {name for name in bench.disks[0].nodes if name.startswith("volumes/")}
    assert len(bench.node.registry) == 2 and torn
    await bench.crash()
    ref = bench.model[numbers[0]][0]
    for number in numbers:
        delete(bench, names, number)
    names.dead_also = ref.blob_id[:8]
    await passes(bench, names, count=4)
    assert len(bench.node.registry) == 0 and shard_files(bench) == 0


async def test_a_punch_that_was_cut_short_is_known_on_every_slot(bench: StorageBench) -> None:
    """R8: power fails after the free maps and before the last punch; every slot's map names the stripe."""
    names = Names()
    numbers = [await bench.put(90_000) for _ in range(3)]
    await bench.crash()
    delete(bench, names, numbers[1])
    for disk in bench.disks:
        disk.fail("punch", error=5, count=100)
    reclaimer = await passes(bench, names)
    assert reclaimer.progress.failures > 0
    for disk in bench.disks:
        disk.faults.clear()
    await bench.crash()
    assert len(bench.node.registry.volumes()[0].freed) == 1
    assert sum(name.endswith(".free") for disk in bench.disks for name in disk.nodes) == 6
    await bench.check_all()


async def test_a_living_volume_is_looked_at_ever_more_seldom(bench: StorageBench) -> None:
    """A walk costs reading all tables: nothing dead, nothing asked until the pause is over; a dead blob is found then."""
    names = Names()
    numbers = [await bench.put(4000) for _ in range(2)]
    await bench.crash()
    settings = ReclaimSettings(grace=DAY, pause=0.0)
    reclaimer = Reclaimer(
        node=bench.node.freer, metadata=names, clock=bench.clock, background=bench.background, settings=settings
    )
    for _ in range(288):
        await reclaimer.run_pass(due_only=True)
        bench.clock.now += 600.0
    assert names.asked / 2 <= 12
    delete(bench, names, numbers[0])
    for _ in range(288):
        await reclaimer.run_pass(due_only=True)
        bench.clock.now += 600.0
    assert reclaimer.progress.stripes_freed == 1
    await bench.check_all()


def test_a_name_without_an_answer_counts_as_live() -> None:
    """J1, and a walk with gaps never deletes a volume."""
    name = BlobName(BlobId(bytes(16)), 1, b"k", b"u" * 16, 0, 0)  # type: ignore[arg-type]
    stripe = StripeNames(8192, 100, (name,), True, False)
    whole = VolumeNames(volume=1, stripes=(stripe,), complete=True)  # type: ignore[arg-type]
    assert not judge(whole, {}, dead_since={}, now_us=10**12, grace_us=0).retire
    assert judge(whole, {name: True}, dead_since={}, now_us=10**12, grace_us=0).retire
    gaps = VolumeNames(volume=1, stripes=(stripe,), complete=False)  # type: ignore[arg-type]
    verdict = judge(gaps, {name: True}, dead_since={}, now_us=10**12, grace_us=0)
    assert not verdict.retire and verdict.free == (8192,)
    kept = VolumeNames(volume=1, stripes=(stripe._replace(droppable=False),), complete=True)  # type: ignore[arg-type]
    assert judge(kept, {name: True}, dead_since={}, now_us=10**12, grace_us=0).free == ()


@pytest.mark.parametrize("made", [1, 2, 5])
async def test_what_a_cut_creation_left_is_removed(made: int) -> None:
    """A crash while a volume was made leaves some headers: no repair can complete them, and they do not stay for ever."""
    bench = StorageBench()
    await bench.start()
    await bench.put(1000)
    await bench.crash()
    for slot in range(made):
        header = ShardHeader(volume=VolumeId(77), slot=slot, profile=Profile(4, 2), nonce=b"n" * 16)
        file = bench.disks[slot].open(shard_name(VolumeId(77), slot), create=True)
        file.pwritev([encode_shard_header(header), bytes(4096)], 0, durable=True)
    bench.disks[4].open(shard_name(VolumeId(78), 4), create=True)
    await bench.crash()
    assert not bench.node.registry.bad
    settings = ReclaimSettings(grace=0.0, pause=0.0)
    names = Names()

    def reclaimer() -> Reclaimer:
        return Reclaimer(
            node=bench.node.freer, metadata=names, clock=bench.clock, background=bench.background, settings=settings
        )

    bench.disks[5].there = False
    await bench.node.watch.look()
    if made < 3:
        await reclaimer().run_pass()
        assert bench.node.registry.get(VolumeId(77)) is not None, "deleted while a disk was away"
    bench.disks[5].there = True
    await bench.node.watch.look()
    await bench.advance(1)
    await reclaimer().run_pass()
    assert bench.node.registry.get(VolumeId(77)) is None
    assert (await bench.node.status()).degraded_volumes == 0
    await bench.check_all()
    await bench.background.stop()


class SkewedClock:
    """The bench's clock with a wall that was set ahead."""

    def __init__(self, bench: StorageBench) -> None:
        self._clock = bench.clock
        self.ahead_us = 0
        self.monotonic = bench.clock.monotonic
        self.sleep = bench.clock.sleep

    def wall_us(self) -> int:
        return self._clock.wall_us() + self.ahead_us


async def test_a_wall_clock_set_years_ahead_does_not_end_the_grace_period(bench: StorageBench) -> None:
    """The trash is a promise in elapsed time: a clock that jumps frees nothing early."""
    names, clock = Names(), SkewedClock(bench)
    number = await bench.put(50_000)
    await bench.put(50_000)
    await bench.node.drain()
    delete(bench, names, number)
    reclaimer = Reclaimer(
        node=bench.node.freer, metadata=names, clock=clock, background=bench.background,
        settings=ReclaimSettings(grace=DAY, pause=0.0),
    )  # fmt: skip
    await reclaimer.run_pass()
    clock.ahead_us = 10 * 365 * 86_400_000_000
    await reclaimer.run_pass()
    assert not reclaimer.progress.stripes_freed and not reclaimer.progress.volumes_freed
    bench.clock.now += DAY + 1
    await reclaimer.run_pass()
    assert reclaimer.progress.stripes_freed
    await bench.check_all()

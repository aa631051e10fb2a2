# SPDX-License-Identifier: Apache-2.0
"""A disk that never errs and is never late, only slow: left for others where others are, and given another chance."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from drystone_core.profiles import Profile
from drystone_datapath.volume import DiskState
from drystone_storage.disks.watch import Watched
from drystone_testing.storage_bench import MIB, StorageBench

SLOW = 0.3
"""Seconds a call; a tenth of what counts as late."""


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., object]]:
    """Makes benches that run, with room for everything on six disks unless told otherwise."""
    benches: list[StorageBench] = []

    async def make(disks: int = 6, **how: int) -> StorageBench:
        benches.append(bench := StorageBench(disks, **how))
        await bench.start()
        return bench

    yield make
    for bench in benches:
        await bench.background.stop()


def slow_down(bench: StorageBench, *disks: int, delay: float = SLOW) -> None:
    """Every write of these disks takes longer from now on."""
    for disk in disks:
        bench.disks[disk].fail("pwritev", error=None, delay=delay, count=10**9)


def watched(bench: StorageBench, label: str) -> Watched:
    return next(each for each in bench.node.watch.disks if each.unit.label == label)


def placed_on(bench: StorageBench) -> set[str]:
    """Disks of the volumes now appended to."""
    chains = [chain.current for chain in (bench.node._chains.of("").packs, bench.node._chains.of("").pieces)]
    return {slot.unit.label for current in chains if current is not None for slot in current.volume.slots if slot}


async def put_until_left(bench: StorageBench, label: str, *, most: int = 60) -> None:
    """Small blobs, one after the other, until the disk is in no open volume."""
    for _ in range(most):
        await bench.put()
        if label not in placed_on(bench):
            await bench.put()
            return
    raise AssertionError(f"{label} is still written to: {watched(bench, label)}")


async def test_a_slow_disk_is_left_and_nobody_is_told_an_error(start: Callable) -> None:
    """Packs and pieces go on without it; what was under way is acknowledged; then writes cost no time again."""
    bench = await start()
    await bench.put_large(MIB)
    slow_down(bench, 3)
    before = bench.clock.now
    while "/d3" in placed_on(bench):
        await asyncio.gather(*(bench.put() for _ in range(5)), bench.put_large(MIB))
        assert bench.clock.now < before + 60
    disk = watched(bench, "/d3")
    assert (disk.unit.state, disk.reason) == (DiskState.SUSPECT, "slow")
    assert bench.clock.now - before >= bench.settings.append.slow.seconds
    before = bench.clock.now
    for _ in range(20):
        await asyncio.gather(*(bench.put() for _ in range(5)), bench.put_large(MIB))
    assert bench.clock.now - before < SLOW
    assert placed_on(bench) == {f"/d{disk}" for disk in (0, 1, 2, 4, 5)}
    await bench.check_all()
    await bench.crash()
    await bench.check_all()


async def test_what_is_left_for_slowness_is_closed_whole(start: Callable) -> None:
    """Every slot carries its close flag, the slow one too: a restart finds nothing open."""
    bench = await start()
    slow_down(bench, 0)
    await put_until_left(bench, "/d0")
    await bench.advance(1.0)
    await bench.node.drain()
    await bench.crash()
    assert bench.node.loaded.left_open == []
    assert bench.node.loaded.volumes == 2
    await bench.check_all()


async def test_the_lateness_cap_counts_it(start: Callable) -> None:
    """Each volume that is left is one closing of the minute's."""
    bench = await start()
    slow_down(bench, 2)
    await put_until_left(bench, "/d2")
    assert len(bench.node._chains.of("").packs._cap._when) == 1


async def test_where_nothing_can_stand_in_the_slow_disk_is_written_to(start: Callable) -> None:
    """Two disks, a copy on each: the operator is told, the volume goes on, and the next one is opened on both."""
    bench = await start(2, limit=256 << 10)
    slow_down(bench, 1)
    for _ in range(40):
        await bench.put()
    assert placed_on(bench) == {"/d0", "/d1"}
    disk = watched(bench, "/d1")
    assert (disk.unit.state, disk.errors) == (DiskState.SUSPECT, 1)
    volumes = len(bench.node.registry)
    for _ in range(8):
        await bench.put(100_000)
    assert len(bench.node.registry) > volumes
    assert placed_on(bench) == {"/d0", "/d1"}
    assert not bench.node._chains.of("").packs._cap._when
    await bench.check_all()


async def test_a_slow_disk_in_the_middle_of_a_call_is_opened_on_where_it_must(start: Callable) -> None:
    """A lane that has been busy for a moment hangs only if nothing says that its disk is slow."""
    bench = await start(2)
    slow_down(bench, 1)
    for _ in range(40):
        await bench.put()
    lane, now = bench.lanes["/d1"], bench.clock.now
    busy = {"since": now - SLOW}
    lane.busy_since = lambda: busy["since"]  # type: ignore[method-assign]
    disk = watched(bench, "/d1")
    assert bench.node.watch.placeable(disk, now, late_too=True)
    assert not bench.node.watch.placeable(disk, now, late_too=False)
    busy["since"] = now - 2.0
    assert not bench.node.watch.placeable(disk, now, late_too=True)


@pytest.mark.parametrize("slow", [range(6), range(3)], ids=["all", "half"])
async def test_where_half_of_the_disks_are_slow_none_is_left(start: Callable, slow: range) -> None:
    """A busy machine: every disk stays in service."""
    bench = await start()
    slow_down(bench, *slow)
    for _ in range(60):
        await bench.put()
    assert {each.unit.state for each in bench.node.watch.disks} == {DiskState.HEALTHY}
    assert len(placed_on(bench)) == 6


async def test_one_stall_leaves_no_disk(start: Callable) -> None:
    """A second and a half once, then as before."""
    bench = await start()
    bench.disks[4].fail("pwritev", error=None, delay=1.5, count=3, name="volumes/")
    for _ in range(200):
        await bench.put()
        bench.clock.now += 0.05
    assert watched(bench, "/d4").unit.state is DiskState.HEALTHY
    assert "/d4" in placed_on(bench)


async def test_a_disk_that_is_quick_again_is_used_again(start: Callable) -> None:
    """After its pause it is healthy, and the next volume lies on it."""
    bench = await start()
    slow_down(bench, 1)
    await put_until_left(bench, "/d1")
    bench.disks[1].faults.clear()
    await bench.advance(bench.settings.watch.late_backoff + 1)
    await bench.node.watch.look()
    assert watched(bench, "/d1").unit.state is DiskState.HEALTHY
    await bench.node.leave_volume(bench.node._chains.of("").packs.current.volume)  # type: ignore[union-attr]
    for _ in range(60):
        await bench.put()
    assert "/d1" in placed_on(bench)
    assert watched(bench, "/d1").unit.state is DiskState.HEALTHY


async def test_a_disk_that_stays_slow_is_left_for_twice_as_long_each_time(start: Callable) -> None:
    """60 s, 120 s, 240 s, doubling with each pause."""
    bench = await start()
    slow_down(bench, 1)
    for pause in (60.0, 120.0, 240.0):
        await put_until_left(bench, "/d1")
        disk = watched(bench, "/d1")
        assert disk.unit.state is DiskState.SUSPECT
        assert pause - 1 < disk.avoid_until - disk.last_error <= pause
        await bench.advance(pause + 1)
        await bench.node.watch.look()
        assert disk.unit.state is DiskState.HEALTHY
        await bench.node.leave_volume(bench.node._chains.of("").packs.current.volume)  # type: ignore[union-attr]
        await bench.put()
        assert "/d1" in placed_on(bench)
    await bench.check_all()


async def test_volumes_that_fill_up_at_once_hide_no_slow_disk(start: Callable) -> None:
    """A habit is the disk's: it is remembered from one volume to the next."""
    bench = await start(limit=256 << 10)
    slow_down(bench, 5)
    for _ in range(40):
        await bench.put(100_000)
    assert watched(bench, "/d5").reason == "slow"
    assert "/d5" not in placed_on(bench)


async def test_a_slow_disk_is_rebuilt_on_only_when_no_other_can_be(start: Callable) -> None:
    """H5: a wound is worse than a slow disk; a disk that failed is another matter."""
    bench = await start(7)
    await bench.put()
    volume = bench.node._chains.of("").packs.current.volume  # type: ignore[union-attr]
    await bench.node.leave_volume(volume)
    outside = next(each for each in bench.node.watch.disks if all(s.unit is not each.unit for s in volume.slots if s))
    volume.slots[2] = None
    bench.node.watch.slow(outside.unit)
    assert bench.node.healer._target(volume, 2) is not None
    others = [each for each in bench.node.watch.disks if each is not outside]
    for each in others:
        each.draining = True
    assert bench.node.healer._target(volume, 2) is outside.unit
    bench.node.watch.failed(outside.unit, OSError(5, "EIO"))
    assert bench.node.healer._target(volume, 2) is None


async def test_factor_zero_leaves_no_disk_for_slowness() -> None:
    """The operator's word: mixed disks are as they are."""
    bench = StorageBench()
    slow = replace(bench.settings.append.slow, factor=0.0)
    bench.settings = replace(bench.settings, append=replace(bench.settings.append, slow=slow))
    bench.node = bench._node()
    await bench.start()
    slow_down(bench, 3)
    for _ in range(60):
        await bench.put()
    assert watched(bench, "/d3").unit.state is DiskState.HEALTHY
    assert bench.node._chains.of("").packs.current is not None and bench.node._chains.of(
        ""
    ).packs.current.volume.profile == Profile(4, 2)
    await bench.background.stop()

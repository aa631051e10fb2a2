# SPDX-License-Identifier: Apache-2.0
"""The storage node on simulated disks: every acknowledged blob is read back whatever m disks do."""

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator

import pytest

from drystone_core.errors import ErrorCode, Unavailable
from drystone_core.profiles import Profile
from drystone_datapath.volume import DiskState, VolumeState
from drystone_testing.storage_bench import MIB, StorageBench

PAIRS = list(itertools.combinations(range(6), 2))


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    bench = StorageBench()
    await bench.start()
    yield bench
    await bench.background.stop()


async def test_small_and_large_blobs_come_back(bench: StorageBench) -> None:
    """Concurrent appends share stripes; ranges are exact."""
    await asyncio.gather(*(bench.put(size) for size in (1, 63, 4096, 100_000, 131_072)))
    await bench.put_large(9 * MIB + 17)
    await bench.check_all()
    ref, payload = bench.model[5]
    assert await bench.get(ref, 8 * MIB - 5, 11) == payload[8 * MIB - 5 : 8 * MIB + 6]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
async def test_any_two_disks_lost(bench: StorageBench, pair: tuple[int, int]) -> None:
    """Reads are right and writes go on; after a restart without them too."""
    for size in (10, 5000, 90_000):
        await bench.put(size)
    await bench.put_large(MIB + 1)
    for index in pair:
        bench.disks[index].dead = True
    await bench.check_all()
    await bench.put(777)
    await bench.put_large(MIB + 5)
    await bench.check_all()
    for index in pair:
        bench.disks[index].there = False
    await bench.crash()
    await bench.check_all()
    await bench.put(778)
    assert sum(unit.state is DiskState.FAILED for unit in bench.node.store.units) == 2  # type: ignore[union-attr]
    await bench.check_all()


async def test_a_third_lost_disk_stops_writes_not_the_process(bench: StorageBench) -> None:
    """Four lost of six (m = 2): 503, and writing again once they are back."""
    await bench.put()
    for disk in bench.disks[:4]:
        disk.dead = True
    with pytest.raises(Unavailable):
        await bench.put()
    for disk in bench.disks:
        disk.dead = False
    await bench.advance(3600.0)
    await bench.node.watch.look()
    await bench.put()
    await bench.check_all()


@pytest.mark.parametrize("seed", range(8))
async def test_acknowledged_blobs_survive_power_loss(seed: int) -> None:
    """Crashes at random moments during concurrent appends; volumes left open are closed at the next start."""
    bench = StorageBench(seed=seed * 7919)
    await bench.start()
    for _ in range(4):
        tasks = [asyncio.ensure_future(bench.put(bench.rng.randrange(1, 60_000))) for _ in range(12)]
        for _ in range(bench.rng.randrange(2, 25)):
            await asyncio.sleep(0)
        for disk in bench.disks:
            disk.epoch += 1  # the machine is gone in this instant: nothing more reaches the disks
        await bench.background.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bench.crash()
        assert all(volume.state is VolumeState.CLOSED for volume in bench.node.registry.volumes())
        await bench.check_all()
        await bench.crash()
        assert len(bench.node.loaded.left_open) == 0  # the flags were durable
    await bench.put()
    await bench.check_all()
    assert len(bench.model) > 1
    await bench.background.stop()


@pytest.mark.parametrize("site", ["pwritev", "preadv", "open"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ENOSPC])
async def test_a_failing_call_is_latency_not_an_error(bench: StorageBench, site: str, error: int) -> None:
    """At each site and for each error the blob is durable elsewhere, and the disk is not placed on again."""
    await bench.put()
    bench.disks[2].fail(site, error=error, name="volumes/", count=1000)
    for _ in range(5):
        await bench.put()
    await bench.put_large(MIB)
    bench.disks[2].faults.clear()
    await bench.check_all()
    bench.disks[0].dead = bench.disks[1].dead = True
    await bench.check_all()


@pytest.mark.parametrize("nth", range(1, 12))
async def test_one_failing_durable_write_never_loses_an_acknowledged_blob(nth: int) -> None:
    """The n-th durable write reports EIO once, its bytes lost at the crash after it (fsyncgate)."""
    bench = StorageBench(seed=nth)
    await bench.start()
    bench.disks[nth % 6].fail("pwritev", nth=nth, torn=True, name="volumes/")
    for _ in range(12):
        await bench.put(2000)
    await bench.crash()
    await bench.check_all()
    await bench.background.stop()


async def test_a_hung_disk_costs_latency(bench: StorageBench) -> None:
    """A blocked thread: the write goes to a volume without that disk; reads rebuild around it."""
    await bench.put()
    bench.lanes["/d3"].stalled = True
    await bench.put()
    await bench.put_large(MIB)
    volume = bench.node._chains.of("").packs.current.volume  # type: ignore[union-attr]
    assert "/d3" not in {slot.unit.label for slot in volume.slots if slot}
    assert volume.profile == Profile(3, 2)
    bench.lanes["/d3"].release()
    await bench.check_all()


async def test_a_full_disk_is_left_and_a_full_store_says_so() -> None:
    """Disks fill up: InsufficientStorage, never another error; reads go on; room again, writes again."""
    bench = StorageBench(capacity=6 * MIB)
    await bench.start()
    refused: Unavailable | None = None
    for _ in range(400):
        try:
            await bench.put(120_000)
        except Unavailable as error:
            refused = error
            break
        await bench.node.watch.look()
        bench.node._chains.of("").packs.tick()
    assert refused is not None and refused.code is ErrorCode.INSUFFICIENT_STORAGE
    await bench.check_all()
    for disk in bench.disks:
        disk.capacity = 60 * MIB
    await bench.advance(60.0)
    await bench.node.watch.look()
    await bench.put()
    await bench.check_all()
    await bench.background.stop()


async def test_volumes_follow_one_another_as_they_fill() -> None:
    """A small limit: many volumes, a spare ready before each is full, all closed but the last."""
    bench = StorageBench(limit=MIB)
    await bench.start()
    for _ in range(60):
        await bench.put(100_000)
        bench.node._chains.of("").packs.tick()
    await bench.advance(1.0)
    volumes = bench.node.registry.volumes()
    assert len(volumes) >= 5
    assert sum(volume.state is VolumeState.OPEN for volume in volumes) <= 2
    await bench.check_all()
    await bench.node.drain()
    assert all(volume.state is VolumeState.CLOSED for volume in bench.node.registry.volumes())
    with pytest.raises(Unavailable):
        await bench.put()
    await bench.check_all()
    await bench.background.stop()


async def test_a_vanished_disk_is_noticed_and_used_again_when_it_is_back(bench: StorageBench) -> None:
    """Its path shows an empty directory (lazy unmount): FAILED at the next look; with its files back it serves again."""
    await bench.put()
    disk = bench.disks[4]
    away, disk.nodes = disk.nodes, {}
    await bench.advance(1.1)
    unit = next(u for u in bench.node.store.units if u.label == "/d4")  # type: ignore[union-attr]
    assert unit.state is DiskState.FAILED
    await bench.put()
    await bench.check_all()
    disk.nodes = away
    await bench.advance(1.1)
    await bench.advance(1.1)
    assert unit.state is not DiskState.FAILED
    for index in (0, 1):
        bench.disks[index].dead = True
    await bench.check_all()

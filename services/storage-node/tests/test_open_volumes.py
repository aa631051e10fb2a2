# SPDX-License-Identifier: Apache-2.0
"""The cap on closings for lateness, stalls of the whole machine, disks that are avoided and come back."""

import asyncio

from drystone_datapath.volume import DiskState
from drystone_storage.volumes.open_volumes import LatenessCap
from drystone_testing.storage_bench import StorageBench


def test_lateness_beyond_the_cap_makes_openings_wait() -> None:
    """Counted over a minute; then free again."""
    cap = LatenessCap(3)
    for second in range(3):
        cap.note(float(second))
        assert cap.wait(float(second)) == 0.0
    cap.note(3.0)
    assert cap.wait(3.0) > 0.0
    assert cap.wait(64.0) == 0.0


async def test_a_stall_of_most_disks_makes_none_suspect() -> None:
    """Five of six late at once: the machine stalled; when it goes on so do writes, on all disks."""
    bench = StorageBench()
    await bench.start()
    await bench.put()
    for lane in list(bench.lanes.values())[:5]:
        lane.stalled = True
    put = asyncio.ensure_future(bench.put())
    await asyncio.sleep(0.01)
    for lane in bench.lanes.values():
        lane.release()
    await asyncio.wait([put])
    bench.clock.now += 3600
    await bench.node.watch.look()
    states = {watched.unit.state for watched in bench.node.watch.disks}
    assert states == {DiskState.HEALTHY}
    await bench.put()
    await bench.check_all()
    await bench.background.stop()


async def test_a_disk_that_failed_is_avoided_and_the_pause_doubles() -> None:
    """600 s after the first error, 1200 s after the next; then used again."""
    bench = StorageBench()
    await bench.start()
    await bench.put()
    disk, label = bench.disks[1], "/d1"
    for pause in (600.0, 1200.0):
        disk.fail("pwritev", name="volumes/")
        await bench.put()
        disk.faults.clear()
        watched = next(w for w in bench.node.watch.disks if w.unit.label == label)
        assert watched.unit.state is DiskState.SUSPECT
        assert label not in current_disks(bench)
        bench.clock.now += pause - 10
        await bench.node.watch.look()
        assert watched.unit.state is DiskState.SUSPECT
        bench.clock.now += 11
        await bench.node.watch.look()
        assert watched.unit.state is DiskState.HEALTHY
        await bench.node.leave_volume(bench.node._chains.of("").packs.current.volume)  # type: ignore[union-attr]
        await bench.put()
        assert label in current_disks(bench)
    await bench.check_all()
    await bench.background.stop()


async def test_a_read_only_volume_folder_keeps_reads_going() -> None:
    """All disks refuse every write: Unavailable for writes, reads as before."""
    bench = StorageBench()
    await bench.start()
    for size in (10, 100_000):
        await bench.put(size)
    for disk in bench.disks:
        disk.fail("pwritev", error=30, count=10**6)
        disk.fail("open", error=30, count=10**6, name="never-there")
    try:
        await bench.put()
    except Exception as error:
        assert type(error).__name__ == "Unavailable"
    else:
        raise AssertionError("a write went through")
    await bench.check_all()
    await bench.background.stop()


def current_disks(bench: StorageBench) -> set[str]:
    current = bench.node._chains.of("").packs.current
    assert current is not None
    return {slot.unit.label for slot in current.volume.slots if slot}

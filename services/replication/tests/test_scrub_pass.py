# SPDX-License-Identifier: Apache-2.0
"""A pass of scrubbing outlives its process, is begun when somebody asks, and is never called further than it is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from drystone_core.errors import Unavailable, Unreachable
from drystone_core.formats.shard import shard_name
from drystone_core.ids import VolumeId
from drystone_core.upkeep import ScrubNode, ScrubReport
from drystone_replication.repair import Scrubber, ScrubSettings
from drystone_replication.repair.scrub_pass import ScrubPass, decode_pass, encode_pass
from drystone_testing.storage_bench import StorageBench

GOLDEN = Path(__file__).parent / "golden" / "scrub-pass-1.json"
OWNER = "c1" * 16
DAY = 86_400.0


async def nothing(_volume: VolumeId) -> None:
    """Before a volume is read."""


class Memory:
    """Keeps what was saved, as a file would."""

    def __init__(self) -> None:
        self.owner = OWNER
        self.data: bytes | None = None
        self.full = False

    async def load(self) -> bytes | None:
        await asyncio.sleep(0)
        return self.data

    async def save(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise OSError("no space")
        self.data = data


class Watched:
    """A bench's own ScrubNode; notes which volumes were read to the end."""

    def __init__(self, bench: StorageBench) -> None:
        self._bench = bench
        self.read: list[VolumeId] = []
        self.before: Callable[[VolumeId], Awaitable[None]] = nothing

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        return await self._bench.node.scrubs.closed_volumes_to_scrub()

    async def scrub(self, volume: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        await self.before(volume)
        await asyncio.sleep(0)
        report = await self._bench.node.scrubs.scrub(volume, bytes_per_second=bytes_per_second)
        self.read.append(volume)
        return report


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    """A node with several closed volumes."""
    bench = StorageBench()
    await bench.start()
    for _ in range(5):
        await bench.put(30_000)
        await bench.crash()
    assert len(await bench.node.scrubs.closed_volumes_to_scrub()) >= 5
    yield bench
    await bench.background.stop()


def scrubber(bench: StorageBench, node: ScrubNode, memory: Memory | None, period: float = 14 * DAY) -> Scrubber:
    settings = ScrubSettings(period=period, bytes_per_second=1 << 50, save_every=0.0)
    return Scrubber(
        node=node,
        clock=bench.clock,
        background=bench.background,
        found=lambda: None,
        settings=settings,
        memory=memory,
    )


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


async def run(one: Scrubber) -> "asyncio.Task[None]":
    """As after a start of the process."""
    task = asyncio.ensure_future(one._run())
    await asyncio.sleep(0.01)
    return task


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_pass_goes_on_after_a_restart_with_what_was_not_read(bench: StorageBench) -> None:
    """Killed after any number of volumes: all are read, only the one under way twice at most."""
    volumes = len(await bench.node.scrubs.closed_volumes_to_scrub())
    for killed_after in range(volumes):
        memory, node = Memory(), Watched(bench)
        first = scrubber(bench, node, memory)
        task = await run(first)
        bench.clock.now += 61
        await until(lambda node=node, killed_after=killed_after: len(node.read) >= killed_after + 1)
        await end(task)
        assert memory.data is not None
        saved = decode_pass(memory.data, OWNER, bench.clock.wall_us())
        assert set(node.read) | set(saved.todo or []) == set(await node.closed_volumes_to_scrub())
        second = scrubber(bench, node, memory)
        task = await run(second)
        assert second.status().running == (not saved.finished_us)
        assert (second.status().began, second.status().done) == (first.status().began, saved.done)
        bench.clock.now += 61
        await until(lambda second=second: second.status().finished)
        assert len(node.read) <= volumes + 1 and len(set(node.read)) == volumes
        assert second.status().done == second.status().volumes == volumes
        bench.clock.now += 13 * DAY
        await asyncio.sleep(0.01)
        assert len(node.read) <= volumes + 1, "the next pass is due a period after the beginning of this one"
        bench.clock.now += DAY
        await until(lambda node=node: len(node.read) >= 2 * volumes)
        await end(task)


@pytest.mark.parametrize("harm", ["lost", "cut", "flipped", "another store's", "of the future", "of a later format"])
async def test_a_pass_that_is_not_remembered_for_sure_is_made_again(bench: StorageBench, harm: str) -> None:
    """S4: doubt means reading, never skipping."""
    memory, node = Memory(), Watched(bench)
    done = scrubber(bench, node, memory)
    await done.start_pass()
    await done._work()
    assert memory.data is not None and done.status().finished
    volumes = len(node.read)
    data = memory.data
    match harm:
        case "lost":
            memory.data = None
        case "cut":
            memory.data = data[:-20]
        case "flipped":
            memory.data = data.replace(b'"volumes": 5', b'"volumes": 6')
            assert memory.data != data
        case "another store's":
            memory.owner = "d2" * 16
        case "of the future":
            bench.clock.now -= 100
        case "of a later format":
            memory.data = data.replace(b'"format": 1', b'"format": 2')
    task = await run(scrubber(bench, node, memory))
    bench.clock.now += 61
    await until(lambda: len(node.read) == 2 * volumes)
    await end(task)


async def test_a_volume_found_damaged_is_read_again_after_a_restart(bench: StorageBench) -> None:
    """The wound is known to the node's process only; if that was replaced too, the next look finds it again."""
    memory, node = Memory(), Watched(bench)
    victim = bench.node.registry.volumes()[1]
    slot = victim.slots[2]
    assert slot is not None
    bench.places[slot.unit.label].flip(shard_name(victim.volume_id, 2), 8 * 8200)
    first = scrubber(bench, node, memory)
    await first.start_pass()
    await first._work()
    status = first.status()
    assert (status.unclean, status.slots_damaged, status.running) == (1, 1, False)
    await bench.crash()
    assert not bench.node.registry.bad
    node.read.clear()
    second = scrubber(bench, node, memory)
    task = await run(second)
    assert second.status().running
    bench.clock.now += 61
    await until(lambda: second.status().finished)
    assert node.read == [victim.volume_id] and len(bench.node.registry.bad) == 1
    await end(task)


async def test_deleted_volumes_are_not_waited_for(bench: StorageBench) -> None:
    """Neither those that went before the pass goes on, nor those that go under its eyes."""
    memory, node = Memory(), Watched(bench)
    one, two, *rest = await node.closed_volumes_to_scrub()
    began = bench.clock.wall_us()
    memory.data = encode_pass(ScrubPass(began_us=began, todo=[one, two, *rest], volumes=2 + len(rest)), OWNER)

    async def retire(volume: VolumeId) -> None:
        if volume in (one, two):
            await bench.node.freer.volume_names(volume)
            await bench.node.freer.retire(volume)

    await retire(one)
    node.before = retire
    again = scrubber(bench, node, memory)
    task = await run(again)
    bench.clock.now += 61
    await until(lambda: again.status().finished)
    assert (again.status().volumes, again.status().done, again.status().unclean) == (len(rest), len(rest), 0)
    await end(task)


async def test_a_pass_begins_when_asked_and_not_otherwise(bench: StorageBench) -> None:
    """With period 0, within a moment, and once: who asks again joins the one under way, unless he wants it anew."""
    memory, node = Memory(), Watched(bench)
    keeper = scrubber(bench, node, memory, period=0.0)
    task = await run(keeper)
    bench.clock.now += 100 * DAY
    await asyncio.sleep(0.02)
    assert node.read == [] and keeper.status().began == 0 and keeper.status().next_begins == 0
    assert await keeper.start_pass()
    assert keeper.status().running and memory.data is not None, "remembered before it is promised"
    assert not await keeper.start_pass()
    bench.clock.now += 1
    await until(lambda: keeper.status().finished)
    volumes = len(node.read)

    async def ask_again(volume: VolumeId) -> None:
        if len(node.read) == volumes + 2:
            node.before = nothing
            asking.append(asyncio.ensure_future(keeper.start_pass(anew=True)))

    asking: list[asyncio.Task[bool]] = []
    node.before = ask_again
    assert await keeper.start_pass()
    bench.clock.now += 1
    await until(lambda: asking and keeper.status().finished)
    assert await asking[0] and len(node.read) == volumes + 3 + volumes, "two, the one under way, and all once more"
    assert keeper.status().done == volumes
    await end(task)


async def test_a_pass_asked_for_while_the_node_is_replaced_begins_as_soon_as_it_is_back(bench: StorageBench) -> None:
    """Not after the pause of a start: somebody waits."""
    node, away = Watched(bench), True

    async def replaced(_volume: VolumeId) -> None:
        if away:
            raise Unreachable("it is being replaced")

    node.before = replaced
    keeper = scrubber(bench, node, Memory(), period=0.0)
    keeper.start()
    await asyncio.sleep(0.01)
    await keeper.start_pass()
    for _ in range(5):
        bench.clock.now += 1
        await asyncio.sleep(0.01)
    assert node.read == [] and keeper.status().running
    away = False
    bench.clock.now += 2
    await until(lambda: keeper.status().finished)


async def test_when_the_next_pass_begins_is_told_before_and_after_one(bench: StorageBench) -> None:
    """A minute after the start, then a period after the beginning."""
    keeper = scrubber(bench, Watched(bench), None, period=DAY)
    task = await run(keeper)
    start = int(bench.clock.wall_us() / 1e6)
    assert abs(keeper.status().next_begins - (start + 60)) <= 1
    bench.clock.now += 61
    await until(lambda: keeper.status().finished)
    assert abs(keeper.status().next_begins - (keeper.status().began + DAY)) <= 1
    await end(task)


async def test_a_promise_made_before_a_restart_is_kept(bench: StorageBench) -> None:
    """A pass that was asked for and not yet begun begins at the next start."""
    memory, node = Memory(), Watched(bench)
    assert await scrubber(bench, node, memory, period=0.0).start_pass()
    later = scrubber(bench, node, memory, period=0.0)
    task = await run(later)
    assert later.status().running and not later.status().volumes
    bench.clock.now += 61
    await until(lambda: later.status().finished)
    assert len(node.read) == later.status().volumes > 0
    await end(task)


async def test_a_full_state_directory_does_not_stop_scrubbing(bench: StorageBench) -> None:
    """It only costs reading again."""
    memory, node = Memory(), Watched(bench)
    memory.full = True
    keeper = scrubber(bench, node, memory)
    await keeper.start_pass()
    await keeper._work()
    assert keeper.status().finished and memory.data is None


async def test_volumes_that_cannot_be_read_are_told_and_do_not_stop_the_others(bench: StorageBench) -> None:
    """S1; what is left is estimated from those that are done."""
    node = Watched(bench)
    first, *others = await node.closed_volumes_to_scrub()

    async def failing(volume: VolumeId) -> None:
        bench.clock.now += 10
        if volume == first:
            raise Unavailable("just now")
        left.append(keeper.status().seconds_left)

    left: list[int] = []
    node.before = failing
    keeper = scrubber(bench, node, None)
    await keeper.run_pass()
    assert sorted(node.read) == sorted(others)
    assert (keeper.status().unclean, keeper.status().done) == (1, 1 + len(others))
    assert left == [10 * count for count in range(len(others), 0, -1)]


def test_golden_document_means_what_it_meant() -> None:
    """The golden file was written once; a change of bytes needs a new version, not a new golden file."""
    one = ScrubPass(
        began_us=1_700_000_000_000_000,
        todo=[VolumeId(2), VolumeId(2**64 - 1)],
        unclean=[VolumeId(3)],
        volumes=4,
        bytes_read=5,
        slots_damaged=6,
        seconds=7.5,
    )
    assert encode_pass(one, OWNER) == GOLDEN.read_bytes()
    assert decode_pass(GOLDEN.read_bytes(), OWNER, 1_700_000_000_000_000) == one
    unlisted = ScrubPass(began_us=1)
    assert decode_pass(encode_pass(unlisted, OWNER), OWNER, 1) == unlisted

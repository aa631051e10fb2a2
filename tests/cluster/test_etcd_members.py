# SPDX-License-Identifier: Apache-2.0
"""Three members of etcd: the leader killed, members stopped, the majority lost; what was promised holds meanwhile."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from drystone_core.coordination import ABSENT, Changes, Coordinator, Put, Resync, Written
from drystone_core.errors import Stale, Unavailable, Unreachable
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_testing.contracts.coordinator import PATIENCE, collect, until
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import EtcdServers, free_ports, three_etcds

__all__ = ["three_etcds"]


@pytest.fixture
async def rig(three_etcds: EtcdServers) -> AsyncIterator[EtcdRig]:
    made = EtcdRig(three_etcds, prefix="/drystone/")
    yield made
    await made.close()


class Counting:
    """A process that counts one document up by compare-and-set, and knows what it was told."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.done = self.unknown = 0
        self.stop = False

    async def run(self) -> None:
        while not self.stop:
            try:
                document = await self.coordinator.get("n")
                value = b"%d" % (int(document.value) + 1 if document is not None else 1)
                expected = document.revision if document is not None else ABSENT
                await self.coordinator.commit(Put(key="n", value=value, expected=expected))
                self.done += 1
            except Stale:
                pass
            except Unreachable:
                await asyncio.sleep(0.01)
            except Unavailable:
                self.unknown += 1  # of a read, or of a commit that may have happened


async def test_no_count_is_lost_or_made_twice_while_leaders_are_killed_and_stopped(
    three_etcds: EtcdServers, rig: EtcdRig
) -> None:
    """Three clients count; each told success is one step, an unknown outcome one at most; a watch saw every step once; a
    session lived through it all."""
    clients = [await rig.connect() for _ in range(3)]
    counting = [Counting(client) for client in clients]
    watcher = await rig.connect()
    session = await watcher.open_session(ttl=120)
    watch = watcher.watch("n")
    assert isinstance(await watch.next(), Resync)
    seen: list[int] = []

    async def read() -> None:
        while True:
            change = await watch.next()
            assert isinstance(change, Changes)
            seen.extend(int(event.document.value) for event in change.events if isinstance(event, Written))

    reading = asyncio.ensure_future(read())
    running = [asyncio.ensure_future(each.run()) for each in counting]

    async def progress(steps: int) -> None:
        goal = sum(each.done for each in counting) + steps

        async def reached() -> bool:
            for task in (*running, reading):
                if task.done():
                    task.result()
            return sum(each.done for each in counting) >= goal

        await until(reached)

    await progress(30)
    for turn in range(3):
        leader = await asyncio.to_thread(three_etcds.leader)
        if turn == 1:
            leader.signal(signal.SIGSTOP)
            await progress(30)
            leader.signal(signal.SIGCONT)
        else:
            leader.kill()
            await progress(30)
            leader.start()
        await asyncio.to_thread(three_etcds.wait, leader)
        await progress(30)
    for each in counting:
        each.stop = True
    await asyncio.gather(*running)
    document = await watcher.get("n")
    assert document is not None
    total, done = int(document.value), sum(each.done for each in counting)
    assert done <= total <= done + sum(each.unknown for each in counting)

    async def all_seen() -> bool:
        return bool(seen) and seen[-1] == total

    await until(all_seen)
    assert seen == list(range(1, total + 1))
    session.check()
    reading.cancel()
    await watch.close()
    for client in (*clients, watcher):
        await client.close()


async def test_a_stopped_member_is_left_for_another(three_etcds: EtcdServers, rig: EtcdRig) -> None:
    """Its connections stand, nothing comes: reads find another within their deadline, the watch within its patience."""
    stopped = three_etcds.members[0]
    # This one starts at the member that will be stopped: the others are not there yet.
    for line in (one := await rig.connect(), rig.lines(one))[1][1:]:
        line.hold()
        line.tear()

    async def at_the_first() -> bool:
        try:
            await one.get("a")
        except Unavailable:
            return False
        return True

    await until(at_the_first)
    other = await rig.connect()
    watch = one.watch("w/")
    await watch.next()
    for line in rig.lines(one)[1:]:
        line.let_go()
    stopped.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:  # a new leader may have to be elected first
                try:
                    await one.get("a")
                    break
                except Unavailable:
                    pass

            async def written() -> bool:
                try:
                    await other.commit(Put(key="w/end", value=b""))
                except Unavailable:
                    return False
                return True

            await until(written)
            await collect(watch, "w/end")
    finally:
        stopped.signal(signal.SIGCONT)
    await watch.close()
    for each in (one, other):
        await each.close()


async def test_without_a_majority_nothing_old_is_answered_and_the_cache_serves_on(
    three_etcds: EtcdServers, rig: EtcdRig
) -> None:
    """Reads are linearizable or Unavailable; with two of three back, all goes on."""
    one = await rig.connect()
    await one.commit(Put(key="m/a", value=b"1"))
    cache = CoordinatorCache(coordinator=one, prefix="m/", clock=rig.clock)
    await cache.start(within=PATIENCE)
    for member in three_etcds.members[:2]:
        member.kill()
    lost = rig.clock.monotonic()

    async def answers() -> bool:
        try:
            await one.get("m/a")
        except Unavailable:
            return False
        return True

    async def silent() -> bool:
        return not await answers()

    await until(silent)
    for _ in range(3):
        assert not await answers()

    async def old() -> bool:
        return cache.age() > 5

    await until(old)
    assert rig.clock.monotonic() - cache.age() < lost  # the member that is left answers signs of life for seconds more
    document = cache.get("m/a")
    assert document is not None and document.value == b"1"
    three_etcds.members[0].start()
    await until(answers)

    async def young() -> bool:
        return rig.clock.monotonic() - cache.age() > lost

    await until(young)
    await cache.close()
    await one.close()


async def test_endpoints_may_be_names_and_dead_ones_are_passed_over(three_etcds: EtcdServers, rig: EtcdRig) -> None:
    """A name, a port nobody listens on, a member: every call finds one that answers."""
    port = three_etcds.members[1].client_port
    endpoints = (f"127.0.0.1:{free_ports(1)[0]}", f"localhost:{port}", f"nowhere.invalid:{port}")
    for _ in range(4):
        one = await rig.connect(endpoints=endpoints, timeout=20.0)
        revision = await one.commit(Put(key="a", value=b""))
        document = await one.get("a")
        assert document is not None and document.revision == revision
        await one.close()

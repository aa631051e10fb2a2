# SPDX-License-Identifier: Apache-2.0
"""Thousands of clients that send almost nothing must not cost the others their service, nor the store its memory."""

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median

import pytest

from drystone_testing.lean_client import Body, LeanClient, Signer
from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.process_figures import MIB, Peak, descriptors, rss

SLOW, NORMAL = 2000, 50
PROMISED = 10 * MIB
LIMIT = 1 << 30
SECONDS = 30.0
SIZES = (4_096, 100_000, 300_000, 3 * MIB)


@dataclass
class Service:
    """What the normal clients were given."""

    served: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    given_up: int = 0
    waits: list[float] = field(default_factory=list)


async def trickle(port: int, number: int, *, first: int, ending: asyncio.Event) -> str:
    """One slow client: the head of a PUT, `first` bytes at once, then 4 KiB every 2 s. How it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(Signer(port).head("PUT", f"/slow/{number}", length=PROMISED))
        writer.write(bytes(first))
        await writer.drain()
        while not ending.is_set():
            try:
                async with asyncio.timeout(2):
                    answer = await reader.read(100)
                return answer[9:12].decode() or "closed"
            except TimeoutError:
                writer.write(bytes(4096))
        return "open"
    except OSError:
        return "reset"
    finally:
        writer.transport.abort()


async def work(port: int, number: int, service: Service, ending: asyncio.Event) -> None:
    """One normal client: PUT, GET, compare; up to 5 tries each, as SDKs do."""
    async with LeanClient(port) as client:
        counter = 0
        while not ending.is_set():
            counter += 1
            body = Body(number * 1000 + counter, SIZES[(number + counter) % len(SIZES)])
            path = f"/normal/{number}"
            for call in (client.put, client.get_compared):
                began = time.monotonic()
                for attempt in range(5):
                    try:
                        answer = await call(path, body)
                    except ValueError as error:
                        service.wrong.append(f"{path}: {error}")
                        break
                    if answer.status == 200:
                        service.served += 1
                        service.waits.append(time.monotonic() - began)
                        break
                    assert answer.status == 503, answer
                    service.refused += 1
                    await asyncio.sleep(0.1 * 2**attempt)
                else:
                    service.given_up += 1
                    break


@pytest.mark.parametrize("first", [0, 300_000], ids=["at-once", "after-300-KB"])
async def test_two_thousand_slow_uploads_leave_room_for_the_others(
    store: LiveStore, record: Record, first: int
) -> None:
    """Under 1 GiB in all, normal clients go on, and everything held comes back when the slow ones have gone."""
    async with LeanClient(store.port) as client:
        await client.create_bucket("slow")
        await client.create_bucket("normal")
        for size in SIZES:
            assert (await client.put("/normal/warm", Body(1, size))).status == 200
    pids = store.pids()
    idle_descriptors = descriptors(pids)
    service, ending, leaving = Service(), asyncio.Event(), asyncio.Event()
    began = time.monotonic()
    with Peak(pids, every=0.1) as peak:
        slow = [asyncio.create_task(trickle(store.port, n, first=first, ending=leaving)) for n in range(SLOW)]
        async with asyncio.TaskGroup() as normal:
            for number in range(NORMAL):
                normal.create_task(work(store.port, number, service, ending))
            await asyncio.sleep(SECONDS)
            ending.set()
        seconds = time.monotonic() - began
        alive = sum(not task.done() for task in slow)
        leaving.set()
        ends = await asyncio.gather(*slow)
    gone = rss(pids)
    settled = await settle(pids, idle_descriptors)
    together = await fill_at_once(store.port, 12)
    await asyncio.sleep(12)
    waits = sorted(service.waits)
    record(
        slow=SLOW,
        slow_alive_at_the_end=alive,
        slow_ends={end: ends.count(end) for end in sorted(set(ends))},
        normal=NORMAL,
        served_per_second=round(service.served / seconds, 1),
        refused=service.refused,
        given_up=service.given_up,
        median_ms=round(median(waits) * 1000, 1),
        p99_ms=round(waits[len(waits) * 99 // 100] * 1000, 1),
        peak_mib=peak.peak // MIB,
        idle_mib=peak.before // MIB,
        gone_mib=gone // MIB,
        after_mib=rss(pids) // MIB,
        descriptors_above_idle=settled,
        large_puts_at_once_after=together,
    )
    assert peak.peak < LIMIT
    assert not service.wrong
    assert service.served > 10 * (service.refused + service.given_up), "normal clients are not served"
    assert not service.given_up
    assert settled <= 32, "connections of clients that are gone are still held"
    assert together == 12, "buffers did not come back"
    assert rss(pids) < peak.before + 128 * MIB


async def settle(pids: list[int], idle: int) -> int:
    """Wait until the descriptors are as before, for at most 20 s; how many are left above that."""
    for _ in range(100):
        if descriptors(pids) <= idle:
            break
        await asyncio.sleep(0.2)
    return descriptors(pids) - idle


async def fill_at_once(port: int, count: int) -> int:
    """Uploads of 20 MiB at the same time, without a second try; how many were taken."""

    async def one(number: int) -> bool:
        async with LeanClient(port) as client:
            return (await client.put(f"/normal/large{number}", Body(number, 20 * MIB))).status == 200

    return sum(await asyncio.gather(*(one(number) for number in range(count))))

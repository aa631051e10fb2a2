# SPDX-License-Identifier: Apache-2.0
"""After half a minute of everything, broken off at any point, a store holds what it held before."""

import asyncio
import os
import random
import time
from collections import Counter

from drystone_testing.lean_client import Body, LeanClient, Signer
from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.process_figures import MIB, Peak, descriptors, rss, threads

SECONDS = float(os.environ.get("SCALE_SECONDS", "30"))
CLIENTS = 64
SIZES = (100, 5_000, 70_000, 140_000, 1_000_000, 6 * MIB, 20 * MIB)


async def work(port: int, number: int, until: float, counts: Counter[str]) -> None:
    """One client: PUT, GET, ranges, deletes; and uploads and downloads that it breaks off."""
    chooser = random.Random(number)
    held: dict[str, Body] = {}
    async with LeanClient(port) as client:
        while time.monotonic() < until:
            path = f"/mixed/{number}/{chooser.randrange(3)}"
            dice = chooser.random()
            if dice < 0.15:
                await broken_upload(port, path, chooser)
                counts["broken uploads"] += 1
            elif dice < 0.3 and path in held:
                await broken_download(port, path, chooser)
                counts["broken downloads"] += 1
            elif dice < 0.6 and path in held:
                body = held[path]
                start = chooser.randrange(body.size) if dice < 0.4 else 0
                answer = await client.get_compared(path, body, start=start, end=body.size if start else None)
                counts[f"GET {answer.status}"] += 1
            elif dice < 0.65 and path in held:
                del held[path]
                counts[f"DELETE {(await client.call('DELETE', path)).status}"] += 1
            else:
                body = Body(chooser.randrange(1 << 30), chooser.choice(SIZES))
                send = client.put_chunked if chooser.random() < 0.3 else client.put
                answer = await send(path, body)
                counts[f"PUT {answer.status}"] += 1
                if answer.status == 200:
                    held[path] = body


async def broken_upload(port: int, path: str, chooser: random.Random) -> None:
    """Promise much, send a part of it, go away."""
    size = chooser.choice(SIZES)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(Signer(port).head("PUT", path, length=size))
        for piece in Body(1, chooser.randrange(size)).pieces():
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        if chooser.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()


async def broken_download(port: int, path: str, chooser: random.Random) -> None:
    """Ask for all, read a part of it, go away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(Signer(port).head("GET", path))
        left = chooser.randrange(1, 3 * MIB)
        async with asyncio.timeout(2):  # the object may be shorter
            while left > 0:
                data = await reader.read(min(left, 65536))
                if not data:
                    break
                left -= len(data)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def test_nothing_is_held_after_mixed_and_broken_traffic(store: LiveStore, record: Record) -> None:
    """Descriptors, threads, buffers and resident memory are back at their level after a warm-up of the same kind."""
    async with LeanClient(store.port) as client:
        await client.create_bucket("mixed")
    pids = store.pids()

    async def run(seconds: float) -> Counter[str]:
        counts: Counter[str] = Counter()
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(work(store.port, number, until, counts))
        return counts

    await run(5)
    await asyncio.sleep(12)
    before = {"descriptors": descriptors(pids), "threads": threads(pids), "rss_mib": rss(pids) // MIB}
    with Peak(pids) as peak:
        counts = await run(SECONDS)
    await asyncio.sleep(15)
    after = {"descriptors": descriptors(pids), "threads": threads(pids), "rss_mib": rss(pids) // MIB}
    filled = await fill_at_once(store.port, 12)
    record(
        clients=CLIENTS, counts=dict(sorted(counts.items())), before=before, after=after, peak_mib=peak.peak // MIB,
        large_puts_at_once_after=filled,
    )  # fmt: skip
    assert counts["PUT 200"] and counts["GET 200"] and counts["broken uploads"] and counts["broken downloads"]
    assert not [name for name in counts if name.endswith(("500", "400", "416"))], counts
    assert after["descriptors"] <= before["descriptors"] + 24, "descriptors (24: shard files of two more volumes)"
    assert after["threads"] <= before["threads"]
    assert after["rss_mib"] <= before["rss_mib"] + 32
    assert filled == 12, "buffers did not come back"


async def fill_at_once(port: int, count: int) -> int:
    """Uploads of 20 MiB at the same time, without a second try; how many were taken."""

    async def one(number: int) -> bool:
        async with LeanClient(port) as client:
            return (await client.put(f"/mixed/large{number}", Body(number, 20 * MIB))).status == 200

    return sum(await asyncio.gather(*(one(number) for number in range(count))))

# SPDX-License-Identifier: Apache-2.0
"""What a store costs that does nothing, and that memory does not follow the number of objects."""

import asyncio
import time
from pathlib import Path

from drystone_testing.lean_client import LeanClient
from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.process_figures import MIB, cpu_seconds, descriptors, memory, rss, threads

IDLE_LIMIT = 250 * MIB
OBJECTS, EARLY = 150_000, 50_000
"""Before EARLY the layers of rows that wait for SQLite (about five of 16 MiB of journal) are still filling."""
GROWTH_LIMIT = 48 * MIB
WRITERS = 32


def test_an_idle_store_stays_small(store: LiveStore, record: Record) -> None:
    """All processes together under 250 MiB resident."""
    time.sleep(6)
    pids = store.pids()
    shown = {}
    for process in store.status()["processes"]:
        held = memory(process["pid"])
        shown[process["role"]] = {
            "rss_mib": held["Rss"] // MIB,
            "pss_mib": held["Pss"] // MIB,
            "threads": threads([process["pid"]]),
            "descriptors": descriptors([process["pid"]]),
        }
    cpu = cpu_seconds(pids)
    time.sleep(5)
    record(
        rss_mib=rss(pids) // MIB,
        pss_mib=sum(memory(pid)["Pss"] for pid in pids) // MIB,
        cpu_percent_idle=round((cpu_seconds(pids) - cpu) / 5 * 100, 2),
        processes=shown,
    )
    assert rss(pids) < IDLE_LIMIT


def key_of(number: int) -> str:
    """In a scrambled order, in 100 directories of 10."""
    place = number * 48_271 % OBJECTS
    return f"d{place % 100:02d}/e{place // 100 % 10}/k{place:06d}"


async def put_range(port: int, first: int, last: int) -> None:
    numbers = iter(range(first, last))

    async def write() -> None:
        async with LeanClient(port) as client:
            for number in numbers:
                payload = b"%d" % number * 20
                answer = await client.call(
                    "PUT", f"/many/{key_of(number)}", pieces=iter([payload]), length=len(payload)
                )
                assert answer.status == 200, answer

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(write())


async def check_listing(port: int, expected: list[str]) -> dict[str, float]:
    """Whole and by delimiter: exact, in order, none missing or doubled."""
    async with LeanClient(port) as client:
        began = time.monotonic()
        keys, prefixes, pages = await client.list_v2("many")
        spent = (time.monotonic() - began) / pages * 1000
        assert keys == expected and not prefixes
        assert pages == -(-len(expected) // 1000)
        keys, prefixes, _ = await client.list_v2("many", delimiter="/")
        assert not keys
        assert prefixes == sorted({key.split("/")[0] + "/" for key in expected})
        keys, prefixes, _ = await client.list_v2("many", prefix="d07/", delimiter="/")
        assert not keys
        assert prefixes == sorted({"/".join(key.split("/")[:2]) + "/" for key in expected if key.startswith("d07/")})
        keys, prefixes, _ = await client.list_v2("many", prefix="d07/e", delimiter="k")
        assert prefixes == sorted({key.split("k")[0] + "k" for key in expected if key.startswith("d07/")})
    return {"list_ms_per_page": round(spent, 1)}


async def test_memory_does_not_follow_the_number_of_objects(store: LiveStore, record: Record, tmp_path: Path) -> None:
    """150,000 small objects over 32 connections, listed whole; resident memory as after 50,000."""
    async with LeanClient(store.port) as client:
        await client.create_bucket("many")
    pids = store.pids()
    idle = rss(pids)
    await put_range(store.port, 0, EARLY)
    await check_listing(store.port, sorted(map(key_of, range(EARLY))))
    await asyncio.sleep(6)
    early = rss(pids)
    began, cpu = time.monotonic(), cpu_seconds(pids)
    await put_range(store.port, EARLY, OBJECTS)
    seconds = time.monotonic() - began
    cpu = cpu_seconds(pids) - cpu
    figures = await check_listing(store.port, sorted(map(key_of, range(OBJECTS))))
    await asyncio.sleep(6)
    late = rss(pids)
    record(
        objects=OBJECTS,
        puts_per_second=round((OBJECTS - EARLY) / seconds),
        cpu_ms_per_put=round(cpu * 1000 / (OBJECTS - EARLY), 3),
        idle_mib=idle // MIB,
        after_50000_mib=early // MIB,
        after_150000_mib=late // MIB,
        **figures,
    )
    assert late - early < GROWTH_LIMIT

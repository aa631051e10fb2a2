# SPDX-License-Identifier: Apache-2.0
"""What a coordinator call costs: `python bench/coordination.py [SECONDS]` against a real etcd member of its own, one JSON line.

Per call: milliseconds of this process's CPU and of wall clock, one at a time; for a watch the time from the commit's call to
the change at another client, and what a quiet watch and a session cost in a second.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import uvloop

from drystone_core.coordination import Coordinator, Put, Revision
from drystone_core.ids import ClusterId
from drystone_runtime.clock import SystemClock
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.etcd_servers import EtcdServers

VALUE = bytes(300)
"""About as long as a node's document."""


async def cost(seconds: float, call: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """One call after the other."""
    for _ in range(20):
        await call()
    took: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        await call()
        took.append(time.perf_counter() - now)
    used = time.process_time() - cpu
    took.sort()
    return {
        "calls": len(took),
        "cpu_ms": round(used / len(took) * 1e3, 3),
        "median_ms": round(took[len(took) // 2] * 1e3, 3),
        "p99_ms": round(took[len(took) * 99 // 100] * 1e3, 3),
    }


async def measure(settings: EtcdSettings, seconds: float) -> dict[str, object]:
    """All figures."""

    async def client(**other: float) -> Coordinator:
        chosen = replace(settings, **other)  # type: ignore[arg-type]
        return await connect(
            settings=chosen, cell=ClusterId("c" * 32), create=True, clock=SystemClock(), entropy=SystemEntropy()
        )

    one, other = await client(), await client()
    revision = await one.commit(Put(key="k/0", value=VALUE))
    for i in range(0, 1000, 100):
        await one.commit(*(Put(key=f"p/{i + j}", value=VALUE) for j in range(100)))

    async def swap() -> None:
        nonlocal revision
        revision = await one.commit(Put(key="k/0", value=VALUE, expected=Revision(revision)))

    found: dict[str, object] = {
        "get": await cost(seconds, lambda: one.get("k/0")),
        "compare_and_set": await cost(seconds, swap),
        "snapshot_of_1000": await cost(seconds, lambda: one.snapshot("p/")),
    }
    watch = other.watch("w/")
    await watch.next()

    async def seen() -> None:
        await one.commit(Put(key="w/a", value=VALUE))
        await watch.next()

    found["commit_seen_by_another_client"] = await cost(seconds, seen)
    session = await other.open_session(ttl=10)
    quiet = asyncio.ensure_future(watch.next())
    cpu = time.process_time()
    await asyncio.sleep(4 * seconds)
    found["quiet_watch_and_session_cpu_ms_per_s"] = round((time.process_time() - cpu) * 1e3 / (4 * seconds), 2)
    session.check()
    quiet.cancel()
    await asyncio.wait((quiet,))
    await watch.close()
    for each in (one, other):
        await each.close()
    return found


def main() -> None:
    """Start etcd, measure, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        servers = EtcdServers(Path(folder), 1)
        try:
            servers.start()
            settings = EtcdSettings(endpoints=servers.endpoints)
            seconds = float(sys.argv[1]) if sys.argv[1:] else 3.0
            print(json.dumps(uvloop.run(measure(settings, seconds))))
        finally:
            servers.kill()


if __name__ == "__main__":
    main()

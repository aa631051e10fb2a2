# SPDX-License-Identifier: Apache-2.0
"""What one Cassandra node gives a tablet: commits of several sizes, pages, point reads; with the CPU of both sides.

    python bench/metadata_cassandra.py [--seconds 5] [--heap 1g]

starts a node of its own in a temporary directory. One line of JSON for each figure; client and node share the machine.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from drystone_metadata.store.cassandra import CassandraStorage
from drystone_metadata.store.ports import Batch, Committed, Expected, RowKey, TabletId
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode, missing
from drystone_testing.contracts.tablet_storage import row

ROW_BYTES = 300
FEED_BYTES = 100
"""A mutation: so many bytes of one row and of the feed record."""


class Tablet:
    """A tablet and its only owner."""

    def __init__(self, storage: CassandraStorage) -> None:
        self.storage = storage
        self.tablet = TabletId(os.urandom(16))
        self.head = self.epoch = self.count = 0

    async def start(self) -> None:
        await self.storage.create(self.tablet, low=b"", high=b"", generation=1)
        self.epoch = (await self.storage.take_over(self.tablet)).epoch

    async def commit(self, mutations: int) -> None:
        """New rows, in the order of their keys."""
        puts = [row(10, b"photos/%010d.jpg" % (self.count + at), b"", os.urandom(ROW_BYTES)) for at in range(mutations)]
        batch = Batch(batch_id=os.urandom(16), floor_us=0, generation=1, puts=puts, feed=bytes(FEED_BYTES * mutations))
        assert await self.storage.commit(self.tablet, Expected(self.head, self.epoch, 1), batch) is Committed.COMMITTED
        self.head += 1
        self.count += mutations


async def measure(
    name: str, node: CassandraNode, seconds: float, calls: list[Callable[[], Awaitable[object]]], **more: object
) -> None:
    """Repeat the calls, each in a loop of its own, and print rate, latency and CPU."""
    took: list[float] = []
    until = time.monotonic() + seconds

    async def repeat(call: Callable[[], Awaitable[object]]) -> None:
        while (began := time.monotonic()) < until:
            await call()
            took.append(time.monotonic() - began)

    began, client, server = time.monotonic(), time.process_time(), node.cpu_seconds()
    await asyncio.gather(*(repeat(call) for call in calls))
    passed = time.monotonic() - began
    count = len(took)
    took.sort()
    figures = {
        "step": name,
        "per_second": round(count / passed, 1),
        "p50_ms": round(took[count // 2] * 1e3, 2),
        "p99_ms": round(took[count * 99 // 100] * 1e3, 2),
        "client_cpu_ms": round((time.process_time() - client) / count * 1e3, 2),
        "node_cpu_ms": round((node.cpu_seconds() - server) / count * 1e3, 2),
    }
    print(json.dumps(figures | more), flush=True)


async def run(node: CassandraNode, seconds: float) -> None:
    """All steps on one node."""
    cell = await open_test_cell(settings_for(node, scan_rows=1000))
    storage = cell.storage
    tablets = [Tablet(storage) for _ in range(8)]
    for tablet in tablets:
        await tablet.start()
    warm = time.monotonic() + max(5.0, seconds)
    while time.monotonic() < warm:
        await asyncio.gather(*(tablet.commit(64) for tablet in tablets[4:]))
        await storage.scan(tablets[4].tablet, RowKey(10, b""), RowKey(11, b""), 1000)
    for mutations in (1, 64, 128, 512):
        for owners in (1, 4):
            calls = [partial(tablet.commit, mutations) for tablet in tablets[:owners]]
            await measure("commit", node, seconds, calls, mutations=mutations, tablets=owners)
    tablet = tablets[0]
    rows = [RowKey(10, b"photos/%010d.jpg" % at) for at in range(tablet.count)]
    at = 0

    async def page() -> None:
        nonlocal at
        at = (at + 1000) % max(1, tablet.count - 1000)
        assert len(await storage.scan(tablet.tablet, rows[at], RowKey(11, b""), 1000)) == 1000

    async def points(count: int) -> None:
        nonlocal at
        at = (at + 7919) % (tablet.count - count)
        assert None not in await storage.read(tablet.tablet, rows[at : at + count])

    await measure("page of 1000 rows", node, seconds, [page], tablet_rows=tablet.count)
    for count, readers in ((1, 1), (1, 16), (128, 1)):
        await measure("read", node, seconds, [partial(points, count)] * readers, rows=count, readers=readers)
    await measure("state", node, seconds, [partial(storage.state, tablet.tablet)])
    await cell.close()


def main() -> None:
    """Start a node, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--heap", default="1g")
    asked = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="drystone-cassandra-", ignore_cleanup_errors=True) as folder:
        node = CassandraNode(Path(folder), heap=asked.heap)
        node.start()
        try:
            asyncio.run(run(node, asked.seconds))
        finally:
            node.stop()


if __name__ == "__main__":
    main()

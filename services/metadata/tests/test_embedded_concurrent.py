# SPDX-License-Identifier: Apache-2.0
"""Readers beside commits and flushes, on real threads and files: every page is one state, and never older than acknowledged."""

import asyncio
from pathlib import Path

import pytest

from drystone_core.formats.rowseal import seal, unseal
from drystone_core.ids import DiskId
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET, Batch, Committed, Expected, RowKey
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.lanes import LoopLanes, ThreadLane

ROWS = 40
COMMITS = 250


@pytest.mark.parametrize("inline", [0, 64])
async def test_pages_are_one_state_and_never_older_than_acknowledged(tmp_path: Path, inline: int) -> None:
    """Each commit rewrites all rows (one absent by turns); scans and bulk reads see exactly one commit, the latest or later."""
    lanes: list[ThreadLane] = []
    units = []
    for number in range(2):
        path = tmp_path / str(number)
        path.mkdir()
        own = [ThreadLane(f"{number}{use}") for use in "jdr"]
        lanes += own
        units.append(
            MemberUnit(
                disk_id=DiskId(f"{number:032x}"),
                path=str(path),
                disk=RealDisk(str(path)),
                lane=own[0],
                db_lane=own[1],
                read_lane=own[2],
            )
        )
    storage = EmbeddedStorage(
        units=units,
        cluster_id="5a" * 16,
        m=1,
        lanes=LoopLanes(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        settings=EmbeddedSettings(
            segment_bytes=65536, apply_bytes=20000, scan_inline=inline, late_after=20.0, apply_interval=0.05
        ),
    )
    await storage.open(create=True)
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    epoch = (await storage.take_over(CELL_TABLET)).epoch
    keys = [RowKey(1, b"%03d" % n) for n in range(ROWS)]
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        for number in range(1, COMMITS + 1):
            gone = number % ROWS
            body = b"%d" % number
            puts = [(key, seal(*key, body)) for at, key in enumerate(keys) if at != gone]
            batch = Batch(batch_id=body, floor_us=0, generation=1, puts=puts, deletes=(keys[gone],), feed=body)
            assert await storage.commit(CELL_TABLET, Expected(number - 1, epoch, 1), batch) is Committed.COMMITTED
            acknowledged = number

    def numbers(rows: list[tuple[RowKey, bytes]]) -> set[int]:
        return {int(unseal(*key, value)) for key, value in rows}

    async def scan() -> None:
        while acknowledged < COMMITS:
            least = acknowledged
            rows = await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 60)
            if rows:
                (number,) = numbers(rows)
                assert number >= least and keys[number % ROWS] not in dict(rows) and len(rows) == ROWS - 1
            await asyncio.sleep(0)

    async def read() -> None:
        while acknowledged < COMMITS:
            least = acknowledged
            values = await storage.read(CELL_TABLET, keys)
            rows = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
            if rows:
                (number,) = numbers(rows)
                assert number >= least and len(rows) == ROWS - 1
            await asyncio.sleep(0)

    async def feed() -> None:
        while acknowledged < COMMITS:
            least = acknowledged
            found = [row.seq for row in await storage.feed(CELL_TABLET, max(0, least - 100), 1000)]
            assert found == list(range(max(0, least - 100) + 1, max(0, least - 100) + 1 + len(found)))
            assert not least or found[-1] >= least
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            for work in (write, scan, read, feed):
                group.create_task(work())
        assert await storage.verify_members() == []
    finally:
        await storage.close()
        for lane in lanes:
            lane.stop()

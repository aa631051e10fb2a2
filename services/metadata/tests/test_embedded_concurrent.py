# SPDX-License-Identifier: Apache-2.0
"""Readers beside commits and flushes, on real threads and files: every page is one state, and never older than acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
KEYS = [RowKey(1, b"%03d" % number) for number in range(ROWS)]


@asynccontextmanager
async def two_members(path: Path, *, inline: int) -> AsyncIterator[EmbeddedStorage]:
    """A storage of two members on real files, each with its three threads."""
    lanes: list[ThreadLane] = []
    units = []
    for number in range(2):
        home = path / str(number)
        home.mkdir()
        own = [ThreadLane(f"{number}{use}") for use in "jdr"]
        lanes += own
        units.append(
            MemberUnit(
                disk_id=DiskId(f"{number:032x}"),
                path=str(home),
                disk=RealDisk(str(home)),
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
    try:
        await storage.open(create=True)
        yield storage
    finally:
        await storage.close()
        for lane in lanes:
            lane.stop()


class Beside:
    """One writer, whose commit `n` writes `n` into all rows but the n-th, and the readers that look on."""

    def __init__(self, storage: EmbeddedStorage, epoch: int) -> None:
        self._storage = storage
        self._epoch = epoch
        self._acknowledged = 0

    async def write(self) -> None:
        for number in range(1, COMMITS + 1):
            gone = number % ROWS
            body = b"%d" % number
            puts = [(key, seal(*key, body)) for at, key in enumerate(KEYS) if at != gone]
            batch = Batch(batch_id=body, floor_us=0, generation=1, puts=puts, deletes=(KEYS[gone],), feed=body)
            expected = Expected(number - 1, self._epoch, 1)
            assert await self._storage.commit(CELL_TABLET, expected, batch) is Committed.COMMITTED
            self._acknowledged = number

    async def scan(self) -> None:
        while (least := self._acknowledged) < COMMITS:
            rows = await self._storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 60)
            one_state(rows, least)
            await asyncio.sleep(0)

    async def read(self) -> None:
        while (least := self._acknowledged) < COMMITS:
            values = await self._storage.read(CELL_TABLET, KEYS)
            one_state([(key, value) for key, value in zip(KEYS, values, strict=True) if value is not None], least)
            await asyncio.sleep(0)

    async def feed(self) -> None:
        while (least := self._acknowledged) < COMMITS:
            after = max(0, least - 100)
            found = [row.seq for row in await self._storage.feed(CELL_TABLET, after, 1000)]
            assert found == list(range(after + 1, after + 1 + len(found)))
            assert not least or found[-1] >= least
            await asyncio.sleep(0)


def one_state(rows: list[tuple[RowKey, bytes]], least: int) -> None:
    """The rows are what one commit left, and that commit is `least` or later."""
    if not rows:
        assert not least
        return
    (number,) = {int(unseal(*key, value)) for key, value in rows}
    assert number >= least and KEYS[number % ROWS] not in dict(rows) and len(rows) == ROWS - 1


@pytest.mark.parametrize("inline", [0, 64])
async def test_pages_are_one_state_and_never_older_than_acknowledged(tmp_path: Path, inline: int) -> None:
    """Each commit rewrites all rows (one absent by turns); scans and bulk reads see exactly one commit, the latest or later."""
    async with two_members(tmp_path, inline=inline) as storage:
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        beside = Beside(storage, (await storage.take_over(CELL_TABLET)).epoch)
        async with asyncio.TaskGroup() as group:
            for work in (beside.write, beside.scan, beside.read, beside.feed):
                group.create_task(work())
        assert await storage.verify_members() == []

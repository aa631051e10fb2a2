# SPDX-License-Identifier: Apache-2.0
"""A writer for tests of the embedded storage: commits rows, remembers what was acknowledged, compares."""

import asyncio
from collections.abc import Callable

from drystone_core.errors import Unavailable
from drystone_core.formats.rowseal import seal
from drystone_metadata.store.embedded import EmbeddedStorage
from drystone_metadata.store.ports import CELL_TABLET, Batch, Committed, Expected, RowKey

START, END = RowKey(1, b""), RowKey(255, b"\xff")


class Writer:
    """Commits and remembers what was acknowledged."""

    def __init__(self) -> None:
        self.rows: dict[RowKey, bytes] = {}

    async def begin(self, storage: EmbeddedStorage) -> None:
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        await storage.take_over(CELL_TABLET)

    async def put(self, storage: EmbeddedStorage, *numbers: int, size: int = 300) -> None:
        """One batch of rows k<number>; raises when it is not acknowledged."""
        state = await storage.state(CELL_TABLET)
        puts = [
            (RowKey(1, b"k%05d" % n), seal(1, b"k%05d" % n, b"", b"%d " % state.head + bytes(size))) for n in numbers
        ]
        batch = Batch(batch_id=b"%016d" % state.head, floor_us=0, generation=1, puts=puts, feed=b"f")
        expected = Expected(state.head, state.epoch, state.generation)
        result = await storage.commit(CELL_TABLET, expected, batch)
        if result is Committed.UNKNOWN:
            raise Unavailable("unknown outcome")
        assert result is Committed.COMMITTED
        self.rows.update(puts)

    async def check(self, storage: EmbeddedStorage) -> None:
        found: list[tuple[RowKey, bytes]] = []
        start = START
        while page := await storage.scan(CELL_TABLET, start, END, 500):
            found += page
            start = RowKey(*page[-1][0][:2], page[-1][0].seq + b"\0")
        assert dict(found) == self.rows and found == sorted(found)
        keys = sorted(self.rows)
        assert await storage.read(CELL_TABLET, keys) == [self.rows[key] for key in keys]


async def until(true: Callable[[], object]) -> None:
    """Wait for a condition (bounded)."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def redundant(storage: EmbeddedStorage) -> bool:
    status = storage.status()
    return bool(status["redundant"] == status["wanted"] and status["writable"])

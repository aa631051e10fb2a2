# SPDX-License-Identifier: Apache-2.0
"""The in-memory storage passes the contract suite and makes the faults it is told to."""

import pytest

from drystone_metadata.store.memory import Fault, MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, Committed, RowKey
from drystone_testing.contracts.moving_ranges import MovingRangesContract
from drystone_testing.contracts.tablet_storage import TabletStorageContract, owner, row


class MemoryHarness:
    """Storages on one MemoryTablets."""

    many_tablets = True

    def __init__(self) -> None:
        self.tablets = MemoryTablets()

    async def start(self) -> MemoryStorage:
        return MemoryStorage(self.tablets)

    async def stop(self) -> None:
        pass

    async def crash(self) -> None:
        pass

    def damage(self, key: RowKey) -> bool:
        rows = self.tablets.tablets[CELL_TABLET].rows
        value = bytearray(rows[key])
        value[3] ^= 16
        rows[key] = bytes(value)
        return True


class TestMemoryStorage(TabletStorageContract, MovingRangesContract):
    """The contracts over memory."""

    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


@pytest.mark.parametrize(
    ("fault", "answer", "head"),
    [
        (Fault.STALE, Committed.STALE, 0),
        (Fault.UNKNOWN_BEFORE, Committed.UNKNOWN, 0),
        (Fault.UNKNOWN_AFTER, Committed.UNKNOWN, 1),
    ],
)
async def test_ordered_fault_happens(fault: Fault, answer: Committed, head: int) -> None:
    """A commit fault answers as named, and only UNKNOWN_AFTER lets the batch in."""
    storage = MemoryStorage(MemoryTablets(), faults=lambda call: fault if call == "commit" else Fault.NONE)
    writer = await owner(storage)
    assert await writer.put(row(1, b"a")) is answer
    assert (await storage.state(CELL_TABLET)).head == head

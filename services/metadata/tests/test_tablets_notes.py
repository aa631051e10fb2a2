# SPDX-License-Identifier: Apache-2.0
"""Attacks on the note that says what is done with a tablet's range: whoever else is at work meanwhile must not lose it."""

from typing import Any

import pytest

from drystone_core.errors import DrystoneError
from drystone_metadata.store.memory import Fault
from drystone_metadata.store.ports import CELL_TABLET
from drystone_testing.tablets_cell import Cell, keys_of


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


async def test_commit_after_a_decided_split_does_not_lose_its_child(cell: Cell) -> None:
    """The split is decided but its child not opened; after an ordinary commit the next split opens that child first."""
    process = await cell.process()
    bucket = await cell.filled(process)
    splitter, address = process.running[CELL_TABLET].splitter, bucket.bucket_id.to_bytes(8, "big")
    cell.faults = {"reshape": [Fault.NONE, Fault.NONE, Fault.UNAVAILABLE]}
    await splitter.split(address + b"e")
    await process.service.mutate(cell.put(b"b"))
    await splitter.split(address + b"c")
    await process.own()
    assert len(await process.map.all()) == 3
    assert await keys_of(process) == [bytes((letter,)) for letter in b"abcdefgh"]


async def test_commit_after_a_split_given_up_does_not_leak_its_child(cell: Cell) -> None:
    """The child of an attempt that failed goes at the next look, although the parent has committed since."""
    process = await cell.process()
    bucket = await cell.filled(process)
    splitter = process.running[CELL_TABLET].splitter
    cell.faults = {"fill": [Fault.UNAVAILABLE]}
    with pytest.raises(DrystoneError):
        await splitter.split(bucket.bucket_id.to_bytes(8, "big") + b"e")
    assert len(cell.tablets.tablets) == 2
    await process.service.mutate(cell.put(b"b"))
    await splitter.tidy()
    assert list(cell.tablets.tablets) == [CELL_TABLET]

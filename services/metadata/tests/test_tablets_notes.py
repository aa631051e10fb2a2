# SPDX-License-Identifier: Apache-2.0
"""Attacks on the note that says what is done with a tablet's range: whoever else is at work meanwhile must not lose it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import DrystoneError, Stale, Unavailable
from drystone_metadata.batches import Phase
from drystone_metadata.committer import Committer
from drystone_metadata.store.memory import Fault
from drystone_metadata.store.ports import CELL_TABLET, TabletId, TabletPhase, TabletState
from drystone_testing.tablets_cell import MINUTE_US, Cell, join, keys_of, split


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


def hold_decision(
    committer: Committer, right: TabletId, *, decides: Callable[[], bool] = lambda: True
) -> asyncio.Event:
    """The join that takes `right` over waits for the event before it decides, and does not when `decides` says so then."""
    held, reshape = asyncio.Event(), committer.reshape

    async def slow(to: TabletState) -> None:
        if to.child != right and committer.state.child == right:
            await held.wait()
            if not decides():
                committer._phase = Phase.LOST
                raise Unavailable("ordered by the test")
        await reshape(to)

    committer.reshape = slow  # type: ignore[method-assign]
    return held


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


async def test_look_during_a_split_does_not_drop_its_child(cell: Cell) -> None:
    """A join of the neighbour tidies the tablet while it is split: it waits until that has ended."""
    process = await cell.process()
    bucket = await cell.filled(process)
    splitter, held = process.running[CELL_TABLET].splitter, asyncio.Event()
    copy = splitter._copy_rows

    async def slow(filler: Any) -> None:
        await copy(filler)
        await held.wait()

    splitter._copy_rows = slow  # type: ignore[method-assign]
    splitting = asyncio.ensure_future(splitter.split(bucket.bucket_id.to_bytes(8, "big") + b"e"))
    await asyncio.sleep(0.01)
    tidying = asyncio.ensure_future(splitter.tidy())
    await asyncio.sleep(0.01)
    held.set()
    await asyncio.gather(splitting, tidying)
    await process.own()
    assert len(await process.map.all()) == 2
    assert await keys_of(process) == [bytes((letter,)) for letter in b"abcdefgh"]


async def test_look_at_a_closed_tablet_leaves_the_note_of_its_taker(cell: Cell) -> None:
    """A look queues behind a join that has closed the tablet and then fails: the tablet is reopened all the same."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    held = hold_decision(process.running[CELL_TABLET].committer, child, decides=lambda: False)
    joining = asyncio.ensure_future(join(process, CELL_TABLET, child))
    await asyncio.sleep(0.01)
    note = (await process.storage.state(child)).note
    looking = asyncio.ensure_future(process.running[child].splitter.tidy())
    await asyncio.sleep(0.01)
    held.set()
    with pytest.raises(Unavailable):
        await joining
    with pytest.raises(Stale):
        await looking
    assert note and (await process.storage.state(child)).note == note
    await process.own()
    assert len(await process.map.all()) == 2
    assert await keys_of(process) == [bytes((letter,)) for letter in b"abcdefgh"]


async def test_tablet_that_took_over_is_not_taken_over_before_that_is_ended(cell: Cell) -> None:
    """Its own join is decided while the left neighbour's, which would close it, waits: that one is refused, nothing is left over."""
    process = await cell.process()
    bucket = await cell.filled(process)
    middle = await split(process, bucket, b"c")
    last = await split(process, bucket, b"f")
    cell.clock.now_us += 20 * MINUTE_US
    held = hold_decision(process.running[middle].committer, last)
    hold_decision(process.running[CELL_TABLET].committer, middle, decides=lambda: False).set()
    joins = [
        asyncio.ensure_future(join(process, middle, last)),
        asyncio.ensure_future(join(process, CELL_TABLET, middle)),
    ]
    await asyncio.sleep(0.01)
    held.set()
    done, refused = await asyncio.gather(*joins, return_exceptions=True)
    assert done is None and isinstance(refused, Stale)
    await process.own()
    assert set(cell.tablets.tablets) == {CELL_TABLET, middle}
    assert await keys_of(process) == [bytes((letter,)) for letter in b"abcdefgh"]


async def test_closed_tablet_without_a_note_is_reopened(cell: Cell) -> None:
    """Nothing tells who closed it: the neighbour's epoch is raised, so that no decision comes any more, and it serves again."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    await process.end()
    closed = cell.tablets.tablets[child]
    closed.state = replace(closed.state, phase=TabletPhase.CLOSED, note=b"")
    before = cell.tablets.tablets[CELL_TABLET].state.epoch
    other = await cell.process()
    assert closed.state.phase is TabletPhase.OPEN and cell.tablets.tablets[CELL_TABLET].state.epoch > before + 1
    assert await keys_of(other) == [bytes((letter,)) for letter in b"abcdefgh"]

# SPDX-License-Identifier: Apache-2.0
"""Attacks on moving ranges between tablets: owners that stand still at the worst moment, answers that are lost, copies that are late."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.row_keys import CURRENT, PART, UPLOAD
from drystone_core.ids import BlobId, Key, Uid, make_write_id
from drystone_core.mutations import CreateBucket, DeleteBucket, DeleteObject, Outcome
from drystone_core.objects import Bucket
from drystone_core.services import BlobName
from drystone_metadata.batches import Phase
from drystone_metadata.logic.carrying import CarryBucket
from drystone_metadata.store.memory import Fault
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Committed,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    UnknownTablet,
)
from drystone_testing.contracts.tablets_machine import ProcessEnds
from drystone_testing.tablets_cell import MINUTE_US, Cell, join, keys_of, split, sweep, upload


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


async def test_lost_answer_of_a_decision_drops_no_decided_child(cell: Cell) -> None:
    """The split was decided but its answer was lost and nothing can be settled: the owner ends, the child is not dropped."""
    process = await cell.process()
    bucket = await cell.filled(process)
    cell.faults = {"reshape": [Fault.NONE, Fault.UNKNOWN_AFTER], "state": [Fault.UNAVAILABLE]}
    address = bucket.bucket_id.to_bytes(8, "big") + b"e"
    running = process.running[CELL_TABLET]
    with pytest.raises(Unavailable):
        await running.splitter.split(address)
    assert running.committer.phase is Phase.LOST
    with pytest.raises(Unavailable):
        await running.splitter.tidy()
    cell.faults = {}
    await process.own()
    assert len(await process.map.all()) == 2
    assert await keys_of(process) == [bytes((letter,)) for letter in b"abcdefgh"]


async def test_cancelled_decision_ends_the_owner(cell: Cell) -> None:
    """Who was cancelled while deciding does not know what was decided, and so never tidies."""
    process = await cell.process()
    bucket = await cell.filled(process)
    running = process.running[CELL_TABLET]
    cell.faults = {"reshape": [Fault.NONE, asyncio.CancelledError]}
    with pytest.raises(asyncio.CancelledError):
        await running.splitter.split(bucket.bucket_id.to_bytes(8, "big") + b"e")
    assert running.committer.phase is Phase.LOST
    await process.own()
    assert len(await keys_of(process)) == 8


async def test_owner_that_wakes_up_cannot_decide_a_split(cell: Cell) -> None:
    """A process stands still before the decision; another takes over and writes; the first one's decision is refused."""
    first = await cell.process()
    bucket = await cell.filled(first)
    running = first.running[CELL_TABLET]
    held = asyncio.Event()
    copy = running.splitter._copy_rows

    async def slow(filler: Any) -> None:
        await copy(filler)
        await held.wait()

    running.splitter._copy_rows = slow  # type: ignore[method-assign]
    splitting = asyncio.ensure_future(running.splitter.split(bucket.bucket_id.to_bytes(8, "big") + b"e"))
    await asyncio.sleep(0.01)
    second = await cell.process()
    await second.service.mutate(cell.put(b"z"))
    held.set()
    with pytest.raises(DrystoneError):
        await splitting
    assert await keys_of(second) == [bytes((letter,)) for letter in b"abcdefghz"]
    assert len(await second.map.all()) == 1


async def test_write_is_recognised_in_the_child_of_a_split(cell: Cell) -> None:
    """R1: a repeat gets the first outcome from the tablet its key has moved to, also with another owner."""
    process = await cell.process()
    bucket = await cell.filled(process)
    once = cell.put(b"x")
    outcome = await process.service.mutate(once)
    cell.clock.now_us += MINUTE_US
    await split(process, bucket, b"e")
    assert await process.service.mutate(once) == outcome
    other = await cell.process()
    again = replace(once, write_id=make_write_id(cell.clock.now_us, once.write_id[8:]))
    assert await other.service.mutate(again) == outcome


async def test_rows_of_a_join_given_up_do_not_come_back(cell: Cell) -> None:
    """A join copied rows and was undone; a key was deleted meanwhile; the next join does not show it again."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    cell.faults = {"reshape": [Fault.NONE, Fault.STALE]}
    with pytest.raises(Stale):
        await join(process, CELL_TABLET, child)
    cell.faults = {}
    await process.own()
    await process.service.mutate(DeleteObject(**cell.common(), key=Key(b"f")))
    cell.clock.now_us += 20 * MINUTE_US
    await join(process, CELL_TABLET, child)
    await process.own()
    assert await keys_of(process) == [b"a", b"b", b"c", b"d", b"e", b"g", b"h"]


async def test_clear_that_comes_late_removes_nothing_that_was_copied(cell: Cell) -> None:
    """The clear of a join given up is applied while the next join copies: it is of another epoch."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    late: list[Any] = []
    clear, copy = process.storage.clear, process.merger._copy

    async def lost(tablet: TabletId, expected: Any) -> Committed:
        late.append(expected)
        return Committed.UNKNOWN

    async def copied(left: Any, right: Any) -> None:
        await copy(left, right)
        assert await clear(CELL_TABLET, late[0]) is Committed.STALE

    process.storage.clear = lost  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await join(process, CELL_TABLET, child)
    process.storage.clear = clear  # type: ignore[method-assign]
    process.merger._copy = copied  # type: ignore[method-assign]
    await join(process, CELL_TABLET, child)
    await process.own()
    assert late and len(await keys_of(process)) == 8


async def test_sequence_and_floor_do_not_go_back_in_a_join(cell: Cell) -> None:
    """The taker goes on from the greater head and floor of the two, so orders and what was judged dead stay right."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    cell.clock.now_us += 60 * MINUTE_US
    for _ in range(9):
        await process.service.mutate(cell.put(b"g"))
    right = await process.storage.state(child)
    left = await process.storage.state(CELL_TABLET)
    assert right.head > left.head and right.floor_us > left.floor_us
    old = BlobName(
        BlobId((right.floor_us - 1).to_bytes(8, "big") + bytes(8)), bucket.bucket_id, Key(b"g"), Uid(bytes(16)), 0, 0
    )
    assert await process.service.dead_blobs([old]) == [True]
    cell.clock.now_us += 20 * MINUTE_US
    await join(process, CELL_TABLET, child)
    joined = await process.storage.state(CELL_TABLET)
    assert joined.head >= right.head and joined.floor_us >= right.floor_us
    await process.own()
    assert await process.service.dead_blobs([old]) == [True]
    with pytest.raises(UnknownTablet):
        await process.storage.state(child)


async def test_busy_tablets_are_not_joined(cell: Cell) -> None:
    """While a write id is remembered in either, a join is refused: its repeat would not be recognised."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    with pytest.raises(Unavailable):
        await join(process, CELL_TABLET, child)
    cell.clock.now_us += 20 * MINUTE_US
    await process.service.mutate(cell.put(b"f"))
    with pytest.raises(Unavailable):
        await join(process, CELL_TABLET, child)
    assert len(await process.map.all()) == 2


async def test_joiner_that_stands_still_is_undone_and_cannot_decide_later(cell: Cell) -> None:
    """It has closed the right tablet and stands still; another process reopens that one; the decision comes too late."""
    first = await cell.process()
    bucket = await cell.filled(first)
    child = await split(first, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    left, held = first.running[CELL_TABLET].committer, asyncio.Event()
    reshape = left.reshape

    async def slow(to: Any) -> None:
        if to.child != child:
            await held.wait()
        await reshape(to)

    left.reshape = slow  # type: ignore[method-assign]
    joining = asyncio.ensure_future(join(first, CELL_TABLET, child))
    await asyncio.sleep(0.01)
    assert (await first.storage.state(child)).phase is TabletPhase.CLOSED
    with pytest.raises(KeyOutOfRange):
        await first.storage.read(child, [RowKey(CURRENT, bucket.bucket_id.to_bytes(8, "big") + b"f")])
    second = await cell.process()
    assert (await second.storage.state(child)).phase is TabletPhase.OPEN
    await second.service.mutate(cell.put(b"x"))
    held.set()
    with pytest.raises(DrystoneError):
        await joining
    assert await keys_of(second) == [bytes((letter,)) for letter in b"abcdefghx"]
    assert len(await second.map.all()) == 2


@pytest.mark.parametrize("decided", [False, True])
async def test_process_that_ends_in_a_join_leaves_no_range_unserved(cell: Cell, decided: bool) -> None:
    """Before the decision the right tablet is reopened by whoever comes, after it its remains go."""
    first = await cell.process()
    bucket = await cell.filled(first)
    child = await split(first, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    cell.faults = {"drop": [ProcessEnds]} if decided else {"reshape": [Fault.NONE, Fault.NONE, ProcessEnds]}
    with pytest.raises(ProcessEnds):
        await join(first, CELL_TABLET, child)
    await first.end()
    second = await cell.process()
    assert len(await second.map.all()) == (1 if decided else 2)
    assert len(await keys_of(second)) == 8
    assert (child in cell.tablets.tablets) is not decided


@pytest.mark.parametrize("first", [False, True])
async def test_closed_bucket_is_not_widened_over_a_key(cell: Cell, first: bool) -> None:
    """A deletion stands still between two tablets; the right one takes a key, and is to be joined to the closed left one."""
    process = await cell.process()
    bucket = await cell.filled(process, b"")
    left = CELL_TABLET if first else await split(process, bucket, b"c")
    right = await split(process, bucket, b"m")
    for key in (b"d", b"x"):
        await process.service.mutate(cell.put(key))
        await process.service.mutate(DeleteObject(**cell.common(), key=Key(key)))
    carry, joined = process.service.changes.carry, []

    async def stands_still(given: Bucket, tablet: TabletId) -> None:
        if tablet == right and not joined:
            await process.service.mutate(cell.put(b"x"))
            cell.clock.now_us += 20 * MINUTE_US
            joined.append(await asyncio.gather(join(process, left, right), return_exceptions=True))
            await process.own()
        if tablet not in process.running:
            raise UnknownTablet
        await carry(given, tablet)

    process.service.changes.carry = stands_still  # type: ignore[method-assign]
    with pytest.raises(Refused) as refused:
        await process.service.mutate(DeleteBucket(**cell.common()))
    assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY
    assert isinstance(joined[0][0], Stale)
    assert await keys_of(process) == [b"x"]


async def test_bucket_deleted_in_the_first_tablet_takes_no_late_copy(cell: Cell) -> None:
    """A copy made before the deletion and carried to a tablet after it changes nothing there."""
    process = await cell.process()
    bucket = await cell.filled(process, b"")
    child = await split(process, bucket, b"m")
    await process.service.mutate(DeleteBucket(**cell.common()))
    change = CarryBucket(**cell.common(), value=bucket)
    await process.submit(child, change)
    with pytest.raises(Refused) as refused:
        await process.service.mutate(cell.put(b"x"))
    assert refused.value.code is ErrorCode.NO_SUCH_BUCKET
    copy = process.running[child].committer.buckets.get("b")
    assert copy is None or copy.closed


async def test_deletion_of_a_bucket_with_keys_elsewhere_is_undone(cell: Cell) -> None:
    """The first tablet has none of its keys, another has: BucketNotEmpty, and all goes on."""
    process = await cell.process()
    bucket = await cell.filled(process, b"xyz")
    await split(process, bucket, b"m")
    with pytest.raises(Refused) as refused:
        await process.service.mutate(DeleteBucket(**cell.common()))
    assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY
    await process.service.mutate(cell.put(b"a"))
    assert await keys_of(process) == [b"a", b"x", b"y", b"z"]


@pytest.mark.parametrize("after", [1, 2, 3, 4])
async def test_deletion_left_half_done_is_ended_by_whoever_meets_it(cell: Cell, after: int) -> None:
    """The process ends after so many commits of a DeleteBucket; the bucket is then there whole, or gone everywhere."""
    first = await cell.process()
    bucket = await cell.filled(first, b"")
    await split(first, bucket, b"m")
    await split(first, bucket, b"t")
    cell.faults = {"commit": [*[Fault.NONE] * after, Fault.UNAVAILABLE, Fault.UNAVAILABLE]}
    cell.faults["state"] = []
    deletion = DeleteBucket(**cell.common())
    ended: Outcome | None = None
    try:
        ended = await first.service.mutate(deletion)
    except DrystoneError:
        pass
    await first.end()
    cell.faults = {}
    second = await cell.process()
    try:
        await second.service.mutate(cell.put(b"x"))
    except Refused as refused:
        assert refused.code is ErrorCode.NO_SUCH_BUCKET
        again = replace(deletion, write_id=make_write_id(cell.clock.now_us, deletion.write_id[8:]))
        assert await second.service.mutate(again) == Outcome()
        await second.service.mutate(CreateBucket(**cell.common(), owner="2" * 12, region="r"))
        for key in (b"a", b"n", b"u"):
            await second.service.mutate(cell.put(key))
        assert await keys_of(second) == [b"a", b"n", b"u"]
    else:
        assert ended is None and await keys_of(second) == [b"x"]


async def test_joined_tablet_knows_the_buckets_of_both(cell: Cell) -> None:
    """A sweep after a join finds the bucket of what came from the right, which the left one never had."""
    process = await cell.process()
    bucket = await cell.filled(process)
    left = await split(process, bucket, b"m")
    await process.service.mutate(CreateBucket(**cell.common("c"), owner="1" * 12, region="r"))
    right = await split(process, await process.service.bucket("c"), b"")
    kept = await upload(process, cell, b"k", "c")
    cell.clock.now_us += 20 * MINUTE_US
    await join(process, left, right)
    await process.own()
    await sweep(process)
    assert [one.upload_id for one in (await process.service.list_uploads("c")).uploads] == [kept]
    assert len((await process.service.list_parts("c", Key(b"k"), kept)).parts) == 1


@pytest.mark.parametrize("ended", [False, True])
async def test_what_a_deleted_bucket_leaves_in_other_tablets_is_swept(cell: Cell, ended: bool) -> None:
    """Its uploads go from every tablet, also when the process that deleted it ended before it had said so there."""
    process = await cell.process()
    bucket = await cell.filled(process, b"")
    child = await split(process, bucket, b"m")
    await upload(process, cell, b"x", "b")
    if ended:
        cell.faults = {"commit": [Fault.NONE] * 3 + [ProcessEnds]}
        await process.service.mutate(DeleteBucket(**cell.common()))  # the bucket is gone, whatever is left of it
        await process.end()
        cell.faults = {}
        process = await cell.process()
        async for _ in process.service.changes.leftovers(child):
            pass
    else:
        await process.service.mutate(DeleteBucket(**cell.common()))
    await sweep(process)
    kinds = [row.kind for row in cell.tablets.tablets[child].rows]
    assert UPLOAD not in kinds and PART not in kinds
    assert await process.service.buckets("1" * 12) == []


@pytest.mark.parametrize("read", ["bucket", "carry"])
async def test_mutation_that_stood_still_is_not_decided_in_a_bucket_that_is_gone(cell: Cell, read: str) -> None:
    """While it carries the bucket to a tablet, that bucket goes, one of its name is made, and the tablet is split."""
    process = await cell.process()
    service = process.service
    await service.mutate(CreateBucket(**cell.common("a"), owner="1" * 12, region="r"))
    await split(process, await service.bucket("a"), b"m")
    bucket = await cell.filled(process, b"")
    service._ids["b"] = bucket.bucket_id
    calls = {"bucket": (service.changes, "bucket"), "carry": (service.changes, "carry")}
    owner, name = calls[read]
    original = getattr(owner, name)
    stood = False

    async def slow(*arguments: Any) -> Any:
        nonlocal stood
        found = await original(*arguments) if read == "bucket" else None
        if not stood:
            stood = True
            await service.mutate(DeleteBucket(**cell.common()))
            await service.mutate(CreateBucket(**cell.common(), owner="1" * 12, region="r"))
            await service.mutate(cell.put(b"y"))
            made = await service.bucket("b")
            await split(process, made, b"")
            await split(process, bucket, b"p")
        return found if read == "bucket" else await original(*arguments)

    setattr(owner, name, slow)
    await service.mutate(cell.put(b"x"))
    setattr(owner, name, original)
    assert stood and await keys_of(process) == [b"x", b"y"]

# SPDX-License-Identifier: Apache-2.0
"""A member that never errs and is never late, only slow: handed over to a spare, the primary too, at no risk to anything."""

import asyncio
import errno
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from drystone_core.errors import Unavailable
from drystone_core.slowness import SlownessSettings
from drystone_metadata.store.embedded import EmbeddedStorage
from drystone_metadata.store.embedded.handover import Handover
from drystone_metadata.store.embedded.keeper import END as OVER
from drystone_metadata.store.embedded.member import Member, Standing
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_testing.embedded_cell import SMALL, EmbeddedCell
from drystone_testing.embedded_writer import END, Writer, redundant, until

SETTINGS = replace(SMALL, late_after=1.0, layers_most=500, slow=SlownessSettings(seconds=2.0))
"""Layers without bound: how quickly real SQLite files take them in decides nothing here."""
SLOW = 0.3


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., EmbeddedCell]:
    """Cells in a temporary directory."""
    number = itertools.count()

    def build(disks: int, m: int, **how: object) -> EmbeddedCell:
        return EmbeddedCell(tmp_path / str(next(number)), disks=disks, m=m, **{"settings": SETTINGS, **how})

    return build


async def begun(cell: EmbeddedCell) -> tuple[EmbeddedStorage, Writer]:
    """A cell with some rows, all copies whole."""
    storage, writer = await cell.start(), Writer()
    await writer.begin(storage)
    for n in range(10):
        await writer.put(storage, n)
    await until(lambda: redundant(storage))
    return storage, writer


def slow_down(cell: EmbeddedCell, *numbers: int, delay: float = SLOW) -> None:
    """Every journal write of these disks takes longer from now on."""
    for number in numbers:
        cell.disks[number].fail("pwritev", error=None, delay=delay, count=10**9, name="journal/0")


def members(storage: EmbeddedStorage, standing: str = "member") -> list[int]:
    return [int(m["disk"], 16) for m in storage.status()["members"] if m["standing"] == standing]


def member(storage: EmbeddedStorage, number: int) -> Member:
    return storage._members[number]


def left(storage: EmbeddedStorage, number: int) -> bool:
    """A term has begun without the member."""
    return member(storage, number).standing is Standing.FAILED


async def put_until(storage: EmbeddedStorage, writer: Writer, true: Callable[[], object], *, most: int = 200) -> None:
    """Commits, one after the other, with what runs beside them."""
    for n in range(most):
        if true():
            return
        await writer.put(storage, n % 50)
        await asyncio.sleep(0.001)
    raise AssertionError(f"in vain: {storage.status()}")


@pytest.mark.parametrize("slow", [0, 1, 2])
async def test_a_slow_member_is_handed_over_and_nothing_is_refused(
    make: Callable[..., EmbeddedCell], slow: int
) -> None:
    """Primary or follower: commits and reads go on, a spare takes its place, and then commits cost no time again."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    slow_down(cell, slow)
    before, copies = cell.clock.now, set()

    def handed_over() -> bool:
        copies.add(storage.status()["redundant"])
        return left(storage, slow)

    await put_until(storage, writer, handed_over)
    assert copies == {3}, "a copy was given up before the next was whole"
    assert cell.clock.now - before >= SETTINGS.slow.seconds
    assert members(storage, "failed") == [slow]
    assert member(storage, slow).reason == "slow"
    assert storage.status()["writable"]
    assert storage.status()["primary"] != cell.disk_id(slow)
    await writer.check(storage)
    await until(lambda: redundant(storage))
    before = cell.clock.now
    for n in range(50):
        await writer.put(storage, n)
    assert cell.clock.now - before < SLOW
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.power_cut(slow)
    storage = await cell.start()
    assert slow not in members(storage)
    await writer.check(storage)
    await cell.stop()


async def test_after_a_handover_any_m_disks_may_be_lost(make: Callable[..., EmbeddedCell]) -> None:
    """Once the newcomer has caught up it counts as any other, the former primary as none."""
    for lost in itertools.combinations(range(4), 2):
        cell = make(4, 2)
        storage, writer = await begun(cell)
        slow_down(cell, 0)
        await put_until(storage, writer, lambda storage=storage: left(storage, 0))
        await until(lambda storage=storage: redundant(storage))
        await writer.put(storage, 1, 2, 3)
        await cell.power_cut(1)
        for number in lost:
            cell.lose(number)
        storage = await cell.start()
        await writer.check(storage)
        await cell.stop()


async def test_where_no_spare_is_left_the_slow_member_stays(make: Callable[..., EmbeddedCell]) -> None:
    """m+1 members are needed: three disks of three."""
    cell = make(3, 2)
    storage, writer = await begun(cell)
    slow_down(cell, 0)
    for n in range(60):
        await writer.put(storage, n)
    assert members(storage) == [0, 1, 2] and storage.status()["writable"]
    assert not cell.said("metadata.member_dropped")
    await cell.stop()


@pytest.mark.parametrize("slow", [(0, 1, 2), (0, 1), (0, 1, 2, 3)], ids=str)
async def test_where_most_members_are_slow_none_is_left(
    make: Callable[..., EmbeddedCell], slow: tuple[int, ...]
) -> None:
    """A busy machine: nothing would be gained."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    slow_down(cell, *slow)
    for n in range(60):
        await writer.put(storage, n)
    assert members(storage) == [0, 1, 2]
    await cell.stop()


async def test_one_stall_leaves_no_member(make: Callable[..., EmbeddedCell]) -> None:
    """Most of a second once, and a second time."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    for _ in range(2):
        cell.disks[1].fail("pwritev", error=None, delay=0.9, count=2, name="journal/0")
        for n in range(60):
            await writer.put(storage, n)
            cell.clock.now += 0.05
    assert members(storage) == [0, 1, 2]
    await cell.stop()


@pytest.mark.parametrize(
    ("site", "fault"),
    [
        ("pwritev", {"name": "journal/spare"}),
        ("rename", {}),
        ("pwritev", {"name": "journal/0"}),
        ("pwritev", {"name": "journal/0", "error": errno.ENOSPC}),
        ("pwritev", {"name": "journal/spare", "error": errno.ENOSPC}),
        ("open", {"name": "journal/0"}),
        ("pwritev", {"name": "journal/0", "hang": True}),
    ],
)
async def test_a_spare_that_fails_stops_nothing(make: Callable[..., EmbeddedCell], site: str, fault: dict) -> None:
    """C5: the slow member goes on, commits too; the store is never read-only for a spare."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    cell.disks[3].fail(site, count=10**9, **fault)
    slow_down(cell, 0)
    await put_until(storage, writer, lambda: cell.disks[3].faults[0].hits)
    for n in range(40):
        await writer.put(storage, n)
        await asyncio.sleep(0.001)
    assert members(storage) == [0, 1, 2] and storage.status()["writable"]
    await writer.check(storage)
    if fault.get("error") == errno.ENOSPC:
        assert not cell.said("metadata.member_dropped")
    await cell.power_cut(2)
    cell.disks[3].faults.clear()
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()


@pytest.mark.parametrize("disks", [4, 5])
async def test_a_member_that_fails_during_the_handover_is_replaced_and_the_slow_one_stays(
    make: Callable[..., EmbeddedCell], disks: int
) -> None:
    """Two copies are not given up at once: a spare goes to the loss, the slow member is a member still."""
    cell = make(disks, 2)
    storage, writer = await begun(cell)
    slow_down(cell, 0)
    handed: list[Member] = []
    replace_member = storage._chain.replace

    async def failing_term(leaving: Member, joining: Member, reason: str) -> bool:
        handed.append(leaving)
        cell.disks[1].fail("pwritev", count=10**9, name="journal/0")
        return await replace_member(leaving, joining, reason)

    storage._chain.replace = failing_term  # type: ignore[method-assign]
    await put_until(storage, writer, lambda: left(storage, 1))
    assert [one.disk_id for one in handed] == [cell.disk_id(0)]
    await until(lambda: redundant(storage) and sorted(members(storage)) == [0, 2, 3])
    assert members(storage, "failed") == [1]
    await writer.check(storage)
    await cell.power_cut(1)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()


async def test_a_spare_being_made_ready_takes_the_place_of_a_lost_member(make: Callable[..., EmbeddedCell]) -> None:
    """Its file is made on, and counts as complete only when it has all that its journal does not."""
    cell = make(4, 2, settings=replace(SETTINGS, copy_rows=2, copy_pause=0.002))
    storage, writer = await begun(cell)
    for n in range(100, 200):
        await writer.put(storage, n)
    slow_down(cell, 0)
    await put_until(storage, writer, lambda: member(storage, 3).rebuilding)
    cell.lose(1)
    await put_until(storage, writer, lambda: 3 in members(storage))
    assert sorted(members(storage)) == [0, 2, 3]
    await until(lambda: redundant(storage))
    await writer.check(storage)
    assert await storage.verify_members() == []
    for number in (0, 2):
        await cell.power_cut(number)
        cell.lose(number)
        cell.bring_back(1 if number == 0 else 0)
        storage = await cell.start()
        await writer.check(storage)
        await until(lambda storage=storage: redundant(storage))
    await cell.stop()


@pytest.mark.parametrize("weakness", ["rebuilding", "distrusted"])
@pytest.mark.parametrize("number", [0, 1])
async def test_no_member_is_left_while_a_copy_is_not_whole(
    make: Callable[..., EmbeddedCell], weakness: str, number: int
) -> None:
    """H1: what is being made good comes first, be it the slow one's own file (rebuilding makes slow)."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    setattr(member(storage, number), weakness, True)
    slow_down(cell, 0)
    for n in range(60):
        if weakness == "distrusted":  # the keeper mends it meanwhile
            member(storage, number).distrusted = True
        await writer.put(storage, n)
    assert not cell.said("metadata.member_dropped")
    setattr(member(storage, number), weakness, False)
    await put_until(storage, writer, lambda: members(storage, "failed") == [0])
    await until(lambda: redundant(storage))
    await cell.stop()


async def test_a_disk_left_for_slowness_takes_no_slow_place_for_a_while_but_any_lost_one(
    make: Callable[..., EmbeddedCell],
) -> None:
    """Readmitted it is a spare: no member is handed over to it within its pause, a loss is made good on it."""
    cell = make(4, 2, settings=replace(SETTINGS, slow_backoff=1000.0))
    storage, writer = await begun(cell)
    slow_down(cell, 0)
    await put_until(storage, writer, lambda: left(storage, 0))
    await until(lambda: redundant(storage))
    cell.disks[0].faults.clear()
    assert await storage.readmit(cell.disk_id(0))
    slow_down(cell, 1)
    for n in range(60):
        await writer.put(storage, n)
        await asyncio.sleep(0.001)
    assert sorted(members(storage)) == [1, 2, 3]
    cell.clock.now += 1000.0
    await put_until(storage, writer, lambda: left(storage, 1))
    assert members(storage, "failed") == [1]
    await until(lambda: redundant(storage))
    cell.disks[1].faults.clear()
    assert await storage.readmit(cell.disk_id(1))
    cell.lose(2)
    await writer.put(storage, 1)
    await until(lambda: redundant(storage))
    assert sorted(members(storage)) == [0, 1, 3]
    await writer.check(storage)
    await cell.stop()


@pytest.mark.parametrize("slow", [0, 2])
@pytest.mark.parametrize("calls", [*range(1, 30, 2), *range(30, 60, 6)])
async def test_power_may_fail_at_any_call_of_a_handover(
    make: Callable[..., EmbeddedCell], calls: int, slow: int
) -> None:
    """Everything acknowledged is there afterwards, whoever of the two sets comes back, any m disks missing."""
    cell = make(4, 2, seed=calls)
    storage, writer = await begun(cell)
    slow_down(cell, slow)
    consider = storage._chain.found_slow

    def found(one: Member) -> None:
        if cell.power.left is None:
            cell.power.left = calls
        consider(one)

    storage._chain.found_slow = found
    attempted = 1000
    try:
        while True:
            attempted += 1
            await writer.put(storage, attempted)
            await asyncio.sleep(0.0005)
    except Unavailable:
        assert cell.power.off
    head = len(writer.rows) - 10
    await cell.power_cut(calls)
    for number in ((calls, calls + 1), (calls,), ())[calls % 3]:
        cell.lose(number % 4)
    storage = await cell.start()
    if (await storage.state(CELL_TABLET)).head == 10 + head + 1:  # the unanswered commit went in: whole
        writer.rows.update(await storage.scan(CELL_TABLET, RowKey(1, b"k%05d" % attempted), END, 1))
    await writer.check(storage)
    await cell.stop(flush=False)


async def test_no_commit_waits_for_a_spare_that_cannot_keep_up(make: Callable[..., EmbeddedCell]) -> None:
    """K2, H3: when layers run out of room the spare is given up; what its file missed is not forgotten when it joins."""
    cell = make(4, 2, settings=replace(SETTINGS, layers_most=6, copy_rows=20, copy_pause=0.002))
    storage, writer = await begun(cell)
    for n in range(100, 200):
        await writer.put(storage, n)
    slow_down(cell, 0)
    await put_until(
        storage, writer, lambda: (applied := member(storage, 3).applied) and applied.copied > RowKey(1, b"k00020")
    )
    assert storage.status()["primary"] == cell.disk_id(1), "the slow primary is still read from"
    async with member(storage, 3).gate:
        await put_until(storage, writer, lambda: storage._keeper.joining is None)
        assert member(storage, 3).flushing, "nothing waits to be written into its file when that is given up"
        missed = storage._chain.index
        for n in range(1000, 1020):  # beyond what is copied
            await writer.put(storage, n)
        await until(lambda: storage._overlay.base >= missed)
        await writer.put(storage, 1020)
        await storage._keeper.freeze()
    await until(lambda: cell.said("metadata.handover_ended"))
    assert members(storage) == [0, 1, 2] and storage.status()["writable"]
    cell.lose(1)
    await writer.put(storage, 100)
    await until(lambda: redundant(storage))
    assert sorted(members(storage)) == [0, 2, 3]
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()


def handover(storage: EmbeddedStorage) -> Handover:
    """Who listens to the chain."""
    found: Handover = storage._chain.found_slow.__self__  # type: ignore[attr-defined]
    return found


def before_the_switch(storage: EmbeddedStorage, do: Callable[[], Awaitable[None]]) -> None:
    """Have something happen when the spare's file is complete and its term not begun."""
    make_ready = handover(storage)._make_ready

    async def then(spare: Member) -> bool:
        ready = await make_ready(spare)
        if ready:
            await do()
        return ready

    handover(storage)._make_ready = then  # type: ignore[method-assign]


async def test_the_newcomer_is_at_the_head_durably_when_its_term_begins(make: Callable[..., EmbeddedCell]) -> None:
    """R5: what was committed after its file was complete is in that file before it counts as a member."""
    cell = make(4, 2, settings=replace(SETTINGS, apply_interval=1000.0))
    storage, writer = await begun(cell)
    slow_down(cell, 0)
    replace_member, held = storage._chain.replace, list[tuple[int, int, bool]]()

    async def more_commits() -> None:
        head = storage.status()["head"]
        await until(lambda: storage.status()["head"] >= head + 10)

    async def looked_at(leaving: Member, joining: Member, reason: str) -> bool:
        applied = joining.applied
        held.append(
            (applied.index if applied else 0, storage._chain.index, joining.durable_index >= storage._chain.index)
        )
        return await replace_member(leaving, joining, reason)

    before_the_switch(storage, more_commits)
    storage._chain.replace = looked_at  # type: ignore[method-assign]
    await put_until(storage, writer, lambda: left(storage, 0))
    assert held == [(held[0][1], held[0][1], True)]
    await cell.power_cut(1)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()


async def test_a_newcomer_whose_file_cannot_be_made_durable_does_not_join(make: Callable[..., EmbeddedCell]) -> None:
    """R5: a reader keeps the last checkpoint from ending; the slow member stays."""
    cell = make(4, 2, settings=replace(SETTINGS, apply_interval=1000.0))
    storage, writer = await begun(cell)
    slow_down(cell, 0)
    reader: list[apsw.Connection] = []

    async def hold_and_commit() -> None:
        reader.append(apsw.Connection(str(member(storage, 3).path)))
        reader[0].execute("BEGIN")
        list(reader[0].execute("SELECT count(*) FROM rows"))
        head = storage.status()["head"]
        await until(lambda: storage.status()["head"] > head)

    before_the_switch(storage, hold_and_commit)
    await put_until(storage, writer, lambda: cell.said("metadata.handover_ended"))
    reader[0].close()
    assert members(storage) == [0, 1, 2] and storage.status()["writable"]
    await writer.check(storage)
    await cell.stop()


async def test_a_spare_that_joins_half_made_is_complete_only_with_what_its_journal_lacks(
    make: Callable[..., EmbeddedCell],
) -> None:
    """Records from before it was a member are in no journal of its own: they must be in its file first."""
    cell = make(4, 2, settings=replace(SETTINGS, copy_rows=2, copy_pause=0.002))
    storage, writer = await begun(cell)
    for n in range(100, 200):
        await writer.put(storage, n)
    slow_down(cell, 0)
    newcomer = member(storage, 3)
    await put_until(storage, writer, lambda: newcomer.rebuilding and newcomer.db is not None)
    await until(lambda: not newcomer.flushing)
    newcomer.flushing = True  # its file takes in no layer from now on
    await writer.put(storage, 1, 2, 3)
    cell.lose(1)
    await put_until(storage, writer, lambda: 3 in members(storage))
    await until(lambda: newcomer.applied is not None and newcomer.applied.copied == OVER)
    await asyncio.sleep(0.2)
    assert not newcomer.serves
    newcomer.flushing = False
    await until(lambda: redundant(storage))
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()


async def test_reads_go_on_through_the_handover_of_the_primary(make: Callable[..., EmbeddedCell]) -> None:
    """A row that nobody changes is read and listed at every moment of it."""
    cell = make(4, 2)
    storage, writer = await begun(cell)
    await writer.put(storage, 999)
    [key] = [key for key in writer.rows if key.key == b"k00999"]
    slow_down(cell, 0)

    async def reads() -> int:
        for count in itertools.count():
            assert await storage.read(CELL_TABLET, [key]) == [writer.rows[key]]
            assert await storage.scan(CELL_TABLET, key, END, 1) == [(key, writer.rows[key])]
            if left(storage, 0):
                return count
            await asyncio.sleep(0)
        raise AssertionError

    reading = asyncio.ensure_future(reads())
    await put_until(storage, writer, lambda: left(storage, 0))
    assert await reading > 10
    assert sorted(members(storage)) == [1, 2, 3]
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()

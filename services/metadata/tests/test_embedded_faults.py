# SPDX-License-Identifier: Apache-2.0
"""Lost disks, failing calls, flipped bits, stale members: nothing acknowledged is lost, nothing wrong is served."""

import asyncio
import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from drystone_core.errors import Damaged, ErrorCode, Unavailable
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_testing.embedded_cell import EmbeddedCell
from drystone_testing.embedded_writer import END, Writer, redundant, until


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., EmbeddedCell]:
    """Cells in a temporary directory."""
    number = itertools.count()

    def build(disks: int, m: int, **how: object) -> EmbeddedCell:
        return EmbeddedCell(tmp_path / str(next(number)), disks=disks, m=m, **how)

    return build


@pytest.mark.parametrize(("disks", "m"), [(3, 1), (5, 2)])
async def test_any_m_disks_lost_live_and_at_restart(make: Callable[..., EmbeddedCell], disks: int, m: int) -> None:
    """With any m disks lost, the primary included, reads go on, at the next start too; writes where m+1 are left."""
    for lost in itertools.combinations(range(disks), m):
        cell, writer = make(disks, m), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        for n in range(30):
            await writer.put(storage, n, n + 100)
        for number in lost:
            cell.lose(number)
        await writer.check(storage)
        for n in range(15):
            await writer.put(storage, n, n + 200)
        await writer.check(storage)
        await cell.power_cut(seed=m)
        storage = await cell.start()
        await writer.check(storage)
        await writer.put(storage, 7)
        await until(lambda storage=storage: redundant(storage))
        await writer.check(storage)
        assert await storage.verify_members() == []
        await cell.stop()


async def test_losses_one_after_the_other_are_repaired(make: Callable[..., EmbeddedCell]) -> None:
    """Each loss is made good on a spare before the next: in the end none of the first members is left."""
    cell, writer = make(6, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for round_number in range(4):
        for n in range(20):
            await writer.put(storage, n + 20 * round_number)
        cell.lose(cell.number(storage.status()["primary"]))
        await writer.put(storage, 1)
        await until(lambda: redundant(storage))
        await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.power_cut(1)
    with pytest.raises(Unavailable):
        await cell.start()  # four of six disks are missing: more than m, whatever the two that are here say
    await cell.stop(flush=False)


async def test_below_m_plus_1_disks_reads_go_on_and_writes_are_refused(make: Callable[..., EmbeddedCell]) -> None:
    """Two disks, one lost: read-only, live and after a restart; with the disk back in place writes go on."""
    cell, writer = make(2, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(20):
        await writer.put(storage, n)
    cell.lose(0)
    with pytest.raises(Unavailable):
        await writer.put(storage, 99)
    with pytest.raises(Unavailable):
        await storage.state(CELL_TABLET)  # not settled: it is in one journal
    await writer.check(storage)
    assert storage.status()["writable"] is False
    await cell.power_cut(3)
    storage = await cell.start()
    if (await storage.state(CELL_TABLET)).head == 21:  # the unanswered commit is there: whole, and from now on
        writer.rows.update(await storage.scan(CELL_TABLET, RowKey(1, b"k00099"), END, 1))
    await writer.check(storage)
    with pytest.raises(Unavailable):
        await writer.put(storage, 99)
    cell.bring_back(0)
    assert await storage.readmit(cell.disk_id(0)) is True
    await writer.put(storage, 99)
    await until(lambda: redundant(storage))
    await writer.check(storage)
    cell.lose(1)
    await writer.check(storage)
    await cell.stop(flush=False)


async def test_stale_member_is_not_believed(make: Callable[..., EmbeddedCell]) -> None:
    """A member that was dropped, without a newer one is refused; beside a newer one it is ignored."""
    cell, writer = make(4, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    await writer.put(storage, 1)
    cell.lose(0)
    for n in range(2, 30):
        await writer.put(storage, n)
    await until(lambda: redundant(storage))
    await cell.stop()
    members = {cell.number(m["disk"]) for m in storage.status()["members"] if m["standing"] == "member"}
    cell.bring_back(0)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()
    for number in members:
        cell.lose(number)
    with pytest.raises(Unavailable):
        await cell.start()
    await cell.stop(flush=False)


async def test_last_member_of_the_newest_set_suffices(make: Callable[..., EmbeddedCell]) -> None:
    """With m disks missing, one member of the newest set restores all, although a stale one is there too."""
    for back in range(2):
        cell, writer = make(4, 1), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        await writer.put(storage, 1)
        cell.lose(0)
        for n in range(2, 30):
            await writer.put(storage, n)
        await until(lambda storage=storage: redundant(storage))
        members = [cell.number(m["disk"]) for m in storage.status()["members"] if m["standing"] == "member"]
        await cell.power_cut(back)
        cell.bring_back(0)
        cell.lose(members[back])
        storage = await cell.start()
        await writer.check(storage)
        await cell.stop()


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_failed_journal_write_moves_to_another_disk(
    make: Callable[..., EmbeddedCell], number: int, torn: bool
) -> None:
    """EIO from one member's durable write: the commit succeeds on a new set, and the torn record is never believed."""
    cell, writer = make(4, 2), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    await writer.put(storage, 1)
    cell.disks[number].fail("pwritev", name="journal/0", torn=torn)
    await writer.put(storage, 2)
    standing = {cell.number(m["disk"]): m["standing"] for m in storage.status()["members"]}
    assert standing[number] == "failed" and standing[3] == "member"
    for n in range(3, 20):
        await writer.put(storage, n)
    await until(lambda: redundant(storage))
    await cell.power_cut(number)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()


async def test_want_of_space_drops_nobody(make: Callable[..., EmbeddedCell]) -> None:
    """R10: ENOSPC, EMFILE and ENOMEM refuse a commit, the members stay, and later commits go through."""
    for number in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM):
        cell, writer = make(3, 1), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        await writer.put(storage, 1)
        cell.disks[0].fail("pwritev", error=number, name="journal/0", lost=True)
        with pytest.raises(Unavailable):
            await writer.put(storage, 2)
        await writer.put(storage, 3)
        await writer.check(storage)
        assert not cell.said("metadata.member_dropped")
        await cell.stop()
        storage = await cell.start()
        await writer.check(storage)
        await cell.stop()


async def test_full_disk_under_sqlite_drops_nobody_and_heals(make: Callable[..., EmbeddedCell]) -> None:
    """R10: SQLITE_FULL in a background write is no fault: reads go on, commits too within the bound, then 507."""
    cell, writer = make(2, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    await until(lambda: storage._members[1].db)
    database = storage._members[1].db
    assert database is not None
    database._writer.execute("PRAGMA max_page_count=1")
    with pytest.raises(Unavailable) as refused:
        for n in range(200):
            await writer.put(storage, n)
            await asyncio.sleep(0.002)
    assert refused.value.code is ErrorCode.INSUFFICIENT_STORAGE
    await writer.check(storage)
    assert cell.said("metadata.space_wanting") and not cell.said("metadata.member_dropped")
    database._writer.execute("PRAGMA max_page_count=1000000")
    await until(lambda: not storage._keeper.crowded)
    await writer.put(storage, 1)
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()


async def test_one_late_member_is_dropped_and_its_late_write_changes_nothing(make: Callable[..., EmbeddedCell]) -> None:
    """A hung disk is left behind when the others answered; what it writes when it wakes up is of no account."""
    cell, writer = make(3, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    cell.lanes[0].stalled = True
    await writer.put(storage, 1)
    assert cell.said("metadata.member_dropped")
    for n in range(2, 12):
        await writer.put(storage, n)
    cell.lanes[0].release()
    await until(lambda: redundant(storage))
    await writer.put(storage, 1)
    await cell.power_cut(5)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()


async def test_all_late_is_waited_for(make: Callable[..., EmbeddedCell]) -> None:
    """A stall of every member's disk drops none: the commit waits and then goes in once."""
    cell, writer = make(3, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for lane in cell.lanes:
        lane.stalled = True
    task = asyncio.ensure_future(writer.put(storage, 1))
    await until(lambda: cell.said("metadata.all_members_late"))
    assert not task.done()
    for lane in cell.lanes:
        lane.release()
    await task
    assert not cell.said("metadata.member_dropped")
    assert (await storage.state(CELL_TABLET)).head == 1
    await writer.check(storage)
    await cell.stop()


def flip(path: Path, at: int) -> None:
    """Turn one bit over in a real file."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.write_bytes(data)


async def test_flipped_bits_in_a_database_are_served_from_another_member(make: Callable[..., EmbeddedCell]) -> None:
    """R11: whichever page rots, every row reads right (from the other member), and the file is replaced."""
    for page in (0, 1, 3, 9, 20):
        cell, writer = make(2, 1), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        for n in range(60):
            await writer.put(storage, n, size=1500)
        await cell.stop()
        path = cell.paths[0] / "meta" / "member.db"
        flip(path, page * 4096 + 2000)
        storage = await cell.start()
        await writer.check(storage)
        await writer.put(storage, 1)
        await until(lambda storage=storage: redundant(storage))
        await writer.check(storage)
        assert await storage.verify_members() == []
        await until(lambda storage=storage: redundant(storage))
        await cell.stop()


async def test_rot_in_the_last_file_is_an_error_never_an_absent_row(make: Callable[..., EmbeddedCell]) -> None:
    """When every member's page is rotten, reads of it raise; the file is not thrown away."""
    cell, writer = make(2, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(60):
        await writer.put(storage, n, size=1500)
    await cell.stop()
    for path in cell.paths:
        for page in range(4, 40):
            flip(path / "meta" / "member.db", page * 4096 + 2000)
    storage = await cell.start()
    failures = 0
    for key, value in writer.rows.items():
        try:
            assert await storage.read(CELL_TABLET, [key]) == [value]
        except (Damaged, Unavailable):
            failures += 1
    assert failures
    await cell.stop(flush=False)
    assert all((path / "meta" / "member.db").exists() for path in cell.paths)


async def test_flipped_bits_in_one_journal_are_healed_from_another(make: Callable[..., EmbeddedCell]) -> None:
    """A record that rotted in one member's journal is taken from the other's."""
    for bit in (5, 1000, 4096 * 8 + 40, 4096 * 8 + 1000, 8192 * 8 + 30):
        cell, writer = make(2, 1), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        for n in range(5):
            await writer.put(storage, n)
        await cell.power_cut(1)
        for name in list(cell.disks[0].nodes):
            if "journal/0" in name:
                cell.disks[0].flip(name, bit)
        storage = await cell.start()
        await writer.check(storage)
        await cell.stop()


async def test_a_gap_in_every_journal_is_told(make: Callable[..., EmbeddedCell]) -> None:
    """A record in the middle that no member holds stops the start: nothing acknowledged is cut off silently."""
    cell, writer = make(2, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(3):
        await writer.put(storage, n, size=100)
    await cell.power_cut(1)
    for disk in cell.disks:
        name = next(name for name in sorted(disk.nodes) if "journal/0" in name)
        disk.flip(name, 8192 * 8 + 30)
    with pytest.raises(Damaged):
        await cell.start()
    await cell.stop(flush=False)


async def test_comparison_finds_a_row_that_only_one_member_lost(make: Callable[..., EmbeddedCell]) -> None:
    """R11: a row missing from one of three files is found at equal sequence, and that file is replaced."""
    cell, writer = make(3, 2), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(60):
        await writer.put(storage, n)
    assert await storage.verify_members() == []
    victim = storage._members[1]
    assert victim.db is not None
    victim.db._writer.execute("DELETE FROM rows WHERE key=?", (b"k00031",))
    assert len(await storage.verify_members()) == 1
    await until(lambda: cell.said("metadata.rebuild_ended"))
    assert await storage.verify_members() == []
    await cell.stop()


async def test_nothing_is_made_without_being_asked(make: Callable[..., EmbeddedCell]) -> None:
    """An empty cell is not initialised by an ordinary start; nor is one whose other disks are missing."""
    cell = make(3, 1)
    with pytest.raises(Unavailable):
        await cell.make().open()
    cell.lose(2)
    with pytest.raises(Unavailable):
        await cell.make().open(create=True)


async def test_cancelled_commit_is_settled_before_the_next(make: Callable[..., EmbeddedCell]) -> None:
    """A caller cancelled in the middle of a commit leaves no half: the next commit begins a term without it."""
    cell, writer = make(3, 1), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    await writer.put(storage, 1)
    for yields in range(6):
        task = asyncio.ensure_future(writer.put(storage, 50 + yields))
        for _ in range(yields):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.put(storage, 2)
        await writer.check(storage)
    await cell.power_cut(2)
    storage = await cell.start()
    await writer.check(storage)
    await cell.stop()

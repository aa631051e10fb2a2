# SPDX-License-Identifier: Apache-2.0
"""Attacks on embedded metadata: rot that no read meets, WALs of several transactions, whole members wiped or stale."""

import asyncio
import itertools
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from drystone_metadata.store.embedded.database import VFS, load_checksum_vfs
from drystone_metadata.store.ports import CELL_TABLET
from drystone_testing.embedded_cell import SMALL, EmbeddedCell
from drystone_testing.embedded_writer import END, START, Writer, redundant, until

Make = Callable[..., EmbeddedCell]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Cells in a temporary directory."""
    number = itertools.count()
    return lambda disks, m, **options: EmbeddedCell(tmp_path / f"cell{next(number)}", disks=disks, m=m, **options)


def lose_a_row(path: Path, at: int) -> None:
    """A row vanishes from one file, with sound pages and sound rows: what a stale page or a lost write leaves."""
    load_checksum_vfs()
    connection = apsw.Connection(str(path), vfs=VFS)
    lost = "SELECT kind, key, seq FROM rows LIMIT 1 OFFSET ?"
    connection.execute(f"DELETE FROM rows WHERE (kind, key, seq) IN ({lost})", (at,))
    connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


async def test_members_are_compared_without_being_asked(make: Make) -> None:
    """R11: a row that one member lost with sound pages is found by the comparison that runs by itself, and healed."""
    cell, writer = make(3, 2, settings=replace(SMALL, verify_every=0.05, verify_first=0.05)), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(40):
        await writer.put(storage, n)
    await cell.stop()
    lose_a_row(cell.paths[2] / "meta" / "member.db", 17)
    storage = await cell.start()
    await until(lambda: cell.said("metadata.members_differ") and redundant(storage))
    await asyncio.sleep(0.2)
    assert await storage.verify_members() == []
    await writer.check(storage)
    await cell.stop()


async def test_flips_in_any_wal_change_nothing(make: Make) -> None:
    """Whatever bit of a member's WAL turns over while the store is down: rows are right and members agree."""
    rng = random.Random(8)
    for round_ in range(12):
        cell, writer = make(3, 1, seed=round_), Writer()
        storage = await cell.start()
        await writer.begin(storage)
        for _ in range(12):
            await writer.put(storage, *(rng.randrange(200) for _ in range(6)))
        await asyncio.sleep(0.03)
        await cell.stop(flush=bool(round_ % 2))
        for path in cell.paths[:1]:
            wal = path / "meta" / "member.db-wal"
            data = bytearray(wal.read_bytes()) if wal.exists() else bytearray()
            for _ in range(3 if data else 0):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if data:
                wal.write_bytes(data)
        storage = await cell.start()
        await writer.check(storage)
        assert await storage.verify_members() == []
        await cell.stop()


@pytest.mark.parametrize("what", ["file", "journal", "both", "reserve"])
@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1), (0, 2), (1, 2)])
async def test_members_wiped_while_the_store_is_down(make: Make, what: str, lost: tuple[int, ...]) -> None:
    """Up to m members lose their SQLite file, their journal or both: nothing acknowledged is missed, all are refilled."""
    cell, writer = make(4, 2), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(30):
        await writer.put(storage, n % 11)
    await cell.stop(flush=False)
    for number in lost:
        if what in ("file", "both"):
            shutil.rmtree(cell.paths[number] / "meta")
        for name in list(cell.disks[number].nodes):
            if (what in ("journal", "both") and "journal" in name) or (what == "reserve" and "reserve" in name):
                del cell.disks[number].nodes[name]
    storage = await cell.start()
    await writer.check(storage)
    await writer.put(storage, 3)
    await until(lambda: redundant(storage))
    await writer.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()


async def test_starts_that_fail_midway_again_and_again(make: Make) -> None:
    """The power goes off within each of many starts, a different member away each time: nothing acknowledged is lost."""
    cell, writer = make(4, 2, seed=5), Writer()
    storage = await cell.start()
    await writer.begin(storage)
    for n in range(20):
        await writer.put(storage, n)
    await cell.power_cut(1)
    for attempt in range(24):
        away = attempt % 4
        cell.lose(away)
        cell.power.left = 3 + attempt * 3
        try:
            storage = await cell.start()
            await writer.put(storage, 100 + attempt)
        except Exception:
            pass
        number = 100 + attempt
        await cell.power_cut(attempt + 2)
        cell.bring_back(away)
        cell.power.left = None
        storage = await cell.start()
        rows = {row[0] for row in await storage.scan(CELL_TABLET, START, END, 500)}
        mine = {row for row in rows if row.key == b"k%05d" % number}
        for row in mine - set(writer.rows):
            found = await storage.read(CELL_TABLET, [row])
            assert found[0] is not None
            writer.rows[row] = found[0]
        await writer.check(storage)
        await cell.power_cut(attempt + 50)

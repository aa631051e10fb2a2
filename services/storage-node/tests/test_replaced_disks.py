# SPDX-License-Identifier: Apache-2.0
"""A disk of a cell's node makes place for an empty one while the node runs: taken in, told of, and the old one forgotten."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.formats.coordination import DISKS
from drystone_core.ids import DiskId
from drystone_testing.cell_of_nodes import CellOfNodes


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    """Seven nodes of two disks, where things go fast."""
    found = CellOfNodes(tmp_path, disks_each=2, lost_after=1.5, adopt_after=0.5)
    await found.open(7)
    yield found
    await found.close()


def told(cell: CellOfNodes) -> set[DiskId]:
    """The disks in the coordinator."""
    return {DiskId(document.key.removeprefix(DISKS)) for document in cell.store._keyspace.snapshot(DISKS).documents}


def own(cell: CellOfNodes, name: str) -> set[DiskId]:
    """The node's own disks that serve."""
    return set(cell.nodes[name].member.local_units())


def watched(cell: CellOfNodes, name: str) -> set[DiskId]:
    """All disks a node knows."""
    return {each.unit.disk_id for each in cell.nodes[name].member.node.watch.disks}


def empty(path: Path) -> None:
    """As after a replacement: the directory is there, and nothing in it."""
    for each in path.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


async def test_a_replaced_disk_is_told_of_and_the_old_one_forgotten(cell: CellOfNodes) -> None:
    """The coordinator names the new disk and not the old one; peers watch the old one no more once it is lost."""
    await cell.all_known()
    for name in cell.nodes:
        await cell.put(name, 20_000)
    before = own(cell, "n0")
    empty(cell.root / "n0-d0")
    await cell.until(lambda: len(own(cell, "n0")) == 2 and own(cell, "n0") != before)
    (old,) = before - own(cell, "n0")
    await cell.until(lambda: own(cell, "n0") <= told(cell) and old not in told(cell))
    assert len(told(cell)) == 14
    await cell.until(lambda: not any(old in watched(cell, name) for name in cell.nodes))
    await cell.all_known()
    await cell.agree()


async def test_a_disk_is_replaced_although_more_than_m_are_away_elsewhere(cell: CellOfNodes) -> None:
    """Two nodes of two disks are gone: what stands at another node's path is judged by that node's own disks."""
    await cell.all_known()
    for name in cell.nodes:
        await cell.put(name, 20_000)
    await cell.stop("n5")
    await cell.stop("n6")
    before = own(cell, "n0")
    empty(cell.root / "n0-d1")
    await cell.until(lambda: len(own(cell, "n0")) == 2 and own(cell, "n0") != before)


async def test_a_node_that_is_away_is_not_forgotten(cell: CellOfNodes) -> None:
    """It is taken for lost, its disks stay known: its slots may come back."""
    await cell.all_known()
    gone = own(cell, "n6")
    await cell.stop("n6")
    watch = cell.nodes["n0"].member.node.watch
    await cell.until(lambda: all((each := watch.get(disk)) and watch.lost(each.unit) for disk in gone))
    await cell.put("n0", 1)
    assert gone <= watched(cell, "n0")

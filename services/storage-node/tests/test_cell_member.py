# SPDX-License-Identifier: Apache-2.0
"""Storage nodes of one cell: each appends to volumes over all, reads what others wrote, and closes what the gone left open."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.errors import DrystoneError
from drystone_core.formats.coordination import VOLUMES
from drystone_core.ids import ClusterId, VolumeId
from drystone_core.profiles import Profile
from drystone_datapath.volume import VolumeState
from drystone_storage.disks.assemble import DisksRefused
from drystone_testing.cell_of_nodes import CellOfNodes


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    found = CellOfNodes(tmp_path)
    await found.open(6)
    yield found
    await found.close()


def claims(cell: CellOfNodes) -> set[VolumeId]:
    """Open volumes in the coordinator."""
    return {VolumeId(int(d.key.removeprefix(VOLUMES), 16)) for d in cell.store._keyspace.snapshot(VOLUMES).documents}


async def test_every_node_reads_what_every_other_wrote(cell: CellOfNodes) -> None:
    """Blobs appended at all six nodes, each volume over all of them, are read at each."""
    await cell.all_known()
    for name in cell.nodes:
        for size in (1, 4096, 100_000):
            await cell.put(name, size)
    assert len(claims(cell)) == 6
    for each in cell.nodes.values():
        (volume,) = [v for v in each.member.node.registry.volumes() if v.state is VolumeState.OPEN]
        assert volume.profile == Profile(4, 2)
        assert len({slot.unit.disk_id for slot in volume.slots if slot is not None}) == 6
    await cell.agree()


async def test_a_node_that_stops_leaves_nothing_claimed(cell: CellOfNodes) -> None:
    """Its volumes are closed with flags, its claims gone; the others read on with its disk away, it too when it is back."""
    await cell.all_known()
    mine = (await cell.put("n0", 5000)).extents[0].volume
    await cell.put("n1", 5000)
    await cell.stop("n0")
    await cell.until(lambda: mine not in claims(cell))
    await cell.agree()
    await cell.start("n0")
    await cell.all_known()
    await cell.agree()


async def test_volumes_of_a_node_that_is_gone_are_closed_by_others(cell: CellOfNodes) -> None:
    """Its registration ends: one of the others closes its volume; when it goes on, no slot takes its append."""
    await cell.all_known()
    mine = (await cell.put("n2", 3000)).extents[0].volume
    await cell.put("n3", 3000)
    ghost = await cell.cut_off("n2")
    await cell.until(lambda: mine not in claims(cell))
    with pytest.raises(DrystoneError):  # its volume is closed, and it can claim no other
        async with asyncio.timeout(20):
            await ghost.member.node.append(cell.blob(3000))
    await cell.agree()
    await ghost.member.stop()


async def test_writes_go_on_without_two_nodes(cell: CellOfNodes) -> None:
    """Two of six are gone: volumes are narrower, nothing acknowledged is lost, everything is read."""
    await cell.all_known()
    for name in cell.nodes:
        await cell.put(name, 20_000)
    await cell.stop("n4")
    ghost = await cell.cut_off("n5")
    for name in cell.nodes:
        for _ in range(3):
            await cell.put(name, 20_000)
    await cell.agree()
    await ghost.member.stop()


async def test_a_volume_in_use_is_not_closed_by_a_node_that_starts(cell: CellOfNodes) -> None:
    """A node that comes back finds open volumes of others and leaves them alone."""
    await cell.all_known()
    await cell.stop("n5")
    await cell.put("n0", 2000)
    (before,) = [v for v in cell.nodes["n0"].member.node.registry.volumes() if v.state is VolumeState.OPEN]
    await cell.start("n5")
    await cell.all_known()
    await cell.put("n0", 2000)
    (after,) = [v for v in cell.nodes["n0"].member.node.registry.volumes() if v.state is VolumeState.OPEN]
    assert after.volume_id == before.volume_id
    await cell.agree()


async def test_new_volumes_use_nodes_and_disks_that_were_added(cell: CellOfNodes) -> None:
    """A seventh node, and a second disk of the first one: while the cell serves, without anybody being told."""
    await cell.all_known()
    before = {disk_id for each in cell.nodes.values() for disk_id in each.member.local_units()}
    await cell.put("n1", 1000)
    await cell.start("n6")
    await cell.stop("n0")
    await cell.start("n0", disks=2)
    await cell.all_known()
    added = {disk_id for each in cell.nodes.values() for disk_id in each.member.local_units()} - before
    assert len(added) == 2
    node, used = cell.nodes["n1"].member.node, set()
    async with asyncio.timeout(60):
        while not added <= used:
            volume = node.registry.get((await cell.put("n1", 1000)).extents[0].volume)
            assert volume is not None
            used |= {slot.unit.disk_id for slot in volume.slots if slot is not None}
            await node.leave_volume(volume)
    await cell.agree()


async def test_a_disk_of_another_cell_is_refused(cell: CellOfNodes, tmp_path: Path) -> None:
    """With the sentence that says whose it is; the disk is left as it was."""
    await cell.stop("n0")
    other = CellOfNodes(tmp_path / "other", cell=ClusterId("d" * 32))
    other.root.mkdir()
    moved = (tmp_path / "n0-d0").rename(other.root / "n0-d0")
    before = (moved / "drystone-disk.json").read_bytes()
    await other.store.open()
    with pytest.raises(DisksRefused, match=f"belongs to cluster {cell.cell}, not to {other.cell}"):
        await other.start("n0")
    assert (moved / "drystone-disk.json").read_bytes() == before
    await other.store.close()


async def test_an_open_volume_of_another_node_is_not_called_degraded(cell: CellOfNodes) -> None:
    """A node that has seen one slot of it, on a disk that came back, says nothing of the others: its owner has them all."""
    await cell.all_known()
    mine = (await cell.put("n0", 3000)).extents[0].volume
    other = cell.nodes["n1"].member.node
    assert other.registry.get(mine) is None
    await other.registry.load([other.watch.disks[-1].unit], sweep=False)
    known = other.registry.get(mine)
    assert known is not None and known.state is VolumeState.ELSEWHERE and None in known.slots
    assert [(await each.member.node.status()).degraded_volumes for each in cell.nodes.values()] == [0] * 6

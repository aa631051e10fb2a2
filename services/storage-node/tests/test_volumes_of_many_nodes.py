# SPDX-License-Identifier: Apache-2.0
"""Closed volumes that several nodes repair, scrub and free: what one did, the others find on the disks, not in their memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.errors import Unavailable
from drystone_core.formats.shard import parse_shard_name, shard_name
from drystone_core.ids import VolumeId
from drystone_core.upkeep import Wound
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.volume import DiskState, VolumeState
from drystone_storage.node import StorageNode
from drystone_storage.volumes.shard_files import place_shard
from drystone_testing.cell_of_nodes import CellOfNodes

RATE = 1 << 50


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    found = CellOfNodes(tmp_path)
    await found.open(7)
    await found.all_known()
    yield found
    await found.close()


def node(cell: CellOfNodes, name: str) -> StorageNode:
    return cell.nodes[name].member.node


async def closed_volume(cell: CellOfNodes, owner: str = "n0") -> VolumeId:
    """A volume with some blobs that its owner has closed, known to be so everywhere."""
    for size in (1, 5000, 90_000):
        await cell.put(owner, size)
    volume_id = cell.model[-1][0].extents[0].volume
    volume = node(cell, owner).registry.get(volume_id)
    assert volume is not None
    await node(cell, owner).leave_volume(volume)
    for name in cell.nodes:
        await cell.closed_at(name, volume_id)
    return volume_id


def files(cell: CellOfNodes, volume_id: VolumeId) -> dict[int, list[Path]]:
    """Slot → its files on all disks."""
    found: dict[int, list[Path]] = {}
    for path in sorted(cell.root.glob("*/volumes/*")):
        there = parse_shard_name(path.name)
        if there is not None and there[0] == volume_id:
            found.setdefault(there[1], []).append(path)
    return found


def wound(volume_id: VolumeId, slot: int) -> Wound:
    return Wound(volume=volume_id, slot=slot, spare=1, size=1 << 20, reason="test")


async def test_two_nodes_that_rebuild_one_slot_at_once_leave_good_files(cell: CellOfNodes) -> None:
    """Neither writes into the other's file: whatever gets the slot's name was read back whole."""
    volume_id = await closed_volume(cell)
    (path,) = files(cell, volume_id)[5]
    path.write_bytes(path.read_bytes()[:20_000])
    healers = [node(cell, name).healer for name in ("n1", "n2", "n3")]
    for each in ("n1", "n2", "n3"):
        volume = node(cell, each).registry.get(volume_id)
        assert volume is not None
        node(cell, each)._read_failed(volume, 5, DamagedFragment("test"))
    healed = await asyncio.gather(
        *(healer.heal(wound(volume_id, 5), bytes_per_second=RATE) for healer in healers), return_exceptions=True
    )
    assert any(isinstance(each, int) and each > 0 for each in healed), healed
    assert not list(cell.root.glob("*/volumes/*.new"))
    for name in cell.nodes:
        await node(cell, name).look_again(volume_id, [5])
    report = await node(cell, "n6").scrubs.scrub(volume_id, bytes_per_second=RATE)
    assert (report.slots_damaged, report.slots_unread) == (0, 0)
    await cell.agree()


async def test_a_disk_takes_no_second_slot_of_a_volume(cell: CellOfNodes) -> None:
    """Whoever asks, also from afar, and although it could not know: the disk's own node looks when the file gets its name."""
    volume_id = await closed_volume(cell)
    (path,) = files(cell, volume_id)[1]
    name = path.parent.parent.name[:2]
    asking = next(each for each in cell.nodes if each != name)
    (holder,) = node(cell, name).store.units  # type: ignore[union-attr]
    unit = next(w.unit for w in node(cell, asking).watch.disks if w.unit.disk_id == holder.disk_id)
    file = await asyncio.to_thread(unit.disk.open, "volumes/rebuilt.new", create=True)
    await asyncio.to_thread(file.close)
    with pytest.raises(FileExistsError):
        await asyncio.to_thread(unit.disk.rename, "volumes/rebuilt.new", shard_name(volume_id, 4))
    with pytest.raises(FileExistsError):
        place_shard(holder.disk, "volumes/rebuilt.new", shard_name(volume_id, 4))
    assert len(files(cell, volume_id)[4]) == 1


async def test_a_volume_another_node_retired_is_forgotten_and_never_rebuilt(cell: CellOfNodes) -> None:
    """A node that still knows it drops it when it looks; a slot rebuilt meanwhile gets no name."""
    volume_id = await closed_volume(cell)
    cell.model.clear()
    freer = node(cell, "n3").freer
    await freer.volume_names(volume_id)
    assert await freer.retire(volume_id) > 0
    assert files(cell, volume_id) == {}
    assert node(cell, "n4").registry.get(volume_id) is not None
    assert await node(cell, "n4").look_again(volume_id) is None
    assert node(cell, "n4").registry.get(volume_id) is None
    (unit,) = node(cell, "n4").store.units  # type: ignore[union-attr]
    unit.disk.open("volumes/rebuilt.new", create=True).close()
    with pytest.raises(FileExistsError, match="retired"):
        place_shard(unit.disk, "volumes/rebuilt.new", shard_name(volume_id, 0))


async def test_what_another_node_freed_is_not_taken_for_damage(cell: CellOfNodes) -> None:
    """A scrub whose memory is older than the freeing blames no slot and makes no wounds."""
    volume_id = await closed_volume(cell)
    cell.model.clear()
    freer = node(cell, "n3").freer
    names = await freer.volume_names(volume_id)
    assert await freer.free_stripes(volume_id, [stripe.record for stripe in names.stripes]) > 0
    scrubs = node(cell, "n5").scrubs
    with pytest.raises(Unavailable, match="freed while it was read"):
        await scrubs.scrub(volume_id, bytes_per_second=RATE)
    report = await scrubs.scrub(volume_id, bytes_per_second=RATE)
    assert (report.slots_damaged, report.slots_unread, report.stripes_incomplete) == (0, 0, 0)
    assert not await node(cell, "n5").healer.wounds()


async def test_a_node_that_comes_back_after_its_slot_moved_harms_nothing(cell: CellOfNodes) -> None:
    """Its file is left alone, used by nobody who knows the rebuilt one, and goes once a scrub has proven that one."""
    volume_id = await closed_volume(cell)
    holders = {path.parent.parent.name[:2]: slot for slot, paths in files(cell, volume_id).items() for path in paths}
    gone = next(name for name in holders if name != "n0")
    await cell.stop(gone)
    healer = next(name for name in cell.nodes if name != gone)
    async with asyncio.timeout(40):
        while not any(each.volume == volume_id for each in await node(cell, healer).healer.wounds()):
            await asyncio.sleep(0.1)
    await node(cell, healer).healer.heal(wound(volume_id, holders[gone]), bytes_per_second=RATE)
    await cell.start(gone)
    await cell.all_known()
    assert len(files(cell, volume_id)[holders[gone]]) == 2
    await cell.agree()
    volume = await node(cell, healer).look_again(volume_id)
    assert volume is not None and volume.state is VolumeState.CLOSED
    assert all(slot is not None and slot.unit.state is not DiskState.FAILED for slot in volume.slots)
    await node(cell, healer).scrubs.scrub(volume_id, bytes_per_second=RATE)
    assert all(len(paths) == 1 for paths in files(cell, volume_id).values())
    for name in cell.nodes:
        await node(cell, name).look_again(volume_id)
    await cell.agree()

# SPDX-License-Identifier: Apache-2.0
"""Storage nodes obey the published layout: what drains takes nothing new, levels spread, weights limit; also right after a start."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from drystone_core.coordination import Put
from drystone_core.formats.coordination import LAYOUT, OWN_SIZE, Layout, LayoutDisk, encode
from drystone_core.ids import DiskId
from drystone_core.upkeep import Wound
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.volume import Volume
from drystone_storage.disks.watch import Watched
from drystone_testing.cell_of_nodes import CellOfNodes

RACKS = {f"n{index}": rack for index, rack in enumerate("aaaabbcc")}
VOLUMES = 6
"""New volumes a test looks at: so many draws that ignored the layout would show."""


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    found = CellOfNodes(tmp_path, racks=RACKS)
    await found.open(8)
    await found.all_known()
    yield found
    await found.close()


def disk_of(cell: CellOfNodes, name: str) -> DiskId:
    (disk,) = cell.nodes[name].member.local_units()
    return disk


async def publish(
    cell: CellOfNodes, layout: Layout, seen: Callable[[Watched], bool] | None = None, value: bytes = b""
) -> None:
    """Into the coordinator; waits until `seen` holds of every disk at every node."""
    await cell.nodes["n0"].coordinator.commit(Put(key=LAYOUT, value=value or encode(layout)))
    if seen is not None:
        await cell.until(lambda: all(seen(each) for one in cell.nodes.values() for each in one.member.node.watch.disks))


async def drain(cell: CellOfNodes, version: int, *disks: DiskId) -> None:
    wanted = tuple(LayoutDisk(disk=disk, weight=OWN_SIZE, draining=True) for disk in disks)
    layout = Layout(version=version, level="", disks=wanted)
    await publish(cell, layout, lambda each: each.draining == (each.unit.disk_id in disks))


async def new_volume(cell: CellOfNodes, name: str) -> Volume:
    """One that this node has just opened; its last one is left."""
    node = cell.nodes[name].member.node
    ref = await cell.put(name, 3000)
    volume = node.registry.get(ref.extents[0].volume)
    assert volume is not None
    await node.leave_volume(volume)
    return volume


async def volumes(cell: CellOfNodes, count: int = VOLUMES) -> list[set[DiskId]]:
    """Disk sets of new volumes, from nodes in turn."""
    names = sorted(cell.nodes)
    found = []
    for index in range(count):
        volume = await new_volume(cell, names[index % len(names)])
        assert volume.profile == cell.profile
        found.append({slot.unit.disk_id for slot in volume.slots if slot is not None})
    return found


async def test_a_drained_node_takes_no_new_slot_until_it_is_undrained(cell: CellOfNodes) -> None:
    """Neither from itself nor from others; what it announces of itself in between does not keep it drained."""
    gone = disk_of(cell, "n3")
    await drain(cell, 1, gone)
    assert all(gone not in disks for disks in await volumes(cell))
    at_n0 = cell.nodes["n0"].member
    await cell.until(lambda: at_n0.view.disks[gone].state == "draining")
    await drain(cell, 2)
    await cell.until(lambda: at_n0.view.disks[gone].state == "healthy")
    for _ in range(10):
        if any(gone in disks for disks in await volumes(cell)):
            break
    else:
        pytest.fail("an undrained disk is not used again")
    await cell.agree()


async def test_a_node_that_starts_obeys_at_once(cell: CellOfNodes) -> None:
    """Its first volume is placed by the layout that was published while it was away, its own disk included."""
    mine, gone = disk_of(cell, "n1"), disk_of(cell, "n5")
    await cell.stop("n1")
    await drain(cell, 1, mine, gone)
    member = await cell.start("n1")
    assert {each.unit.disk_id for each in member.node.watch.disks if each.draining} == {mine, gone}
    for _ in range(VOLUMES):
        volume = await new_volume(cell, "n1")
        assert not {mine, gone} & {slot.unit.disk_id for slot in volume.slots if slot is not None}


async def test_the_level_of_the_layout_spreads_new_volumes(cell: CellOfNodes) -> None:
    """No rack has more than m slots, though half of the nodes stand in one; the nodes are configured for `node`."""
    rack = {disk_of(cell, name): RACKS[name] for name in cell.nodes}
    layout = Layout(version=1, level="rack")
    await publish(cell, layout, lambda each: each.domain == rack[each.unit.disk_id])
    for disks in await volumes(cell):
        assert max(Counter(rack[disk] for disk in disks).values()) <= cell.profile.m


async def test_a_weight_limits_what_a_disk_may_take(cell: CellOfNodes) -> None:
    """0: nothing new; else what is missing to the weight counts as its free space, which is its share."""
    none, some = disk_of(cell, "n6"), disk_of(cell, "n7")
    watch = cell.nodes["n0"].member.node.watch
    total = next(each.total for each in watch.disks if each.unit.disk_id == some)
    wanted = LayoutDisk(disk=none, weight=0), LayoutDisk(disk=some, weight=total - (64 << 20))
    weights = {each.disk: each.weight for each in wanted}
    layout = Layout(version=1, level="", disks=wanted)
    await publish(cell, layout, lambda each: each.weight == weights.get(each.unit.disk_id, OWN_SIZE))
    choices = {choice.disk_id: choice for choice in watch.choices(1 << 20)}
    assert (choices[none].usable, choices[none].free) == (False, 0)
    watched = watch.get(some)
    assert watched is not None
    assert choices[some].free <= max(0, watched.free - (64 << 20))
    watched.weight = watched.total - watched.free + (5 << 20)
    assert next(each.free for each in watch.choices(1 << 20) if each.disk_id == some) == 5 << 20
    assert all(none not in disks for disks in await volumes(cell))


async def test_a_damaged_slot_of_a_drained_disk_is_rebuilt_on_another(cell: CellOfNodes) -> None:
    """Repair gives a draining disk nothing either, not even in place of what it held."""
    at_n0 = cell.nodes["n0"].member
    node, opened = at_n0.node, await new_volume(cell, "n0")
    await cell.until(lambda: opened.volume_id not in at_n0.view.volumes)
    slot = opened.slots[3]
    assert slot is not None
    gone = slot.unit.disk_id
    await drain(cell, 1, gone)
    volume = node.registry.get(opened.volume_id)
    assert volume is not None
    node._read_failed(volume, 3, DamagedFragment("test"))
    wound = Wound(volume=volume.volume_id, slot=3, spare=1, size=1 << 20, reason="test")
    await node.healer.heal(wound, bytes_per_second=1 << 50)
    volume = node.registry.get(opened.volume_id)
    assert volume is not None
    rebuilt = volume.slots[3]
    assert rebuilt is not None and rebuilt.unit.disk_id != gone
    await cell.agree()


async def test_a_layout_that_cannot_be_read_frees_no_drained_disk(cell: CellOfNodes) -> None:
    """A later release's, or damage: the last one that could be read stays in force."""
    gone = disk_of(cell, "n2")
    await drain(cell, 1, gone)
    layout = Layout(version=2, level="")
    await publish(cell, layout, value=b'{"format":2}')
    await cell.until(lambda: all(each.member.view.unreadable for each in cell.nodes.values()))
    assert all(gone not in disks for disks in await volumes(cell))

# SPDX-License-Identifier: Apache-2.0
"""Storage nodes with disks of two classes: told to one another, kept to by volumes, layouts and the rebuilding of a lost node."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.coordination import Put
from drystone_core.errors import Unavailable
from drystone_core.formats.coordination import LAYOUT, OWN_SIZE, Layout, LayoutDisk, encode
from drystone_core.profiles import Profile
from drystone_datapath.volume import DiskState, Volume
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_testing.cell_of_nodes import CellOfNodes

RATE = 1 << 40
KINDS = ("ssd", "hdd")


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    """Five nodes with a disk of each class; a volume takes three."""
    found = CellOfNodes(tmp_path, profile=Profile(2, 1), disks_each=2, classes=KINDS)
    await found.open(5)
    await found.all_known()
    yield found
    await found.close()


async def volume_at(cell: CellOfNodes, name: str, disk_class: str) -> Volume:
    """An open one that the node has just written to."""
    ref = await cell.put(name, 3000, disk_class)
    volume = cell.nodes[name].member.node.registry.get(ref.extents[0].volume)
    assert volume is not None
    return volume


def kinds_of(volume: Volume) -> set[str]:
    return {slot.unit.disk_class for slot in volume.slots if slot is not None}


async def test_every_node_knows_the_classes_and_claims_by_them(cell: CellOfNodes) -> None:
    """Disks are announced with what their identities say; an open volume with what it was opened for."""
    for each in cell.nodes.values():
        view = each.member.view
        announced = {disk.disk: disk.disk_class for disk in view.disks.values()}
        assert sorted(announced.values()) == ["hdd"] * 5 + ["ssd"] * 5
        assert all(each.unit.disk_class == announced[each.unit.disk_id] for each in each.member.node.watch.disks)
    for disk_class in (*KINDS, ""):
        volume = await volume_at(cell, "n2", disk_class)
        at_n4 = cell.nodes["n4"].member
        await cell.until(lambda seen=volume.volume_id, other=at_n4: seen in other.view.volumes)  # type: ignore[misc]
        claim = at_n4.view.volumes[volume.volume_id]
        assert claim.disk_class == disk_class
        if disk_class:
            assert kinds_of(volume) == {disk_class}
            assert {at_n4.view.disks[disk].disk_class for disk in claim.disks} == {disk_class}


async def test_a_gateway_far_away_names_the_class(cell: CellOfNodes) -> None:
    """Over gRPC, small and in pieces; a class of no disk is refused with its name."""
    background = Background(clock=SystemClock())
    client, node = cell.client("n1", background), cell.nodes["n1"].member.node
    for disk_class in KINDS:
        blob = cell.blob(4000, disk_class)
        small = await client.append(blob)
        extent = await client.append_piece(
            blob.header, blob_id=small.blob_id, piece_offset=0, payload=bytes(200_000), last=True
        )
        for volume_id in (small.extents[0].volume, extent.volume):
            volume = node.registry.get(volume_id)
            assert volume is not None and kinds_of(volume) == {disk_class}
    with pytest.raises(Unavailable, match="no disk of class tape is known"):
        await client.append(cell.blob(10, "tape"))
    assert sorted(disk.disk_class for disk in (await client.status()).disks) == ["hdd"] * 5 + ["ssd"] * 5
    await background.stop()


async def test_a_layout_drains_inside_a_class(cell: CellOfNodes) -> None:
    """Three of five disks of a class drained leave a narrower volume on the other two, none on the other class."""
    at_n0 = cell.nodes["n0"].member
    gone = sorted(disk.disk for disk in at_n0.view.disks.values() if disk.disk_class == "hdd")[:3]
    disks = tuple(LayoutDisk(disk=disk, weight=OWN_SIZE, draining=True) for disk in gone)
    await cell.nodes["n0"].coordinator.commit(Put(key=LAYOUT, value=encode(Layout(version=1, level="", disks=disks))))
    await cell.until(lambda: sum(each.draining for each in at_n0.node.watch.disks) == 3)
    cold = await volume_at(cell, "n0", "hdd")
    assert (cold.profile, kinds_of(cold)) == (Profile(1, 1), {"hdd"})
    assert (await volume_at(cell, "n0", "ssd")).profile == Profile(2, 1)


async def test_what_a_lost_node_held_is_rebuilt_on_its_class(cell: CellOfNodes) -> None:
    """Of both classes at once, each on disks of other nodes that are of it."""
    volumes = {disk_class: await volume_at(cell, "n0", disk_class) for disk_class in KINDS}
    for volume in volumes.values():
        await cell.nodes["n0"].member.node.leave_volume(volume)
        await cell.closed_at("n1", volume.volume_id)
    lost = next(
        slot.unit.label.split("/")[0]
        for slot in volumes["hdd"].slots
        if slot is not None and slot.unit.label.startswith(("n2/", "n3/", "n4/"))
    )
    await cell.stop(lost)
    node = cell.nodes["n1"].member.node

    async def rebuilt() -> bool:
        """Heals what there is to heal; whether all slots are on disks of nodes that are there."""
        for wound in await node.healer.wounds():
            await node.healer.heal(wound, bytes_per_second=RATE)
        found = [node.registry.get(volume.volume_id) for volume in volumes.values()]
        slots = [slot for volume in found if volume is not None for slot in volume.slots]
        labels = [slot.unit.label for slot in slots if slot is not None and slot.unit.state is DiskState.HEALTHY]
        return len(labels) == 6 and not any(label.startswith(f"{lost}/") for label in labels)

    async with asyncio.timeout(60):
        while not await rebuilt():
            await asyncio.sleep(0.1)
    for disk_class, volume in volumes.items():
        seen = node.registry.get(volume.volume_id)
        assert seen is not None and kinds_of(seen) == {disk_class} and None not in seen.slots
    await cell.agree()

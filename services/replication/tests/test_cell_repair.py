# SPDX-License-Identifier: Apache-2.0
"""Lost storage nodes: their slots are rebuilt on others by a leader's Repairer, while writes go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.formats.coordination import REPLICATION
from drystone_core.formats.shard import parse_shard_name
from drystone_datapath.volume import DiskState, VolumeState
from drystone_replication.repair import Repairer, RepairSettings
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_testing.cell_keepers import Keeper, keeper
from drystone_testing.cell_of_nodes import CellOfNodes

FAST = RepairSettings(every=0.3, refresh=0.5, first_pause=0.5, bytes_per_second=1 << 50)


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    found = CellOfNodes(tmp_path, lost_after=6.0)
    await found.open(8)
    await found.all_known()
    yield found
    await found.close()


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background(clock=SystemClock())
    yield made
    await made.stop()


async def leader(cell: CellOfNodes, background: Background) -> tuple[Keeper, Repairer]:
    """Leads, and repairs for ever."""
    leads = await keeper(cell, REPLICATION)
    repairer = Repairer(node=leads.upkeep(), clock=SystemClock(), background=background, settings=FAST)
    repairer.start()
    return leads, repairer


def is_done(repairer: Repairer) -> bool:
    """As a person would read the status."""
    status = repairer.status()
    return not (status.running or status.slots_pending or status.waiting or status.unasked or status.hopeless)


def lacking(cell: CellOfNodes) -> int:
    """Slots of volumes with acknowledged bytes that have no file on any disk of a node that serves."""
    found: dict[int, set[int]] = {extent.volume: set() for ref, _ in cell.model for extent in ref.extents}
    for name in cell.nodes:
        for path in cell.root.glob(f"{name}-d*/volumes/*"):
            there = parse_shard_name(path.name)
            if there is not None and there[0] in found:
                found[there[0]].add(there[1])
    widths = {
        volume.volume_id: volume.profile.slots
        for each in cell.nodes.values()
        for volume in each.member.node.registry.volumes()
    }
    return sum(widths.get(volume, cell.profile.slots) - len(slots) for volume, slots in found.items())


async def done(cell: CellOfNodes, repairer: Repairer, *, seconds: float = 180.0) -> None:
    """Until repair says that it is; it may never say so while a slot lacks its file."""
    async with asyncio.timeout(seconds):
        while True:
            missing = lacking(cell)
            await repairer._look()
            if is_done(repairer):
                assert missing == 0
                return
            await asyncio.sleep(0.2)


async def test_two_lost_nodes_are_rebuilt_on_others_while_writes_go_on(
    cell: CellOfNodes, background: Background
) -> None:
    """Every slot again on a node of its own; then any two further nodes may go, and everything is read."""
    for name in cell.nodes:
        for size in (1, 4096, 100_000):
            await cell.put(name, size)
    leads, repairer = await leader(cell, background)
    ghosts = [await cell.cut_off("n1"), await cell.cut_off("n6")]
    for round_ in range(3):
        for name in cell.nodes:
            await cell.put(name, 3000 * (round_ + 1))
    await done(cell, repairer)
    assert repairer.status().slots_repaired > 0
    await cell.agree()
    for each in cell.nodes.values():
        for volume in each.member.node.registry.volumes():
            if volume.state is VolumeState.CLOSED:
                volume = await each.member.node.look_again(volume.volume_id) or volume
                units = [slot.unit for slot in volume.slots if slot is not None]
                assert len(units) == volume.profile.slots
                assert len({unit.disk_id for unit in units}) == len(units)
                assert all(unit.state is not DiskState.FAILED for unit in units)
    ghosts += [await cell.cut_off("n2"), await cell.cut_off("n3")]
    await cell.agree()
    await leads.close()
    for ghost in ghosts:
        await ghost.member.stop()


async def test_a_node_that_comes_back_before_it_is_lost_costs_no_rebuild(tmp_path: Path) -> None:
    """While it is away repair says that slots wait; afterwards that nothing does."""
    cell = CellOfNodes(tmp_path, lost_after=60.0)
    await cell.open(7)
    await cell.all_known()
    for name in cell.nodes:
        await cell.put(name, 9000)
    background = Background(clock=SystemClock())
    leads, repairer = await leader(cell, background)
    await cell.stop("n4")
    await cell.until(lambda: repairer.status().waiting > 0)
    assert not is_done(repairer)
    await cell.start("n4")
    await cell.all_known()
    await done(cell, repairer)
    assert repairer.status().bytes_repaired == 0
    await cell.agree()
    await background.stop()
    await leads.close()
    await cell.close()


async def test_nodes_that_come_back_while_their_slots_are_rebuilt_harm_nothing(
    cell: CellOfNodes, background: Background
) -> None:
    """Wherever the rebuilding was: one file of each slot counts, and all nodes read the same."""
    for name in cell.nodes:
        for size in (500, 60_000):
            await cell.put(name, size)
    leads, repairer = await leader(cell, background)
    await cell.stop("n0")
    await cell.stop("n5")
    await cell.until(lambda: repairer.status().slots_repaired >= 2, seconds=60)
    await cell.start("n0")
    await cell.start("n5")
    for name in cell.nodes:
        await cell.put(name, 7000)
    await cell.all_known()
    await done(cell, repairer)
    await cell.agree()
    upkeep = leads.upkeep()
    for volume_id in await upkeep.closed_volumes_to_scrub():
        report = await upkeep.scrub(volume_id, bytes_per_second=1 << 50)
        assert (report.slots_damaged, report.slots_unread) == (0, 0)
    await cell.agree()
    await leads.close()

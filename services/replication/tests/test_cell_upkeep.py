# SPDX-License-Identifier: Apache-2.0
"""Repair, scrubbing and freeing over all storage nodes of a cell, by leaders that may be superseded."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable, Unreachable
from drystone_core.formats.coordination import LIFECYCLE, REPLICATION
from drystone_core.formats.shard import parse_shard_name
from drystone_core.ids import VolumeId
from drystone_core.upkeep import Wound
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.volume import DiskState
from drystone_runtime.coordination.cell_upkeep import CellUpkeep
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.upkeep_client import RpcUpkeep
from drystone_testing.cell_keepers import Keeper, keeper
from drystone_testing.cell_of_nodes import CellOfNodes

RATE = 1 << 40


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[CellOfNodes]:
    found = CellOfNodes(tmp_path)
    await found.open(6)
    await found.all_known()
    yield found
    await found.close()


async def closed_volume(cell: CellOfNodes, owner: str = "n0") -> VolumeId:
    """A volume with some blobs, closed, known everywhere."""
    for size in (1, 5000, 90_000):
        await cell.put(owner, size)
    volume_id = cell.model[-1][0].extents[0].volume
    node = cell.nodes[owner].member.node
    volume = node.registry.get(volume_id)
    assert volume is not None
    await node.leave_volume(volume)
    for name in cell.nodes:
        await cell.closed_at(name, volume_id)
    return volume_id


def blame(cell: CellOfNodes, name: str, volume_id: VolumeId, slot: int) -> None:
    """The node met damage in the slot."""
    node = cell.nodes[name].member.node
    volume = node.registry.get(volume_id)
    assert volume is not None
    node._read_failed(volume, slot, DamagedFragment("test"))


def file_of(cell: CellOfNodes, volume_id: VolumeId, slot: int) -> Path:
    (path,) = [p for p in cell.root.glob("*/volumes/*") if parse_shard_name(p.name) == (volume_id, slot)]
    return path


async def test_a_wound_many_nodes_tell_of_counts_once_and_is_healed_once(cell: CellOfNodes) -> None:
    """Afterwards no node tells of it any more: they were told to look."""
    volume_id = await closed_volume(cell)
    path = file_of(cell, volume_id, 4)
    path.write_bytes(path.read_bytes()[:9000])
    for name in ("n1", "n2", "n3"):
        blame(cell, name, volume_id, 4)
    leader = await keeper(cell, REPLICATION)
    upkeep = leader.upkeep()
    wounds = await upkeep.wounds()
    assert [(w.volume, w.slot) for w in wounds] == [(volume_id, 4)] and wounds.unasked == ()
    assert await upkeep.heal(wounds[0], bytes_per_second=RATE) > 0
    again = await upkeep.wounds()
    assert (len(again), again.waiting, again.unasked) == (0, 0, ())
    await cell.agree()
    await leader.close()


async def test_an_order_goes_to_another_node_when_one_cannot(cell: CellOfNodes) -> None:
    """A node that does not answer costs nothing but its turn; that it was not asked is said."""
    volume_id = await closed_volume(cell)
    for name in cell.nodes:
        blame(cell, name, volume_id, 5)
    leader = await keeper(cell, REPLICATION)
    upkeep = leader.upkeep()
    first = upkeep._by_turn(volume_id, list(cell.nodes))[0]
    await upkeep.wounds()
    leader.unreachable.add(first)
    leader.channels.pop(first)
    wounds = await upkeep.wounds()
    assert wounds.unasked == (first,) and len(wounds) == 1
    assert await upkeep.heal(wounds[0], bytes_per_second=RATE) > 0
    with pytest.raises(Unreachable, match=first):
        await upkeep.closed_volumes_to_scrub()
    leader.unreachable.update(cell.nodes)
    leader.channels.clear()
    with pytest.raises(Unreachable):
        await upkeep.wounds()
    await leader.close()


async def test_every_closed_volume_is_scrubbed_once_wherever_it_was_made(cell: CellOfNodes) -> None:
    """Three nodes' volumes, each listed once, each read whole; damage is a wound for repair."""
    volumes = [await closed_volume(cell, name) for name in ("n0", "n1", "n2")]
    path = file_of(cell, volumes[1], 5)
    raw = bytearray(path.read_bytes())
    raw[len(bytes(raw).rstrip(b"\0")) - 100] ^= 1
    path.write_bytes(raw)
    leader = await keeper(cell, REPLICATION)
    upkeep = leader.upkeep()
    assert sorted(await upkeep.closed_volumes_to_scrub()) == sorted(volumes)
    reports = [await upkeep.scrub(volume, bytes_per_second=RATE) for volume in volumes]
    assert [report.slots_damaged for report in reports] == [0, 1, 0]
    assert [(w.volume, w.slot) for w in await upkeep.wounds()] == [(volumes[1], 5)]
    await leader.close()


async def freed_whole(upkeep: CellUpkeep, volume_id: VolumeId) -> int:
    """Bytes freed of all its stripes, by walks again while a node still takes a slot for away, as the reclaimer does."""
    async with asyncio.timeout(120.0):
        while True:
            await upkeep.closed_volumes()
            names = await upkeep.volume_names(volume_id)
            try:
                return await upkeep.free_stripes(volume_id, [stripe.record for stripe in names.stripes])
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_dead_volumes_are_freed_on_all_nodes_and_forgotten_by_all(cell: CellOfNodes) -> None:
    """Freed by one, in every slot; while a node is away nothing is punched, and nothing live goes."""
    kept, dead = await closed_volume(cell, "n1"), await closed_volume(cell, "n2")
    cell.model = [(ref, body) for ref, body in cell.model if ref.extents[0].volume == kept]
    leader = await keeper(cell, LIFECYCLE)
    upkeep = leader.upkeep()
    with pytest.raises(Unavailable, match="not walked"):
        await upkeep.retire(dead)
    assert sorted(await upkeep.closed_volumes()) == sorted((kept, dead))
    names = await upkeep.volume_names(dead)
    gone = next(name for name in cell.nodes if name != upkeep._walked[dead])
    await cell.stop(gone)
    with pytest.raises(Unavailable, match=r"away|cannot be reached"):
        await upkeep.free_stripes(dead, [stripe.record for stripe in names.stripes])
    await cell.start(gone)
    await cell.all_known()
    assert await freed_whole(upkeep, dead) > 0
    await upkeep.volume_names(dead)
    assert await upkeep.retire(dead) > 0
    assert await upkeep.closed_volumes() == [kept]
    assert not [p for p in cell.root.glob("*/volumes/*") if f"{dead:016x}" in p.name]
    await cell.agree()
    await leader.close()


async def test_a_node_away_while_a_volume_was_retired_removes_its_file(cell: CellOfNodes) -> None:
    """Back, it learns from the others' disks; the volume is listed nowhere, its slot rebuilt by nobody."""
    dead = await closed_volume(cell)
    cell.model.clear()
    leader = await keeper(cell, LIFECYCLE)
    upkeep = leader.upkeep()
    (disk,) = cell.nodes["n5"].member.local_units()
    await cell.stop("n5")
    watches = [each.member.node.watch for each in cell.nodes.values()]
    await cell.until(
        lambda: all(
            w.unit.state is DiskState.FAILED for watch in watches for w in watch.disks if w.unit.disk_id == disk
        )
    )
    await upkeep.closed_volumes()
    await upkeep.volume_names(dead)
    assert await upkeep.retire(dead) > 0
    await cell.start("n5")
    await cell.all_known()
    await cell.until(lambda: not [p for p in cell.root.glob("*/volumes/*") if f"{dead:016x}" in p.name])
    assert await upkeep.closed_volumes() == []
    assert list(await upkeep.wounds()) == []
    await leader.close()


async def superseded(cell: CellOfNodes, election: str) -> tuple[Keeper, Keeper]:
    """A leader whose line was cut, and who does not look; and who leads after it."""
    old = await keeper(cell, election, "old")
    old.heedless = True
    old.line.cut()
    new = await keeper(cell, election, "new")
    assert new.leadership.token > old.leadership.token
    return old, new


async def test_orders_of_a_superseded_leader_are_refused(cell: CellOfNodes) -> None:
    """By every node, also those its successor has not ordered anything, and those restarted without a coordinator's word."""
    volume_id = await closed_volume(cell)
    wound = Wound(volume=volume_id, slot=1, spare=1, size=1, reason="test")
    old, new = await superseded(cell, REPLICATION)
    await new.node("n0").scrub(volume_id, bytes_per_second=RATE)
    for name in cell.nodes:
        await cell.until(lambda name=name: cell.nodes[name].member._leads(REPLICATION) == new.leadership.token)  # type: ignore[misc]
        with pytest.raises(Stale) as refused:
            await old.node(name).heal(wound, bytes_per_second=RATE)
        assert refused.value.code is ErrorCode.FENCED
        with pytest.raises(Stale):
            await old.node(name).scrub(volume_id, bytes_per_second=RATE)
    await new.close()
    await cell.until(lambda: cell.nodes["n0"].member._leads(REPLICATION) == 0)
    await cell.stop("n0")
    await cell.start("n0")
    with pytest.raises(Stale):  # from its disk alone: nobody leads
        await old.node("n0").heal(wound, bytes_per_second=RATE)
    await old.close()


async def test_freeing_by_a_superseded_leader_is_refused(cell: CellOfNodes) -> None:
    """A walk made while it led does not help it."""
    volume_id = await closed_volume(cell)
    old = await keeper(cell, LIFECYCLE, "old")
    upkeep = old.upkeep()
    await upkeep.closed_volumes()
    names = await upkeep.volume_names(volume_id)
    old.heedless = True
    old.line.cut()
    new = await keeper(cell, LIFECYCLE, "new")
    walker = upkeep._walked[volume_id]
    await new.node(walker).volume_names(volume_id)
    with pytest.raises(Unavailable):  # the new leader's token arrives with its first order, whatever comes of that
        await new.node(walker).retire(VolumeId(7))
    for order in (upkeep.free_stripes(volume_id, [names.stripes[0].record]), upkeep.retire(volume_id)):
        with pytest.raises(Stale):
            await order
    old.heedless = False
    with pytest.raises(Stale, match="over"):
        await upkeep.retire(volume_id)
    await cell.agree()
    await old.close()
    await new.close()


async def test_an_order_under_way_ends_when_another_leads(cell: CellOfNodes) -> None:
    """A slow rebuild of the old leader's is cancelled before the first order of the new one begins."""
    volume_id = await closed_volume(cell)
    old = await keeper(cell, REPLICATION, "old")
    blame(cell, "n0", volume_id, 4)
    wound = Wound(volume=volume_id, slot=4, spare=1, size=1, reason="test")
    slow = asyncio.ensure_future(old.node("n0").heal(wound, bytes_per_second=10))
    await cell.until(lambda: list(cell.root.glob("*/volumes/*.new")))
    old.line.cut()
    new = await keeper(cell, REPLICATION, "new")
    assert await new.node("n0").heal(wound, bytes_per_second=RATE) > 0
    with pytest.raises(Stale):
        await slow
    await cell.agree()
    await old.close()
    await new.close()


async def test_a_node_of_a_cell_takes_no_order_without_a_token(cell: CellOfNodes) -> None:
    """As from a process that was told of one storage node only."""
    volume_id = await closed_volume(cell)
    async with open_channel(f"unix:{cell.root}/n0.sock") as channel:
        with pytest.raises(Refused, match="leader of 'replication'"):
            await RpcUpkeep(channel).scrub(volume_id, bytes_per_second=RATE)
        with pytest.raises(Refused, match="leader of 'lifecycle'"):
            await RpcUpkeep(channel).retire(volume_id)

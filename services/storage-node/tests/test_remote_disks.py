# SPDX-License-Identifier: Apache-2.0
"""Disks served by other processes: as good as local ones, and honest when their node dies, hangs or begins anew."""

import errno
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_core.errors import Damaged, Unavailable
from drystone_core.extents import BlobRef
from drystone_core.ids import DiskId, VolumeId
from drystone_core.ports import Disk
from drystone_datapath.append import Appender
from drystone_datapath.faults import VolumeBroken
from drystone_datapath.volume import DiskState
from drystone_datapath.volume_files import assemble_volume, open_shard, write_close_flags
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_runtime.rpc.remote_disk import RemoteDisk
from drystone_testing.contracts.disk import DiskContract
from drystone_testing.served_disks import ServedDisks
from drystone_testing.sim_disk import SimDisk
from drystone_testing.volume_rig import Rig


class TestRealDisk(DiskContract):
    """A directory."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Disk:
        return RealDisk(str(tmp_path))


class TestSimDisk(DiskContract):
    """The simulated one."""

    @pytest.fixture
    def disk(self) -> Disk:
        return SimDisk()


class TestRemoteDisk(DiskContract):
    """A directory of another process."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Disk]:
        served = ServedDisks(tmp_path / "s.sock", [(_id(0), _folder(tmp_path / "d0"))])
        served.start()
        yield served.disk(0)
        served.stop()


def _id(index: int) -> DiskId:
    return DiskId(f"{index:032x}")


def _folder(path: Path) -> Path:
    path.mkdir()
    (path / "drystone-disk.json").write_text("{}")
    return path


class Nodes:
    """Six processes with a disk each, and a volume over them."""

    def __init__(self, root: Path, timeout: float = 5.0) -> None:
        self.served = [
            ServedDisks(root / f"n{index}.sock", [(_id(index), _folder(root / f"d{index}"))]) for index in range(6)
        ]
        for served in self.served:
            served.start()
        self.rig = Rig(4, 2, deadline=2.0, allocate_step=0)
        self.rig.lanes, self.rig.clock = LoopLanes(), SystemClock()  # type: ignore[assignment]
        for served, unit in zip(self.served, self.rig.units, strict=True):
            unit.disk, unit.lane = served.disk(0, timeout=timeout), ThreadLane(unit.label)
        self.rig.reader = self.rig.make_reader()

    async def put(self, appender: Appender, count: int) -> list[BlobRef]:
        return [await self.rig.put(appender, size) for size in random.Random(3).sample(range(1, 100_000), count)]

    def stop(self) -> None:
        for served in self.served:
            served.send(signal.SIGCONT)
            served.stop()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(tmp_path)
    yield found
    found.stop()


async def test_volumes_over_other_nodes_hold_what_they_acknowledged(nodes: Nodes) -> None:
    """Small and large blobs, all read back, with any two nodes killed as well."""
    appender = await nodes.rig.open()
    await nodes.put(appender, 12)
    await nodes.rig.put_large(appender, 9_000_001)
    await nodes.rig.agree()
    for index in (0, 3):
        nodes.served[index].kill()
    await nodes.rig.agree()


async def test_an_append_is_not_acknowledged_without_every_node(nodes: Nodes) -> None:
    """One node is killed: the volume is broken; begun anew, its file takes nothing more from the old owner."""
    appender = await nodes.rig.open()
    await nodes.put(appender, 2)
    nodes.served[5].kill()
    with pytest.raises(VolumeBroken) as broken:
        await nodes.rig.put(appender, 1000)
    assert isinstance(broken.value.failures[5], ConnectionError)
    nodes.served[5].start()
    second = await nodes.rig.open(8)
    await nodes.put(second, 2)
    nodes.served[5].kill()
    nodes.served[5].start()
    with pytest.raises(VolumeBroken) as stale:
        await nodes.rig.put(second, 1000)
    error = stale.value.failures[5]
    assert isinstance(error, OSError) and error.errno == errno.ESTALE
    await nodes.rig.agree()


async def test_a_node_that_stands_still_costs_a_deadline_and_no_read(nodes: Nodes) -> None:
    """SIGSTOP: the append is late and the volume broken; reads go round the node."""
    appender = await nodes.rig.open()
    await nodes.put(appender, 6)
    nodes.served[1].send(signal.SIGSTOP)
    with pytest.raises(VolumeBroken) as broken:
        await nodes.rig.put(appender, 1000)
    assert isinstance(broken.value.failures[1], TimeoutError)
    await nodes.rig.agree()


async def test_one_closed_slot_refuses_an_owner_that_was_paused(nodes: Nodes) -> None:
    """Another node closes the volume; the owner, who does not know, is refused by any flagged slot (the fence)."""
    appender = await nodes.rig.open()
    acknowledged = await nodes.put(appender, 4)
    closer = assemble_volume(
        [(unit, open_shard(unit.disk, VolumeId(7), index)) for index, unit in enumerate(nodes.rig.units[:5])]
    )
    failed = await write_close_flags(closer, lanes=nodes.rig.lanes, clock=nodes.rig.clock)
    assert failed == {}
    with pytest.raises(VolumeBroken):
        await nodes.rig.put(appender, 1000)
    assert len(nodes.rig.model) == len(acknowledged)
    await nodes.rig.agree()


async def test_more_than_m_nodes_away_is_an_error_never_a_wrong_byte(nodes: Nodes) -> None:
    """Three killed: reads that need them fail; with one back they succeed."""
    appender = await nodes.rig.open()
    await nodes.put(appender, 4)
    for index in (0, 1, 2):
        nodes.served[index].kill()
    (ref, body) = next((ref, body) for ref, body in nodes.rig.model if ref.extents[0].fragment in (0, 1, 2))
    with pytest.raises((Damaged, Unavailable)):
        await nodes.rig.read([ref], 0, len(body))
    nodes.served[2].start()
    for unit in nodes.rig.units:
        unit.state = DiskState.HEALTHY
    await nodes.rig.agree()


async def test_calls_of_the_far_side_are_refused_clearly(nodes: Nodes) -> None:
    """A disk the node does not have, a name that leads out of it, more bytes than a call carries."""
    disk = nodes.served[0].disk(0)
    assert nodes.rig.units[0].disk.space()[1] > 0
    with pytest.raises(OSError, match="no disk"):
        RemoteDisk(peer=nodes.served[1].peer, disk_id=_id(0), label="x").space()
    with pytest.raises(OSError, match="not a name inside a disk"):
        disk.open("../outside", create=True)
    with pytest.raises(OSError, match="at most"):
        disk.open("big", create=True).pwritev([bytes((32 << 20) + 1)], 0, durable=False)

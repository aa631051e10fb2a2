# SPDX-License-Identifier: Apache-2.0
"""The storage node on real directories, real threads, real time: smoke, restart without goodbye, hung thread, lost disk."""

import asyncio
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from drystone_core.extents import BlobRef
from drystone_core.formats.shard import shard_name
from drystone_core.ids import BucketId, Key, Uid
from drystone_core.services import BlobHeader, SmallBlob
from drystone_datapath.append import AppendSettings
from drystone_datapath.volume import DiskState, VolumeState
from drystone_replication.repair import Repairer, RepairSettings
from drystone_storage.node import StorageNode, build
from drystone_storage.settings import StorageSettings, WatchSettings
from drystone_storage.world import World, real_world

MIB = 1 << 20


class RealBench:
    """A node under a temporary directory and the dict of what it acknowledged."""

    def __init__(self, root: Path, *, disks: int = 6) -> None:
        self.settings = StorageSettings(
            paths=tuple(str(root / f"d{i}") for i in range(disks)),
            append=AppendSettings(volume_limit=64 * MIB, deadline=0.3, allocate_step=MIB),
            watch=WatchSettings(every=0.1, hung=0.5, adopt_after=0.3),
        )
        self.model: list[tuple[BlobRef, bytes]] = []
        self.world: World
        self.node: StorageNode

    async def start(self) -> None:
        self.world = real_world()
        self.node = build(self.settings, self.world)
        await self.node.start()

    async def drop(self) -> None:
        """The process is gone without closing anything."""
        await self.world.background.stop()

    async def put(self, size: int) -> None:
        payload = os.urandom(size)
        header = BlobHeader(bucket_id=BucketId(1), key=Key(b"k%d" % len(self.model)), uid=Uid(os.urandom(16)))
        if size <= 131072:
            ref = await self.node.append(SmallBlob(header=header, payload=payload, trailer=b"t"))
        else:
            writer = self.node.writer(header, expected=size)
            for at in range(0, size, 8 * MIB):
                space = await writer.space()
                piece = payload[at : at + len(space)]
                space[: len(piece)] = piece
                await writer.write(len(piece))
            ref = await writer.finish(b"trailer")
        self.model.append((ref, payload))

    async def check_all(self) -> None:
        for ref, payload in self.model:
            found = bytearray()
            async for chunk in self.node.read([ref], 0, ref.length):
                found += chunk.data
                chunk.release()
            assert bytes(found) == payload


@pytest.fixture
def bench(tmp_path: Path) -> RealBench:
    return RealBench(tmp_path)


async def until(condition: "object") -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_what_was_acknowledged_is_there_after_a_restart(bench: RealBench) -> None:
    """Concurrent small ones, large ones; nothing was closed; the next start closes and reads all."""
    await bench.start()
    await asyncio.gather(*(bench.put(1 + 997 * i) for i in range(60)), bench.put(9 * MIB + 1), bench.put(300_000))
    await bench.check_all()
    await bench.drop()
    await bench.start()
    assert len(bench.node.loaded.left_open) == 2
    assert all(volume.state is VolumeState.CLOSED for volume in bench.node.registry.volumes())
    await bench.check_all()
    await bench.put(5)
    await bench.node.stop()
    await bench.start()
    assert len(bench.node.loaded.left_open) == 0
    await bench.check_all()
    await bench.node.stop()


async def test_what_a_crash_left_reserved_is_given_back(bench: RealBench, tmp_path: Path) -> None:
    """Each open volume reserves tens of MiB in every shard file; after a crash the next start frees what was not written."""
    append = replace(bench.settings.append, allocate_step=16 * MIB, deadline=10.0)
    bench.settings = replace(bench.settings, append=append, watch=replace(bench.settings.watch, hung=60.0))
    await bench.start()
    await asyncio.gather(*(bench.put(1 + 997 * i) for i in range(20)), bench.put(3 * MIB))

    def reserved() -> int:
        return sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("volumes/*"))

    await bench.drop()
    before = -1
    while before != (before := reserved()):  # a dropped node's lanes are not killed as a process's are: let them end
        await asyncio.sleep(0.3)
    assert before > 6 * 16 * MIB
    await bench.start()
    await until(lambda: reserved() < before // 4)
    await bench.check_all()
    await bench.node.stop()


async def test_a_volume_left_for_lateness_keeps_no_reserve(bench: RealBench, tmp_path: Path) -> None:
    """Every slot gives back what was reserved and not written, the late one when its disk moves again."""
    append = replace(bench.settings.append, allocate_step=16 * MIB, deadline=2.0)
    bench.settings = replace(bench.settings, append=append, watch=replace(bench.settings.watch, hung=60.0))
    await bench.start()
    await bench.put(4000)
    broken = bench.node._chains.of("").packs.current
    assert broken is not None and broken.volume.slots[2] is not None
    late = broken.volume.slots[2].unit
    hold = threading.Event()
    late.lane.submit(hold.wait)  # type: ignore[arg-type]
    await bench.put(4000)
    name = shard_name(broken.volume.volume_id, 0).rpartition(".")[0]

    def reserving() -> set[str]:
        """Disks on which the volume still holds more than was written."""
        return {file.parts[-3] for file in tmp_path.glob(f"*/{name}.?") if file.stat().st_blocks * 512 > MIB}

    await until(lambda: reserving() == {Path(late.label).name})
    hold.set()
    await until(lambda: not reserving())
    await bench.check_all()
    await bench.node.stop()


async def test_a_hung_disk_thread_is_left_behind(bench: RealBench) -> None:
    """A blocked thread: writes go on elsewhere after the deadline, reads rebuild, the disk is FAILED, then back."""
    await bench.start()
    await bench.put(4000)
    assert bench.node.store is not None
    unit = bench.node.store.disks[2].unit
    hold = threading.Event()
    unit.lane.submit(hold.wait)  # type: ignore[arg-type]
    await asyncio.gather(*(bench.put(2000) for _ in range(20)))
    await bench.put(MIB)
    await bench.check_all()
    await until(lambda: unit.state is DiskState.FAILED)
    await bench.put(10)
    hold.set()
    await until(lambda: unit.state is not DiskState.FAILED)
    await bench.check_all()
    await bench.node.stop()


async def test_an_emptied_directory_is_noticed_adopted_and_filled(bench: RealBench) -> None:
    """Open descriptors go on working, the look by path notices; the empty directory becomes the replacement; repair fills it."""
    await bench.start()
    await bench.put(4000)
    await bench.put(2 * MIB)
    path = bench.settings.paths[1]
    await asyncio.to_thread(_swap, path)
    assert bench.node.store is not None
    unit = bench.node.store.disks[1].unit
    await until(lambda: unit.state is DiskState.FAILED)
    await bench.put(4001)
    await until(lambda: any(w.unit is not unit and w.unit.label == path for w in bench.node.watch.disks))
    await bench.node.watch.look()
    repairer = Repairer(
        node=bench.node.healer, clock=bench.world.clock, background=bench.world.background,
        settings=RepairSettings(bytes_per_second=1 << 40),
    )  # fmt: skip
    await until(
        lambda: all(v.state is VolumeState.CLOSED or None not in v.slots for v in bench.node.registry.volumes())
    )
    rebuilt = 0
    async with asyncio.timeout(10):
        while rebuilt < 2:
            rebuilt += await repairer.run_once()
    for index in (3, 4):
        bench.node.store.disks[index].unit.state = DiskState.FAILED
    await bench.check_all()
    await bench.node.stop()
    await bench.start()
    await bench.check_all()
    await bench.node.stop()


async def test_two_directories_removed_under_the_node(bench: RealBench) -> None:
    """Two directories removed under the running node: reads are right, writes go on."""
    await bench.start()
    for size in (100, 90_000, MIB):
        await bench.put(size)
    for path in bench.settings.paths[4:]:
        await asyncio.to_thread(shutil.rmtree, path)
    await until(lambda: sum(w.unit.state is DiskState.FAILED for w in bench.node.watch.disks) == 2)
    await bench.check_all()
    await bench.put(200)
    await bench.put(MIB)
    await bench.check_all()
    await bench.node.stop()


async def test_a_retired_volume_gives_its_space_back_at_once(bench: RealBench) -> None:
    """No descriptor stays open on a deleted shard file: the file system frees its bytes."""
    await bench.start()
    await bench.put(MIB)
    await bench.check_all()
    await bench.node.drain()
    await bench.check_all()
    (volume,) = await bench.node.freer.closed_volumes()
    assert (await bench.node.freer.volume_names(volume)).complete
    assert await bench.node.freer.retire(volume) > MIB
    assert [
        name for name in await asyncio.to_thread(_open_files) if name.endswith("(deleted)") and "volumes/" in name
    ] == []
    await bench.node.stop()


def _open_files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return found


def _swap(path: str) -> None:
    os.rename(path, path + ".away")
    os.mkdir(path)

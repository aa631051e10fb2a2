# SPDX-License-Identifier: Apache-2.0
"""Initialising, opening and refusing the directories of a store, on real directories with pretended mount points."""

import json
import os
import shutil
from pathlib import Path

import pytest

from drystone_core.profiles import Profile
from drystone_datapath.volume import DiskState
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_storage.disks.assemble import DisksRefused
from drystone_storage.disks.store import Store, adopt_online, open_store
from drystone_storage.world import World


class Bench:
    """Six directories, some of which count as mount points."""

    def __init__(self, root: Path, disks: int = 6) -> None:
        self.paths = [str(root / f"d{i}") for i in range(disks)]
        self.mounts: set[str] = set()
        bench = self

        class Directory(RealDisk):
            def is_mount(self) -> bool:
                return self.root in bench.mounts

        clock = SystemClock()
        self.world = World(
            clock=clock,
            entropy=SystemEntropy(),
            lanes=LoopLanes(),
            background=Background(clock=clock),
            place=Directory,
            lane=ThreadLane,
        )

    async def open(self, *, paths: list[str] | None = None, add_disks: bool = False) -> Store:
        return await open_store(self.world, paths or self.paths, add_disks=add_disks)

    async def refusal(self, *, paths: list[str] | None = None) -> str:
        with pytest.raises(DisksRefused) as caught:
            await self.open(paths=paths)
        return "\n".join(caught.value.problems)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def files_in(path: str) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir())


def exists(path: str) -> bool:
    return os.path.exists(path)


def holiday(path: str) -> None:
    Path(path).mkdir()
    (Path(path) / "holiday.jpg").write_bytes(b"x")


def empty(path: str) -> None:
    shutil.rmtree(path)
    Path(path).mkdir()


async def test_a_new_store_gets_one_cluster_and_is_found_again(bench: Bench) -> None:
    """Same cluster, same disks, stored profile, nothing rewritten at the second start."""
    first = await bench.open()
    assert first.profile == Profile(4, 2) and len(first.units) == 6 and not first.notes
    second = await bench.open()
    assert second.cluster_id == first.cluster_id and second.generation == first.generation
    assert {u.disk_id for u in second.units} == {u.disk_id for u in first.units}
    assert all(u.state is DiskState.HEALTHY for u in second.units)


async def test_all_problems_are_told_at_once(bench: Bench, tmp_path: Path) -> None:
    """A directory in use and a disk of another store, both named; nothing is written anywhere."""
    other = Bench(tmp_path / "other", disks=2)
    await other.open()
    holiday(bench.paths[1])
    paths = [*bench.paths[:5], other.paths[0]]
    told = await bench.refusal(paths=paths[:2])
    assert "d1 is not empty" in told and "mount its disk" in told
    told = await bench.refusal(paths=paths)
    assert f"{bench.paths[1]} holds files" in told and "is not one of this store's disks" in told
    assert not exists(bench.paths[0])


async def test_a_foreign_disk_is_refused(bench: Bench, tmp_path: Path) -> None:
    """The minority's cluster is named."""
    other = Bench(tmp_path / "other", disks=2)
    await other.open()
    await bench.open()
    told = await bench.refusal(paths=[*bench.paths[:5], other.paths[0]])
    assert f"{other.paths[0]} belongs to cluster" in told


async def test_a_copied_disk_is_refused(bench: Bench) -> None:
    """Two directories with one disk id."""
    await bench.open()
    shutil.rmtree(bench.paths[3])
    shutil.copytree(bench.paths[2], bench.paths[3])
    assert "carry the same disk id" in await bench.refusal()


async def test_a_later_format_is_refused(bench: Bench) -> None:
    """With its number."""
    await bench.open()
    file = Path(bench.paths[0]) / "drystone-disk.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 9}))
    assert "format version 9" in await bench.refusal()


async def test_a_disk_that_lost_its_identity_is_refused_and_left_alone(bench: Bench) -> None:
    """It still holds shard files: never initialised silently; the sentence says what to do."""
    await bench.open()
    disk = RealDisk(bench.paths[4])
    disk.open("volumes/0000000000000001.0", create=True).close()
    disk.unlink("drystone-disk.json")
    told = await bench.refusal()
    assert "has no drystone-disk.json" in told and "bring the file back" in told
    assert not (Path(bench.paths[4]) / "drystone-disk.json").exists()


async def test_a_damaged_identity_costs_one_disk_not_the_store(bench: Bench) -> None:
    """One flipped digit in the disk id does not make it another disk."""
    store = await bench.open()
    file = Path(bench.paths[4]) / "drystone-disk.json"
    disk_id = json.loads(file.read_text())["disk_id"]
    file.write_text(file.read_text().replace(disk_id, disk_id[:-1] + ("0" if disk_id[-1] != "0" else "1")))
    again = await bench.open()
    states = {d.known.path: d.unit.state for d in again.disks}
    assert states[bench.paths[4]] is DiskState.FAILED and len(again.disks) == 6
    assert {d.known.disk_id for d in again.disks} == {d.known.disk_id for d in store.disks}


async def test_an_empty_directory_replaces_a_plain_one(bench: Bench) -> None:
    """Neither was nor is a mount point: adopted with a new id, the old one is known as replaced."""
    store = await bench.open()
    old = {d.known.path: d.known.disk_id for d in store.disks}
    empty(bench.paths[2])
    again = await bench.open()
    new = {d.known.path: d.known.disk_id for d in again.disks}
    assert again.replaced == [old[bench.paths[2]]] and new[bench.paths[2]] != old[bench.paths[2]]
    third = await bench.open()
    assert third.replaced == [] and {d.known.path: d.known.disk_id for d in third.disks} == new


async def test_an_unmounted_disk_is_not_taken_for_a_new_one(bench: Bench) -> None:
    """A2: it was a mount point and is an empty directory now; the store runs without it and says so; mounted again it is back."""
    bench.mounts = set(bench.paths)
    await bench.open()
    shutil.move(bench.paths[3], bench.paths[3] + ".away")
    os.mkdir(bench.paths[3])
    bench.mounts.discard(bench.paths[3])
    store = await bench.open()
    states = {d.known.path: d.unit.state for d in store.disks}
    assert states.pop(bench.paths[3]) is DiskState.FAILED and set(states.values()) == {DiskState.HEALTHY}
    assert any("not mounted" in note for note in store.notes)
    assert files_in(bench.paths[3]) == []
    os.rmdir(bench.paths[3])
    shutil.move(bench.paths[3] + ".away", bench.paths[3])
    bench.mounts.add(bench.paths[3])
    assert all(d.unit.state is DiskState.HEALTHY for d in (await bench.open()).disks)


async def test_files_in_an_unmounted_mount_point_do_not_stop_the_store(bench: Bench) -> None:
    """Something wrote below the mount point while it was bare: still the disk that is not mounted, left alone."""
    bench.mounts = set(bench.paths)
    await bench.open()
    shutil.rmtree(bench.paths[3])
    holiday(bench.paths[3])
    bench.mounts.discard(bench.paths[3])
    store = await bench.open()
    assert sum(d.unit.state is DiskState.FAILED for d in store.disks) == 1
    assert files_in(bench.paths[3]) == ["holiday.jpg"]


async def test_an_empty_disk_mounted_in_place_is_a_replacement(bench: Bench) -> None:
    """A2, the other way: mount points before and now."""
    bench.mounts = set(bench.paths)
    await bench.open()
    empty(bench.paths[3])
    assert len((await bench.open()).replaced) == 1


async def test_more_than_m_lost_disks_stop_the_start(bench: Bench) -> None:
    """A3, and up to m start."""
    await bench.open()
    for path in bench.paths[:2]:
        shutil.rmtree(path)
    store = await bench.open()
    assert sum(d.unit.state is DiskState.FAILED for d in store.disks) == 2
    empty(bench.paths[2])
    told = await bench.refusal()
    assert "3 of the store's 6 disks are missing or empty" in told
    assert files_in(bench.paths[2]) == []


async def test_an_initialisation_cut_short_is_finished(bench: Bench) -> None:
    """Without any identity the lists alone count for nothing; with some identities the others are taken in."""
    await bench.open()
    for path in bench.paths:
        (Path(path) / "drystone-disk.json").unlink()
    assert len((await bench.open()).disks) == 6
    for path in bench.paths[4:]:
        (Path(path) / "drystone-disk.json").unlink()
    assert all(d.unit.state is DiskState.HEALTHY for d in (await bench.open()).disks)


async def test_a_store_known_to_exist_is_not_initialised_again(bench: Bench) -> None:
    """All disks unmounted at once look like a new store: whoever remembers that it exists says `create=False`."""
    await bench.open()
    for path in bench.paths:
        empty(path)
    with pytest.raises(DisksRefused) as caught:
        await open_store(bench.world, bench.paths, create=False)
    assert "mount its disks" in caught.value.problems[0]
    assert files_in(bench.paths[0]) == []


async def test_a_new_directory_is_added_only_when_asked(bench: Bench, tmp_path: Path) -> None:
    """Otherwise it is refused with the flag's name."""
    await bench.open()
    more = [*bench.paths, str(tmp_path / "d6")]
    assert "--add-disks" in await bench.refusal(paths=more)
    assert len((await bench.open(paths=more, add_disks=True)).disks) == 7
    assert len((await bench.open(paths=more)).disks) == 7


async def test_a_moved_disk_keeps_its_identity(bench: Bench, tmp_path: Path) -> None:
    """Found by id, its new path is remembered."""
    before = await bench.open()
    moved = str(tmp_path / "elsewhere")
    shutil.move(bench.paths[0], moved)
    store = await bench.open(paths=[moved, *bench.paths[1:]])
    assert {d.known.disk_id for d in store.disks} == {d.known.disk_id for d in before.disks}
    assert store.generation == before.generation + 1


async def test_a_failed_disk_is_replaced_while_running(bench: Bench) -> None:
    """Its directory was emptied; a disk with files in its place is not touched."""
    store = await bench.open()
    disk = store.disks[1]
    disk.unit.state = DiskState.FAILED
    assert await adopt_online(bench.world, store, disk) is None
    empty(disk.known.path)
    taken = await adopt_online(bench.world, store, disk)
    assert taken is not None and taken.known.disk_id != disk.known.disk_id
    again = await bench.open()
    assert {d.known.disk_id for d in again.disks} == {d.known.disk_id for d in store.disks}

# SPDX-License-Identifier: Apache-2.0
"""Classes of disks: written into identities, never contradicted, and kept to by volumes and by repair."""

import itertools
import json
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Unavailable
from drystone_core.extents import BlobRef
from drystone_core.profiles import Profile
from drystone_datapath.volume import DiskState, DiskUnit, Volume, VolumeState
from drystone_runtime.config_sections import StorageSettings as Section
from drystone_storage.disks.assemble import DisksRefused
from drystone_storage.disks.classes import DiskClasses
from drystone_storage.disks.documents import decode_known, encode_known
from drystone_storage.disks.store import Store, adopt_online, open_store
from drystone_storage.settings import chosen
from drystone_storage.world import real_world
from drystone_testing.storage_bench import MIB, StorageBench

TIERS = ("ssd",) * 6 + ("hdd",) * 6


@pytest.fixture
async def bench() -> AsyncIterator[StorageBench]:
    """Six disks of each of two classes, the profile of six."""
    bench = StorageBench(12, classes=TIERS)
    await bench.start()
    yield bench
    await bench.background.stop()


def volumes_of(bench: StorageBench, numbers: Iterable[int]) -> list[Volume]:
    """Those the blobs lie in."""
    refs: list[BlobRef] = [bench.model[number][0] for number in numbers]
    found = {extent.volume for ref in refs for extent in ref.extents}
    return [volume for one in sorted(found) if (volume := bench.node.registry.get(one)) is not None]


def classes_of(volume: Volume) -> set[str]:
    return {slot.unit.disk_class for slot in volume.slots if slot is not None}


def lists_volumes(bench: StorageBench, disk: int) -> list[str]:
    return [name for name in bench.disks[disk].listdir("volumes") if not name.endswith(".new")]


def spare_of(bench: StorageBench, volume: Volume) -> list[DiskUnit]:
    """Disks at hand that hold no slot of it."""
    held = [slot.unit for slot in volume.slots if slot is not None]
    units = [watched.unit for watched in bench.node.watch.disks]
    return [unit for unit in units if unit not in held and unit.state is not DiskState.FAILED]


async def settled(bench: StorageBench) -> None:
    """Every open volume is closed."""
    for volume in bench.node.registry.volumes():
        await bench.node.leave_volume(volume)
    await bench.advance(0.1)


class Directories:
    """Real directories, opened with classes as an operator says them."""

    def __init__(self, root: Path, count: int = 4) -> None:
        self.root = root
        self.paths = [str(root / f"d{index}") for index in range(count)]

    async def open(self, *entries: tuple[str, str], paths: list[str] | None = None, add_disks: bool = False) -> Store:
        classes = DiskClasses(tuple((f"{self.root}/{name}", disk_class) for name, disk_class in entries))
        return await open_store(real_world(), paths or self.paths, add_disks=add_disks, classes=classes)

    async def refusal(self, *entries: tuple[str, str]) -> str:
        with pytest.raises(DisksRefused) as caught:
            await self.open(*entries)
        return "\n".join(caught.value.problems)

    def said(self) -> list[str]:
        """The class in each identity."""
        return [json.loads((Path(path) / "drystone-disk.json").read_text())["class"] for path in self.paths]


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(tmp_path)


def emptied(path: str) -> None:
    """Another disk is mounted there."""
    shutil.rmtree(path)
    Path(path).mkdir()


async def test_a_new_disk_gets_the_class_it_was_given_and_keeps_it(directories: Directories) -> None:
    """In its identity, and after a start that says nothing of it; `standard` where nobody named one."""
    await directories.open(("d[01]", "ssd"), ("d2", "hdd"))
    assert directories.said() == ["ssd", "ssd", "hdd", "standard"]
    for entries in ((), (("d2", "hdd"),), (("d[01]", "ssd"), ("d3", "standard"))):
        again = await directories.open(*entries)
        assert sorted(unit.disk_class for unit in again.units) == ["hdd", "ssd", "ssd", "standard"]
    assert directories.said() == ["ssd", "ssd", "hdd", "standard"]


async def test_a_class_that_differs_from_the_disks_refuses_to_start(directories: Directories) -> None:
    """Every disk is named, with both classes and what to do; a typed path that is no disk, and patterns at odds too."""
    await directories.open(("d[01]", "ssd"))
    told = await directories.refusal(("*", "hdd"), ("d9", "hdd"))
    assert f"{directories.paths[0]} is a disk of class ssd, storage.disk_classes says hdd: say ssd there" in told
    assert f"{directories.paths[3]} is a disk of class standard" in told
    assert "d9, which is not one of the given directories" in told
    told = await directories.refusal(("d*", "ssd"), ("*1", "hdd"))
    assert f"gives {directories.paths[1]} several classes (hdd, ssd)" in told
    assert directories.said() == ["ssd", "ssd", "standard", "standard"]


async def test_an_unused_entry_refuses_a_new_store_before_anything_is_written(directories: Directories) -> None:
    """A mistyped directory would get the default class for ever."""
    assert "not one of the given directories" in await directories.refusal(("dd0", "hdd"))
    assert not list(directories.root.iterdir())


async def test_a_replaced_disk_is_of_the_class_of_the_one_before(directories: Directories) -> None:
    """At a start and while the store runs, though the old identity is gone; another class only when it is said."""
    await directories.open(("d2", "hdd"))
    emptied(directories.paths[2])
    store = await directories.open()
    assert directories.said()[2] == "hdd"
    emptied(directories.paths[2])
    old = next(disk for disk in store.disks if disk.known.path == directories.paths[2])
    taken = await adopt_online(real_world(), store, old)
    assert taken is not None and taken.unit.disk_class == "hdd" and directories.said()[2] == "hdd"
    emptied(directories.paths[2])
    await directories.open(("d2", "ssd"))
    assert directories.said()[2] == "ssd"


async def test_an_added_disk_gets_its_class_and_an_absent_one_keeps_it(directories: Directories) -> None:
    """What is away at a start is known by its class, so that its volumes are."""
    await directories.open()
    more = [*directories.paths, f"{directories.root}/cold"]
    store = await directories.open(("cold", "hdd"), paths=more, add_disks=True)
    assert [unit.disk_class for unit in store.units if unit.label.endswith("cold")] == ["hdd"]
    shutil.move(f"{directories.root}/cold", f"{directories.root}/elsewhere")
    store = await directories.open(("cold", "hdd"), paths=more)
    (away,) = [unit for unit in store.units if unit.state is DiskState.FAILED]
    assert away.disk_class == "hdd"


async def test_a_list_without_classes_is_written_as_before(directories: Directories) -> None:
    """A store of one class has the bytes it always had; the class of others survives the document."""
    await directories.open(("d3", "hdd"))
    known = decode_known((Path(directories.paths[0]) / "drystone-known-disks.json").read_bytes())
    assert [disk.disk_class for disk in known.disks] == ["standard"] * 3 + ["hdd"]
    assert encode_known(known).count(b'"class"') == 1
    assert decode_known(encode_known(known)) == known


def test_relative_directories_of_the_settings_are_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are taken from the working directory; a pattern that begins with a star stays as it is."""
    monkeypatch.chdir(tmp_path)
    section = Section(disk_classes=(("disks/d0", "ssd"), ("*/cold", "hdd")), classes=(("STANDARD_IA", "hdd"),))
    settings = chosen(section, ("disks/d0",))
    assert settings.disk_classes.of(f"{tmp_path}/disks/d0") == "ssd"
    assert settings.disk_classes.of("/anywhere/cold") == "hdd"
    assert settings.apart == ("hdd", "standard")


NAMES = st.sampled_from(("/a/d0", "/a/d1", "/a/d*", "/a/*1", "*"))


@given(st.dictionaries(NAMES, st.sampled_from(("ssd", "hdd")), max_size=4))
def test_a_disk_has_one_class_or_the_settings_are_refused(entries: dict[str, str]) -> None:
    """Whatever the order of the entries."""
    paths = ["/a/d0", "/a/d1"]
    orders = [DiskClasses(order) for order in itertools.permutations(entries.items())]
    assert len({bool(one.problems(paths)) for one in orders}) == 1
    if not orders[0].problems(paths):
        assert len({tuple(one.of(path) for path in paths) for one in orders}) == 1


async def test_the_profile_of_a_new_store_fits_its_smallest_class() -> None:
    """Unless volumes lie on all disks; a class of one disk can keep no second copy."""
    for classes, profile in ((TIERS, Profile(4, 2)), (("ssd",) * 9 + ("hdd",) * 3, Profile(2, 1)), ((), Profile(8, 3))):
        bench = StorageBench(12, classes=classes)
        await bench.start()
        assert bench.node.store is not None and bench.node.store.profile == profile
        await bench.background.stop()
    with pytest.raises(DisksRefused, match="class hdd: one disk can hold only a single copy"):
        await StorageBench(4, classes=("ssd",) * 3 + ("hdd",)).start()


async def test_bytes_of_a_class_lie_on_its_disks_alone(bench: StorageBench) -> None:
    """Small and large, again after a restart; read whatever their class."""
    put = {
        name: [await bench.put(5000, name), await bench.put_large(2 * MIB, name), await bench.put(90_000, name)]
        for name in ("ssd", "hdd")
    }
    await bench.crash()
    for name, numbers in put.items():
        numbers += [await bench.put(100, name), await bench.put_large(MIB, name)]
        assert {frozenset(classes_of(volume)) for volume in volumes_of(bench, numbers)} == {frozenset({name})}
    await bench.check_all()


async def test_a_class_costs_nothing_before_its_first_blob(bench: StorageBench) -> None:
    """No volume, no file on its disks, no chain; a class of no disk is refused and never gets one."""
    await bench.put(3000, "ssd")
    await bench.advance(5.0)
    assert list(bench.node._chains.by_class) == ["ssd"]
    assert all(not lists_volumes(bench, disk) for disk in range(6, 12))
    for attempt in (bench.put(3000, "tape"), bench.put_large(MIB, "tape")):
        with pytest.raises(Unavailable, match="no disk of class tape is known"):
            await attempt
    assert list(bench.node._chains.by_class) == ["ssd"]
    await bench.put(3000, "hdd")
    assert any(lists_volumes(bench, disk) for disk in range(6, 12))


async def test_without_a_class_every_disk_is_used() -> None:
    """A store whose disks have classes, and no mapping: volumes go over all of them, as ever."""
    bench = StorageBench(6, classes=("ssd", "hdd") * 3)
    await bench.start()
    number = await bench.put(3000)
    (volume,) = volumes_of(bench, [number])
    assert classes_of(volume) == {"ssd", "hdd"} and volume.disk_class == ""
    await bench.background.stop()


async def test_a_short_class_is_refused_by_name_and_the_other_goes_on(bench: StorageBench) -> None:
    """Narrower with fewer disks, 503 below m+1, never on the other class; again once they are back."""
    for disk in bench.disks[6:8]:
        disk.dead = True
    number = await bench.put(4000, "hdd")
    (volume,) = volumes_of(bench, [number])
    assert (volume.profile, classes_of(volume)) == (Profile(2, 2), {"hdd"})
    for disk in bench.disks[8:10]:
        disk.dead = True
    with pytest.raises(Unavailable, match=r"[012] disks of class hdd can be written, 3 are needed"):
        await bench.put(4000, "hdd")
    with pytest.raises(Unavailable, match="of class hdd"):
        await bench.put_large(MIB, "hdd")
    await bench.put(4000, "ssd")
    for disk in bench.disks:
        disk.dead = False
    await bench.advance(3600.0)
    await bench.node.watch.look()
    await bench.put(4000, "hdd")
    assert {frozenset(classes_of(v)) for v in bench.node.registry.volumes()} == {frozenset({"ssd"}), frozenset({"hdd"})}
    await bench.check_all()


async def test_a_full_class_says_so_and_the_other_goes_on(bench: StorageBench) -> None:
    """InsufficientStorage with its name."""
    await bench.put(4000, "hdd")
    for disk in bench.disks[6:]:
        disk.capacity = MIB // 2
    await bench.node.watch.look()
    bench.node._chains.tick()
    with pytest.raises(Unavailable, match="the disks of class hdd are full") as caught:
        await bench.put(4000, "hdd")
    assert caught.value.code is ErrorCode.INSUFFICIENT_STORAGE
    await bench.put(4000, "ssd")


async def test_a_lost_slot_is_rebuilt_on_its_class_or_waits() -> None:
    """With six of six needed there is no disk of the class to rebuild on, however many of the other there are."""
    bench = StorageBench(13, classes=("ssd",) * 7 + ("hdd",) * 6)
    await bench.start()
    put = {name: await bench.put(50_000, name) for name in ("ssd", "hdd")}
    await settled(bench)
    (cold,) = volumes_of(bench, [put["hdd"]])
    (warm,) = volumes_of(bench, [put["ssd"]])
    lost = [volume.slots[0] for volume in (cold, warm)]
    for slot in lost:
        assert slot is not None
        bench.places[slot.unit.label].there = False
    await bench.node.watch.look()
    await bench.advance(601.0)
    wounds = await bench.node.healer.wounds()
    assert [(wound.volume, wound.slot) for wound in wounds] == [(warm.volume_id, 0)]
    assert wounds.waiting == 1
    await bench.node.healer.heal(wounds[0], bytes_per_second=1 << 40)
    assert classes_of(warm) == {"ssd"} and all(slot is not None for slot in warm.slots)
    assert cold.disk_class == "hdd" and cold.state is VolumeState.CLOSED
    await bench.check_all()
    await bench.background.stop()


async def test_a_volume_over_several_classes_is_rebuilt_on_any() -> None:
    """It was written without a mapping: it has no class to keep to."""
    bench = StorageBench(7, classes=("ssd", "hdd") * 3 + ("ssd",))
    bench.settings = replace(bench.settings, apart=())
    bench.node = bench._node()
    await bench.start()
    number = await bench.put(50_000)
    await settled(bench)
    (volume,) = volumes_of(bench, [number])
    for slot in volume.slots:
        assert slot is not None
        if slot.unit.disk_class != next(unit.disk_class for unit in spare_of(bench, volume)):
            break
    bench.places[slot.unit.label].there = False
    await bench.node.watch.look()
    await bench.advance(601.0)
    (wound,) = await bench.node.healer.wounds()
    await bench.node.healer.heal(wound, bytes_per_second=1 << 40)
    assert not spare_of(bench, volume)
    await bench.check_all()
    await bench.background.stop()


@pytest.mark.parametrize("apart", [(), ("hdd", "ssd")])
async def test_a_volume_over_several_classes_that_lost_all_of_one_is_rebuilt(apart: tuple[str, ...]) -> None:
    """What is left lies on one class by chance, whether classes are kept apart by now or not: empty disks stand by."""
    bench = StorageBench(8, classes=("ssd",) * 4 + ("hdd",) * 4)
    bench.settings = replace(bench.settings, apart=())
    bench.node = bench._node()
    await bench.start()
    numbers = [await bench.put(50_000) for _ in range(3)]
    await settled(bench)
    volume = next(v for v in volumes_of(bench, numbers) if len(classes_of(v)) == 2)
    held = [slot.unit for slot in volume.slots if slot is not None]
    few = min(("ssd", "hdd"), key=[unit.disk_class for unit in held].count)
    bench.node.healer._apart = bool(apart)
    for unit in [unit for unit in held if unit.disk_class == few]:
        bench.node.registry.forget_disk(unit)
    assert len(classes_of(volume)) == 1
    wounds = await bench.node.healer.wounds()
    assert wounds.waiting == 0 and [w for w in wounds if w.volume == volume.volume_id]
    for wound in wounds:
        await bench.node.healer.heal(wound, bytes_per_second=1 << 40)
    await bench.check_all()
    await bench.background.stop()


async def test_without_a_mapping_a_slot_is_rebuilt_on_a_disk_of_any_class() -> None:
    """Although the volume lies on one class by chance."""
    bench = StorageBench(7, classes=("standard",) * 6 + ("hdd",))
    bench.settings = replace(bench.settings, apart=())
    bench.node = bench._node()
    await bench.start()
    bench.places["/d6"].there = False
    await bench.node.watch.look()
    number = await bench.put(50_000)
    await settled(bench)
    (volume,) = volumes_of(bench, [number])
    assert classes_of(volume) == {"standard"}
    bench.places["/d6"].there = True
    bench.places["/d0"].there = False
    await bench.node.watch.look()
    await bench.advance(601.0)
    (wound,) = [w for w in await bench.node.healer.wounds() if w.volume == volume.volume_id]
    await bench.node.healer.heal(wound, bytes_per_second=1 << 40)
    assert classes_of(volume) == {"standard", "hdd"}
    await bench.check_all()
    await bench.background.stop()


async def test_a_replaced_disk_is_rebuilt_whatever_else_is_away(bench: StorageBench) -> None:
    """Its slots are known to be gone: they do not wait until everybody else is back; found again, they are well."""
    number = await bench.put(50_000)
    await settled(bench)
    (volume,) = volumes_of(bench, [number])
    held = [slot.unit for slot in volume.slots if slot is not None]
    other = next(label for label in bench.places if label not in {unit.label for unit in held})
    bench.places[other].there = False
    await bench.node.watch.look()
    bench.node.registry.forget_disk(held[0])
    wounds = [w for w in await bench.node.healer.wounds() if w.volume == volume.volume_id]
    assert [wound.reason for wound in wounds] == ["disk replaced"]
    await bench.node.registry.load([held[0]], sweep=False)
    assert not [w for w in await bench.node.healer.wounds() if w.volume == volume.volume_id]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_disks_do_no_volume_leaves_its_class(seed: int) -> None:
    """Disks die, fill, return and crash at random; every volume lies on one class, every acknowledged blob is read."""
    bench = StorageBench(12, seed=seed * 101 + 3, classes=TIERS, limit=2 * MIB)
    await bench.start()
    for _ in range(25):
        step = bench.rng.randrange(6)
        disk = bench.disks[bench.rng.randrange(12)]
        if step == 0 and sum(one.dead for one in bench.disks) < 2:
            disk.dead = True
        elif step == 1:
            for one in bench.disks:
                one.dead = False
            await bench.advance(1300.0)
            await bench.node.watch.look()
        elif step == 2:
            await bench.crash()
        else:
            name = bench.rng.choice(("ssd", "hdd"))
            if bench.rng.random() < 0.3:
                await bench.put_large(bench.rng.randrange(MIB, 3 * MIB), name)
            else:
                await bench.put(bench.rng.randrange(1, 120_000), name)
        for volume in bench.node.registry.volumes():
            assert len(classes_of(volume)) <= 1
    for one in bench.disks:
        one.dead = False
    await bench.advance(1300.0)
    await bench.check_all()
    await bench.background.stop()


async def test_a_slow_disk_is_left_only_where_its_own_class_can_do_without_it() -> None:
    """Three cold disks are the least for m = 2: their slow one stays in use, whatever the warm ones could take."""
    bench = StorageBench(9, classes=("ssd",) * 6 + ("hdd",) * 3)
    bench.settings = replace(bench.settings, profile=Profile(4, 2))
    bench.node = bench._node()
    await bench.start()
    for name, left in (("hdd", False), ("ssd", True)):
        (volume,) = volumes_of(bench, [await bench.put(4000, name)])
        slot = volume.slots[1]
        assert slot is not None
        bench.node.watch.slow(slot.unit)
        bench.node._chains.tick()
        assert (bench.node._chains.of(name).packs.current is None) == left
        (after,) = volumes_of(bench, [await bench.put(4000, name)])
        assert (after is not volume) == left and classes_of(after) == {name}
    await bench.background.stop()

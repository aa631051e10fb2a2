# SPDX-License-Identifier: Apache-2.0
"""Layouts are staged and published by compare-and-set: over a coordinator, by two gateways at once, with answers that get lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from drystone_core.coordination import ABSENT, Change, Put, Revision
from drystone_core.errors import Damaged, Refused, Unavailable
from drystone_core.formats.coordination import (
    LAYOUT,
    LAYOUT_STAGED,
    DiskDocument,
    Layout,
    NodeDocument,
    OpenVolume,
    decode,
    disk_key,
    encode,
    node_key,
    volume_key,
)
from drystone_core.ids import DiskId, VolumeId
from drystone_core.layout import LayoutChange
from drystone_gateway.cell_layout import CellLayout
from drystone_runtime.clock import SystemClock
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.embedded import EmbeddedCoordinator, KeyspaceStore

NODES = 8


def disk(index: int) -> DiskId:
    return DiskId(f"{index:x}" * 32)


class Lossy(EmbeddedCoordinator):
    """Loses what the next commit answers, and the commit itself when told so; another may come in between."""

    lose: str = ""
    first: tuple[Change, ...] = ()

    async def commit(self, *changes: Change) -> Revision:
        lose, self.lose = self.lose, ""
        first, self.first = self.first, ()
        if first:
            await super().commit(*first)
        if not lose:
            return await super().commit(*changes)
        if lose == "after":
            await super().commit(*changes)
        raise Unavailable("no answer in time")


@dataclass
class Rig:
    """Two gateways of one cell."""

    store: KeyspaceStore
    coordinator: Lossy
    cache: CoordinatorCache
    one: CellLayout
    other: CellLayout
    profile: str = "rs-4-2"

    async def said(self, key: str = LAYOUT) -> Layout | None:
        found = await self.coordinator.get(key)
        return None if found is None else decode(Layout, found.value, key=key)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    clock = SystemClock()
    store = KeyspaceStore(clock=clock)
    await store.open()
    coordinator = Lossy(store=store, clock=clock)
    for index in range(NODES):
        name = f"n{index}"
        node = NodeDocument(
            node=name, role="storage-node", endpoint="e", claim="c", incarnation="i", rack=f"r{index % 2}"
        )
        place = DiskDocument(
            disk=disk(index), node=name, incarnation="i", disk_class="standard", state="healthy", total=1000, free=700
        )
        await coordinator.commit(
            Put(key=node_key("storage-node", name), value=encode(node)),
            Put(key=disk_key(disk(index)), value=encode(place)),
        )
    cache = CoordinatorCache(coordinator=coordinator, prefix="", clock=clock)
    await cache.start(within=5.0)

    async def profile() -> str:
        return found.profile

    one, other = (CellLayout(coordinator=coordinator, cache=cache, level="node", profile=profile) for _ in range(2))
    found = Rig(store, coordinator, cache, one, other)
    yield found
    await cache.close()
    await coordinator.close()
    await store.close()


async def test_changes_gather_until_they_are_published_together(rig: Rig) -> None:
    """Nothing is in effect before; published, nothing is staged any more; versions count."""
    first = await rig.one.plan(LayoutChange(drain=("node:n0",)))
    assert (first.version, first.staged_version, first.bytes_to_move) == (0, 1, 300)
    second = await rig.other.plan(LayoutChange(weights=(("1", 500),), level="disk"))
    assert (second.staged_version, second.staged_level, second.level) == (1, "disk", "node")
    assert await rig.said() is None
    done = await rig.one.apply()
    assert (done.version, done.level, done.staged_version) == (1, "disk", 0)
    assert [(row.draining, row.weight) for row in done.disks if row.place.node in ("n0", "n1")] == [
        (True, -1),
        (False, 500),
    ]
    assert await rig.said(LAYOUT_STAGED) is None
    assert (await rig.one.plan(LayoutChange(undrain=("0",)))).staged_version == 2
    assert (await rig.one.apply()).version == 2
    assert await rig.one.show() == await rig.other.show()


async def test_what_is_reverted_is_not_published(rig: Rig) -> None:
    """And there is nothing to apply or revert then."""
    await rig.one.plan(LayoutChange(drain=("0",)))
    assert (await rig.other.revert()).staged_version == 0
    for verb in (rig.one.apply, rig.one.revert):
        with pytest.raises(Refused, match="nothing is staged"):
            await verb()
    assert await rig.said() is None


async def test_only_one_of_two_gateways_publishes_what_is_staged(rig: Rig) -> None:
    """Two that apply at once, many times: one does, the other is refused, and the version grows by one."""
    for turn in range(1, 20):
        await rig.one.plan(LayoutChange(drain=("0",)) if turn % 2 else LayoutChange(undrain=("0",)))
        ended = await asyncio.gather(rig.one.apply(), rig.other.apply(), return_exceptions=True)
        assert sorted(type(one).__name__ for one in ended) == ["LayoutReport", "Refused"], ended
        said = await rig.said()
        assert said is not None and said.version == turn


@pytest.mark.parametrize("key", [LAYOUT, LAYOUT_STAGED])
async def test_a_layout_that_changes_between_look_and_commit_is_refused(rig: Rig, key: str) -> None:
    """Neither plan nor apply writes over what somebody else wrote; the sentence says what to do."""
    theirs = Layout(version=1, level="disk")
    rig.coordinator.first = (Put(key=key, value=encode(theirs)),)
    with pytest.raises(Refused, match=r"changed meanwhile.*drystone layout show"):
        await rig.one.plan(LayoutChange(drain=("0",)))
    assert await rig.said(key) == theirs
    if key == LAYOUT_STAGED:
        rig.coordinator.first = (Put(key=key, value=encode(Layout(version=1, level="zone"))),)
        with pytest.raises(Refused, match="changed meanwhile"):
            await rig.one.apply()
        assert await rig.said() is None


async def test_a_staged_layout_of_another_version_can_only_be_reverted(rig: Rig) -> None:
    """It would take back what was published since; one that cannot be read is dropped as well."""
    await rig.coordinator.commit(
        Put(key=LAYOUT, value=encode(Layout(version=5, level="node"))),
        Put(key=LAYOUT_STAGED, value=encode(Layout(version=5, level="disk"))),
    )
    for ask in (rig.one.apply, lambda: rig.one.plan(LayoutChange(drain=("0",)))):
        with pytest.raises(Refused, match="made from version 4, in effect is 5: drystone layout revert"):
            await ask()
    assert (await rig.one.revert()).version == 5
    await rig.coordinator.commit(Put(key=LAYOUT_STAGED, value=b'{"format":2}', expected=ABSENT))
    with pytest.raises(Damaged, match="layout/staged"):
        await rig.one.show()
    assert (await rig.one.revert()).version == 5


async def test_a_lost_answer_is_settled_by_reading(rig: Rig) -> None:
    """Done though nobody heard: done. Not done: Unavailable, and nothing changed."""
    rig.coordinator.lose = "after"
    assert (await rig.one.plan(LayoutChange(drain=("0",)))).staged_version == 1
    rig.coordinator.lose = "before"
    with pytest.raises(Unavailable, match="no answer"):
        await rig.one.apply()
    assert await rig.said() is None
    rig.coordinator.lose = "after"
    assert (await rig.one.apply()).version == 1
    said = await rig.said()
    assert said is not None and said.version == 1


async def test_refusals_change_nothing_and_say_why(rig: Rig) -> None:
    """No change, one that is taken back, one that leaves no room for a volume, an unknown profile."""
    with pytest.raises(Refused, match="nothing to change"):
        await rig.one.plan(LayoutChange(undrain=("0",)))
    with pytest.raises(Refused, match="in one rack: there would be 4"):
        await rig.one.plan(LayoutChange(level="rack"))
    with pytest.raises(Refused, match="there would be 5"):
        await rig.one.plan(LayoutChange(drain=("0", "1", "2")))
    assert await rig.said(LAYOUT_STAGED) is None
    await rig.one.plan(LayoutChange(drain=("0", "1")))
    with pytest.raises(Refused, match="drystone layout revert"):
        await rig.one.plan(LayoutChange(undrain=("0", "1")))
    rig.profile = ""
    with pytest.raises(Unavailable, match="profile is not known"):
        await rig.one.apply()
    assert (await rig.one.show()).staged_version == 1


async def test_what_became_impossible_since_it_was_staged_is_not_published(rig: Rig) -> None:
    """A disk fails between plan and apply; `show` says so before."""
    await rig.one.plan(LayoutChange(drain=("0", "1")))
    failed = DiskDocument(
        disk=disk(2), node="n2", incarnation="i", disk_class="standard", state="failed", total=1000, free=700
    )
    await rig.cache.reached(await rig.coordinator.commit(Put(key=disk_key(disk(2)), value=encode(failed))))
    assert "would be refused now" in (await rig.one.show()).warnings[0]
    with pytest.raises(Refused, match=r"there would be 5 \(now 7\)|there would be 5 \(now 6\)"):
        await rig.one.apply()
    assert await rig.said() is None


async def test_open_volumes_on_draining_disks_are_told_of(rig: Rig) -> None:
    """They are filled as before."""
    volume = OpenVolume(
        volume=VolumeId(1), profile="rs-4-2", disks=tuple(map(disk, range(6))), owner="n0", incarnation="i"
    )
    await rig.cache.reached(await rig.coordinator.commit(Put(key=volume_key(VolumeId(1)), value=encode(volume))))
    assert (await rig.one.plan(LayoutChange(drain=("7",)))).warnings == ()
    (said,) = (await rig.one.plan(LayoutChange(drain=("3",)))).warnings
    assert said.startswith("1 open volumes have slots")

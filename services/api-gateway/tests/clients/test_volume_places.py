# SPDX-License-Identifier: Apache-2.0
"""Where short reads go: to the node that holds the bytes, known without anybody waiting for it."""

import asyncio
from collections.abc import Sequence

from drystone_core.coordination import Delete, Put
from drystone_core.errors import Unavailable
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.formats.coordination import DiskDocument, OpenVolume, disk_key, encode, volume_key
from drystone_core.ids import BlobId, DiskId, VolumeId
from drystone_gateway.clients.places import VolumePlaces
from drystone_runtime.background import Background
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.embedded import EmbeddedCoordinator, KeyspaceStore
from drystone_testing.sim_world import ManualClock

DISKS = tuple(DiskId(f"{number:032x}") for number in range(3))
OPEN, CLOSED = VolumeId(7), VolumeId(9)


class Rig:
    """A coordinator with three disks on three nodes and one open volume; what `locate` was asked."""

    async def start(self) -> "Rig":
        self.clock = ManualClock()
        self.store = KeyspaceStore(clock=self.clock)
        await self.store.open()
        self.coordinator = EmbeddedCoordinator(store=self.store, clock=self.clock)
        self.background = Background(clock=self.clock)
        self.asked: list[list[VolumeId]] = []
        self.answers = True
        for number, disk in enumerate(DISKS):
            await self.serve(disk, f"n{number}")
        claim = OpenVolume(volume=OPEN, profile="rs-2-1", disks=DISKS, owner="n0", incarnation="i")
        await self.coordinator.commit(Put(key=volume_key(OPEN), value=encode(claim)))
        self.cache = CoordinatorCache(coordinator=self.coordinator, prefix="", clock=self.clock)
        await self.cache.start(within=5.0)
        self.places = VolumePlaces(
            cache=self.cache, locate=self.locate, clock=self.clock, background=self.background, age=60.0
        )
        return self

    async def serve(self, disk: DiskId, node: str) -> None:
        document = DiskDocument(
            disk=disk, node=node, incarnation="i", disk_class="standard", state="healthy", total=1, free=1
        )
        await self.coordinator.commit(Put(key=disk_key(disk), value=encode(document)))

    async def locate(self, volumes: Sequence[VolumeId]) -> list[tuple[DiskId | None, ...]]:
        self.asked.append(list(volumes))
        if not self.answers:
            raise Unavailable("nobody is there")
        return [(DISKS[2], None, DISKS[0]) if volume == CLOSED else () for volume in volumes]

    async def settle(self) -> None:
        """Until nothing is asked for any more, and the cache has what was committed."""
        revision = (await self.coordinator.snapshot("")).revision
        async with asyncio.timeout(5):
            while self.background.names or self.cache.revision < revision:
                await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.background.stop()
        await self.cache.close()
        await self.coordinator.close()
        await self.store.close()


def blob(volume: VolumeId, fragment: int) -> list[BlobRef]:
    """A packed blob in that fragment."""
    extent = PackedExtent(volume, record=0, payload_at=64, fragment=fragment, position=0, length=10, crc=0)
    return [BlobRef(BlobId(bytes(16)), 10, (extent,))]


async def test_bytes_of_an_open_volume_are_found_without_asking_anybody() -> None:
    """Its document names the disks, the disks' documents their nodes; a disk that moves is followed."""
    rig = await Rig().start()
    assert [rig.places.node_of(blob(OPEN, fragment)) for fragment in (0, 1)] == ["n0", "n1"]
    await rig.serve(DISKS[0], "n9")
    await rig.settle()
    assert rig.places.node_of(blob(OPEN, 0)) == "n9"
    await rig.coordinator.commit(Delete(key=volume_key(OPEN)))
    await rig.settle()
    assert rig.places.node_of(blob(OPEN, 1)) == "n1", "closed now, and remembered"
    assert rig.asked == []
    await rig.stop()


async def test_a_closed_volume_is_asked_for_once_and_nobody_waits() -> None:
    """The reads that meet it first go anywhere; later ones to the fragment's node. Old answers are asked for again."""
    rig = await Rig().start()
    assert [rig.places.node_of(blob(CLOSED, 0)) for _ in range(3)] == [None, None, None]
    await rig.settle()
    assert rig.asked == [[CLOSED]]
    assert [rig.places.node_of(blob(CLOSED, fragment)) for fragment in (0, 1)] == ["n2", None]
    rig.clock.now += 61.0
    assert rig.places.node_of(blob(CLOSED, 0)) == "n2", "good enough until the next answer"
    await rig.settle()
    assert rig.asked == [[CLOSED], [CLOSED]]
    await rig.stop()


async def test_when_nobody_can_tell_it_is_asked_again_by_the_next_read() -> None:
    """No storage node answers; an unknown volume has no slots."""
    rig = await Rig().start()
    rig.answers = False
    assert rig.places.node_of(blob(CLOSED, 0)) is None
    await rig.settle()
    rig.answers = True
    assert rig.places.node_of(blob(CLOSED, 0)) is None
    await rig.settle()
    assert rig.places.node_of(blob(CLOSED, 0)) == "n2"
    assert rig.places.node_of(blob(VolumeId(1), 0)) is None
    await rig.settle()
    assert rig.places.node_of(blob(VolumeId(1), 0)) is None
    await rig.stop()

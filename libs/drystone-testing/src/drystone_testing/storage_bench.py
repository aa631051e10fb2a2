# SPDX-License-Identifier: Apache-2.0
"""A storage node on simulated disks with time that moves when told, checked against a dict of what was acknowledged."""

import asyncio
import errno
import random
from collections.abc import Callable, Sequence

from drystone_core.extents import PACK_LIMIT, BlobRef
from drystone_core.ids import BucketId, Key, Uid
from drystone_core.ports import Lane
from drystone_core.services import BlobHeader, SmallBlob
from drystone_datapath.append import AppendSettings
from drystone_runtime.background import Background
from drystone_storage.disks.classes import DiskClasses
from drystone_storage.node import StorageNode, build
from drystone_storage.settings import OpenSettings, StorageSettings, WatchSettings
from drystone_storage.world import World
from drystone_testing.sim_disk import Fault, SimDisk, SimLane, SimLanes
from drystone_testing.sim_world import ManualClock, MovableClock, SeededEntropy

MIB = 1 << 20


class SimPlace(SimDisk):
    """A simulated disk at a path."""

    def __init__(self, root: str, *, capacity: int = 1 << 40, clock: MovableClock | None = None) -> None:
        super().__init__(capacity=capacity, clock=clock)
        self.root = root
        self.mounted = False
        self.there = True

    def enter(self, site: str, name: str) -> Fault | None:
        if not self.there:
            raise FileNotFoundError(errno.ENOENT, "the directory is away", name)
        return super().enter(site, name)

    def exists(self) -> bool:
        return self.there

    def make(self) -> None:
        self.there = True

    def is_mount(self) -> bool:
        return self.mounted

    def listdir(self, folder: str) -> list[str]:
        if folder == ".":
            return sorted({name.split("/")[0] for name in self.nodes})
        return super().listdir(folder)


class StorageBench:
    """Disks, a node on them, and the model: what was acknowledged."""

    def __init__(
        self,
        disks: int = 6,
        *,
        seed: int = 1,
        capacity: int = 1 << 40,
        limit: int = 1 << 30,
        classes: Sequence[str] = (),
    ) -> None:
        """`classes`: of the disks, one each, to which volumes keep; none: nobody named any."""
        self.clock = ManualClock()
        self.places = {f"/d{i}": SimPlace(f"/d{i}", capacity=capacity, clock=self.clock) for i in range(disks)}
        self.entropy = SeededEntropy(seed)
        self.rng = random.Random(seed)
        self.settings = StorageSettings(
            paths=tuple(self.places),
            disk_classes=DiskClasses(tuple(zip(self.places, classes, strict=False))),
            apart=tuple(sorted(set(classes))),
            scan_pause=0.0,
            append=AppendSettings(volume_limit=limit, allocate_step=0),
            watch=WatchSettings(reserve=1 * MIB, adopt_after=0.0),
            open=OpenSettings(),
        )
        self.model: dict[int, tuple[BlobRef, bytes]] = {}
        self.seed = seed
        self.lanes: dict[str, SimLane] = {}
        self.node: StorageNode = self._node()

    @property
    def disks(self) -> list[SimPlace]:
        return list(self.places.values())

    def _node(self) -> StorageNode:
        self.background = Background(clock=self.clock)
        lanes: dict[str, SimLane] = {}

        def lane(name: str) -> Lane:
            return lanes.setdefault(f"/{name}", SimLane())

        self.lanes = lanes
        self.seed += 1
        place: Callable[[str], SimPlace] = self.places.__getitem__
        world = World(
            clock=self.clock,
            entropy=self.entropy,
            lanes=SimLanes(seed=self.seed, yields=1, clock=self.clock),
            background=self.background,
            place=place,
            lane=lane,
        )
        return build(self.settings, world)

    async def start(self) -> None:
        await self.node.start()

    async def crash(self) -> None:
        """Power loss: the process is gone, disks keep what was durable; then it starts again."""
        await self.background.stop()
        for disk in self.disks:
            self.seed += 1
            disk.crash(self.seed)
        self.node = self._node()
        await self.node.start()

    async def stop(self) -> None:
        await self.node.stop()

    def blob(self, size: int, disk_class: str = "") -> tuple[SmallBlob, bytes]:
        payload = self.rng.randbytes(size)
        return SmallBlob(header=self.header(disk_class), payload=payload, trailer=b"t" * 20), payload

    def header(self, disk_class: str = "") -> BlobHeader:
        number = len(self.model) + self.rng.randrange(1 << 30)
        uid = Uid(self.rng.randbytes(16))
        return BlobHeader(bucket_id=BucketId(1), key=Key(b"k%d" % number), uid=uid, disk_class=disk_class)

    async def put(self, size: int = 3000, disk_class: str = "") -> int:
        """Append, remember as acknowledged, return its number."""
        blob, payload = self.blob(size, disk_class)
        ref = await self.node.append(blob)
        return self.remember(ref, payload)

    async def put_large(self, size: int, disk_class: str = "") -> int:
        assert size > PACK_LIMIT
        payload = self.rng.randbytes(size)
        writer = self.node.writer(self.header(disk_class), expected=size)
        at = 0
        try:
            while at < size:
                space = await writer.space()
                step = min(len(space), size - at)
                space[:step] = payload[at : at + step]
                await writer.write(step)
                at += step
            return self.remember(await writer.finish(b"trailer"), payload)
        except BaseException:
            writer.abort()
            raise

    def remember(self, ref: BlobRef, payload: bytes) -> int:
        number = len(self.model)
        self.model[number] = (ref, payload)
        return number

    async def get(self, ref: BlobRef, start: int = 0, length: int | None = None) -> bytes:
        length = ref.length - start if length is None else length
        found = bytearray()
        async for chunk in self.node.read([ref], start, length):
            found += chunk.data
            chunk.release()
        return bytes(found)

    async def check_all(self) -> None:
        """Every acknowledged blob reads back as the model has it."""
        for ref, payload in self.model.values():
            now = self.node.read_now([ref], 0, ref.length)
            assert now is None or bytes(now) == payload
            assert await self.get(ref) == payload

    async def advance(self, seconds: float) -> None:
        """Move time, let the background see it."""
        self.clock.now += seconds
        for _ in range(10):
            await asyncio.sleep(0.001)

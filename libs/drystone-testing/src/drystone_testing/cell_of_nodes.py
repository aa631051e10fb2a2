# SPDX-License-Identifier: Apache-2.0
"""Storage nodes of one cell in one process: real disks, real gRPC on unix sockets, one coordinator, one clock that waits for them.

Each node has lanes, tasks and a line to the coordinator of its own; `cut_off` leaves it running without the others.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drystone_core.coordination import Coordinator
from drystone_core.extents import BlobRef
from drystone_core.ids import BucketId, ClusterId, Key, Uid, VolumeId
from drystone_core.profiles import Profile
from drystone_core.services import BlobHeader, SmallBlob
from drystone_datapath.append import AppendSettings
from drystone_datapath.volume import DiskState, VolumeState
from drystone_runtime.background import Background
from drystone_runtime.coordination.embedded import EmbeddedCoordinator, KeyspaceStore
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_runtime.rpc.storage_client import RpcStorage
from drystone_storage.cell.member import CellMember, MemberSettings
from drystone_storage.disks.classes import DiskClasses
from drystone_storage.rpc.disks import disk_service
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service
from drystone_storage.settings import StorageSettings, WatchSettings
from drystone_storage.world import real_world
from drystone_testing.coordinator_rigs import CutStore
from drystone_testing.sim_world import PatientClock

CELL = ClusterId("c" * 32)
TTL = 2.0


@dataclass(slots=True)
class Member:
    """One node and what serves it."""

    member: CellMember
    server: RpcServer
    coordinator: Coordinator
    line: CutStore


@dataclass(slots=True)
class CellOfNodes:
    """Nodes by name; `model` holds what was acknowledged."""

    root: Path
    cell: ClusterId = CELL
    profile: Profile = field(default_factory=lambda: Profile(4, 2))
    disks_each: int = 1
    classes: Sequence[str] = ()
    """Class of each disk of a node, in order; of the others: none is named."""
    racks: Mapping[str, str] = field(default_factory=dict)
    """Node → its rack; none for those that are not named."""
    ttl: float = TTL
    """Seconds after which a silent node counts as gone."""
    lost_after: float = 3.0
    """Seconds after which a node that is away is taken for lost."""
    adopt_after: float = 30.0
    """Seconds after which an empty directory takes a failed disk's place."""
    nodes: dict[str, Member] = field(default_factory=dict)
    clock: PatientClock = field(default_factory=PatientClock)
    store: KeyspaceStore = field(init=False)
    rng: random.Random = field(default_factory=lambda: random.Random(11))
    model: list[tuple[BlobRef, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = KeyspaceStore(clock=self.clock)

    async def open(self, count: int) -> None:
        """The coordinator and `count` nodes that all know each other's disks."""
        self.clock.start()
        await self.store.open()
        for index in range(count):
            await self.start(f"n{index}")

    async def start(self, name: str, *, disks: int = 0) -> CellMember:
        """A node on its disks; comes back under the same name after `stop`. `disks`: so many, new ones taken in."""
        world = replace(real_world(), clock=self.clock, background=Background(clock=self.clock))
        line = CutStore(self.store)
        coordinator = EmbeddedCoordinator(store=line, clock=world.clock)
        member = CellMember(
            settings=MemberSettings(
                node=name,
                endpoint=f"unix:{self.root}/{name}.sock",
                claim=name,
                rack=self.racks.get(name, ""),
                ttl=self.ttl,
                announce=0.2,
                tend=0.2,
            ),
            storage=StorageSettings(
                paths=tuple(str(self.root / f"{name}-d{index}") for index in range(disks or self.disks_each)),
                add_disks=bool(disks),
                disk_classes=DiskClasses(tuple((f"*/{name}-d{at}", one) for at, one in enumerate(self.classes))),
                apart=tuple(sorted(set(self.classes))),
                profile=self.profile,
                cell=self.cell,
                append=AppendSettings(allocate_step=1 << 20),
                watch=WatchSettings(
                    every=0.2,
                    away_backoff=0.5,
                    late_backoff=2.0,
                    lost_after=self.lost_after,
                    adopt_after=self.adopt_after,
                ),
            ),
            world=world,
            coordinator=coordinator,
        )
        node = member.node
        server = RpcServer(
            services=(
                disk_service(world, member.local_units),
                storage_service(node, node.status),
                upkeep_service(
                    member.upkeep, member.upkeep, member.upkeep, look=member.upkeep.look_again, fence=member.fences
                ),
            ),
            settings=RpcServerSettings(address=f"unix:{self.root}/{name}.sock"),
        )
        await server.start()
        try:
            await member.start()
        except BaseException:
            await server.stop(0.0)
            raise
        self.nodes[name] = Member(member, server, coordinator, line)
        return member

    async def stop(self, name: str) -> None:
        """Orderly."""
        gone = self.nodes.pop(name)
        await gone.member.stop()
        await gone.server.stop(0.1)
        await gone.coordinator.close()

    async def cut_off(self, name: str) -> Member:
        """It reaches the coordinator no more and its disks answer nobody, but it goes on, and reaches the others' disks."""
        gone = self.nodes.pop(name)
        gone.line.cut()
        await gone.server.stop(0.0)
        return gone

    async def close(self) -> None:
        """Stop all."""
        for name in list(self.nodes):
            await self.stop(name)
        await self.store.close()
        self.clock.stop()

    def blob(self, size: int, disk_class: str = "") -> SmallBlob:
        """A blob of that size."""
        uid = Uid(self.rng.randbytes(16))
        header = BlobHeader(bucket_id=BucketId(3), key=Key(b"key"), uid=uid, disk_class=disk_class)
        return SmallBlob(header=header, payload=self.rng.randbytes(size), trailer=b"t")

    async def put(self, name: str, size: int, disk_class: str = "") -> BlobRef:
        """Append at one node; remembered when acknowledged."""
        blob = self.blob(size, disk_class)
        ref = await self.nodes[name].member.node.append(blob)
        self.model.append((ref, bytes(blob.payload)))
        return ref

    async def agree(self) -> None:
        """Every node reads everything that was acknowledged."""
        for name, each in self.nodes.items():
            for ref, body in self.model:
                found = b"".join([bytes(chunk.data) async for chunk in each.member.node.read([ref], 0, len(body))])
                assert found == body, f"{name} reads other bytes"

    async def until(self, true: Callable[[], object], *, seconds: float = 120.0) -> None:
        """Wait for a state."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.05)

    async def all_known(self) -> None:
        """Every node sees every disk in service."""
        serving = [each.member for each in self.nodes.values()]
        disks = {disk_id for member in serving for disk_id in member.local_units()}

        def known(member: CellMember) -> bool:
            watched = {w.unit.disk_id for w in member.node.watch.disks if w.unit.state is DiskState.HEALTHY}
            return disks <= watched

        await self.until(lambda: all(map(known, serving)))

    async def closed_at(self, name: str, volume_id: VolumeId) -> None:
        """The node knows the volume, and that it is closed."""
        node = self.nodes[name].member.node
        async with asyncio.timeout(120.0):
            while (volume := node.registry.get(volume_id)) is None or volume.state is not VolumeState.CLOSED:
                await asyncio.sleep(0.05)

    def client(self, name: str, background: Background) -> RpcStorage:
        """A gateway's way to the node."""
        return RpcStorage(channel=open_channel(f"unix:{self.root}/{name}.sock"), background=background)

# SPDX-License-Identifier: Apache-2.0
"""Storage nodes and replication as processes over a real etcd: killed, stopped and continued while they repair."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drystone_core.errors import DrystoneError
from drystone_core.extents import BlobRef
from drystone_core.formats.coordination import REPLICATION, LeaderDocument, decode, election_key
from drystone_core.formats.shard import parse_shard_name
from drystone_core.identity import ServiceKind
from drystone_core.ids import BucketId, Key, Uid
from drystone_core.services import BlobHeader, SmallBlob
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.rpc.background_clients import replication_status
from drystone_runtime.rpc.links import Dialer, Link
from drystone_runtime.rpc.storage_client import RpcStorage
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import EtcdServers, etcd, free_ports

__all__ = ["etcd"]
PATIENCE = 60.0


@dataclass(slots=True)
class Cell:
    """The processes by name, and what was acknowledged."""

    root: Path
    rig: EtcdRig
    background: Background = field(default_factory=lambda: Background(clock=SystemClock()))
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    model: list[tuple[BlobRef, bytes]] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(5))

    def start(self, role: str, name: str, *more: str) -> None:
        """Begin; `ready` waits for it."""
        port = self.ports.setdefault(name, free_ports(1)[0])
        settings = {
            "COORDINATOR_ENDPOINTS": ",".join(self.rig.settings().endpoints),
            "COORDINATOR_PREFIX": self.rig.settings().prefix,
            "COORDINATOR_SESSION": "2s",
            "NODE_NAME": name,
            "NODE_STATE": str(self.root / name / "state"),
            "RPC_LISTEN": f"127.0.0.1:{port}",
            "RPC_PLAINTEXT_LOOPBACK": "true",
            "STORAGE_PROFILE": "rs-4-2",
            "STORAGE_LOST_AFTER": "4s",
        }
        (self.root / name).mkdir(exist_ok=True)
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "drystone_cli", role, *more],
            stdout=subprocess.PIPE,
            stderr=(self.root / name / "log").open("a"),
            text=True,
            env={**os.environ, **{f"DRYSTONE_{key}": value for key, value in settings.items()}},
        )

    async def ready(self, names: Sequence[str]) -> None:
        for name in names:
            out = self.processes[name].stdout
            assert out is not None
            async with asyncio.timeout(PATIENCE):
                while not (line := await asyncio.to_thread(out.readline)).startswith("ready"):
                    assert line, (self.root / name / "log").read_text()[-3000:]

    def storage(self, name: str) -> RpcStorage:
        return RpcStorage(channel=self.link(name, ServiceKind.STORAGE_NODE), background=self.background)

    def link(self, name: str, kind: ServiceKind) -> Link:
        """Made once each."""
        if name not in self.links:
            dial = Dialer(clock=SystemClock(), background=self.background, tls=None, plaintext_loopback=True)
            self.links[name] = dial.open(f"127.0.0.1:{self.ports[name]}", kind)
        return self.links[name]

    async def know_each_other(self, names: Sequence[str]) -> None:
        """Every node uses every node's disk."""
        async with asyncio.timeout(PATIENCE):
            for name in names:
                while sum(d.state == "healthy" for d in (await self.storage(name).status()).disks) < len(names):
                    await asyncio.sleep(0.1)

    async def put(self, name: str, size: int) -> None:
        header = BlobHeader(bucket_id=BucketId(3), key=Key(b"key"), uid=Uid(self.rng.randbytes(16)))
        blob = SmallBlob(header=header, payload=self.rng.randbytes(size), trailer=b"t")
        self.model.append((await self.storage(name).append(blob), bytes(blob.payload)))

    async def agree(self, names: Sequence[str]) -> None:
        """Every one of these reads everything that was acknowledged."""
        for name in names:
            storage = self.storage(name)
            for ref, body in self.model:
                found = b"".join([bytes(chunk.data) async for chunk in storage.read([ref], 0, len(body))])
                assert found == body, name

    def slots(self, gone: str) -> dict[int, set[int]]:
        """Of each volume with acknowledged bytes the slots that have a file on a disk of a node that is not gone."""
        found: dict[int, set[int]] = {extent.volume: set() for ref, _ in self.model for extent in ref.extents}
        for path in self.root.glob("*/disk/volumes/*"):
            there = parse_shard_name(path.name)
            if there is not None and there[0] in found and path.relative_to(self.root).parts[0] != gone:
                found[there[0]].add(there[1])
        return found

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
async def cell(etcd: EtcdServers, tmp_path: Path) -> AsyncIterator[Cell]:
    rig = EtcdRig(etcd, prefix=f"/{SystemEntropy().token(4).hex()}/")
    made = Cell(tmp_path, rig)
    yield made
    made.stop()
    for link in made.links.values():
        await link.close()
    await made.background.stop()
    await rig.close()


async def until(true: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.1)


async def test_a_lost_node_is_rebuilt_although_the_leader_of_repair_is_stopped(cell: Cell) -> None:
    """The successor finishes; the stopped one, continued, orders nothing more; the lost node comes back and harms nothing."""
    coordinator = await cell.rig.connect()
    nodes = [f"n{index}" for index in range(7)]
    for name in nodes:
        cell.start("storage-node", name, str(cell.root / name / "disk"))
    await cell.ready(nodes)
    await cell.know_each_other(nodes)
    keepers = ["r0", "r1"]
    for name in keepers:
        cell.start("replication", name)
    await cell.ready(keepers)

    async def leader() -> str:
        async with asyncio.timeout(PATIENCE):
            while (document := await coordinator.get(election_key(REPLICATION))) is None:
                await asyncio.sleep(0.1)
        return decode(LeaderDocument, document.value, key=document.key).node

    for name in nodes:
        for size in (1, 4000, 100_000):
            await cell.put(name, size)
    first = await leader()
    lost = "n3"
    cell.processes[lost].kill()
    cell.processes[lost].wait()
    cell.processes[first].send_signal(signal.SIGSTOP)
    other = next(name for name in keepers if name != first)
    async with asyncio.timeout(PATIENCE):
        while await leader() != other:
            await asyncio.sleep(0.2)
    # Volumes of living owners are left and closed when they are healed; every slot is on a disk again.
    await until(lambda: all(slots == set(range(6)) for slots in cell.slots(lost).values()))
    cell.processes[first].send_signal(signal.SIGCONT)
    living = [name for name in nodes if name != lost]
    await cell.agree(living)
    cell.start("storage-node", lost, str(cell.root / lost / "disk"))
    await cell.ready([lost])
    link = cell.link(other, ServiceKind.REPLICATION)

    async def whole() -> bool:
        try:
            repair, _ = await replication_status(link, timeout=5.0)
        except DrystoneError:
            return False
        return not (repair.slots_pending or repair.waiting or repair.unasked or repair.hopeless)

    async with asyncio.timeout(PATIENCE):
        while not await whole():
            await asyncio.sleep(0.5)
    await cell.agree(nodes)
    assert await leader() == other
    for name in keepers:
        assert cell.processes[name].poll() is None

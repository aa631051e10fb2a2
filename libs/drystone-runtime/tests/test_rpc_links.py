# SPDX-License-Identifier: Apache-2.0
"""Links to several servers: calls are spread over those that say they serve, counted, and moved over when one goes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_core.errors import Refused, Unreachable
from drystone_core.identity import ServiceKind
from drystone_runtime.addresses import rpc_target, split_targets
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.rpc.channel import stream, unary, unary_again
from drystone_runtime.rpc.counters import BOUNDS, RpcCounters
from drystone_runtime.rpc.links import Dialer, Link
from drystone_runtime.rpc.retry import Retries
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_testing.certificates import TestCell
from drystone_testing.rpc_rig import Recorder, contract_methods

NODE, GATEWAY = ServiceKind.STORAGE_NODE, ServiceKind.GATEWAY
SERVICE = "drystone.storage.v1.StorageService"
METHODS = [method for method in contract_methods() if method.service == SERVICE]


class Cluster:
    """Storage nodes on the loopback with TLS, and a dialer of a gateway."""

    def __init__(self, root: Path) -> None:
        self.pki = TestCell(root / "pki")
        self.background = Background(clock=SystemClock())
        self.dial = Dialer(clock=SystemClock(), background=self.background, tls=self.pki.certificates(GATEWAY))
        self.answers: Counter[int] = Counter()
        self.servers: list[RpcServer] = []
        self.before: Callable[[], Any] | None = None

    async def add(self, port: int = 0) -> RpcServer:
        number = len(self.servers)

        async def count(method: str, context: Any) -> None:
            self.answers[number] += 1
            if self.before is not None:
                await self.before()

        server = RpcServer(
            services=Recorder(before=count).services(METHODS),
            settings=RpcServerSettings(address=f"127.0.0.1:{port}"),
            tls=self.pki.certificates(NODE, str(number)),
        )
        await server.start()
        await server.serving(True)
        self.servers.append(server)
        return server

    @property
    def targets(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    async def stop(self) -> None:
        await self.background.stop()
        for server in self.servers:
            await server.stop(0)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    await cluster.stop()


async def status(link: Link, *, retries: Retries | None = None) -> None:
    """One call."""
    method = storage_pb2_grpc.StorageServiceStub(link).GetStatus
    await unary_again(method, pb.GetStatusRequest(), timeout=20, retries=retries)


class Load:
    """Callers that go on until told otherwise; failures are kept."""

    def __init__(self, link: Link, retries: Retries | None = None) -> None:
        self.failures: list[Exception] = []
        self._link, self._retries, self._stopping = link, retries, False

    async def run(self) -> None:
        while not self._stopping:
            try:
                await status(self._link, retries=self._retries)
            except Exception as error:
                self.failures.append(error)
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stopping = True


async def wait_for(state: Callable[[], object]) -> None:
    """Generously."""
    async with asyncio.timeout(30):
        while not state():
            await asyncio.sleep(0.01)


async def test_calls_are_spread_over_those_that_serve_and_none_fails_when_one_drains(cluster: Cluster) -> None:
    """One says that it is not ready, comes back, drains and stops; the others take over each time."""
    first = await cluster.add()
    await cluster.add()
    await cluster.add()
    async with cluster.dial.open(cluster.targets, NODE, balance=True) as link, asyncio.TaskGroup() as tasks:
        load = Load(link)
        for _ in range(6):
            tasks.create_task(load.run())
        answers = cluster.answers
        await wait_for(lambda: all(answers[number] > 20 for number in range(3)))
        first.health.serve(False)
        await asyncio.sleep(0.3)
        answers.clear()
        await wait_for(lambda: answers[1] > 20 and answers[2] > 20)
        assert answers[0] == 0
        first.health.serve(True)
        await wait_for(lambda: answers[0] > 20)
        await cluster.servers[1].stop(10.0, notice=0.5)
        answers.clear()
        await wait_for(lambda: answers[0] > 20 and answers[2] > 20)
        assert answers[1] == 0
        load.stop()
    assert load.failures == []


async def test_a_killed_server_costs_calls_only_without_retries(cluster: Cluster) -> None:
    """Calls that were on it are carried out by another."""
    await cluster.add()
    await cluster.add()
    retries = Retries(clock=SystemClock(), entropy=SystemEntropy())
    async with cluster.dial.open(cluster.targets, NODE, balance=True) as link, asyncio.TaskGroup() as tasks:
        load = Load(link, retries)
        for _ in range(6):
            tasks.create_task(load.run())
        await wait_for(lambda: cluster.answers[0] > 20 and cluster.answers[1] > 20)
        cluster.before = lambda: asyncio.sleep(0.01)
        await cluster.servers[0].stop(0)
        cluster.answers.clear()
        await wait_for(lambda: cluster.answers[1] > 50)
        load.stop()
    assert load.failures == []


async def test_a_link_that_is_not_balanced_fails_over_and_reconnects(cluster: Cluster) -> None:
    """The first of its targets that answers; a server that comes back at its address is found again."""
    first, second = await cluster.add(), await cluster.add()
    async with cluster.dial.open(cluster.targets, NODE) as link:
        await status(link)
        await status(link)
        assert cluster.answers == {0: 2}
        await first.stop(0)
        retries = Retries(clock=SystemClock(), entropy=SystemEntropy())
        await status(link, retries=retries)
        assert cluster.answers[1] == 1
        await second.stop(0)
        with pytest.raises(Unreachable):
            await status(link)
        await cluster.add(first.port)
        await wait_for(lambda: link.get_state(True) is grpc.ChannelConnectivity.READY)
        await status(link)
        assert cluster.answers[2] == 1


async def test_a_name_means_all_its_addresses(cluster: Cluster) -> None:
    """`localhost` here, a headless service there: gRPC resolves it."""
    server = await cluster.add()
    async with cluster.dial.open(f"localhost:{server.port}", NODE, balance=True) as link:
        await status(link)
    assert cluster.answers == {0: 1}


async def test_calls_are_counted_on_both_sides(cluster: Cluster) -> None:
    """By method, status and duration; also those that fail, are refused or are cut off."""
    server = await cluster.add()
    dial = Dialer(
        clock=SystemClock(), background=cluster.background, tls=cluster.pki.certificates(ServiceKind.REPLICATION)
    )
    async with AsyncExitStack() as links:
        ours = await links.enter_async_context(cluster.dial.open(cluster.targets, NODE))
        other = await links.enter_async_context(dial.open(cluster.targets, NODE))
        for _ in range(3):
            await status(ours)
        stub = storage_pb2_grpc.StorageServiceStub(ours)
        assert [answer async for answer in stream(stub.Read, pb.ReadRequest(), timeout=10)] == [pb.ReadResponse()]
        with pytest.raises(Refused):
            await unary(storage_pb2_grpc.StorageServiceStub(other).Append, pb.AppendRequest(), timeout=10)
        cluster.before = lambda: asyncio.sleep(0.06)
        await status(ours)
        cluster.before = lambda: asyncio.sleep(60)
        begun = asyncio.ensure_future(status(ours))
        await wait_for(lambda: server.counters.of(f"/{SERVICE}/GetStatus").running == 1)
        begun.cancel()
        await wait_for(lambda: server.counters.of(f"/{SERVICE}/GetStatus").running == 0)
        await asyncio.sleep(0)
    seen = {one.method.rpartition("/")[2]: one for one in server.counters.figures()}
    assert seen["GetStatus"].codes == {"OK": 4, "CANCELLED": 1}
    assert seen["Read"].codes == {"OK": 1}
    assert seen["Append"].codes == {"PERMISSION_DENIED": 1}
    made = {one.method.rpartition("/")[2]: one for one in cluster.dial.counters.figures()}
    assert made["GetStatus"].codes == {"OK": 4, "CANCELLED": 1}
    assert made["Read"].codes == {"OK": 1}
    assert dial.counters.of(f"/{SERVICE}/Append").codes == {"PERMISSION_DENIED": 1}
    slow = BOUNDS.index(0.05)
    assert sum(seen["GetStatus"].buckets[slow + 1 :]) >= 1
    assert sum(seen["GetStatus"].buckets) == sum(seen["GetStatus"].codes.values())


def test_counting_is_cheap_and_every_duration_has_its_bucket() -> None:
    """Bounds belong to the bucket below them; what is longer than all goes into the last."""
    counter = RpcCounters().of("/a/b")
    for seconds in (0.0, *BOUNDS, 1e9):
        counter.begin()
        counter.end("OK", seconds)
    assert counter.buckets == [2, *[1] * (len(BOUNDS) - 1), 1]
    assert (counter.calls, counter.running) == (len(BOUNDS) + 2, 0)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("unix:/run/m.sock", []),
        ("127.0.0.1:9100", [("127.0.0.1", 9100)]),
        ("metadata.cell:9100", [("metadata.cell", 9100)]),
        ("dns:///metadata.cell:9100", [("metadata.cell", 9100)]),
        ("10.0.0.1:1, 10.0.0.2:2", [("10.0.0.1", 1), ("10.0.0.2", 2)]),
        ("[::1]:1,[fe80::2]:2", [("::1", 1), ("fe80::2", 2)]),
    ],
)
def test_targets_are_written_in_one_of_three_forms(text: str, addresses: list[tuple[str, int]]) -> None:
    """A path, a name or address, several addresses."""
    assert split_targets(rpc_target(text)) == addresses


@pytest.mark.parametrize("text", ["", "unix:relative", "metadata.cell", "a:1,b:2", "10.0.0.1:1,[::1]:2", "10.0.0.1:1,"])
def test_other_targets_are_refused_in_words(text: str) -> None:
    """Several names cannot be balanced over by gRPC."""
    with pytest.raises(ValueError, match=r"is not|several targets"):
        rpc_target(text)

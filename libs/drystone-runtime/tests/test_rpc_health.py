# SPDX-License-Identifier: Apache-2.0
"""Health says what is so: ready with its dependencies, alive without them, and not ready before it stops."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.health import LIVENESS, Health
from drystone_runtime.rpc.health_watch import follow
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_testing.rpc_rig import Recorder, contract_methods

SERVICE = "drystone.storage.v1.StorageService"
METHODS = [method for method in contract_methods() if method.service == SERVICE]
SERVING, NOT_SERVING, UNKNOWN = "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"


def named(answer: Any) -> str:
    """A status in words."""
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


class Served:
    """A server on a unix socket."""

    def __init__(self, path: Path, recorder: Recorder | None = None) -> None:
        self.target = f"unix:{path}"
        services = (recorder or Recorder()).services(METHODS)
        self.server = RpcServer(services=services, settings=RpcServerSettings(address=self.target))
        self.health = self.server.health
        self.channel = open_channel(self.target)

    async def states(self) -> dict[str, str]:
        """What it says of everything it knows."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        request: Any = health_pb2
        answer = await stub.List(request.HealthListRequest(), timeout=10)
        checked = {}
        for name, listed in answer.statuses.items():
            checked[name] = named(await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10))
            assert checked[name] == named(listed)
        return checked

    async def watch(self, name: str, seen: list[str]) -> None:
        """Until the server ends it."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            seen.append(named(answer))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "s.sock")
    await served.server.start()
    yield served
    await served.channel.close()
    await served.server.stop(0)


async def wait_for(state: Callable[[], object]) -> None:
    """Generously."""
    async with asyncio.timeout(20):
        while not state():
            await asyncio.sleep(0.01)


async def test_readiness_follows_dependencies_and_liveness_does_not(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Down until said to be up, one by one, each change logged once with its reasons."""
    caplog.set_level("INFO")
    ready = {"": SERVING, SERVICE: SERVING, LIVENESS: SERVING}
    not_ready = {"": NOT_SERVING, SERVICE: NOT_SERVING, LIVENESS: SERVING}
    assert await served.states() == not_ready
    disks, etcd = served.health.depend("disks"), served.health.depend("etcd")
    await served.server.serving(True)
    assert await served.states() == not_ready
    disks.up()
    assert served.health.reasons == ("etcd: not reached yet",)
    etcd.up()
    assert await served.states() == ready
    etcd.down("no lease")
    etcd.down("no lease")
    assert await served.states() == not_ready
    assert caplog.records[-1].__dict__["reasons"] == ["etcd: no lease"]
    etcd.up()
    assert await served.states() == ready
    events = [record.message for record in caplog.records]
    assert events[-3:] == ["health.ready", "health.not_ready", "health.ready"]


async def test_a_watcher_is_told_every_state_and_left_when_the_server_closes(served: Served) -> None:
    """For readiness, liveness, and a name nobody knows."""
    seen: dict[str, list[str]] = {"": [], LIVENESS: [], "nobody": []}
    tasks = [asyncio.create_task(served.watch(name, states)) for name, states in seen.items()]
    await wait_for(lambda: all(seen.values()))
    await served.server.serving(True)
    await wait_for(lambda: seen[""] == [NOT_SERVING, SERVING])
    dependency = served.health.depend("disks")
    await wait_for(lambda: len(seen[""]) == 3)
    dependency.up()
    await wait_for(lambda: len(seen[""]) == 4)
    await served.server.stop(30.0)
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert seen == {"": [NOT_SERVING, SERVING] * 2 + [NOT_SERVING], LIVENESS: [SERVING], "nobody": [UNKNOWN]}


async def test_an_unknown_name_is_not_found(served: Served) -> None:
    """As the protocol says."""
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_drain_says_not_ready_first_and_lets_calls_end(tmp_path: Path) -> None:
    """While it gives notice calls are still taken; the one in progress ends by itself; then nothing is taken any more."""
    going_on, begun = asyncio.Event(), asyncio.Event()

    async def slowly(method: str, context: Any) -> None:
        begun.set()
        await going_on.wait()

    recorder = Recorder(before=slowly)
    served = Served(tmp_path / "s.sock", recorder)
    await served.server.start()
    await served.server.serving(True)
    seen: list[str] = []
    watching = asyncio.create_task(served.watch("", seen))
    stub = storage_pb2_grpc.StorageServiceStub(served.channel)
    call = asyncio.ensure_future(stub.GetStatus(pb.GetStatusRequest(), timeout=30))
    await begun.wait()
    stopping = asyncio.create_task(served.server.stop(30.0, notice=1.0))
    await wait_for(lambda: seen[-1:] == [NOT_SERVING])
    assert await served.states() == {"": NOT_SERVING, SERVICE: NOT_SERVING, LIVENESS: SERVING}
    late = asyncio.ensure_future(stub.GetStatus(pb.GetStatusRequest(), timeout=30))
    await wait_for(lambda: len(recorder.reached) == 2)
    await watching
    assert not stopping.done()
    going_on.set()
    await asyncio.gather(call, late)
    async with asyncio.timeout(10):
        await stopping
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.GetStatus(pb.GetStatusRequest(), timeout=5)
    await served.channel.close()


async def test_a_watch_is_begun_anew_without_a_moment_of_not_ready(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On whatever connection is in use then."""
    monkeypatch.setattr("drystone_runtime.rpc.health_watch.WATCH_SECONDS", 0.1)
    await served.server.serving(True)
    background, health = Background(clock=SystemClock()), Health()
    dependency = health.depend("storage-node")
    health.serve(True)
    background.keep("watch", lambda: follow(served.channel, dependency, clock=SystemClock()))
    watches = served.server.counters.of("/grpc.health.v1.Health/Watch")
    await wait_for(lambda: watches.calls >= 3 and health.ready)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
    await background.stop()


async def test_one_service_is_ready_while_the_one_it_needs_says_so(tmp_path: Path) -> None:
    """It follows the other's health over gRPC: away, not ready, ready, stopped, back again."""
    clock = SystemClock()
    background, health = Background(clock=clock), Health()
    health.serve(True)
    path = tmp_path / "needed.sock"
    channel = open_channel(f"unix:{path}")
    dependency = health.depend("storage-node")
    background.keep("watch", lambda: follow(channel, dependency, clock=clock))
    await wait_for(lambda: dependency.reason not in ("", "not reached yet"))
    for _ in range(2):
        needed = Served(path)
        await needed.server.start()
        await wait_for(lambda: dependency.reason == "it says that it is not ready")
        await needed.server.serving(True)
        await wait_for(lambda: health.ready)
        await needed.channel.close()
        await needed.server.stop(0)
        await wait_for(lambda: not health.ready)
    await background.stop()
    await channel.close()

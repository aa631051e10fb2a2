# SPDX-License-Identifier: Apache-2.0
"""Live servers and clients with real certificates: who gets a connection, and how certificates change under way."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_core.errors import DrystoneError, ErrorCode, Unreachable
from drystone_core.identity import ServiceKind, server_name
from drystone_runtime.authority import DAY
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import open_channel, unary
from drystone_runtime.rpc.links import Dialer, Link
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_runtime.rpc.tls import Certificates, TlsFiles
from drystone_testing.certificates import TestCell
from drystone_testing.rpc_rig import Recorder, contract_methods

NODE, GATEWAY = ServiceKind.STORAGE_NODE, ServiceKind.GATEWAY
STATUS = "/drystone.storage.v1.StorageService/GetStatus"
METHODS = [method for method in contract_methods() if method.service == "drystone.storage.v1.StorageService"]


@pytest.fixture
def cell(tmp_path: Path) -> TestCell:
    return TestCell(tmp_path / "pki")


@asynccontextmanager
async def node(certificates: Certificates, recorder: Recorder | None = None) -> AsyncIterator[RpcServer]:
    """A storage node whose handlers answer nothing in particular."""
    services = (recorder or Recorder()).services(METHODS)
    server = RpcServer(services=services, settings=RpcServerSettings(address="127.0.0.1:0"), tls=certificates)
    await server.start()
    await server.serving(True)
    try:
        yield server
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def dialling(certificates: Certificates) -> AsyncIterator[Dialer]:
    """The client's side of a process."""
    background = Background(clock=SystemClock())
    try:
        yield Dialer(clock=SystemClock(), background=background, tls=certificates)
    finally:
        await background.stop()


async def status(channel: grpc.aio.Channel) -> None:
    """One call."""
    await unary(storage_pb2_grpc.StorageServiceStub(channel).GetStatus, pb.GetStatusRequest(), timeout=10)


async def call_once(certificates: Certificates, target: str, kind: ServiceKind = NODE) -> None:
    """One call over a link of its own."""
    async with dialling(certificates) as dial, dial.open(target, kind) as link:
        await status(link)


async def test_services_of_one_cell_call_one_another(cell: TestCell) -> None:
    """Both sides prove who they are; the address does not matter."""
    recorder = Recorder()
    async with node(cell.certificates(NODE), recorder) as server:
        for target in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", f"dns:///localhost:{server.port}"):
            await call_once(cell.certificates(GATEWAY), target.removeprefix("dns:///"))
    assert recorder.reached == [STATUS] * 3


async def test_a_client_refuses_a_server_of_another_kind_or_cell(
    cell: TestCell, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the same authority vouches for it; the handler never runs and the log says where it failed."""
    recorder = Recorder()
    other = TestCell(tmp_path / "other", "other-cell", authority=cell.authority)
    async with node(cell.certificates(NODE), recorder) as server:
        target = f"127.0.0.1:{server.port}"
        for certificates, kind in (
            (cell.certificates(GATEWAY), ServiceKind.METADATA),
            (other.certificates(GATEWAY), NODE),
        ):
            with pytest.raises(Unreachable):
                await call_once(certificates, target, kind)
    assert recorder.reached == []
    assert [r.__dict__["target"] for r in caplog.records if r.message == "rpc.handshake_failed"] == [target, target]


def raw_credentials(files: TlsFiles, *, ca: str | None = None) -> grpc.ChannelCredentials:
    """A client that does not look at what it shows."""
    return grpc.ssl_channel_credentials(
        Path(ca or files.ca).read_bytes(), Path(files.key).read_bytes(), Path(files.cert).read_bytes()
    )


async def knock(server: RpcServer, credentials: grpc.ChannelCredentials | None) -> tuple[grpc.StatusCode, str]:
    """What a stranger's call meets."""
    target = f"127.0.0.1:{server.port}"
    options = [("grpc.ssl_target_name_override", server_name("cell", NODE))]
    opened = (
        grpc.aio.secure_channel(target, credentials, options=options)
        if credentials
        else grpc.aio.insecure_channel(target)
    )
    async with opened as channel:
        try:
            await channel.unary_unary(STATUS)(b"", timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_whoever_shows_no_good_certificate_gets_no_connection(cell: TestCell, tmp_path: Path) -> None:
    """None, expired, not valid yet, of a foreign authority, plaintext: refused before any call."""
    recorder = Recorder()
    uri, name = "spiffe://cell/gateway/0", server_name("cell", GATEWAY)
    foreign = TestCell(tmp_path / "foreign").files(GATEWAY)
    strangers = {
        "no certificate": grpc.ssl_channel_credentials(cell.ca.read_bytes()),
        "expired": raw_credentials(cell.files_with((uri,), (name,), begins=-2 * DAY, ends=-DAY)),
        "not valid yet": raw_credentials(cell.files_with((uri,), (name,), begins=DAY, ends=2 * DAY)),
        "foreign authority": raw_credentials(foreign, ca=str(cell.ca)),
        "plaintext": None,
    }
    async with node(cell.certificates(NODE), recorder) as server:
        for who, credentials in strangers.items():
            assert (await knock(server, credentials))[0] is grpc.StatusCode.UNAVAILABLE, who
        assert await knock(server, raw_credentials(cell.files(GATEWAY))) == (grpc.StatusCode.OK, "")
    assert recorder.reached == [STATUS]


async def test_whoever_has_a_certificate_and_no_identity_gets_no_answer(
    cell: TestCell, caplog: pytest.LogCaptureFixture
) -> None:
    """Without SAN, with two, of a foreign cell, of no known kind: one sentence to the caller, the same in the log, seldom."""
    recorder = Recorder()
    nobody: dict[str, tuple[tuple[str, ...], str]] = {
        "without names": ((), "names no identities"),
        "two": (("spiffe://cell/gateway/0", "spiffe://cell/gateway/1"), "names 2 identities"),
        "foreign cell": (("spiffe://other/gateway/0",), "is of another cell"),
        "no kind": (("spiffe://cell/owner/0",), "not a kind of service"),
        "web": (("https://cell/gateway/0",), "is not spiffe://"),
    }
    async with node(cell.certificates(NODE), recorder) as server:
        for who, (uris, expected) in nobody.items():
            for _ in range(3):
                code, said = await knock(server, raw_credentials(cell.files_with(uris, ())))
                assert code is grpc.StatusCode.UNAUTHENTICATED, who
                assert expected in said, who
        code, said = await knock(server, raw_credentials(cell.files(ServiceKind.LIFECYCLE)))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert f"spiffe://cell/lifecycle/0 may not call {STATUS}" in said
    assert recorder.reached == []
    reasons = [record.__dict__["reason"] for record in caplog.records if record.message == "rpc.caller_refused"]
    assert len(reasons) == len(set(reasons)) == len(nobody) + 1


async def test_a_certificate_that_expires_ends_the_calls_of_an_open_connection(cell: TestCell) -> None:
    """The handshake was good; the validity is judged at every call all the same."""
    recorder = Recorder()
    files = cell.files_with(("spiffe://cell/gateway/0",), (server_name("cell", GATEWAY),), ends=2)
    async with node(cell.certificates(NODE), recorder) as server:
        options = [("grpc.ssl_target_name_override", server_name("cell", NODE))]
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.secure_channel(target, raw_credentials(files), options=options) as channel:
            await status(channel)
            await asyncio.sleep(3.2)
            with pytest.raises(DrystoneError) as caught:
                await status(channel)
    assert caught.value.code is ErrorCode.PEER_UNKNOWN
    assert caught.value.message == "the certificate of spiffe://cell/gateway/0 has expired"
    assert recorder.reached == [STATUS]


async def test_renewing_every_certificate_fails_no_call(cell: TestCell) -> None:
    """Under load: first both authorities are known, then each side shows new certificates, then the old authority goes.

    The connections at the end are made under the new authority alone.
    """
    server_tls, client_tls = cell.certificates(NODE), cell.certificates(GATEWAY)
    failures: list[Exception] = []
    made = 0
    stopping = False

    async def load(link: Link) -> None:
        nonlocal made
        while not stopping:
            try:
                await status(link)
                made += 1
            except Exception as error:
                failures.append(error)

    async def let_run() -> None:
        until = made + 50
        while made < until and not failures:
            await asyncio.sleep(0.01)

    fresh = TestCell(cell.root / "fresh")
    old_ca = cell.ca.read_bytes()
    async with node(server_tls) as server, dialling(client_tls) as dial:
        target = f"127.0.0.1:{server.port}"
        async with dial.open(target, NODE) as link, asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(load(link))
            await let_run()
            first = link.current
            cell.ca.write_bytes(old_ca + fresh.ca.read_bytes())
            assert await server_tls.reload()
            assert await client_tls.reload()
            await let_run()
            now = int(time.time())
            cell.put(fresh.authority.issue(server_tls.identity, now=now, days=1), "storage-node-0")
            assert await server_tls.reload()
            await let_run()
            cell.put(fresh.authority.issue(client_tls.identity, now=now, days=1), "gateway-0")
            assert await client_tls.reload()
            await until(lambda: asyncio.sleep(0, link.current is not first and not link._old and not link._renewing))
            cell.ca.write_bytes(fresh.ca.read_bytes())
            assert await server_tls.reload()
            assert await client_tls.reload()
            await let_run()
            stopping = True
        assert failures == []
        await call_once(client_tls, target)
        old = TestCell(cell.root / "again", authority=cell.authority).files(GATEWAY)
        assert (await knock(server, raw_credentials(old, ca=str(cell.ca))))[0] is grpc.StatusCode.UNAVAILABLE


async def until(state: Callable[[], Awaitable[Any]]) -> None:
    """Wait for it, generously."""
    async with asyncio.timeout(30):
        while not await state():
            await asyncio.sleep(0.02)


async def test_a_process_stops_at_once_though_a_call_goes_on_under_its_old_certificate(cell: TestCell) -> None:
    """A stream begun before the renewal is cancelled, its channel closed with the link."""
    begun = asyncio.Event()

    async def wait(method: str, context: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    client_tls = cell.certificates(GATEWAY)
    background = Background(clock=SystemClock())
    dial = Dialer(clock=SystemClock(), background=background, tls=client_tls)
    async with node(cell.certificates(NODE), Recorder(before=wait)) as server:
        link = dial.open(f"127.0.0.1:{server.port}", NODE)
        call = background.once("call", status(link))
        await begun.wait()
        first = link.current
        cell.files(GATEWAY)
        assert await client_tls.reload()
        await until(lambda: asyncio.sleep(0, link.current is not first))
        assert link._old == {first}
        async with asyncio.timeout(5):
            await background.stop()
            await link.close()
        assert call.cancelled()


async def test_a_link_keeps_the_old_certificate_while_the_new_one_is_not_accepted(
    cell: TestCell, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is renewed before the servers know its new authority: calls go on, and move over when they do."""
    monkeypatch.setattr("drystone_runtime.rpc.links.READY_SECONDS", 0.3)
    caplog.set_level(logging.INFO)
    server_tls = cell.certificates(NODE)
    theirs = TestCell(cell.root / "theirs", authority=cell.authority)
    fresh = TestCell(cell.root / "fresh")
    client_tls = theirs.certificates(GATEWAY)
    async with node(server_tls) as server, dialling(client_tls) as dial:
        async with dial.open(f"127.0.0.1:{server.port}", NODE) as link:
            await status(link)
            first = link.current
            theirs.ca.write_bytes(theirs.ca.read_bytes() + fresh.ca.read_bytes())
            theirs.put(fresh.authority.issue(client_tls.identity, now=int(time.time()), days=1), "gateway-0")
            assert await client_tls.reload()
            await until(lambda: asyncio.sleep(0, "rpc.link_keeps_old_certificate" in caplog.text))
            await status(link)
            assert link.current is first
            cell.ca.write_bytes(cell.ca.read_bytes() + fresh.ca.read_bytes())
            assert await server_tls.reload()
            await until(lambda: asyncio.sleep(0, link.current is not first))
            await status(link)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "[::]:0", "10.1.2.3:9200", "node.example:9200", "127.0.0.1:0", "[::1]:0"]
)
def test_nobody_listens_or_calls_without_tls(address: str) -> None:
    """Unix sockets apart, and the loopback only when a setting says so."""
    with pytest.raises(ValueError, match=r"set rpc\.tls_ca"):
        RpcServer(services=(), settings=RpcServerSettings(address=address))
    dial = Dialer(clock=SystemClock(), background=Background(clock=SystemClock()), tls=None)
    with pytest.raises(ValueError, match="called over TLS"):
        dial.open(address, NODE)
    with pytest.raises(ValueError, match="only unix sockets"):
        open_channel(address)
    local = address.startswith(("127.", "[::1]"))
    allowed = RpcServerSettings(address=address, plaintext_loopback=True)
    if local:
        RpcServer(services=(), settings=allowed)
    else:
        with pytest.raises(ValueError, match="others can reach it"):
            RpcServer(services=(), settings=allowed)

# SPDX-License-Identifier: Apache-2.0
"""Every method of every contract, called by everybody there is: what is not allowed is refused before its handler runs.

The methods come from the descriptors: one that is added to a contract without a row in permissions.py fails here.
"""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from drystone_core.identity import ServiceKind, server_name
from drystone_runtime.authority import DAY
from drystone_runtime.rpc.health import LIVENESS
from drystone_runtime.rpc.permissions import ANYONE, OWNER, PERMISSIONS
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_testing.certificates import TestCell
from drystone_testing.rpc_rig import Recorder, RpcMethod, any_message, borrowed_methods, contract_methods
from drystone_testing.sim_world import SeededEntropy

OK, DENIED, UNKNOWN, AWAY = (
    grpc.StatusCode.OK,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE,
)
CONTRACTS, BORROWED = contract_methods(), borrowed_methods()
MUST_BE_CLOSED = {
    "/drystone.metadata.v1.MetadataService/Mutate": {"gateway"},
    "/drystone.metadata.v1.PeerService/TakeSteps": {"metadata"},
    "/drystone.storage.v1.UpkeepService/RetireVolume": {"lifecycle"},
    "/drystone.storage.v1.UpkeepService/FreeStripes": {"lifecycle"},
    "/drystone.admin.v1.AdminService/InspectObject": {"admin"},
    "/drystone.admin.v1.AdminService/ApplyLayout": {"admin"},
}
"""Written here a second time, so that a slip in the table shows."""


class Cell:
    """A server of all methods on TLS, one on a unix socket, and everybody who may call."""

    def __init__(self, root: Path) -> None:
        self.pki = TestCell(root / "pki")
        self.recorder = Recorder()
        self.socket = f"unix:{root}/s.sock"
        services = self.recorder.services(CONTRACTS)
        tls = self.pki.certificates(ServiceKind.STORAGE_NODE)
        self.server = RpcServer(services=services, settings=RpcServerSettings(address="127.0.0.1:0"), tls=tls)
        self.local = RpcServer(
            services=self.recorder.services(CONTRACTS), settings=RpcServerSettings(address=self.socket)
        )

    async def start(self) -> None:
        for server in (self.server, self.local):
            await server.start()
            await server.serving(True)

    async def stop(self) -> None:
        for server in (self.server, self.local):
            await server.stop(0)

    def callers(self) -> Mapping[str, grpc.ChannelCredentials | None]:
        """By what they are; None = plaintext."""
        pki, name = self.pki, server_name("cell", ServiceKind.GATEWAY)
        uri = "spiffe://cell/gateway/0"
        files = {kind.value: pki.files(kind, "caller") for kind in ServiceKind}
        files["foreign cell"] = pki.files_with(("spiffe://other/gateway/0",), (name,))
        files["without identity"] = pki.files_with((), (name,))
        files["expired"] = pki.files_with((uri,), (name,), begins=-2 * DAY, ends=-DAY)
        files["foreign authority"] = TestCell(pki.root / "foreign").files(ServiceKind.GATEWAY)
        found: dict[str, grpc.ChannelCredentials | None] = {
            who: grpc.ssl_channel_credentials(
                pki.ca.read_bytes(), Path(each.key).read_bytes(), Path(each.cert).read_bytes()
            )
            for who, each in files.items()
        }
        found["no certificate"] = grpc.ssl_channel_credentials(pki.ca.read_bytes())
        found["plaintext"] = None
        return found

    def channel(self, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        target = f"127.0.0.1:{self.server.port}"
        options: list[tuple[str, Any]] = [
            ("grpc.ssl_target_name_override", server_name("cell", ServiceKind.STORAGE_NODE)),
            ("grpc.min_reconnect_backoff_ms", 1),
            ("grpc.initial_reconnect_backoff_ms", 1),
            ("grpc.max_reconnect_backoff_ms", 1),
        ]
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, credentials, options=options)


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    cell = Cell(tmp_path)
    await cell.start()
    yield cell
    await cell.stop()


async def outcome(channel: grpc.aio.Channel, method: RpcMethod, request: Any) -> grpc.StatusCode:
    """How one call ends."""
    try:
        await method.call(channel, request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


def test_the_table_names_exactly_the_methods_there_are() -> None:
    """A method without a row, and a row without a method."""
    assert sorted(PERMISSIONS) == sorted(method.path for method in [*CONTRACTS, *BORROWED])
    assert len(CONTRACTS) > 20


def test_only_health_is_open_to_anyone_and_no_caller_is_unknown() -> None:
    """Everything else names kinds of services, and the owner of a unix socket."""
    for path, callers in PERMISSIONS.items():
        assert (ANYONE in callers) == path.startswith("/grpc.health.v1.Health/"), path
        assert callers <= {*ServiceKind, OWNER, ANYONE}
    for path, expected in MUST_BE_CLOSED.items():
        assert PERMISSIONS[path] - {OWNER} == expected


async def test_every_method_refuses_everybody_who_has_no_business_there(cell: Cell) -> None:
    """Empty and filled requests; an allowed call reaches its handler, a refused one never does."""
    entropy = SeededEntropy(4)
    refused = 0
    for who, credentials in cell.callers().items():
        async with cell.channel(credentials) as channel:
            for method in CONTRACTS:
                for request in (method.request(), any_message(method.request, entropy)):
                    cell.recorder.reached.clear()
                    got = await outcome(channel, method, request)
                    if who in PERMISSIONS[method.path]:
                        assert (got, cell.recorder.reached) == (OK, [method.path]), (who, method)
                        continue
                    expected = UNKNOWN if who in ("foreign cell", "without identity") else AWAY
                    if who in list(ServiceKind):
                        expected = DENIED
                    assert (got, cell.recorder.reached) == (expected, []), (who, method)
                    refused += 1
    assert refused > 300


async def test_health_answers_whoever_completed_the_handshake_and_reflection_only_the_cell(cell: Cell) -> None:
    """gRPC's own services stand behind the same border."""
    health, reflection = BORROWED[0], BORROWED[-1]
    assert (health.name, reflection.name) == ("Check", "ServerReflectionInfo")
    for who, credentials in cell.callers().items():
        async with cell.channel(credentials) as channel:
            got = (
                await outcome(channel, health, health.request(service=LIVENESS)),
                await outcome(channel, reflection, reflection.request(list_services="")),
            )
        if who in list(ServiceKind):
            assert got == (OK, OK), who
        elif who in ("foreign cell", "without identity"):
            assert got == (OK, UNKNOWN), who
        else:
            assert got == (AWAY, AWAY), who


async def test_whoever_opened_the_unix_socket_may_call_what_stands_in_the_table(cell: Cell) -> None:
    """The file's mode let him in: it is his own."""
    assert os.stat(cell.socket.removeprefix("unix:")).st_mode & 0o777 == 0o600
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(cell.socket, options=options) as channel:
        for method in CONTRACTS:
            assert await outcome(channel, method, method.request()) is OK, method
    assert len(cell.recorder.reached) == len(CONTRACTS)


async def test_a_method_without_a_row_is_refused_to_everybody(tmp_path: Path) -> None:
    """Also to the owner of the socket, and though its handler is registered."""
    recorder = Recorder()
    stray = RpcMethod(
        service="drystone.stray.v1.StrayService",
        name="DeleteEverything",
        request=CONTRACTS[0].request,
        answer=CONTRACTS[0].answer,
        streams_requests=False,
        streams_answers=False,
    )
    pki = TestCell(tmp_path / "pki")
    tls = pki.certificates(ServiceKind.STORAGE_NODE)
    for address, certificates in ((f"unix:{tmp_path}/s.sock", None), ("127.0.0.1:0", tls)):
        server = RpcServer(
            services=recorder.services([stray]), settings=RpcServerSettings(address=address), tls=certificates
        )
        await server.start()
        target = address if certificates is None else f"127.0.0.1:{server.port}"
        options = [("grpc.default_authority", "localhost")]
        if certificates is not None:
            options = [("grpc.ssl_target_name_override", certificates.identity.server_name)]
            opened = grpc.aio.secure_channel(
                target, pki.certificates(ServiceKind.ADMIN).channel_credentials(), options=options
            )
        else:
            opened = grpc.aio.insecure_channel(target, options=options)
        async with opened as channel:
            assert await outcome(channel, stray, b"") is DENIED
        await server.stop(0)
    assert recorder.reached == []


async def test_rubbish_is_refused_before_a_handler_and_judged_after_its_sender(cell: Cell) -> None:
    """Whoever may call is told that his message is wrong; whoever may not is told only that."""
    rubbish = b"\xff" * 64
    callers = cell.callers()
    async with cell.channel(callers["gateway"]) as allowed, cell.channel(callers["admin"]) as other:
        for method in CONTRACTS:
            may = "gateway" in PERMISSIONS[method.path]
            expected = grpc.StatusCode.INVALID_ARGUMENT if may else DENIED
            assert await outcome(allowed, method, rubbish) is expected, method
            may = "admin" in PERMISSIONS[method.path]
            expected = grpc.StatusCode.INVALID_ARGUMENT if may else DENIED
            assert await outcome(other, method, rubbish) is expected, method
    assert cell.recorder.reached == []

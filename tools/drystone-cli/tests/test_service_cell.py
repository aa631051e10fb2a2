# SPDX-License-Identifier: Apache-2.0
"""A cell of service processes on TCP: made with `drystone certs init`, started with the verbs, authenticated both ways."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drystone.lifecycle.v1 import lifecycle_pb2, lifecycle_pb2_grpc
from drystone.storage.v1 import storage_pb2, storage_pb2_grpc

DRYSTONE = (sys.executable, "-m", "drystone_cli")
KINDS = ("metadata", "storage-node", "lifecycle", "replication")
SERVING = health_pb2.HealthCheckResponse.SERVING


def drystone(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    command = [*DRYSTONE, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **(environment or {})}
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cell's certificates."""
    folder = tmp_path_factory.mktemp("cell") / "pki"
    services = [part for kind in (*KINDS, "gateway") for part in ("--service", kind)]
    done = drystone("certs", "init", folder, "--cell", "test", *services, "--json")
    assert done.returncode == 0, done.stderr
    return folder


def tls(pki: Path, kind: str) -> dict[str, str]:
    """The settings of one service, as environment."""
    return {
        "DRYSTONE_RPC_TLS_CA": str(pki / "ca.crt"),
        "DRYSTONE_RPC_TLS_CERT": str(pki / f"{kind}-0.crt"),
        "DRYSTONE_RPC_TLS_KEY": str(pki / f"{kind}-0.key"),
    }


class Cell:
    """The processes, and channels to them with anybody's certificate."""

    def __init__(self, root: Path, pki: Path) -> None:
        self.root, self.pki = root, pki
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.addresses: dict[str, str] = {}

    def start(self, kind: str, *arguments: str) -> None:
        with (self.root / f"{kind}.log").open("ab") as log:
            process = subprocess.Popen(
                [*DRYSTONE, kind, "--listen", self.addresses.get(kind, "127.0.0.1:0"), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **tls(self.pki, kind)},
            )
        self.processes[kind] = process
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("ready "), (self.root / f"{kind}.log").read_text()
        self.addresses[kind] = said.split()[1]

    def start_all(self) -> None:
        self.start("storage-node", *(f"{self.root}/d{i}" for i in range(3)))
        self.start("metadata", "--cluster-id", "0" * 31 + "1", "--create", f"{self.root}/m0", f"{self.root}/m1")
        node, metadata = self.addresses["storage-node"], self.addresses["metadata"]
        self.start("lifecycle", "--storage-node", node, "--metadata", metadata)
        self.start("replication", "--storage-node", node)

    def channel(self, kind: str, caller: str) -> grpc.Channel:
        files = [(self.pki / name).read_bytes() for name in ("ca.crt", f"{caller}-0.key", f"{caller}-0.crt")]
        options = [("grpc.ssl_target_name_override", f"{kind}.test.drystone.internal")]
        return grpc.secure_channel(self.addresses[kind], grpc.ssl_channel_credentials(*files), options=options)

    def ready(self, kind: str, service: str = "") -> bool:
        with self.channel(kind, "gateway") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            return bool(answer.status == SERVING)

    def wait_ready(self, kind: str, *, ready: bool = True) -> None:
        until = time.monotonic() + 40
        while self.ready(kind) is not ready:
            assert time.monotonic() < until, (self.root / f"{kind}.log").read_text()
            time.sleep(0.05)

    def log(self, kind: str) -> list[dict[str, Any]]:
        text = (self.root / f"{kind}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def cell(tmp_path: Path, pki: Path) -> Iterator[Cell]:
    cell = Cell(tmp_path, pki)
    yield cell
    cell.stop()


def test_a_cell_of_services_serves_follows_its_dependencies_and_renews(cell: Cell) -> None:
    """Ready when all is there; refuses callers without business; not ready while the node is away; drained at the end."""
    cell.start_all()
    for kind in KINDS:
        cell.wait_ready(kind)

    with cell.channel("storage-node", "gateway") as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        assert len(stub.GetStatus(storage_pb2.GetStatusRequest(), timeout=10).disks) == 3
    with cell.channel("storage-node", "lifecycle") as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Append(storage_pb2.AppendRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    refusals = [line for line in cell.log("storage-node") if line["event"] == "rpc.caller_refused"]
    assert "spiffe://test/lifecycle/0 may not call" in refusals[0]["reason"]
    with cell.channel("lifecycle", "gateway") as channel:
        status = lifecycle_pb2_grpc.LifecycleServiceStub(channel)
        until = time.monotonic() + 30
        while not (said := status.GetStatus(lifecycle_pb2.GetStatusRequest(), timeout=10)).passes:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert said.failures == 0, "reclaim reaches metadata and the node with its own identity"

    node = cell.processes["storage-node"]
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0
    for kind in ("lifecycle", "replication"):
        cell.wait_ready(kind, ready=False)
        assert cell.ready(kind, "liveness")
    assert cell.ready("metadata")

    services = [part for kind in KINDS for part in ("--service", kind)]
    assert drystone("certs", "init", cell.pki, "--cell", "test", *services, "--renew").returncode == 0
    for kind in ("lifecycle", "replication"):
        cell.processes[kind].send_signal(signal.SIGHUP)
    cell.start("storage-node", *(f"{cell.root}/d{i}" for i in range(3)))
    for kind in KINDS:
        cell.wait_ready(kind)
    assert any(line["event"] == "rpc.certificates_reloaded" for line in cell.log("lifecycle"))

    for kind in KINDS:
        cell.processes[kind].send_signal(signal.SIGTERM)
    assert {kind: process.wait(30) for kind, process in cell.processes.items()} == dict.fromkeys(KINDS, 0)
    for kind in KINDS:
        assert cell.log(kind)[-1]["event"] == "service.stopped"


def test_strangers_are_logged_with_the_reason_and_cannot_fill_the_log(cell: Cell, pki: Path) -> None:
    """Many knocks at the TLS port, two reasons, two lines; all lines are ours; nothing of the process is left at its end."""
    cell.start("storage-node", *(f"{cell.root}/d{i}" for i in range(2)))
    process, address = cell.processes["storage-node"], cell.addresses["storage-node"]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1, "the carrier"
    options = [("grpc.ssl_target_name_override", "storage-node.test.drystone.internal")]
    credentials = grpc.ssl_channel_credentials((pki / "ca.crt").read_bytes())
    for opened in (
        *(grpc.secure_channel(address, credentials, options=[*options, ("knock", i)]) for i in range(20)),
        *(grpc.insecure_channel(address, options=[("knock", i)]) for i in range(20)),
    ):
        with opened as channel, pytest.raises(grpc.RpcError):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)

    def refused() -> dict[str, int]:
        lines = [line for line in cell.log("storage-node") if line["event"] == "rpc.handshake_refused"]
        return {line["reason"].partition(":")[0]: lines.count(line) for line in lines}

    until = time.monotonic() + 20
    while len(refused()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert set(refused()) == {"PEER_DID_NOT_RETURN_A_CERTIFICATE", "WRONG_VERSION_NUMBER"}
    assert len(cell.log("storage-node")) < 20
    process.kill()
    process.wait()
    while Path(f"/proc/{children[0]}").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    text = (cell.root / "storage-node.log").read_text()
    assert all(line.startswith("{") for line in text.splitlines()), text


def test_every_problem_is_said_at_once_before_anything_starts(tmp_path: Path, pki: Path) -> None:
    """Configuration, addresses and certificates; nothing is created."""
    disks = tmp_path / "d0"
    done = drystone(
        "storage-node", "--listen", "0.0.0.0:0", disks, environment={"DRYSTONE_STORAGE_VOLUME_SIZE": "1KiB"}
    )
    assert done.returncode == 2
    assert "DRYSTONE_STORAGE_VOLUME_SIZE: at least 64MiB" in done.stderr
    assert "others can reach it, so services must prove who they are" in done.stderr
    done = drystone("lifecycle", "--storage-node", "10.0.0.1:9200")
    assert done.returncode == 2
    for expected in ("127.0.0.1:9300: without TLS", "10.0.0.1:9200: other hosts", "127.0.0.1:9100: other hosts"):
        assert expected in done.stderr, expected
    wrong = {**tls(pki, "gateway"), "DRYSTONE_RPC_TLS_CA": str(pki / "gateway-0.key")}
    done = drystone("storage-node", disks, environment=wrong)
    assert done.returncode == 2
    assert "is the certificate of spiffe://test/gateway/0; this process is a storage-node" in done.stderr
    assert "holds no PEM certificate" in done.stderr
    half = {"DRYSTONE_RPC_TLS_CA": str(pki / "ca.crt"), "DRYSTONE_STORAGE_SCRUB_RATE": "1"}
    done = drystone("storage-node", disks, environment=half)
    assert "tls_ca, tls_cert and tls_key go together" in done.stderr
    assert "DRYSTONE_STORAGE_SCRUB_RATE: at least 1MiB" in done.stderr
    assert not disks.exists()


def test_plaintext_on_the_loopback_needs_to_be_asked_for(tmp_path: Path) -> None:
    """Then everybody on this machine may call, and the log is read by people who should know."""
    process = subprocess.Popen(
        [*DRYSTONE, "storage-node", "--listen", "127.0.0.1:0", *(f"{tmp_path}/d{i}" for i in range(2))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "DRYSTONE_RPC_PLAINTEXT_LOOPBACK": "true"},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        with grpc.insecure_channel(address) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            assert len(stub.GetStatus(storage_pb2.GetStatusRequest(), timeout=10).disks) == 2
    finally:
        process.kill()
        process.wait()


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, pki: Path) -> None:
    """Exit code 1: what was asked is right, and cannot be done."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = drystone(
            "storage-node", "--listen", address, tmp_path / "d0", tmp_path / "d1", environment=tls(pki, "storage-node")
        )
    assert done.returncode == 1
    assert f"drystone storage-node: cannot listen on {address}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_verb_explains_itself(kind: str) -> None:
    """As a verb and in the list of verbs."""
    done = drystone(kind, "--help")
    assert done.returncode == 0
    for expected in (
        f"usage: drystone {kind}",
        "--listen",
        "--tls-ca",
        "--tls-cert",
        "--tls-key",
        "--config",
        "Exit codes",
    ):
        assert expected in done.stdout, expected
    assert kind in drystone("--help").stdout

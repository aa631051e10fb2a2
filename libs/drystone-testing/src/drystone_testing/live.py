# SPDX-License-Identifier: Apache-2.0
"""A real `drystone serve` for tests: started on a free port, found again by its environment, killed, stopped, restarted.

Its processes carry DRYSTONE_TEST_RUN=<id>, which children inherit, so that a test can kill one at random and can prove
that none is left.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ACCESS_KEY = "DRYSTONETESTKEY00001"
SECRET_KEY = "not-a-secret-but-forty-characters-long-0"


def free_port() -> int:
    """A TCP port of the loopback nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def drystone_command() -> list[str]:
    """How the command under test is run: the installed script beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("drystone")
    return [str(script)] if script.exists() else [sys.executable, "-m", "drystone_cli"]


def make_certificate(folder: Path, name: str) -> None:
    """cert.pem and key.pem for the loopback address, new each time."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split()
    names = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [*command, f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *names], check=True, capture_output=True
    )


class LiveStore:
    """One standalone store on `directories`; a context manager that leaves no process behind."""

    def __init__(
        self,
        *directories: Path,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        log: Path | None = None,
    ) -> None:
        self.directories = directories
        self.options = options
        self.environment = environment or {}
        self.wrapper = wrapper
        self.log = log or directories[0].parent / "serve.log"
        self.port = free_port()
        self.run_id = f"{os.getpid()}-{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        scheme = "https" if "--tls-cert" in self.options else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def start(self, *, timeout: float = 30.0) -> float:
        """Start and wait until it serves; returns the seconds that took."""
        environment = {
            **os.environ,
            "DRYSTONE_ROOT_ACCESS_KEY": ACCESS_KEY,
            "DRYSTONE_ROOT_SECRET_KEY": SECRET_KEY,
            "DRYSTONE_TEST_RUN": self.run_id,
            **self.environment,
        }
        command = [*self.wrapper, *drystone_command(), "serve", *map(str, self.directories)]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        began = time.monotonic()
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self.await_serving(timeout)
        return time.monotonic() - began

    def await_serving(self, timeout: float = 30.0) -> None:
        """Wait until an S3 answer (any status) comes; RuntimeError with the log's end when it does not."""
        deadline = time.monotonic() + timeout
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.endpoint, timeout=2, context=anyone).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"drystone serve does not answer; its log ends:\n{self.log_tail()}")

    def log_tail(self, size: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def pids(self) -> list[int]:
        """All live processes of this store, the supervisor included, oldest first."""
        want = f"DRYSTONE_TEST_RUN={self.run_id}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if want in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return sorted(found)

    def workers(self) -> list[int]:
        """The processes under the supervisor."""
        supervisor = self.process.pid if self.process else -1
        return [pid for pid in self.pids() if pid != supervisor and not self._is_wrapper(pid)]

    def _is_wrapper(self, pid: int) -> bool:
        if not self.wrapper:
            return False
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip() == Path(self.wrapper[0]).name
        except OSError:
            return False

    def main_pid(self) -> int:
        """The process that serves S3: the one with the store's port among its inherited sockets, busiest by threads."""
        workers = self.workers()
        if not workers:
            raise RuntimeError(f"no worker process is alive; log:\n{self.log_tail()}")
        return max(workers, key=_threads)

    def status(self) -> dict[str, Any]:
        """What `drystone status --json` says."""
        state = next((self.options[i + 1] for i, o in enumerate(self.options) if o == "--state-dir"), None)
        where = ["--state-dir", state] if state else [str(self.directories[0])]
        done = subprocess.run(
            [*drystone_command(), "status", *where, "--json"], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"drystone status: exit {done.returncode}: {done.stderr[-500:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def await_repaired(self, *, timeout: float) -> bool:
        """Until no volume misses a fragment, as far as `drystone status` knows."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            repair = self.status()["repair"]
            if not repair["pending_volumes"]:
                return True
            time.sleep(0.5)
        return False

    def await_scrubbed(self, *, timeout: float) -> bool:
        """Until two whole passes over all closed volumes found nothing new and nothing known is left to repair."""
        deadline = time.monotonic() + timeout
        known, base = -1, 0
        while time.monotonic() < deadline:
            status = self.status()
            scrub, pending = status["scrub"], status["repair"]["pending_volumes"]
            if pending or scrub["slots_damaged"] != known or not scrub["volumes"]:
                known, base = scrub["slots_damaged"], scrub["passes"]
            elif scrub["passes"] >= base + 2:
                return True
            time.sleep(0.3)
        return False

    def kill_all(self) -> None:
        """SIGKILL everything at once, as a power cut to the process tree (the kernel's cache survives)."""
        for pid in reversed(self.pids()):
            _signal(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)
        deadline = time.monotonic() + 10
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self, *, timeout: float = 40.0) -> int:
        """SIGTERM; returns the exit status of the supervisor."""
        if self.process is None:
            return 0
        _signal(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self.kill_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None and error is None:
            self.stop()
        self.kill_all()


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

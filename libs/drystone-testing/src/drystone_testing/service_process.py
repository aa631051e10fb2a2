# SPDX-License-Identifier: Apache-2.0
"""One process of a cell on this machine: started, waited for, signalled, killed, stopped, started again."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Service:
    """One process of Drystone's own, and how it is started again."""

    role: str
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin; `wait` says when it serves."""
        with self.log.open("ab") as log:
            self._from = log.tell()
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment}
            )

    _from: int = 0

    def wait(self) -> None:
        """Until it says that it is ready; RuntimeError with the end of its log when it ends before."""
        until, said = time.monotonic() + START_SECONDS, b""
        while time.monotonic() < until:
            with self.log.open("rb") as log:
                log.seek(self._from)
                said = log.read()
            if any(line.startswith(b"ready ") for line in said.splitlines()):
                return
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{said[-3000:].decode(errors='replace')}")
            time.sleep(0.05)
        raise RuntimeError(
            f"{self.name} is not ready after {START_SECONDS:g} s:\n{said[-3000:].decode(errors='replace')}"
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT …"""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """As a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM and wait; its exit code, -9 when it had to be killed."""
        if self.process is None:
            return 0
        self.ask_to_stop()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    def ask_to_stop(self) -> None:
        """SIGTERM, also to a process that stands still."""
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)

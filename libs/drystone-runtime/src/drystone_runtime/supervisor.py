# SPDX-License-Identifier: Apache-2.0
"""The parent of a standalone store's processes: starts them, watches them, replaces what dies or hangs.

Invariants
  S1  One store, one supervisor: an flock on STATE/lock, whose descriptor the children inherit, so that a successor is
      refused while any process of a predecessor may still write.
  S2  A child dies with its supervisor (PR_SET_PDEATHSIG).
  S3  A child without a sign of life for `silence` seconds, or stopped (SIGSTOP) for `stopped`, is killed and replaced; the
      supervisor's own pauses do not count.
  S4  A predecessor counts as dead when it is gone, or when SIGKILL is pending on all its threads: one stuck in the kernel
      never reaches user code again (R5).
  S5  A child that says it cannot start (EXIT_UNUSABLE before its first READY) ends the supervisor instead of a loop.
States of a child   DOWN --start()--> STARTING --READY--> SERVING --silence, exit--> DOWN (after a pause that doubles)
The supervisor runs no event loop, no threads and no code of the services: it must outlive their mistakes.
"""

import ctypes
import fcntl
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEAT, READY = b".", b"R"
EXIT_UNUSABLE = 78
"""A child's exit code for `it makes no sense to start me again` (sysexits' EX_CONFIG)."""
_PR_SET_PDEATHSIG = 1
log = logging.getLogger(__name__)


class AlreadyRunning(Exception):
    """Another supervisor (or a process it left) holds the store."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"pid {pid}" if pid else "pid unknown")
        self.pid = pid


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process to keep running."""

    role: str
    command: tuple[str, ...]
    stdin: bytes
    """Handed over through a pipe: settings and credentials never stand in arguments."""
    descriptors: tuple[int, ...] = ()
    """Inherited, with the same numbers."""
    needs: str = ""
    """Started only while this other role is SERVING; empty = at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Seconds."""

    silence: float = 5.0
    stopped: float = 1.5
    """Of a child that the kernel reports as stopped: it cannot come back by itself."""
    start: float = 60.0
    drain: float = 20.0
    first_pause: float = 0.1
    most_pause: float = 5.0
    calm: float = 30.0
    """A child that served this long before it ended is replaced after `first_pause`."""


def lock_store(path: Path, *, patience: float = 10.0, children: Callable[[], Sequence[int]] = tuple) -> int:
    """Take the exclusive lock and return its descriptor (inheritable).

    Waits up to `patience` while the recorded supervisor is dead and its `children` (pids, as it wrote them down) are just
    dying. Those stuck in the kernel keep the lock and never write again (S4): then the lock file is replaced. Raises
    AlreadyRunning.
    """
    deadline = time.monotonic() + patience
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            recorded = os.pread(fd, 32, 0).strip()
            pid = int(recorded) if recorded.isdigit() else None
            late = time.monotonic() > deadline
            if (pid is not None and not is_dead(pid)) or (late and not _stuck(children())):
                os.close(fd)
                raise AlreadyRunning(pid) from None
            if late and _is_at(fd, path):
                log.warning("supervisor.lock_replaced", extra={"stuck": list(children())})
                os.unlink(path)
            os.close(fd)
            time.sleep(0.02)
            continue
        if _is_at(fd, path):
            break
        os.close(fd)  # replaced by another successor between our open and our lock
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _stuck(children: Sequence[int]) -> bool:
    """Whether these are known, and all of them dead."""
    return bool(children) and all(map(is_dead, children))


def is_dead(pid: int) -> bool:
    """Gone, a zombie, or never to reach user code again (S4)."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            state, pending = "", 0
            with open(f"/proc/{pid}/task/{task}/status", "rb") as file:
                for line in file:
                    name, _, value = line.partition(b":")
                    if name == b"State":
                        state = value.split()[0].decode()
                    elif name in (b"SigPnd", b"ShdPnd"):
                        pending |= int(value, 16)
            if state not in ("Z", "X") and not pending >> (signal.SIGKILL - 1) & 1:
                return False
    except (FileNotFoundError, ProcessLookupError):
        return True
    return True


def _state(pid: int) -> str:
    """The kernel's letter for the process: R, S, D, T (stopped), Z …; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def listen_tcp(host: str, port: int, *, backlog: int = 4096) -> socket.socket:
    """A listening socket that children may inherit; OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
        listener.setblocking(False)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def die_with_parent(parent: int) -> None:
    """Called first by a child: SIGKILL when the supervisor ends, however it ends (S2)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


class _Child:
    """One running (or paused) process."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.beats = -1
        self.serving = False
        self.ever_served = False
        self.started = 0.0
        self.heard = 0.0
        self.not_before = 0.0
        self.pause = 0.0
        self.starts = 0
        self.doomed: list[subprocess.Popen[bytes]] = []
        """Killed ones the kernel has not let go of yet; reaped when it does."""


class Supervisor:
    """Runs children until told to stop."""

    def __init__(
        self,
        *,
        specs: Sequence[ChildSpec],
        settings: WatchSettings,
        on_ready: Callable[[str, int], None],
        on_change: Callable[[list[tuple[str, int, int]]], None] = lambda _: None,
    ) -> None:
        """`on_ready(role, starts)` at each READY; `on_change` gets (role, pid, restarts) of all when a process changes."""
        self._children = [_Child(spec) for spec in specs]
        self._settings = settings
        self._on_ready = on_ready
        self._on_change = on_change
        self._selector = selectors.DefaultSelector()
        self._stopping = 0
        self._asked = 0.0
        self._terminal = False
        self._failed: str | None = None

    def run(self) -> int:
        """Until SIGTERM or SIGINT, then drain; returns the exit code: 0, or 1 when a child could not start at all."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_soon)
        signal.signal(signal.SIGHUP, self._hang_up)
        self._terminal = sys.stderr.isatty()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        last = time.monotonic()
        while not self._stopping and self._failed is None:
            for child in self._children:
                self._advance(child)
            self._wait(0.25, wake_read)
            now = time.monotonic()
            if now - last > 1.0:  # we ourselves were stopped or starved: nobody is judged by that time (S3)
                for child in self._children:
                    child.heard += now - last
            last = now
        self._drain(wake_read)
        return 0 if self._failed is None else 1

    def _stop_soon(self, *_: object) -> None:
        """A signal that comes twice at once (to the group, and passed on by a parent) is one request."""
        now = time.monotonic()
        if not self._stopping or now - self._asked > 1.0:
            self._stopping += 1
            self._asked = now

    def _hang_up(self, *_: object) -> None:
        """The children read again what they can; when it was our terminal that went away, it means stop."""
        if self._terminal and not sys.stderr.isatty():
            self._stop_soon()
            return
        for child in self._children:
            if child.serving and child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGHUP)

    def _wait(self, seconds: float, wake: int) -> None:
        for key, _ in self._selector.select(seconds):
            try:
                said = os.read(key.fd, 4096)
            except BlockingIOError:
                continue
            child = key.data
            if key.fd == wake or child is None:
                continue
            if not said:
                self._selector.unregister(key.fd)
                os.close(key.fd)
                child.beats = -1
                continue
            child.heard = time.monotonic()
            if READY in said and not child.serving:
                child.serving = child.ever_served = True
                self._on_ready(child.spec.role, child.starts)

    def _advance(self, child: _Child) -> None:
        now = time.monotonic()
        child.doomed = [process for process in child.doomed if process.poll() is None]
        process = child.process
        if process is None:
            needed = next((c for c in self._children if c.spec.role == child.spec.needs), None)
            if now >= child.not_before and (needed is None or needed.serving):
                self._start(child)
            return
        code = process.poll()
        if code is not None:
            self._ended(child, f"exit {code}" if code >= 0 else f"signal {-code}", unusable=code == EXIT_UNUSABLE)
            return
        silence = now - child.heard
        limit = self._settings.silence if child.serving else self._settings.start
        if silence > limit or (silence > self._settings.stopped and _state(process.pid) == "T"):
            log.error("supervisor.child_hangs", extra={"child": child.spec.role, "pid": process.pid, "silent": silence})
            process.kill()
            self._await_death(process)
            self._ended(child, "no sign of life", unusable=False)

    def _await_death(self, process: subprocess.Popen[bytes], within: float = 2.0) -> bool:
        deadline = time.monotonic() + within
        while process.poll() is None and not is_dead(process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)
        return process.poll() is not None or is_dead(process.pid)

    def _start(self, child: _Child) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_inheritable(writing, True)
        try:
            process = subprocess.Popen(
                [*child.spec.command, "--beat-fd", str(writing), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                pass_fds=(writing, *child.spec.descriptors),
                process_group=0,
            )
        finally:
            os.close(writing)
        assert process.stdin is not None
        try:
            process.stdin.write(child.spec.stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass
        child.process, child.beats, child.serving = process, reading, False
        child.started = child.heard = time.monotonic()
        child.starts += 1
        self._selector.register(reading, selectors.EVENT_READ, child)
        self._tell()

    def _ended(self, child: _Child, why: str, *, unusable: bool) -> None:
        process = child.process
        assert process is not None
        served = time.monotonic() - child.started if child.serving else 0.0
        if unusable and not child.ever_served:
            self._failed = child.spec.role
        else:
            log.error("supervisor.child_ended", extra={"child": child.spec.role, "pid": process.pid, "why": why})
        if process.poll() is None:
            child.doomed.append(process)
        if child.beats >= 0:
            self._selector.unregister(child.beats)
            os.close(child.beats)
        calm = served > self._settings.calm or child.pause == 0.0
        child.pause = self._settings.first_pause if calm else min(child.pause * 2, self._settings.most_pause)
        child.process, child.beats, child.serving = None, -1, False
        child.not_before = time.monotonic() + child.pause
        self._tell()

    def _tell(self) -> None:
        self._on_change(
            [(child.spec.role, child.process.pid, child.starts - 1) for child in self._children if child.process]
        )

    def _drain(self, wake: int) -> None:
        """SIGTERM to all, wait for their ends; a second signal or the deadline makes it SIGKILL."""
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + self._settings.drain + 5.0
        while any(process.poll() is None for process in alive) and time.monotonic() < deadline and self._stopping < 2:
            self._wait(0.05, wake)
        for process in alive:
            if process.poll() is None:
                log.warning("supervisor.child_killed", extra={"pid": process.pid})
                process.kill()
                self._await_death(process)

# SPDX-License-Identifier: Apache-2.0
"""The supervisor with real child processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone_runtime.supervisor import AlreadyRunning, is_dead, lock_store

CHILD = """
import os, sys, time, signal
mode = sys.stdin.read()
fd = int(sys.argv[sys.argv.index("--beat-fd") + 1])
signal.signal(signal.SIGHUP, lambda *_: None)
if mode == "crash":
    sys.exit(1)
if mode == "unusable":
    sys.exit(78)
os.write(fd, b".R")
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while not stop:
    time.sleep(0.1)
    os.write(fd, b".")
"""
PARENT = """
import json, sys
from drystone_runtime.supervisor import ChildSpec, Supervisor, WatchSettings
child, modes = sys.argv[1], json.loads(sys.argv[2])
specs = [ChildSpec(role=role, command=(sys.executable, "-c", child), stdin=mode.encode()) for role, mode in modes.items()]
def say(*what):
    print(json.dumps(what), flush=True)
sys.exit(Supervisor(specs=specs, settings=WatchSettings(silence=1.0, start=5.0, drain=3.0),
                    on_ready=lambda role, starts: say("ready", role, starts), on_change=lambda all: say("change", all)).run())
"""


class Family:
    """A supervisor in a process of its own, and what it says."""

    def __init__(self, **modes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, CHILD, json.dumps(modes)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def next(self, kind: str) -> list[Any]:
        """The next line of that kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: list[Any] = json.loads(line)
            if said[0] == kind:
                return said
        raise AssertionError(f"ended without {kind}")

    def pid_of(self, role: str) -> int:
        """From the next change that names it."""
        while True:
            for name, pid, _ in self.next("change")[1]:
                if name == role:
                    return int(pid)


@pytest.fixture
def family() -> Iterator[Family]:
    """One well-behaved child."""
    one = Family(main="good")
    yield one
    one.process.kill()
    one.process.wait()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_that_dies_or_hangs_is_replaced(family: Family, blow: signal.Signals) -> None:
    """SIGKILL is seen at once; SIGSTOP by the missing heartbeat."""
    first = family.pid_of("main")
    assert family.next("ready") == ["ready", "main", 1]
    os.kill(first, blow)
    second = family.pid_of("main")
    assert second != first
    assert family.next("ready") == ["ready", "main", 2]
    assert is_dead(first)


def test_sigterm_drains_and_exits_with_zero(family: Family) -> None:
    """The child ends by itself; the supervisor's exit code is 0."""
    child = family.pid_of("main")
    family.next("ready")
    family.process.send_signal(signal.SIGTERM)
    assert family.process.wait(10) == 0
    assert is_dead(child)


def test_a_child_that_cannot_start_ends_the_supervisor() -> None:
    """EXIT_UNUSABLE is not retried for ever."""
    family = Family(main="unusable")
    assert family.process.wait(10) == 1


def test_the_supervisor_being_stopped_for_a_while_kills_nobody(family: Family) -> None:
    """Its own pause must not look like the child's silence."""
    child = family.pid_of("main")
    family.next("ready")
    os.kill(family.process.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(child, signal.SIGCONT)
    os.kill(family.process.pid, signal.SIGCONT)
    time.sleep(0.7)
    assert not is_dead(child)


def test_a_second_start_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The lock names its holder; it is free again when the holder is gone."""
    fd = lock_store(tmp_path / "lock")
    with pytest.raises(AlreadyRunning) as caught:
        lock_store(tmp_path / "lock", patience=0.1)
    assert caught.value.pid == os.getpid()
    os.close(fd)
    os.close(lock_store(tmp_path / "lock"))


def test_a_child_that_dies_at_once_is_started_ever_more_slowly() -> None:
    """A crash loop must not eat the machine: pauses double."""
    family = Family(main="crash")
    try:
        time.sleep(2.0)
        family.process.send_signal(signal.SIGTERM)
        assert family.process.wait(10) == 0
        assert family.process.stdout is not None
        starts = {pid for line in family.process.stdout for _, pid, _ in json.loads(line)[1]}
        assert 2 <= len(starts) <= 6
    finally:
        family.process.kill()
        family.process.wait()


def test_a_lock_whose_holders_are_stuck_in_the_kernel_is_replaced(tmp_path: Path) -> None:
    """Dead supervisor, dead children, and still locked: somebody never reaches user code again (S4)."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    fd = lock_store(tmp_path / "lock")
    os.pwrite(fd, f"{gone.pid}\n".encode().ljust(16), 0)
    with pytest.raises(AlreadyRunning):
        lock_store(tmp_path / "lock", patience=0.1)
    with pytest.raises(AlreadyRunning):
        lock_store(tmp_path / "lock", patience=0.1, children=lambda: [gone.pid, os.getpid()])
    successor = lock_store(tmp_path / "lock", patience=0.1, children=lambda: [gone.pid])
    with pytest.raises(AlreadyRunning) as caught:
        lock_store(tmp_path / "lock", patience=0.1)
    assert caught.value.pid == os.getpid()
    os.close(successor)
    os.close(fd)


def test_a_successor_waits_for_processes_that_are_just_dying(tmp_path: Path) -> None:
    """The supervisor was killed; its child holds the lock for a moment longer."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    fd = lock_store(tmp_path / "lock")
    os.set_inheritable(fd, True)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"], pass_fds=(fd,))
    os.pwrite(fd, f"{gone.pid}\n".encode().ljust(16), 0)
    os.close(fd)
    os.close(lock_store(tmp_path / "lock", children=lambda: [child.pid]))
    assert child.wait(10) == 0


def test_a_hangup_is_passed_on_and_ends_nobody(family: Family) -> None:
    """The children read again what they can; a child that does not know the signal would die of it."""
    child = family.pid_of("main")
    family.next("ready")
    family.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert family.process.poll() is None
    assert not is_dead(child)

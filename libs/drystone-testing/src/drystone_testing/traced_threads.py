# SPDX-License-Identifier: Apache-2.0
"""strace on threads of a running process: calls held back as by a disk that answers late, failed, or answered with a signal.

A held call is done when its thread wakes up, as a disk does that answers late.
"""

import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

DISK_WRITES = "pwritev2,pwritev,pwrite64,fdatasync,fsync"
DISK_READS = "preadv2,preadv,pread64"
WRITE_LIKE = "pwrite64,pwritev,pwritev2,write,fsync,fdatasync,rename,unlink,fallocate,ftruncate"
LONGEST_HOLD = 10
"""Seconds a call is held at most by the tests: far beyond every deadline of the store."""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Held:
    """strace on some threads, injecting a delay before every (or the first) call of a kind."""

    def __init__(self, threads: list[int], calls: str, fault: str, log: Path) -> None:
        targets = [option for thread in threads for option in ("-p", str(thread))]
        self.log = log
        self.process = _strace(
            ["-qq", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}", *targets]
        )

    def injected(self) -> int:
        """Calls that were held and have been done since."""
        return self.log.read_text().count("(DELAYED)") if self.log.exists() else 0

    def detach(self) -> None:
        """Ends the tracer; threads it holds go on when it has let them go."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LONGEST_HOLD + 10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)


class Attached:
    """strace attached to one thread (or to all), injecting one fault. strace counts the calls of each thread by itself."""

    def __init__(self, target: int, inject: str, log: Path, *, every_thread: bool = False) -> None:
        calls = inject.split(":", 1)[0]
        options = ["-f"] if every_thread else []
        self.process = _strace(
            [*options, "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={inject}", "-p", str(target)]
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self._attached(target, every_thread):
            time.sleep(0.01)

    @staticmethod
    def _attached(target: int, every_thread: bool) -> bool:
        try:
            tasks = list(Path(f"/proc/{target}/task").iterdir()) if every_thread else [Path(f"/proc/{target}")]
            return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
        except (FileNotFoundError, ProcessLookupError):
            return not Path(f"/proc/{target}").exists()  # it made the call already, and died of it

    def detach(self) -> None:
        """End the tracer. One whose process died under it may linger on the dead threads: it is killed."""
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


def threads(pid: int) -> list[int]:
    """The threads of a process in the order in which they were made."""
    return sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


def threads_by_disk(pid: int, log: Path, *, names: str) -> dict[str, list[int]]:
    """Which threads of a process work on which disk, watched under load; the loop's own thread serves none.

    `names`: a pattern of the disks' directories' own names.
    """
    watched = _strace(["-f", "-y", "-qq", "-o", str(log), "-e", f"trace={DISK_WRITES},{DISK_READS}", "-p", str(pid)])
    time.sleep(2.5)
    watched.terminate()
    watched.wait(20)
    found: dict[str, set[int]] = {}
    for line in log.read_text().splitlines():
        match = re.match(rf"(\d+) +\w+\(\d+<[^>]*/({names})/", line)
        if match and int(match[1]) != pid:
            found.setdefault(match[2], set()).add(int(match[1]))
    return {disk: sorted(threads) for disk, threads in found.items()}


def _strace(options: list[str]) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["strace", *options], stdin=quiet, stdout=quiet, stderr=quiet)

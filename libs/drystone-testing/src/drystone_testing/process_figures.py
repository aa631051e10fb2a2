# SPDX-License-Identifier: Apache-2.0
"""What the processes of a store hold: resident memory, descriptors, threads; sampled while a test runs."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

MIB = 1 << 20


def memory(pid: int) -> dict[str, int]:
    """smaps_rollup of a process in bytes, e.g. Rss, Pss, Anonymous; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def rss(pids: Sequence[int]) -> int:
    """Bytes resident in all of them together."""
    return sum(memory(pid).get("Rss", 0) for pid in pids)


def descriptors(pids: Sequence[int]) -> int:
    """Open file descriptors of all of them."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def threads(pids: Sequence[int]) -> int:
    """Threads of all of them."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of all of them."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / 100


class Peak:
    """Samples the sum of Rss while it is entered."""

    def __init__(self, pids: Sequence[int], *, every: float = 0.05) -> None:
        self.pids, self.every = list(pids), every
        self.before = self.peak = rss(self.pids)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def grown(self) -> int:
        """Bytes above the state at construction, at most."""
        return self.peak - self.before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.peak = max(self.peak, rss(self.pids))
            time.sleep(self.every)

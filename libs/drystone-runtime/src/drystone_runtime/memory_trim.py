# SPDX-License-Identifier: Apache-2.0
"""Free memory goes back to the system: the allocator alone keeps what lies below the last live object of its heap.

After a crowd of connections has left, hundreds of MiB may be free inside and resident all the same, and what cycles of
dead objects hold waits for a collection that an idle process never comes to. So both are asked for here; glibc gives them
back only when told (malloc_trim, which releases whole free pages wherever they lie). Elsewhere nothing is done.

Invariants
  T1  Nothing is trimmed below GROWN above the least that was ever resident: a small store never pays.
  T2  A trim that brought little doubles the wait before the next (to MOST looks): a busy store pays once in a while.
Source  malloc_trim(3).
"""

import ctypes
import gc
import logging
import os
from pathlib import Path

from drystone_core.ports import Clock

log = logging.getLogger(__name__)
GROWN = 32 << 20
"""Bytes above the least resident that may be worth a trim."""
LITTLE = 8 << 20
MOST = 32


class MemoryTrim:
    """Looks at this process every `every` seconds."""

    def __init__(self, *, clock: Clock, every: float = 5.0) -> None:
        self._clock, self._every = clock, every
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least = resident()
        self._skip = self._pause = 0

    async def run(self) -> None:
        """For ever; ends at once where there is nothing to tell."""
        while self._trim is not None:
            await self._clock.sleep(self._every)
            self.look()

    def look(self) -> int:
        """Trim if it is worth it; returns the bytes that went back. Holds the loop for some 10 ms then."""
        before = resident()
        self._least = min(self._least, before)
        if self._trim is None or before < self._least + GROWN:
            self._skip = self._pause = 0
            return 0
        if self._skip:
            self._skip -= 1
            return 0
        gc.collect()
        self._trim(0)
        after = resident()
        self._pause = min(MOST, 2 * self._pause + 1) if before - after < LITTLE else 0
        self._skip = self._pause
        log.debug("memory.trimmed", extra={"before": before, "after": after})
        return before - after


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0

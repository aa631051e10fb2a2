# SPDX-License-Identifier: Apache-2.0
"""Free memory goes back to the system: the allocator alone keeps what lies below the last live object of its heap.

After a crowd of connections has left, hundreds of MiB may be free inside and resident all the same. glibc gives them
back only when told (malloc_trim, which releases whole free pages wherever they lie). Elsewhere nothing is done.

Invariants
  T1  At most one trim an interval, and only when the process grew by GROWN since the last: a steady store never trims.
Source  malloc_trim(3).
"""

import ctypes
import logging
import os
from pathlib import Path

from drystone_core.ports import Clock

log = logging.getLogger(__name__)
GROWN = 32 << 20
"""Bytes above what was resident after the last trim."""


class MemoryTrim:
    """Looks at this process every `every` seconds."""

    def __init__(self, *, clock: Clock, every: float = 5.0) -> None:
        self._clock, self._every = clock, every
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._low = resident()

    async def run(self) -> None:
        """For ever; ends at once where there is nothing to tell."""
        while self._trim is not None:
            await self._clock.sleep(self._every)
            self.look()

    def look(self) -> int:
        """Trim if it is worth it; returns the bytes that went back. Holds the loop for about 1 ms per 16 MiB freed."""
        before = resident()
        if self._trim is None or before < self._low + GROWN:
            self._low = min(self._low, before)
            return 0
        self._trim(0)
        self._low = resident()
        log.debug("memory.trimmed", extra={"before": before, "after": self._low})
        return before - self._low


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0

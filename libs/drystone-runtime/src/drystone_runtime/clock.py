# SPDX-License-Identifier: Apache-2.0
"""The machine's clock as the `Clock` port."""

import asyncio
import time


class SystemClock:
    """Real time; stateless, so every part may hold its own."""

    __slots__ = ()

    def wall_us(self) -> int:
        """Unix time in microseconds; may jump."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds on the kernel's monotonic clock (the one `loop.time()` of asyncio and uvloop reads)."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller."""
        await asyncio.sleep(seconds)

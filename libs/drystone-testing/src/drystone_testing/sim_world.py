# SPDX-License-Identifier: Apache-2.0
"""Clocks and entropies of simulated worlds, one for each way a test wants time to pass.

LeapingClock    a sleep moves time: nothing ever waits
ManualClock     the test moves time by `now`; who sleeps waits until it has
SteppedClock    the test moves time by `now_us`; who sleeps lets others run and goes on
RunningClock    real time, and on top of it what simulated disks took
PatientClock    real time, as far as the event loop keeps up with it
SkewedClock     any of them, with another time of day
"""

import asyncio
import hashlib
import random
import time
from typing import Protocol

from drystone_core.ports import Clock

START_US = 1_800_000_000_000_000
"""Where a SteppedClock begins, Unix microseconds."""


class MovableClock(Protocol):
    """Time that a slow simulated disk takes, in seconds."""

    now: float

    def monotonic(self) -> float: ...


class LeapingClock:
    """Moves only when somebody sleeps; each look at the wall finds it a microsecond later."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def wall_us(self) -> int:
        self.now += 1e-6
        return int(self.now * 1e6)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class ManualClock:
    """Stands still until `now` is moved; sleepers poll."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall_us(self) -> int:
        return int(1_700_000_000_000_000 + self.now * 1e6)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await asyncio.sleep(0.001)


class SteppedClock:
    """Stands still until `now_us` is moved; exact to the microsecond."""

    def __init__(self) -> None:
        self.now_us = START_US

    def wall_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return (self.now_us - START_US) / 1e6

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class RunningClock:
    """The machine's clock, `now` seconds ahead of it."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall_us(self) -> int:
        return time.time_ns() // 1000 + int(self.now * 1e6)

    def monotonic(self) -> float:
        return time.monotonic() + self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PatientClock:
    """Real time, which stands still while the event loop stalls: on a busy machine no lease ends before its holder got its turn."""

    TICK, MOST = 0.01, 0.05
    """Seconds between two looks, and how far one look moves time."""

    def __init__(self) -> None:
        self._now = self._looked = time.monotonic()
        self._wall_us = time.time_ns() // 1000 - int(self._now * 1e6)
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Time runs from now on."""
        self._looked = time.monotonic()
        self._tick()

    def stop(self) -> None:
        """Time stands still."""
        if self._next is not None:
            self._next.cancel()

    def wall_us(self) -> int:
        return self._wall_us + int(self._now * 1e6)

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _tick(self) -> None:
        looked = time.monotonic()
        self._now += min(looked - self._looked, self.MOST)
        self._looked = looked
        self._next = asyncio.get_running_loop().call_later(self.TICK, self._tick)


class SkewedClock:
    """Another clock, whose time of day is `ahead` seconds before it; the test sets it."""

    def __init__(self, clock: Clock, ahead: float = 0.0) -> None:
        self._clock = clock
        self.ahead = ahead

    def wall_us(self) -> int:
        return self._clock.wall_us() + int(self.ahead * 1e6)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class SeededEntropy:
    """Entropy from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class CountingEntropy:
    """Tokens that differ from each other, in any 16 bytes of them, and repeat from run to run."""

    def __init__(self) -> None:
        self.count = 0

    def token(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_128(self.count.to_bytes(8, "big")).digest(size)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

# SPDX-License-Identifier: Apache-2.0
"""The world as small Protocols, so that standalone, distributed and simulated runs share all other code.

Real forms live in drystone_runtime, simulated ones in drystone_testing. Disk calls are blocking: the loop never makes
them itself (R5) except `preadv(nowait=True)`; they run on a `Lane`, one per disk.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


class Clock(Protocol):
    """Time."""

    def wall_us(self) -> int:
        """Unix time in microseconds; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds; never goes back; means nothing across restarts."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller."""
        ...


class Entropy(Protocol):
    """Randomness; the simulator's comes from its seed."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """For jitter and sampling, not for secrets."""
        ...


class DiskFile(Protocol):
    """One open file of a disk. Short reads and writes never surface: a call does all of it or raises OSError."""

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool) -> None:
        """Write at `offset`; with `durable` the bytes (and the size needed to read them) survive power loss on return."""
        ...

    def write_then_read(self, buffers: Sequence[Buffer], offset: int, into: memoryview, at: int) -> int:
        """Write durably, then fill `into` from `at`, with nothing of ours between; returns the bytes read. One call to
        a disk far away."""
        ...

    def preadv(self, buffers: Sequence[memoryview], offset: int, *, nowait: bool = False) -> int:
        """Fill the buffers; returns the bytes read, fewer only at end of file. `nowait`: BlockingIOError if it would block."""
        ...

    def sync(self) -> None:
        """fdatasync."""
        ...

    def allocate(self, offset: int, length: int) -> None:
        """Reserve space (reads as zeros); grows the file."""
        ...

    def punch(self, offset: int, length: int) -> None:
        """Free the space; the range reads as zeros, the size stays."""
        ...

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One data directory. Names are relative to it, with `/`; every call may raise OSError and may block."""

    def open(self, name: str, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        """Open for reading and writing; `create` makes it durably known (directory fsynced) before returning."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomic replace; the directories are fsynced before returning."""
        ...

    def unlink(self, name: str) -> None: ...

    def listdir(self, folder: str) -> list[str]:
        """Sorted names; the folder is created (durably) when absent."""
        ...

    def space(self) -> tuple[int, int]:
        """(free, total) bytes available to us."""
        ...


class Lane(Protocol):
    """Runs blocking calls on one disk in order, off the loop."""

    def submit(self, call: Callable[[], None]) -> None:
        """Queue `call`; it must not raise (the scatter helpers of drystone_runtime.lanes wrap results and errors)."""
        ...

    def busy_since(self) -> float | None:
        """Monotonic time at which the call now running began, None when idle: how a hung disk is noticed."""
        ...


class Lanes(Protocol):
    """Runs a group of calls on many lanes with ONE wake-up of the loop when the last has ended (or the deadline passed)."""

    def scatter(
        self, calls: Sequence[tuple[Lane, Callable[[], Any]]], *, deadline: float | None = None
    ) -> Awaitable[list[Any | BaseException]]:
        """Results in order; an exception stands in its call's place; `TimeoutError` for those late at the monotonic `deadline`."""
        ...

    def run(self, lane: Lane, call: Callable[[], T], *, deadline: float | None = None) -> Awaitable[T]:
        """One call; raises what it raised, or TimeoutError."""
        ...

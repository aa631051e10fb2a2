# SPDX-License-Identifier: Apache-2.0
"""Threads that hash request bodies off the loop.

hashlib gives the GIL back for slices above 2 KiB, so a body is hashed on another core while its next bytes arrive.
A stream has at most one slice in work, and streams are bounded by `Limits.bodies`: so the queue is bounded too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class HashPool(Protocol):
    """Runs hashing calls outside the loop."""

    def submit(self, call: Callable[[], None]) -> Awaitable[None]:
        """Begin `call` now; the awaitable ends when it has ended and raises what it raised."""
        ...


class ThreadHashPool:
    """A fixed number of threads."""

    def __init__(self, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hash")

    def submit(self, call: Callable[[], None]) -> Awaitable[None]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def stop(self) -> None:
        """End the threads; nothing may be submitted after it."""
        self._threads.shutdown(wait=True, cancel_futures=True)

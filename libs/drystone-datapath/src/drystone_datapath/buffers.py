# SPDX-License-Identifier: Apache-2.0
"""Bounded pools of page-backed buffers: piece buffers, read buffers, parity.

Invariants
  B1  At most `count` buffers of a pool exist at once; who must wait longer than its timeout gets Busy (invariant 7).
  B2  A buffer a late disk call may still touch is discarded, never handed to another user.
Buffers are anonymous mmaps: pages never touched cost nothing, and a few touched ones are kept hot.
"""

import asyncio
import mmap
from collections import deque

from drystone_core.check import check
from drystone_core.errors import Busy
from drystone_core.extents import PIECE_LIMIT
from drystone_core.formats.trailer import LIMIT as TRAILER_LIMIT
from drystone_core.profiles import DATA_LIMIT
from drystone_core.stripes import piece_fragment_length

PIECE_BYTES = max(k * piece_fragment_length(PIECE_LIMIT + TRAILER_LIMIT, k) for k in range(1, DATA_LIMIT + 1))
"""The longest piece with the longest trailer, padded to k fragments of whole pages, whatever k is."""
READ_BYTES = 1 << 20


class PooledBuffer:
    """One buffer; ends by exactly one of release() and discard()."""

    __slots__ = ("_pool", "view")

    def __init__(self, pool: "BufferPool", view: memoryview) -> None:
        self._pool: BufferPool | None = pool
        self.view = view
        """All of it, writable."""

    def release(self) -> None:
        """Give it back; its bytes may be overwritten from now on. A second call does nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._put(self.view)

    def discard(self) -> None:
        """Forget it: somebody may still touch it (B2)."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._put(None)


class BufferPool:
    """Buffers of one size."""

    def __init__(self, *, size: int, count: int, hot: int = 4) -> None:
        check(size > 0 and count > 0, "buffer pool: size and count must be positive")
        self.size = size
        self.count = count
        self._hot = hot
        self._free: list[memoryview] = []
        self._used = 0
        self._waiters: deque[asyncio.Future[PooledBuffer]] = deque()

    @property
    def used(self) -> int:
        """Buffers handed out."""
        return self._used

    @property
    def contended(self) -> bool:
        """Somebody waits, or less than a quarter is left."""
        return bool(self._waiters) or self._used * 4 > self.count * 3

    def try_acquire(self) -> PooledBuffer | None:
        """A buffer when one may be had at once."""
        if self._used >= self.count:
            return None
        self._used += 1
        return PooledBuffer(self, self._free.pop() if self._free else memoryview(mmap.mmap(-1, self.size)))

    async def acquire(self, patience: float) -> PooledBuffer:
        """A buffer; Busy when none comes free within `patience` seconds."""
        found = self.try_acquire() if not self._waiters else None
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[PooledBuffer] = loop.create_future()
        timer = loop.call_later(patience, _give_up, waiter)
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()
            raise
        finally:
            timer.cancel()

    def _put(self, view: memoryview | None) -> None:
        self._used -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._used += 1
                waiter.set_result(PooledBuffer(self, view or memoryview(mmap.mmap(-1, self.size))))
                return
        if view is not None and len(self._free) < self._hot:
            self._free.append(view)


def _give_up(waiter: "asyncio.Future[PooledBuffer]") -> None:
    if not waiter.done():
        waiter.set_exception(Busy("no buffer came free in time"))

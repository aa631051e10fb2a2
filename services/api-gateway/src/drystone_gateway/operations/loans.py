# SPDX-License-Identifier: Apache-2.0
"""How long a body may keep a stripe buffer that it does not fill.

Invariants
  L1  While buffers are short, one that received less than LEAST bytes within a LOOK is handed over as it is, as a
      smaller stripe: a client that trickles costs buffers only for the moments in which its bytes arrive.
  L2  A stream that was caught keeps its next buffer only for what has already come, until it fills one in time.
  L3  A blob has at most MOST small stripes of this kind (its row names each); beyond that the client is told SlowDown.
While there are buffers for all, nothing of this happens.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from drystone_core.errors import Busy

LOOK = 0.05
"""Seconds."""
LEAST = 256 * 1024
MOST = 512


class Loan:
    """Watches one buffer at a time: what one body borrows."""

    __slots__ = ("_contended", "_end", "_loop", "_seen", "_suspect", "_timer", "_times", "filled", "over")

    def __init__(self, *, loop: AbstractEventLoop, contended: Callable[[], bool]) -> None:
        self._loop = loop
        self._contended = contended
        self._end: Callable[[], None] | None = None
        self._timer: TimerHandle | None = None
        self._seen = 0
        self._suspect = False
        self._times = 0
        self.filled = 0
        """Bytes received into the buffer; kept by the borrower."""
        self.over = False
        """Hand the buffer over as it is."""

    def begin(self, end: Callable[[], None]) -> None:
        """A buffer was borrowed; `end` is called when it has to go."""
        self.over = False
        self.filled = self._seen = 0
        self._end = end
        self._timer = self._loop.call_later(0.0 if self._suspect else LOOK, self._look)

    def end(self) -> None:
        """It was handed over. Busy when this body had to do so too often."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._suspect = self.over
        self._times += self.over
        if self._times > MOST:
            raise Busy("the body comes too slowly while buffers are short")

    def stop(self) -> None:
        """Nothing is borrowed any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self._end is not None
        if self._contended() and (self._suspect or self.filled - self._seen < LEAST):
            self.over = True
            self._timer = None
            self._end()
            return
        self._suspect = False
        self._seen = self.filled
        self._timer = self._loop.call_later(LOOK, self._look)

# SPDX-License-Identifier: Apache-2.0
"""Is a peer moving bytes fast enough? Judged now and then from a running count, so that no byte costs a clock call."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The least a peer must do while we wait for it."""

    idle_s: float = 30.0
    """Without a single byte."""
    rate: float = 1024.0
    """Bytes a second over each window; 0 = no minimum."""
    window_s: float = 20.0


class Progress:
    """Watches one direction of one connection. `waited` sums only the time in which the peer had to act."""

    __slots__ = ("_base", "_seen", "_stalled", "_waited")

    def __init__(self) -> None:
        self._seen = -1
        self._stalled = 0.0
        self._base = 0
        self._waited = 0.0

    def rest(self) -> None:
        """The peer has nothing to do at present."""
        self._stalled = 0.0

    def too_slow(self, count: int, elapsed: float, pace: Pace) -> bool:
        """`count` bytes in all so far; `elapsed` seconds since the last call, waiting for the peer."""
        self._waited += elapsed
        if count != self._seen:
            if self._seen < 0:
                self._base = count
                self._waited = 0.0
            self._seen = count
            self._stalled = 0.0
        else:
            self._stalled += elapsed
            if self._stalled > pace.idle_s:
                return True
        if self._waited >= pace.window_s:
            if count - self._base < pace.rate * self._waited:
                return True
            self._base = count
            self._waited = 0.0
        return False

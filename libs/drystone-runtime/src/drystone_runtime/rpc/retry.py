# SPDX-License-Identifier: Apache-2.0
"""The one place that calls again.

Invariants
  Y1  Only what an error allows (`Retry`), only within the time of the first call, and only as often as the budget lets: it
      holds `budget` calls, each success gives back `refund` of one. A service that is down is not asked many times over.
  Y2  After Unavailable nobody knows whether the call was carried out: it is repeated only when that does no harm, which
      reads and writes that carry a write id are (the service recognises it, drystone_metadata.memory_of_writes).
  Y3  Pauses double, with jitter over the whole of them, so that those who failed together do not come again together.
Source: "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015: full jitter); gRFC A6 (retry throttling).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from drystone_core.errors import DrystoneError, Retry, Unavailable
from drystone_core.ports import Clock, Entropy
from drystone_runtime.rpc.call_context import bounded

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """How often and how soon."""

    attempts: int = 5
    """Calls in all, the first included."""
    first: float = 0.05
    """The first pause is at most so long, seconds."""
    most: float = 2.0
    """No pause is longer, seconds."""
    budget: float = 20.0
    """Repeated calls in a row, over all callers."""
    refund: float = 0.1
    """Given back to the budget by a call that succeeds."""


class Retries:
    """One per service that is called: those who call it share the budget."""

    def __init__(self, *, clock: Clock, entropy: Entropy, settings: RetrySettings | None = None) -> None:
        self._clock, self._entropy = clock, entropy
        self._settings = settings or RetrySettings()
        self._tokens = self._settings.budget
        self.repeated = 0
        """Calls made again."""
        self.refused = 0
        """Calls not made again because the budget was used up."""

    async def call(
        self,
        attempt: Callable[[float], Awaitable[T]],
        *,
        timeout: float,
        repeatable: bool,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """The answer of `attempt(seconds left)`, or the last error.

        `repeatable`: carrying it out twice does no harm (Y2). `refresh`: renews the caller's view after Stale; without it a
        stale view is an error.
        """
        settings, deadline = self._settings, self._clock.monotonic() + bounded(timeout)
        pause = settings.first
        for number in range(1, settings.attempts + 1):
            try:
                answer = await attempt(deadline - self._clock.monotonic())
            except DrystoneError as error:
                if number == settings.attempts or not _may_repeat(error, repeatable, refresh is not None):
                    raise
                wait = 0.0 if error.retry is Retry.SAME else self._entropy.uniform(0.0, pause)
                if self._clock.monotonic() + wait >= deadline or not self._spend():
                    raise
                if wait:
                    await self._clock.sleep(wait)
                    pause = min(pause * 2, settings.most)
                if error.retry is Retry.AFTER_REFRESH and refresh is not None:
                    await refresh()
            else:
                self._tokens = min(settings.budget, self._tokens + settings.refund)
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _spend(self) -> bool:
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        self.repeated += 1
        return True


def _may_repeat(error: DrystoneError, repeatable: bool, refreshes: bool) -> bool:
    if error.retry is Retry.NEVER or (error.retry is Retry.AFTER_REFRESH and not refreshes):
        return False
    return repeatable or not isinstance(error, Unavailable)

# SPDX-License-Identifier: Apache-2.0
"""What is called again, how often, and how soon."""

import pytest

from drystone_core.errors import (
    Busy,
    Damaged,
    DrystoneError,
    ErrorCode,
    Refused,
    Retry,
    Stale,
    Unavailable,
    Unreachable,
)
from drystone_runtime.rpc.call_context import DEADLINE
from drystone_runtime.rpc.retry import Retries, RetrySettings
from drystone_testing.sim_world import LeapingClock, SeededEntropy


def same() -> DrystoneError:
    """An error that allows the same call at once."""
    error = Refused(ErrorCode.OPERATION_ABORTED)
    error.retry = Retry.SAME
    return error


class Service:
    """Fails with these errors, then answers."""

    def __init__(self, *errors: DrystoneError, clock: LeapingClock | None = None) -> None:
        self.errors = list(errors)
        self.clock = clock or LeapingClock()
        self.calls: list[float] = []
        """Seconds each call was given."""
        self.times: list[float] = []

    async def __call__(self, left: float) -> str:
        self.calls.append(left)
        self.times.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def retries(service: Service, **settings: float) -> Retries:
    """On the service's clock."""
    chosen = RetrySettings(**settings)  # type: ignore[arg-type]
    return Retries(clock=service.clock, entropy=SeededEntropy(1), settings=chosen)


@pytest.mark.parametrize(
    ("error", "repeatable", "again"),
    [
        (Busy(), False, True),
        (Busy(), True, True),
        (Unreachable("away"), True, True),
        (Unreachable("away"), False, False),
        (Unavailable("unknown outcome"), True, True),
        (Unavailable("unknown outcome"), False, False),
        (same(), False, True),
        (Stale(), True, False),
        (Refused(ErrorCode.NO_SUCH_KEY), True, False),
        (Refused(ErrorCode.PEER_DENIED), True, False),
        (Damaged("gone"), True, False),
    ],
)
async def test_only_what_the_error_allows_is_repeated(error: DrystoneError, repeatable: bool, again: bool) -> None:
    """An unknown outcome only where a second time does no harm."""
    service = Service(error)
    if again:
        assert await retries(service).call(service, timeout=30, repeatable=repeatable) == "done"
        assert len(service.calls) == 2
    else:
        with pytest.raises(type(error)):
            await retries(service).call(service, timeout=30, repeatable=repeatable)
        assert len(service.calls) == 1


async def test_a_stale_view_is_refreshed_before_the_next_call() -> None:
    """When the caller knows how."""
    service, refreshed = Service(Stale(), Stale()), []

    async def refresh() -> None:
        refreshed.append(len(service.calls))

    assert await retries(service).call(service, timeout=30, repeatable=False, refresh=refresh) == "done"
    assert refreshed == [1, 2]


async def test_pauses_double_with_jitter_and_end_at_the_most() -> None:
    """Between nothing and twice the last bound; nobody comes back in step."""
    service = Service(*[Busy() for _ in range(9)])
    one = retries(service, attempts=10, first=0.1, most=0.4)
    await one.call(service, timeout=1000, repeatable=True)
    pauses = [b - a for a, b in zip(service.times, service.times[1:], strict=False)]
    for pause, bound in zip(pauses, (0.1, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4), strict=True):
        assert 0 <= pause <= bound
    assert len(set(pauses)) == 9
    assert max(pauses) > 0.2


async def test_all_calls_together_take_no_longer_than_one_was_allowed() -> None:
    """The time left is handed to each; when a pause would outlast it, the error is told."""
    service = Service(*[Busy() for _ in range(100)])
    one = retries(service, attempts=100, first=1.0, most=1.0)
    with pytest.raises(Busy):
        await one.call(service, timeout=3.0, repeatable=True)
    assert service.times[-1] - service.times[0] < 3.0
    assert service.calls[0] == pytest.approx(3.0)
    assert service.calls == sorted(service.calls, reverse=True)
    assert service.calls[-1] > 0


async def test_the_callers_own_deadline_counts() -> None:
    """A handler that is itself being waited for does not go on longer."""
    from drystone_runtime.clock import SystemClock

    service = Service()
    DEADLINE.set(SystemClock().monotonic() + 2.0)
    await retries(service).call(service, timeout=30.0, repeatable=True)
    DEADLINE.set(None)
    assert service.calls[0] <= 2.0


async def test_a_service_that_is_down_is_not_asked_many_times_over() -> None:
    """The budget is used up by 20 repetitions, whoever calls; successes fill it again."""
    service = Service(*[Unreachable("away") for _ in range(1000)])
    one = retries(service, attempts=5, budget=20.0, refund=0.5)
    for _ in range(100):
        with pytest.raises(Unreachable):
            await one.call(service, timeout=30, repeatable=True)
    assert (len(service.calls), one.repeated) == (120, 20)
    assert one.refused == 95
    service.errors.clear()
    for _ in range(4):
        await one.call(service, timeout=30, repeatable=True)
    service.errors = [Unreachable("away") for _ in range(5)]
    service.calls.clear()
    with pytest.raises(Unreachable):
        await one.call(service, timeout=30, repeatable=True)
    assert len(service.calls) == 3

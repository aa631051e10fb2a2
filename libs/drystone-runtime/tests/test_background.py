# SPDX-License-Identifier: Apache-2.0
"""Supervised tasks."""

import asyncio
import logging

import pytest

from drystone_core.check import InvariantViolation
from drystone_core.errors import Unreachable
from drystone_runtime.background import Background, BackoffSettings
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy

QUICK = BackoffSettings(first=0.001, most=0.004)


async def test_a_failing_task_is_logged_and_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    """B2."""
    background = Background(clock=SystemClock(), backoff=QUICK)
    runs = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise OSError("broken")
        done.set()

    with caplog.at_level(logging.ERROR):
        background.keep("probe", work)
        assert background.names == ["probe"]
        await asyncio.wait_for(done.wait(), 5)
    assert runs == 4 and [r.message for r in caplog.records] == ["background.task_restarts"] * 3
    await background.stop()


async def test_a_single_run_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """B2 for `once`."""
    background = Background(clock=SystemClock())

    async def work() -> None:
        raise OSError("broken")

    task = background.once("one", work())
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert any(r.message == "background.task_failed" for r in caplog.records)
    assert background.names == []


async def test_stop_ends_all_and_refuses_new_ones() -> None:
    """B3."""
    background = Background(clock=SystemClock())
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(1)

    background.keep("a", work)
    background.once("b", work())
    await asyncio.sleep(0)
    await background.stop()
    assert ended == [1, 1] and background.names == []
    with pytest.raises(InvariantViolation):
        background.once("c", work())


def test_entropy_never_repeats_and_stays_in_range() -> None:
    """Tokens across refills are distinct and of the size asked for."""
    entropy = SystemEntropy()
    tokens = {entropy.token(16) for _ in range(2000)}
    assert len(tokens) == 2000 and len(entropy.token(5000)) == 5000
    assert all(2.0 <= entropy.uniform(2.0, 3.0) <= 3.0 for _ in range(100))


async def test_a_peer_that_is_away_is_one_quiet_line_for_the_whole_time(caplog: pytest.LogCaptureFixture) -> None:
    """No trace, no doubling pause: it is back in a moment."""
    caplog.set_level(logging.INFO)
    background = Background(clock=SystemClock(), backoff=BackoffSettings(away=0.2))
    calls = []

    async def work() -> None:
        calls.append(1)
        if len(calls) < 5:
            raise Unreachable("connection refused")

    await background.keep("needs.peer", work)
    assert len(calls) == 5
    lines = [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records]
    assert lines == [("INFO", "background.task_waits", None)]

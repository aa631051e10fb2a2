# SPDX-License-Identifier: Apache-2.0
"""Lanes: groups of blocking calls, deadlines, hung threads."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from drystone_runtime.lanes import LoopLanes, ThreadLane


@pytest.fixture
def three() -> Iterator[list[ThreadLane]]:
    lanes = [ThreadLane(f"t{i}") for i in range(3)]
    yield lanes
    for lane in lanes:
        lane.stop()


async def test_scatter_returns_results_in_order_with_errors_in_place(three: list[ThreadLane]) -> None:
    """An exception stands where its call stood; the others are results."""

    def broken() -> None:
        raise OSError(5, "EIO")

    results = await LoopLanes().scatter([(three[0], lambda: "a"), (three[1], broken), (three[2], lambda: "c")])
    assert results[0] == "a" and results[2] == "c"
    assert isinstance(results[1], OSError) and results[1].errno == 5
    assert await LoopLanes().scatter([]) == []


async def test_calls_of_one_lane_keep_their_order(three: list[ThreadLane]) -> None:
    """L1, over several groups."""
    seen: list[int] = []
    groups = [LoopLanes().scatter([(three[0], lambda i=i: seen.append(i))]) for i in range(50)]  # type: ignore[misc]
    await asyncio.gather(*groups)
    assert seen == list(range(50))


async def test_a_hung_lane_is_late_and_the_others_answer(three: list[ThreadLane]) -> None:
    """L2, L3: TimeoutError for the hung one at the deadline; a late result is dropped, what waits is skipped."""
    hold = threading.Event()
    ran: list[str] = []
    lanes = LoopLanes()
    deadline = time.monotonic() + 0.05
    results = await lanes.scatter([(three[0], hold.wait), (three[1], lambda: 1)], deadline=deadline)
    assert isinstance(results[0], TimeoutError) and results[1] == 1
    assert three[0].busy_since() is not None
    with pytest.raises(TimeoutError):
        await lanes.run(three[0], lambda: ran.append("skipped"), deadline=time.monotonic() + 0.05)
    hold.set()
    await lanes.run(three[0], lambda: ran.append("after"))
    assert ran == ["after"]
    assert isinstance(results[0], TimeoutError)


async def test_run_raises_what_the_call_raised(three: list[ThreadLane]) -> None:
    """Errors of a single call surface as themselves."""
    with pytest.raises(ZeroDivisionError):
        await LoopLanes().run(three[0], lambda: 1 / 0)
    assert await LoopLanes().run(three[0], lambda: 7, deadline=time.monotonic() + 5) == 7


async def test_a_cancelled_waiter_does_no_harm(three: list[ThreadLane]) -> None:
    """The group ends after its future was cancelled."""
    hold = threading.Event()
    future = LoopLanes().scatter([(three[0], hold.wait)])
    future.cancel()
    hold.set()
    assert await LoopLanes().run(three[0], lambda: "alive") == "alive"


def test_a_lane_survives_its_loop() -> None:
    """A call that ends after the loop was closed is dropped."""
    lane = ThreadLane("x")
    hold = threading.Event()

    async def begin() -> None:
        LoopLanes().scatter([(lane, hold.wait)])

    asyncio.run(begin())
    hold.set()
    lane.stop()
    assert lane.join(5)

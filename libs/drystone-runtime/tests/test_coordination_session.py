# SPDX-License-Identifier: Apache-2.0
"""A session by its holder's clock: what renewals, silence, late answers and pauses do to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from drystone_core.coordination import SessionId
from drystone_core.errors import ErrorCode, Stale, Unreachable
from drystone_runtime.background import Background
from drystone_runtime.coordination.session import LeasedSession
from drystone_testing.sim_world import ManualClock


class Lease:
    """A store's side of one session, played by the test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.background = Background(clock=self.clock)
        self.renewals = self.revocations = 0
        self.answer: Callable[[], Awaitable[float]] = self.grant

    def session(self) -> LeasedSession:
        return LeasedSession(
            session=SessionId(7),
            ttl=10.0,
            asked=self.clock.now,
            renew=self.renew,
            revoke=self.revoke,
            clock=self.clock,
            background=self.background,
        )

    async def renew(self, within: float) -> float:
        self.renewals += 1
        return await self.answer()

    async def revoke(self) -> None:
        self.revocations += 1

    async def grant(self) -> float:
        return 10.0

    async def away(self) -> float:
        raise Unreachable("nobody answers")

    async def passes(self, seconds: float) -> None:
        """In small steps, with all tasks running."""
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            await asyncio.sleep(0.003)


@pytest.fixture
async def lease() -> AsyncIterator[Lease]:
    made = Lease()
    yield made
    await made.background.stop()


async def test_renewals_keep_it_and_each_is_counted_from_when_it_was_asked_for(lease: Lease) -> None:
    """A third of the time to live between them; never more than nine tenths of it ahead."""
    session = lease.session()
    assert session.left() == pytest.approx(9.0)
    for _ in range(5):
        await lease.passes(4.0)
        session.check()
        assert 4.0 < session.left() <= 9.0
    assert 4 <= lease.renewals <= 8
    await session.close()
    assert lease.revocations == 1 and await session.ended() == "closed" and session.left() == 0


async def test_silence_ends_it_by_the_holders_clock(lease: Lease) -> None:
    """Nobody answers: it is tried more often, then over, told to who waits, given back, and over for ever."""
    session = lease.session()
    lease.answer = lease.away
    waiting = asyncio.ensure_future(session.ended())
    await lease.passes(8.5)
    session.check()
    assert not waiting.done() and lease.renewals >= 3
    await lease.passes(1.0)
    assert waiting.done() and waiting.result() == "not renewed in time: ServiceUnavailable: nobody answers"
    lease.answer = lease.grant
    await lease.passes(5.0)
    with pytest.raises(Stale) as told:
        session.check()
    assert told.value.code is ErrorCode.FENCED and lease.revocations == 1


async def test_an_answer_that_comes_too_late_revives_nothing(lease: Lease) -> None:
    """L2: the store renewed it, but the holder's time was over when it heard of that."""
    session = lease.session()
    held = asyncio.Event()

    async def late() -> float:
        await held.wait()
        return 10.0

    lease.answer = late
    await lease.passes(9.5)
    held.set()
    await lease.passes(0.5)
    with pytest.raises(Stale):
        session.check()
    assert session.left() == 0 and "not renewed in time" in await session.ended()


async def test_after_a_pause_the_first_check_tells_it(lease: Lease) -> None:
    """L3: the process stood still; the check comes before the loop ran any other task, and even a renewal under way is void."""
    session = lease.session()
    await lease.passes(1.0)
    lease.clock.now += 60
    with pytest.raises(Stale, match="this process was paused"):
        session.check()
    await lease.passes(1.0)
    assert session.left() == 0 and "paused" in await session.ended()


async def test_the_stores_word_that_it_is_over_is_final(lease: Lease) -> None:
    """Somebody revoked it."""
    session = lease.session()

    async def over() -> float:
        return 0.0

    lease.answer = over
    await lease.passes(4.0)
    assert await session.ended() == "the coordinator ended it"
    with pytest.raises(Stale):
        session.check()

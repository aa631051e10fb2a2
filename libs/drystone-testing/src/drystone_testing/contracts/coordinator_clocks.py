# SPDX-License-Identifier: Apache-2.0
"""What clocks that disagree lead to, over every Coordinator; the rig is that of `coordinator`."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from drystone_core.coordination import Coordinator, Put
from drystone_core.errors import Refused
from drystone_core.formats.coordination import (
    CLOCK_QUESTIONS,
    ClockDocument,
    NodeDocument,
    clock_key,
    decode,
    encode,
    node_key,
)
from drystone_runtime.coordination.clocks import LIMIT
from drystone_runtime.coordination.registration import Registration
from drystone_testing.contracts.coordinator import CoordinatorRig, until
from drystone_testing.sim_world import SeededEntropy, SkewedClock

Enter = Callable[..., Awaitable[tuple[Registration, SkewedClock]]]
ROLE = "metadata"


def document(name: str) -> NodeDocument:
    """A node as its service tells it."""
    return NodeDocument(node=name, role=ROLE, endpoint=f"{name}:9200", claim=f"claim of {name}", incarnation="")


class CoordinatorClocksContract:
    """The suite: nodes whose clocks differ, at their start and later."""

    @pytest.fixture
    def rig(self) -> CoordinatorRig:
        """Subclasses give their rig here."""
        pytest.fail("a contract suite needs a rig fixture")

    @pytest.fixture
    async def enter(self, rig: CoordinatorRig) -> AsyncIterator[Enter]:
        """Makes started registrations, each with a coordinator and a clock of its own; they leave after the test."""
        made: list[tuple[Registration, Coordinator]] = []

        async def start(name: str, ahead: float = 0.0) -> tuple[Registration, SkewedClock]:
            coordinator, clock = await rig.connect(), SkewedClock(rig.clock, ahead)
            registration = Registration(
                coordinator=coordinator,
                node=document(name),
                ttl=rig.ttl * 20,
                clock=clock,
                entropy=SeededEntropy(len(made)),
            )
            made.append((registration, coordinator))
            await registration.start()
            return registration, clock

        yield start
        for registration, coordinator in made:
            await registration.stop()
            await coordinator.close()

    @pytest.fixture
    async def reader(self, rig: CoordinatorRig) -> AsyncIterator[Coordinator]:
        """Another process."""
        coordinator = await rig.connect()
        yield coordinator
        await coordinator.close()

    @pytest.mark.parametrize(("ahead", "says"), [(7200.0, r"7\d{3}\.\d s ahead of"), (-60.0, r"[56]\d\.\d s behind")])
    async def test_a_process_whose_clock_is_wrong_is_refused(
        self, enter: Enter, reader: Coordinator, ahead: float, says: str
    ) -> None:
        """Before it is registered, with a sentence that says how wrong it is and what to do; nothing of it is left."""
        for name in ("n1", "n2", "n3"):
            await enter(name)
        with pytest.raises(Refused, match=says) as refused:
            await enter("n4", ahead)
        assert "set the clock that is wrong (NTP)" in refused.value.message
        assert await reader.get(node_key(ROLE, "n4")) is None
        assert (await reader.snapshot(CLOCK_QUESTIONS)).documents == ()

    async def test_clocks_may_differ_a_little_and_the_first_node_has_nobody_to_ask(self, enter: Enter) -> None:
        """Seconds are tolerated; whoever is alone is right."""
        await enter("n1", 86400.0)
        await enter("n2", 86400.0 + LIMIT - 1)
        await enter("n3", 86400.0 - LIMIT + 1)

    async def test_two_that_differ_are_not_joined(self, enter: Enter) -> None:
        """Nobody knows which one is right."""
        await enter("n1")
        with pytest.raises(Refused, match=r"from 1 of the 1 nodes that told theirs"):
            await enter("n2", 20.0)

    async def test_a_clock_that_goes_wrong_later_is_told_and_does_not_keep_others_out(
        self, enter: Enter, reader: Coordinator
    ) -> None:
        """Its own process finds it, says so to the others and goes on; newcomers agree with most; set right, it is told."""
        wrong, clock = await enter("n1")
        right, _ = await enter("n2")
        await enter("n3")
        clock.ahead = 3600.0

        async def known() -> bool:
            found = await reader.get(clock_key(ROLE, "n1"))
            told = "" if found is None else decode(ClockDocument, found.value, key=found.key).fault
            return bool(wrong.clock_fault) and "ahead of" in told

        async def right_again() -> bool:
            return not wrong.clock_fault and not await known()

        await until(known)
        wrong.check()
        await enter("n4")
        assert right.clock_fault == ""
        clock.ahead = 0.0
        await until(right_again)

    async def test_what_was_told_before_the_question_counts_for_nothing(
        self, rig: CoordinatorRig, enter: Enter, reader: Coordinator
    ) -> None:
        """An old answer, and a node that gives none: a process starts all the same."""
        old = ClockDocument(wall_us=rig.clock.wall_us() - 3_600_000_000, heard=0)
        await reader.commit(
            Put(key=node_key(ROLE, "silent"), value=encode(document("silent"))),
            Put(key=clock_key(ROLE, "silent"), value=encode(old)),
        )
        registration, _ = await enter("n1")
        assert registration.clock_fault == ""

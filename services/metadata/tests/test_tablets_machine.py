# SPDX-License-Identifier: Apache-2.0
"""The metadata service over many tablets in memory behaves as the reference model, whatever happens to the tablets."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from drystone_metadata.store.memory import Fault, MemoryStorage, MemoryTablets
from drystone_testing.contracts.tablets_machine import ProcessEnds, TabletsMachine
from drystone_testing.sim_world import SteppedClock

LOST = {"lost_before": Fault.UNKNOWN_BEFORE, "lost_after": Fault.UNKNOWN_AFTER}
MOVING = ("create", "drop", "fill", "reshape", "clear", "take_over")
NO_OUTCOME = ("create", "drop", "take_over")
"""Calls that answer nothing that could be unknown."""


class TabletsWorld:
    """Tablets in memory; `lost_*` = an unknown outcome that cannot be settled for now."""

    def __init__(self) -> None:
        self.tablets = MemoryTablets()
        self.plan([])

    async def start(self) -> MemoryStorage:
        self.plan([])
        return MemoryStorage(self.tablets, faults=self._fault, clock=SteppedClock(), delay=lambda: 0.0)

    async def crash(self) -> None:
        pass

    def plan(self, faults: list[str]) -> None:
        self.faults, self.moves, self.cut = list(faults), [], False

    def plan_moves(self, faults: list[str]) -> None:
        self.plan([])
        self.moves = list(faults)

    def _fault(self, call: str) -> Fault:
        if call == "state" and self.cut:
            return Fault.UNAVAILABLE
        if call in MOVING and self.moves:
            name = self.moves.pop(0)
            if name == "end":
                raise ProcessEnds
            return Fault.UNAVAILABLE if call in NO_OUTCOME and name != "none" else Fault(name)
        if call != "commit" or not self.faults:
            return Fault.NONE
        name = self.faults.pop(0)
        self.cut = name in LOST
        return LOST[name] if name in LOST else Fault(name)


def test_many_tablets_behave_as_the_model() -> None:
    """Random mutations, listings, repeats, restarts; splits, joins, lost owners, processes that end in the middle."""

    class Machine(TabletsMachine):
        def make_world(self) -> TabletsWorld:
            return TabletsWorld()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.splits > 15  # joins come by chance here; test_tablets_churn and the attacks make them

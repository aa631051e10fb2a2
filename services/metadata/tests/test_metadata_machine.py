# SPDX-License-Identifier: Apache-2.0
"""The metadata service over the in-memory storage behaves as the reference model, under faults and restarts."""

from hypothesis import HealthCheck, Phase, settings

from drystone_metadata.store.memory import Fault, MemoryStorage, MemoryTablets
from drystone_testing.contracts.metadata_machine import MetadataMachine

LOST = {"lost_before": Fault.UNKNOWN_BEFORE, "lost_after": Fault.UNKNOWN_AFTER}


class MemoryWorld:
    """Tablets in memory; `lost_*` = an unknown outcome that cannot be settled for now."""

    def __init__(self) -> None:
        self.tablets = MemoryTablets()
        self.faults: list[str] = []
        self.cut = False

    async def start(self) -> MemoryStorage:
        self.plan([])
        return MemoryStorage(self.tablets, faults=self._fault)

    async def crash(self) -> None:
        pass

    def plan(self, faults: list[str]) -> None:
        self.faults = list(faults)
        self.cut = False

    def _fault(self, call: str) -> Fault:
        if call == "state" and self.cut:
            return Fault.UNAVAILABLE
        if call != "commit" or not self.faults:
            return Fault.NONE
        name = self.faults.pop(0)
        self.cut = name in LOST
        return LOST[name] if name in LOST else Fault(name)


class MemoryMachine(MetadataMachine):
    """Over memory."""

    def make_world(self) -> MemoryWorld:
        return MemoryWorld()


TestMetadataOverMemory = MemoryMachine.TestCase
TestMetadataOverMemory.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

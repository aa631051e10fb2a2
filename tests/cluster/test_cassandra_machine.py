# SPDX-License-Identifier: Apache-2.0
"""The metadata service over Cassandra behaves as the reference model, with commits whose outcome is hidden and restarts."""

import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from drystone_metadata.store.cassandra import CassandraStorage, OpenCell
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import ApartStorage, open_test_cell, settings_for
from drystone_testing.cassandra_faults import FaultyCql
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.metadata_machine import MetadataMachine
from drystone_testing.ledger import Record, rounds


class CassandraWorld:
    """One keyspace, a tablet a machine; a restart makes a new storage over the same session."""

    def __init__(self, node: CassandraNode, chance: random.Random) -> None:
        self._node = node
        self._chance = chance
        self._prefix = SystemEntropy().token(8)
        self.cell: OpenCell | None = None
        self.faults: FaultyCql | None = None

    async def start(self) -> ApartStorage:
        if self.cell is None:
            self.cell = await open_test_cell(settings_for(self._node))
            self.faults = FaultyCql(self.cell.session, chance=self._chance, rate=0.3)
        cell = self.cell
        assert self.faults is not None
        storage = CassandraStorage(
            cql=self.faults, statements=cell.statements, settings=cell.settings, most_bytes=cell.most_bytes
        )
        return ApartStorage(storage, self._prefix)

    async def crash(self) -> None:
        """Nothing of the storage is kept."""
        self.plan([])

    def plan(self, faults: list[str]) -> None:
        if self.faults is not None:
            self.faults.plan(faults)


def test_metadata_over_cassandra_behaves_as_the_model(node: CassandraNode, record: Record) -> None:
    """Random mutations, listings, repeats and restarts; unknown outcomes before and after the batch went in."""
    worlds: list[CassandraWorld] = []

    class Machine(MetadataMachine):
        def make_world(self) -> CassandraWorld:
            worlds.append(CassandraWorld(node, random.Random(len(worlds))))
            return worlds[-1]

        def teardown(self) -> None:
            super().teardown()
            cell = worlds[-1].cell
            assert cell is not None
            cell.session.cluster.shutdown()

    examples = rounds(60)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    unknown = sum(world.faults.unknown for world in worlds if world.faults)
    record(machines=len(worlds), unknown=unknown)
    assert unknown > examples

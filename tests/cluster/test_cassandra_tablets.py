# SPDX-License-Identifier: Apache-2.0
"""The metadata service over many tablets in Cassandra behaves as the reference model, with outcomes hidden and lost owners."""

import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from drystone_metadata.store.cassandra import CassandraStorage, OpenCell
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import ApartStorage, open_test_cell, settings_for
from drystone_testing.cassandra_faults import FaultyCql
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablets_machine import TabletsMachine
from drystone_testing.ledger import Record, rounds


class TabletsWorld:
    """One keyspace, tablets of a machine apart from others'; some commits, fills and clears have their outcome hidden."""

    def __init__(self, node: CassandraNode, chance: random.Random) -> None:
        self._node = node
        self._chance = chance
        self._prefix = SystemEntropy().token(8)
        self.cell: OpenCell | None = None
        self.faults: FaultyCql | None = None

    async def start(self) -> ApartStorage:
        if self.cell is None:
            self.cell = await open_test_cell(settings_for(self._node, scan_rows=3, read_rows=3))
            self.faults = FaultyCql(self.cell.session, chance=self._chance, rate=0.1)
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

    def plan_moves(self, faults: list[str]) -> None:
        """What can be said of a batch; the ends of processes are left to the world in memory."""
        self.plan([fault for fault in faults if fault not in ("end", "unavailable")])


def test_many_tablets_in_cassandra_behave_as_the_model(node: CassandraNode, record: Record) -> None:
    """Random mutations, listings, repeats and restarts; splits, joins and lost owners between and beside them."""
    worlds: list[TabletsWorld] = []

    class Machine(TabletsMachine):
        def make_world(self) -> TabletsWorld:
            worlds.append(TabletsWorld(node, random.Random(len(worlds))))
            return worlds[-1]

        def teardown(self) -> None:
            super().teardown()
            cell = worlds[-1].cell
            assert cell is not None
            cell.session.cluster.shutdown()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=rounds(20),
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    unknown = sum(world.faults.unknown for world in worlds if world.faults)
    record(machines=len(worlds), unknown=unknown, splits=Machine.splits, joins=Machine.joins)
    assert Machine.splits > 3 and unknown > 10

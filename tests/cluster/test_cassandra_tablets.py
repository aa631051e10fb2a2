# SPDX-License-Identifier: Apache-2.0
"""The metadata service over many tablets in Cassandra behaves as the reference model, with outcomes hidden and lost owners."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from cassandra.query import BoundStatement
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from drystone_core.formats.row_keys import CURRENT
from drystone_metadata.store.cassandra import CassandraStorage, OpenCell
from drystone_metadata.store.cassandra.session import Cql, Rows
from drystone_metadata.store.ports import Committed, Fill, RowKey, TabletId
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import ApartStorage, open_test_cell, settings_for
from drystone_testing.cassandra_faults import FaultyCql
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablet_storage import row
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


class SlowCql:
    """Before the first answer to a page reaches its reader, something else happens."""

    def __init__(self, cql: Cql, page: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._cql, self._page, self._meanwhile = cql, page, meanwhile
        self.pages = 0

    async def run(self, statement: Any, profile: str) -> Rows:
        rows = await self._cql.run(statement, profile)
        if isinstance(statement, BoundStatement) and statement.prepared_statement is self._page:
            self.pages += 1
            if self.pages == 1:
                await self._meanwhile()
        return rows


@pytest.mark.parametrize("seen", [False, True])
async def test_an_empty_page_is_not_believed_of_a_tablet_that_grew_meanwhile(node: CassandraNode, seen: bool) -> None:
    """A reader asks a tablet for what its neighbour holds; the tablet takes that over before the reader sees its range."""
    cell = await open_test_cell(settings_for(node))
    tablet, storage = TabletId(SystemEntropy().token(16)), cell.storage
    await storage.create(tablet, low=b"", high=b"c", generation=1)
    state = await storage.take_over(tablet)
    key, value = row(CURRENT, b"m")

    async def grow() -> None:
        filled = replace(state, head=state.head + 1, batch_id=b"f" * 16)
        assert (
            await storage.fill(tablet, state, Fill(batch_id=filled.batch_id, puts=((key, value),)))
            is Committed.COMMITTED
        )
        to = replace(filled, epoch=filled.epoch + 1, high=b"")
        assert await storage.reshape(tablet, filled, to) is Committed.COMMITTED

    slow = SlowCql(cell.session, cell.statements.page, grow)
    reader = CassandraStorage(cql=slow, statements=cell.statements, settings=cell.settings, most_bytes=cell.most_bytes)
    if seen:
        await reader.state(tablet)
    span = (tablet, RowKey(CURRENT, b"d"), RowKey(CURRENT, b"z"), 9)
    assert await reader.scan(*span) == [(key, value)]
    slow.pages = 1
    assert await reader.scan(tablet, RowKey(CURRENT, b"n"), RowKey(CURRENT, b"z"), 9) == []
    assert slow.pages == 2, "an epoch that is known takes one page"
    await cell.close()

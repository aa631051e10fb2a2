# SPDX-License-Identifier: Apache-2.0
"""Opening a cell's keyspace: the schema is made once, and what does not fit is refused with what to do."""

import asyncio

import pytest
from cassandra.cluster import Cluster

from drystone_core.errors import Refused, Unavailable
from drystone_metadata.store.cassandra import CassandraStorage
from drystone_metadata.store.cassandra.schema import MIGRATIONS, VERSION
from drystone_metadata.store.ports import Batch, Expected, TabletId
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode, free_port
from drystone_testing.contracts.tablet_storage import row


def cql(node: CassandraNode, *statements: str) -> list[tuple]:
    """Run as an operator would; the last one's rows."""
    rows: list[tuple] = []
    with Cluster([node.address], port=node.port, protocol_version=5) as cluster, cluster.connect() as session:
        for text in statements:
            rows = [tuple(found) for found in session.execute(text, timeout=60)]
    return rows


@pytest.fixture
def keyspace(node: CassandraNode):
    """A name, and no keyspace left behind."""
    name = f"opening_{SystemEntropy().token(4).hex()}"
    yield name
    cql(node, f"DROP KEYSPACE IF EXISTS {name}")


async def refusal(node: CassandraNode, **settings: object) -> str:
    """What opening is refused with."""
    with pytest.raises(Unavailable) as refused:
        cell = await open_test_cell(settings_for(node, **settings))
        await cell.close()
    return refused.value.message


async def test_several_processes_migrate_at_once(node: CassandraNode, keyspace: str) -> None:
    """Three first starts at the same moment: one schema, each step noted once, the home stored, the lock gone."""
    settings = settings_for(node, keyspace=keyspace)
    cells = await asyncio.gather(*(open_test_cell(settings) for _ in range(3)))
    tablet = TabletId(b"one")
    await cells[0].storage.create(tablet, low=b"", high=b"", generation=1)
    assert [(await cell.storage.state(tablet)).head for cell in cells] == [0, 0, 0]
    assert {cell.home for cell in cells} == {"dc1"}
    for cell in cells:
        await cell.close()
    noted = cql(node, f"SELECT version, name FROM {keyspace}.migrations")
    assert sorted(noted) == [(at + 1, step.name) for at, step in enumerate(MIGRATIONS)]
    assert cql(node, f"SELECT name, value FROM {keyspace}.cell") == [("home_datacentre", "dc1")]
    again = await open_test_cell(settings_for(node, keyspace=keyspace, migrate=False, datacentre=""))
    assert (await again.storage.state(tablet)).head == 0
    await again.close()


async def test_schema_that_does_not_fit_is_refused(node: CassandraNode, keyspace: str) -> None:
    """No schema, a newer one, somebody else's: each with its sentence, and without a change."""
    assert "run `drystone cell init` of this release" in await refusal(node, keyspace=keyspace, migrate=False)
    assert cql(node, f"SELECT * FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'") == []
    cell = await open_test_cell(settings_for(node, keyspace=keyspace))
    await cell.close()
    newer = VERSION + 1
    cql(node, f"INSERT INTO {keyspace}.migrations (version, name) VALUES ({newer}, 'later')")
    said = await refusal(node, keyspace=keyspace)
    assert f"has schema version {newer}, this release knows {VERSION}" in said and "newer release" in said
    cql(node, f"UPDATE {keyspace}.migrations SET name = 'tables_of_others' WHERE version = 1")
    assert "migrated by something else" in await refusal(node, keyspace=keyspace)


async def test_home_that_does_not_fit_is_refused(node: CassandraNode, keyspace: str) -> None:
    """R9: another home is stored; a datacentre that is not there; a keyspace that knows no datacentres."""
    cell = await open_test_cell(settings_for(node, keyspace=keyspace))
    await cell.close()
    assert "has no datacentre dc7 (it has dc1)" in await refusal(node, keyspace=keyspace, datacentre="dc7")
    cql(node, f"UPDATE {keyspace}.cell SET value = 'dc2' WHERE name = 'home_datacentre'")
    assert "is dc2, this process is set to dc1" in await refusal(node, keyspace=keyspace)
    assert "no replicas in its home datacentre dc2" in await refusal(node, keyspace=keyspace, datacentre="")
    cql(
        node,
        f"ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
    )
    assert "change it to NetworkTopologyStrategy" in await refusal(node, keyspace=keyspace)


async def test_more_replicas_than_nodes_are_refused(node: CassandraNode, keyspace: str) -> None:
    """Paxos would count only the nodes there are; commits would go in that quorum reads do not find."""
    assert "wants 3 replicas in dc1, which has 1 node" in await refusal(node, keyspace=keyspace, replication_factor=3)


async def test_a_node_that_is_not_there_is_named(node: CassandraNode) -> None:
    """Nobody listens: the address stands in the sentence."""
    port = free_port(node.address)
    assert f"{node.address}:{port}" in await refusal(node, port=port)


async def test_a_commit_beyond_the_server_s_limits_is_refused_before_it_is_sent(node: CassandraNode) -> None:
    """The limit is read from the node; up to it commits go in, beyond it nothing is sent and nothing changes."""
    cell = await open_test_cell(settings_for(node, commit_timeout=20.0))
    tablet = TabletId(SystemEntropy().token(16))
    try:
        storage = cell.storage
        assert 4 << 20 < cell.most_bytes < 16 << 20
        await storage.create(tablet, low=b"", high=b"", generation=1)
        state = await storage.take_over(tablet)
        rows = [row(1, b"%06d" % number, b"", bytes(1 << 16)) for number in range(cell.most_bytes // (1 << 16) + 1)]
        large = Batch(batch_id=b"1" * 16, floor_us=0, generation=1, puts=rows)
        with pytest.raises(Refused, match="max_mutation_size"):
            await storage.commit(tablet, Expected(0, state.epoch, 1), large)
        fits = Batch(batch_id=b"2" * 16, floor_us=0, generation=1, puts=rows[:-2])
        assert await storage.commit(tablet, Expected(0, state.epoch, 1), fits) == "committed"
        generous = CassandraStorage(
            cql=cell.session, statements=cell.statements, settings=cell.settings, most_bytes=1 << 30
        )
        with pytest.raises(Unavailable, match="refuses"):
            await generous.commit(
                tablet,
                Expected(1, state.epoch, 1),
                Batch(
                    batch_id=b"3" * 16, floor_us=0, generation=1, puts=rows * 1 + [row(2, b"x", b"", bytes(4 << 20))]
                ),
            )
        assert (await storage.state(tablet)).head == 1
    finally:
        await cell.close()


async def test_a_dropped_tablet_leaves_nothing(node: CassandraNode) -> None:
    """Rows, feed and statics go in one step; a new tablet of the same name begins anew."""
    cell = await open_test_cell(settings_for(node))
    tablet = TabletId(SystemEntropy().token(16))
    try:
        storage = cell.storage
        await storage.drop(tablet)
        for _ in range(2):
            await storage.create(tablet, low=b"", high=b"", generation=1)
            state = await storage.take_over(tablet)
            assert (state.head, state.epoch) == (0, 1)
            batch = Batch(batch_id=b"1" * 16, floor_us=0, generation=1, puts=[row(1, b"a")], feed=b"f")
            assert await storage.commit(tablet, Expected(0, 1, 1), batch) == "committed"
            await storage.drop(tablet)
            with pytest.raises(Refused):
                await storage.feed(tablet, 0, 9)
        partition = f"WHERE bucket_id = 0x{tablet[:8].hex()} AND tablet_id = 0x{tablet[8:].hex()}"
        assert cql(node, f"SELECT * FROM {cell.settings.keyspace}.tablets {partition}") == []
    finally:
        await cell.close()

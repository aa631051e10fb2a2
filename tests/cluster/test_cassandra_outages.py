# SPDX-License-Identifier: Apache-2.0
"""A session over outages of its nodes: nothing is guessed, and it goes on by itself when they are back."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from cassandra.cluster import Cluster

from drystone_core.errors import Unavailable
from drystone_metadata.store.cassandra import OpenCell
from drystone_metadata.store.ports import Batch, Committed, Expected, RowKey, TabletId, TabletState
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablet_storage import row

TABLET = TabletId(SystemEntropy().token(16))


@pytest.fixture
async def cell(node: CassandraNode) -> AsyncIterator[OpenCell]:
    """A keyspace of its own, with short times."""
    keyspace = f"outages_{SystemEntropy().token(4).hex()}"
    opened = await open_test_cell(
        settings_for(node, keyspace=keyspace, commit_timeout=1.0, read_timeout=1.0, heartbeat=1.0)
    )
    await opened.storage.create(TABLET, low=b"", high=b"", generation=1)
    yield opened
    await opened.close()
    with Cluster([node.address], port=node.port, protocol_version=5) as cluster, cluster.connect() as session:
        session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)


async def commit(cell: OpenCell, state: TabletState, body: bytes) -> Committed:
    """One row at the head of `state`."""
    batch = Batch(batch_id=body.ljust(16, b"."), floor_us=0, generation=1, puts=[row(1, b"a", b"", body)])
    return await cell.storage.commit(TABLET, Expected(state.head, state.epoch, 1), batch)


async def settled(cell: OpenCell) -> TabletState:
    """As soon as Cassandra answers again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await cell.storage.state(TABLET)
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_a_session_outlives_a_killed_node(node: CassandraNode, cell: OpenCell) -> None:
    """What was acknowledged is there after the node's kill -9; meanwhile commits are unknown and reads unavailable."""
    state = await cell.storage.take_over(TABLET)
    assert await commit(cell, state, b"first") is Committed.COMMITTED
    node.kill()
    try:
        for _ in range(2):
            assert await commit(cell, state, b"unknown") is Committed.UNKNOWN
            with pytest.raises(Unavailable):
                await cell.storage.read(TABLET, [RowKey(1, b"a")])
            with pytest.raises(Unavailable):
                await cell.storage.take_over(TABLET)
    finally:
        node.start()
    after = await settled(cell)
    assert (after.head, after.epoch, after.batch_id) == (1, state.epoch, b"first".ljust(16, b"."))
    assert await commit(cell, after, b"second") is Committed.COMMITTED
    assert await cell.storage.read(TABLET, [RowKey(1, b"a")]) == [row(1, b"a", b"", b"second")[1]]


async def test_a_hanging_node_makes_commits_unknown(node: CassandraNode, cell: OpenCell) -> None:
    """A stopped node (SIGSTOP) answers nobody: unknown within the time set; when it goes on, the feed tells what went in."""
    state = await cell.storage.take_over(TABLET)
    node.pause()
    try:
        async with asyncio.timeout(20):
            assert await commit(cell, state, b"paused") is Committed.UNKNOWN
            with pytest.raises(Unavailable):
                await cell.storage.state(TABLET)
    finally:
        node.resume()
    after = await settled(cell)
    feed = await cell.storage.feed(TABLET, 0, 9)
    assert [entry.batch_id for entry in feed] == [b"paused".ljust(16, b".")] * after.head
    # Had it still been on its way, this one would be refused once, and find it then.
    if await commit(cell, after, b"after") is Committed.STALE:
        after = await settled(cell)
        assert after.batch_id == b"paused".ljust(16, b".")
        assert await commit(cell, after, b"after") is Committed.COMMITTED

# SPDX-License-Identifier: Apache-2.0
"""Owners of one tablet that do not know of each other: the epoch decides, in Cassandra."""

from drystone_metadata.store.ports import Batch, Committed, Expected, TabletId
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablet_storage import row
from drystone_testing.ledger import Record, rounds
from drystone_testing.rival_owners import KEY, Rival, check_one_sequence, race


async def test_a_former_owner_is_refused_however_owners_race(node: CassandraNode, record: Record) -> None:
    """Four processes take one tablet from each other: one sequence, epochs only rise in it, no epoch has two owners."""
    cells = [await open_test_cell(settings_for(node)) for _ in range(4)]
    tablet = TabletId(SystemEntropy().token(16))
    try:
        await cells[0].storage.create(tablet, low=b"", high=b"", generation=1)
        rivals = [Rival(cell.storage, tablet, seed) for seed, cell in enumerate(cells)]
        await race(rivals, rounds(25))
        storage = cells[0].storage
        state = await storage.state(tablet)
        feed = await storage.feed(tablet, 0, 1 << 20)
        (value,) = await storage.read(tablet, [KEY])
    finally:
        for cell in cells:
            await cell.close()
    record(**check_one_sequence(rivals, state, feed, value))


async def test_a_batch_sent_again_is_told_that_it_is_in(node: CassandraNode) -> None:
    """T1: the refusal shows our own batch id as the tablet's last one."""
    cell = await open_test_cell(settings_for(node))
    tablet = TabletId(SystemEntropy().token(16))
    try:
        await cell.storage.create(tablet, low=b"", high=b"", generation=1)
        state = await cell.storage.take_over(tablet)
        first = Batch(batch_id=b"1" * 16, floor_us=0, generation=1, puts=[row(1, b"a")])
        other = Batch(batch_id=b"2" * 16, floor_us=0, generation=1, puts=[row(1, b"b")])
        for _ in range(2):
            assert await cell.storage.commit(tablet, Expected(0, state.epoch, 1), first) is Committed.COMMITTED
        assert await cell.storage.commit(tablet, Expected(0, state.epoch, 1), other) is Committed.STALE
        assert await cell.storage.commit(tablet, Expected(1, state.epoch, 1), other) is Committed.COMMITTED
        assert await cell.storage.commit(tablet, Expected(0, state.epoch, 1), first) is Committed.STALE
        assert [entry.batch_id for entry in await cell.storage.feed(tablet, 0, 9)] == [b"1" * 16, b"2" * 16]
    finally:
        await cell.close()

# SPDX-License-Identifier: Apache-2.0
"""Owners of one tablet that do not know of each other: the epoch decides, in Cassandra."""

import asyncio
import random

from drystone_core.errors import Unavailable
from drystone_metadata.store.cassandra import CassandraStorage
from drystone_metadata.store.ports import Batch, Committed, Expected, RowKey, TabletId, TabletState
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablet_storage import row
from drystone_testing.ledger import Record, rounds

KEY = RowKey(1, b"counter")


class Rival:
    """Takes the tablet over, commits until it is refused, and tries again after that: what it does must be refused."""

    def __init__(self, storage: CassandraStorage, tablet: TabletId, seed: int) -> None:
        self.storage = storage
        self.tablet = tablet
        self.chance = random.Random(seed)
        self.committed: list[bytes] = []
        self.unknown: list[bytes] = []
        self.refused: list[bytes] = []
        self.epochs: list[int] = []

    async def reign(self, most: int) -> None:
        """One ownership of up to `most` commits."""
        try:
            state = await self.storage.take_over(self.tablet)
        except Unavailable:
            return  # too many rivals at once
        self.epochs.append(state.epoch)
        head = state.head
        for _ in range(most):
            answer = await self.commit(head, state)
            if answer is Committed.UNKNOWN:
                now = await self.storage.state(self.tablet)
                if now.epoch != state.epoch:
                    return
                head = now.head
            elif answer is Committed.COMMITTED:
                head += 1
            else:
                # Somebody else's epoch: never again, whatever head is believed in.
                now = await self.storage.state(self.tablet)
                assert now.epoch > state.epoch
                for belief in (head, now.head, now.head + 1):
                    assert await self.commit(belief, state) is Committed.STALE
                return

    async def commit(self, head: int, state: TabletState) -> Committed:
        """Count up; the batch id begins with the epoch."""
        batch_id = state.epoch.to_bytes(8, "big") + self.chance.randbytes(8)
        batch = Batch(
            batch_id=batch_id,
            floor_us=state.floor_us,
            generation=1,
            puts=[row(*KEY, b"%d" % (head + 1))],
            feed=batch_id,
        )
        answer = await self.storage.commit(self.tablet, Expected(head, state.epoch, 1), batch)
        told = {Committed.COMMITTED: self.committed, Committed.UNKNOWN: self.unknown, Committed.STALE: self.refused}
        told[answer].append(batch_id)
        return answer


async def test_a_former_owner_is_refused_however_owners_race(node: CassandraNode, record: Record) -> None:
    """Four processes take one tablet from each other: one sequence, epochs only rise in it, no epoch has two owners."""
    cells = [await open_test_cell(settings_for(node)) for _ in range(4)]
    tablet = TabletId(SystemEntropy().token(16))
    try:
        await cells[0].storage.create(tablet, low=b"", high=b"", generation=1)
        rivals = [Rival(cell.storage, tablet, seed) for seed, cell in enumerate(cells)]

        async def race(rival: Rival) -> None:
            for _ in range(rounds(25)):
                await rival.reign(rival.chance.randint(1, 12))
                await asyncio.sleep(rival.chance.random() * 0.02)

        async with asyncio.TaskGroup() as group:
            for rival in rivals:
                group.create_task(race(rival))
        storage = cells[0].storage
        state = await storage.state(tablet)
        feed = await storage.feed(tablet, 0, 1 << 20)
        (value,) = await storage.read(tablet, [KEY])
    finally:
        for cell in cells:
            await cell.close()
    committed = [batch_id for rival in rivals for batch_id in rival.committed]
    unknown = {batch_id for rival in rivals for batch_id in rival.unknown}
    refused = [batch_id for rival in rivals for batch_id in rival.refused]
    epochs = [epoch for rival in rivals for epoch in rival.epochs]
    ids = [entry.batch_id for entry in feed]
    record(owners=len(epochs), committed=len(committed), refused=len(refused), unknown=len(unknown))
    assert [entry.seq for entry in feed] == list(range(1, state.head + 1))
    assert value == row(*KEY, b"%d" % state.head)[1]
    assert set(committed) <= set(ids) <= set(committed) | unknown and len(set(ids)) == len(ids)
    assert not set(refused) & set(ids)
    assert [batch_id[:8] for batch_id in ids] == sorted(batch_id[:8] for batch_id in ids)
    assert len(set(epochs)) == len(epochs) and max(epochs) <= state.epoch
    assert refused and committed


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

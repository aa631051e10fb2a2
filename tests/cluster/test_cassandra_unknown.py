# SPDX-License-Identifier: Apache-2.0
"""Commits that are lost or answered to nobody, on the wire: no committed batch is lost, none that was not is counted."""

import asyncio
import random

from drystone_core.errors import Unavailable
from drystone_metadata.store.cassandra import CassandraStorage
from drystone_metadata.store.ports import Batch, Committed, Expected, FeedRow, RowKey, TabletId, TabletState
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_faults import FaultyWire, WireFault
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.tablet_storage import row
from drystone_testing.ledger import Record, rounds

KEYS = 40
PADDING = 400
"""Bytes of a value, so that commits are told from reads by their size."""


class Owner:
    """Commits random batches to one tablet and settles what it was not told, as the committer does (R6)."""

    def __init__(self, storage: CassandraStorage, tablet: TabletId, chance: random.Random) -> None:
        self.storage = storage
        self.tablet = tablet
        self.chance = chance
        self.state = TabletState()
        self.sent: dict[bytes, Batch] = {}
        self.went_in: dict[int, bytes] = {}
        """Sequence → batch id, of those we were told of or settled."""
        self.void: set[bytes] = set()
        """Told or settled not to be in. (Settled: unless it was still on its way and nothing else goes in before it.)"""
        self.settled = 0

    def batch(self) -> Batch:
        """A few rows put and deleted."""
        names = self.chance.sample(range(KEYS), 6)
        batch_id = self.chance.randbytes(16)
        body = batch_id + bytes(PADDING)
        batch = Batch(
            batch_id=batch_id,
            floor_us=self.state.floor_us + 1,
            generation=self.state.generation,
            puts=[row(1, b"%d" % name, b"", body) for name in names[:3]],
            deletes=[RowKey(1, b"%d" % name) for name in names[2:]],
            feed=batch_id,
        )
        self.sent[batch_id] = batch
        return batch

    async def commit(self) -> Committed:
        """One batch, to a known end."""
        batch, state = self.batch(), self.state
        answer = await self.storage.commit(self.tablet, Expected(state.head, state.epoch, state.generation), batch)
        if answer is Committed.COMMITTED:
            self.went_in[state.head + 1] = batch.batch_id
        if answer is Committed.STALE:
            self.void.add(batch.batch_id)
        if answer is Committed.UNKNOWN:
            self.settled += 1
        self.state = await self.patiently(self.storage.state)
        for entry in await self.entries(state.head):
            self.went_in[entry.seq] = entry.batch_id
        if answer is Committed.UNKNOWN and batch.batch_id not in self.went_in.values():
            self.void.add(batch.batch_id)
        return answer

    async def entries(self, after: int) -> list[FeedRow]:
        """The feed after a sequence."""
        return await self.patiently(lambda tablet: self.storage.feed(tablet, after, 1000))

    async def patiently(self, ask):
        """Until Cassandra answers."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await ask(self.tablet)
                except Unavailable:
                    await asyncio.sleep(0.02)


async def test_no_commit_is_lost_or_counted_twice_when_the_wire_fails(node: CassandraNode, record: Record) -> None:
    """Hundreds of commits whose message or answer is lost, with and without its connection, or arrives late."""
    chance = random.Random(4)
    wire = FaultyWire(node.address, node.port, least=PADDING)
    port = await wire.start()
    settings = settings_for(node, port=port, commit_timeout=0.4, reconnect_after=0.05, heartbeat=30.0)
    cell = await open_test_cell(settings)
    tablet = TabletId(SystemEntropy().token(16))
    owner = Owner(cell.storage, tablet, chance)
    faults = list(WireFault)
    answers = dict.fromkeys(Committed, 0)
    late = late_in = 0
    try:
        await cell.storage.create(tablet, low=b"", high=b"", generation=1)
        owner.state = await cell.storage.take_over(tablet)
        for number in range(rounds(300)):
            fault = faults[number % len(faults)]
            wire.arm(fault)
            answers[await owner.commit()] += 1
            if fault is WireFault.LATE:
                late += 1
                held = next(reversed(owner.sent))
                assert held in owner.void
                # Either nothing was committed since, and it goes in now, or something was, and it is refused.
                overtaken = chance.random() < 0.5
                if overtaken:
                    assert await owner.commit() is Committed.COMMITTED
                await wire.release()
                await asyncio.sleep(0.05)
                answers[await owner.commit()] += 1
                went_in = held in owner.went_in.values()
                assert not (overtaken and went_in)
                late_in += went_in
    finally:
        await cell.close()
        await wire.stop()
    await _compare(node, owner, tablet)
    told = {str(answer.value): count for answer, count in answers.items()}
    record(hidden=wire.met, told=told, late=late, late_in=late_in, commits=len(owner.sent), in_feed=len(owner.went_in))
    assert wire.met == rounds(300) and owner.settled >= wire.met * 0.95
    assert 0 < late_in < late


async def _compare(node: CassandraNode, owner: Owner, tablet: TabletId) -> None:
    """The tablet is what its feed says, and its feed is what the owner was told."""
    cell = await open_test_cell(settings_for(node))
    try:
        state = await cell.storage.state(tablet)
        feed = await cell.storage.feed(tablet, 0, 1 << 20)
        rows = await cell.storage.scan(tablet, RowKey(1, b""), RowKey(2, b""), 1000)
    finally:
        await cell.close()
    assert [entry.seq for entry in feed] == list(range(1, state.head + 1))
    assert {entry.seq: entry.batch_id for entry in feed} == owner.went_in
    assert len({entry.batch_id for entry in feed}) == len(feed)
    model: dict[RowKey, bytes] = {}
    for entry in feed:
        batch = owner.sent[entry.batch_id]
        assert entry.record == entry.batch_id
        for key in batch.deletes:
            model.pop(key, None)
        model.update(batch.puts)
    assert dict(rows) == model
    assert state.floor_us == owner.sent[feed[-1].batch_id].floor_us

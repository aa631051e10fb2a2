# SPDX-License-Identifier: Apache-2.0
"""Three real Cassandra nodes, three replicas: one may be killed, hang or hide outcomes, and nothing is lost or stale."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from drystone_core.errors import Unavailable
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.cassandra import CassandraStorage, OpenCell
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import ApartStorage, open_test_cell
from drystone_testing.cassandra_faults import FaultyCql
from drystone_testing.cassandra_node import CassandraNode, missing
from drystone_testing.cassandra_ring import CassandraRing, RingHarness
from drystone_testing.contracts.tablet_storage import TabletStorageContract
from drystone_testing.ledger import SCALE, Record, rounds
from drystone_testing.metadata_load import MetadataLoad
from drystone_testing.rival_owners import KEY, Rival, check_one_sequence, race

CLOCK, ENTROPY = SystemClock(), SystemEntropy()
SHORT = {"commit_timeout": 2.0, "read_timeout": 4.0, "heartbeat": 2.0}
"""A member that hangs is noticed sooner than in production; nothing else differs."""


@pytest.fixture(scope="module")
def ring() -> Iterator[CassandraRing]:
    """Started once for this file."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="drystone-ring-", ignore_cleanup_errors=True) as folder:
        started = CassandraRing(Path(folder))
        try:
            started.start()
            yield started
        finally:
            started.stop()


class Loaded(NamedTuple):
    """What is under load."""

    load: MetadataLoad
    faults: FaultyCql
    coordinator: CassandraNode
    """The member that gets all its statements."""


@asynccontextmanager
async def loaded(ring: CassandraRing, *, hidden: float = 0.0) -> AsyncIterator[Loaded]:
    """A metadata service over a new tablet, under load; at the end all is compared, by a service that opens it anew."""
    cell = await open_test_cell(ring.settings(**SHORT))
    faults = FaultyCql(cell.session, chance=random.Random(5), rate=hidden)
    prefix = ENTROPY.token(16)
    tablet = TabletId(prefix + CELL_TABLET)
    service = metadata(cell, prefix, faults)
    load = MetadataLoad(service, CLOCK, ENTROPY)
    async with asyncio.timeout(60):
        while True:
            try:
                await service.start()
                break
            except Unavailable:  # a member has gone a moment ago
                await asyncio.sleep(0.2)
    committing = asyncio.create_task(service.run())
    load.start()
    try:
        yield Loaded(load, faults, ring.coordinator(cell, tablet))
        await load.finish()
    finally:
        await load.abandon()
        committing.cancel()
        with suppress(asyncio.CancelledError):
            await committing
        await cell.close()
    other = await open_test_cell(ring.settings())
    try:
        await load.compare(metadata(other, prefix))
        assert load.model
        feed = await other.storage.feed(tablet, 0, 1 << 20)
        assert [entry.seq for entry in feed] == list(range(1, len(feed) + 1))
    finally:
        await other.close()


def metadata(cell: OpenCell, prefix: bytes, faults: FaultyCql | None = None) -> LocalMetadata:
    """The service over tablets of its own, its statements going through `faults`."""
    storage = CassandraStorage(
        cql=faults or cell.session, statements=cell.statements, settings=cell.settings, most_bytes=cell.most_bytes
    )
    return LocalMetadata(storage=ApartStorage(storage, prefix), tablet=CELL_TABLET, clock=CLOCK, entropy=ENTROPY)


async def test_nothing_is_lost_when_a_member_is_killed_under_load(ring: CassandraRing, record: Record) -> None:
    """The one that got all the statements: every call is answered, by repeats at most, and all that was acknowledged is
    there."""
    ring.mend()
    async with loaded(ring) as (load, _, coordinator):
        await load.until(rounds(200))
        ring.away(coordinator)
        await load.until(rounds(400))
    record(acknowledged=load.acknowledged, repeats=load.repeats, slowest=round(load.slowest, 2))


async def test_hidden_outcomes_are_settled_while_a_member_is_away(ring: CassandraRing, record: Record) -> None:
    """Timeouts before and after the batch went in, with two members left: nothing is lost, nothing happens twice."""
    ring.away()
    async with loaded(ring, hidden=0.3) as (load, faults, _):
        await load.until(rounds(400))
    record(acknowledged=load.acknowledged, repeats=load.repeats, hidden=faults.unknown)
    assert faults.unknown > 5


async def test_a_member_that_comes_back_knows_what_it_missed(ring: CassandraRing) -> None:
    """Written while it was away, read when another one is: a quorum always holds one that knows."""
    gone = ring.away()
    async with loaded(ring) as (load, _, _):
        await load.until(rounds(100))
        await asyncio.to_thread(ring.mend)
        assert ring.away() is not gone
        await load.until(rounds(100))


async def test_nothing_is_lost_when_a_member_hangs_under_load(ring: CassandraRing, record: Record) -> None:
    """SIGSTOP for 10 s, of the one that gets all the statements: their outcomes are settled, and it goes on meanwhile."""
    ring.mend()
    async with loaded(ring) as (load, _, coordinator):
        await load.until(rounds(100))
        coordinator.pause()
        try:
            await asyncio.sleep(10)
            await load.until(1)
        finally:
            coordinator.resume()
        await load.until(rounds(200))
    record(acknowledged=load.acknowledged, repeats=load.repeats, slowest=round(load.slowest, 2))


async def test_a_former_owner_is_refused_while_a_member_dies(ring: CassandraRing, record: Record) -> None:
    """Three processes take one tablet from each other, a member killed meanwhile: one sequence, no epoch has two owners."""
    ring.mend()
    cells = [await open_test_cell(ring.settings(**SHORT)) for _ in range(3)]
    tablet = TabletId(ENTROPY.token(16))
    try:
        await cells[0].storage.create(tablet, low=b"", high=b"", generation=1)
        rivals = [Rival(cell.storage, tablet, seed) for seed, cell in enumerate(cells)]
        racing = asyncio.create_task(race(rivals, rounds(15)))
        async with asyncio.timeout(60):
            while sum(len(rival.committed) for rival in rivals) < 10:
                await asyncio.sleep(0.01)
        ring.away()
        assert not racing.done()
        await racing
        storage = cells[0].storage
        state = await rivals[0].settled()
        feed = await storage.feed(tablet, 0, 1 << 20)
        (value,) = await storage.read(tablet, [KEY])
    finally:
        for cell in cells:
            await cell.close()
    record(**check_one_sequence(rivals, state, feed, value))


@pytest.mark.skipif(SCALE < 2, reason="the contract over three nodes is for the long form: FAULT_SCALE=2 or more")
class TestRing(TabletStorageContract):
    """The contract of every TabletStorage with three replicas; after a crash one of them stays away."""

    @pytest.fixture
    def harness(self, ring: CassandraRing) -> RingHarness:
        return RingHarness(ring)

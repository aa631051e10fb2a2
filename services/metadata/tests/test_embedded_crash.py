# SPDX-License-Identifier: Apache-2.0
"""Power cuts at any disk call: what was acknowledged is there, what was not is there whole or not at all."""

import asyncio
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drystone_core.errors import Damaged, Unavailable
from drystone_core.formats.rowseal import seal
from drystone_metadata.store.embedded import EmbeddedStorage
from drystone_metadata.store.ports import CELL_TABLET, Batch, Committed, Expected, RowKey
from drystone_testing.embedded_cell import EmbeddedCell

Rows = dict[RowKey, bytes]
START, END = RowKey(1, b""), RowKey(255, b"\xff")


class Client:
    """Commits random batches and knows what must, and what may, be there."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sure: Rows = {}
        self.maybe: Rows | None = None
        """The state if the last, unanswered commit went in."""
        self.head = 0

    def batch(self, number: int) -> tuple[Batch, Rows]:
        after = dict(self.sure)
        deletes = tuple(self.rng.sample(sorted(after), min(len(after), self.rng.randrange(3))))
        for key in deletes:
            after.pop(key, None)
        puts = []
        for _ in range(self.rng.randrange(6)):
            key = RowKey(1 + self.rng.randrange(3), b"k%02d" % self.rng.randrange(30), self.rng.choice((b"", b"s")))
            value = seal(*key, b"%d:" % number + bytes(self.rng.randrange(1200)))
            puts.append((key, value))
            after[key] = value
        return Batch(batch_id=b"%016d" % number, floor_us=0, generation=1, puts=puts, deletes=deletes, feed=b"f"), after

    async def check(self, storage: EmbeddedStorage) -> None:
        found = dict(await storage.scan(CELL_TABLET, START, END, 1000))
        state = await storage.state(CELL_TABLET)
        feed = [row.seq for row in await storage.feed(CELL_TABLET, 0, 10_000)]
        assert feed == list(range(1, state.head + 1))
        if state.head == self.head:
            assert found == self.sure
        else:
            assert state.head == self.head + 1 and self.maybe is not None
            assert found == self.maybe
        self.sure, self.head, self.maybe = found, state.head, None
        keys = [*sorted(self.sure), RowKey(9, b"absent")]
        assert await storage.read(CELL_TABLET, keys) == [self.sure.get(key) for key in keys]

    async def run(self, storage: EmbeddedStorage, commits: int) -> None:
        """Commit until the end or until the storage gives up."""
        epoch = (await storage.take_over(CELL_TABLET)).epoch
        for _ in range(commits):
            batch, after = self.batch(self.head + 1)
            self.maybe = after
            result = await storage.commit(CELL_TABLET, Expected(self.head, epoch, 1), batch)
            if result is Committed.UNKNOWN:
                raise Unavailable("unknown outcome")
            assert result is Committed.COMMITTED
            self.sure, self.maybe, self.head = after, None, self.head + 1
            if self.rng.random() < 0.2:
                await asyncio.sleep(0)


async def _play(root: Path, *, disks: int, m: int, seed: int, cuts: list[int]) -> None:
    cell = EmbeddedCell(root, disks=disks, m=m, seed=seed)
    client = Client(seed)
    storage = await cell.start()
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    for round_number, cut in enumerate(cuts):
        cell.power.left = cut
        try:
            await client.run(storage, 40)
            await client.check(storage)
        except Unavailable:
            assert cell.power.off
        await cell.power_cut(seed + round_number)
        cell.power.left = None if round_number % 2 else 5 + cut % 23
        while True:
            try:
                storage = await cell.start()
                if not cell.power.off:
                    await client.check(storage)
                cell.power.left = None
                if not cell.power.off:
                    break
                await cell.power_cut(seed + 2000 + round_number)
            except Unavailable:
                await cell.power_cut(seed + 1000 + round_number)
        cell.power.left = None
    await client.check(storage)
    await client.run(storage, 5)
    await client.check(storage)
    await cell.stop()
    storage = await cell.start()
    await client.check(storage)
    assert await storage.verify_members() == []
    await cell.stop()


@example(seed=360, cuts=[44], shape=(1, 0))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(1, 160), min_size=1, max_size=4),
    shape=st.sampled_from(((2, 1), (3, 1), (4, 2), (1, 0))),
)
def test_acknowledged_commits_survive_power_cuts_anywhere(seed: int, cuts: list[int], shape: tuple[int, int]) -> None:
    """Whatever disk call the power goes off at, even during recovery, the recovered state is the acknowledged one."""
    disks, m = shape
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_play(Path(root), disks=disks, m=m, seed=seed, cuts=cuts))


async def _lose_and_cut(root: Path, *, disks: int, m: int, seed: int) -> None:
    cell = EmbeddedCell(root, disks=disks, m=m, seed=seed)
    client = Client(seed)
    rng = client.rng
    storage = await cell.start()
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    away: set[int] = set()
    exposed = False
    """Disks changed places with lost ones before all members were complete again: more than m losses, then."""
    for round_number in range(4):
        lost = set(rng.sample(range(disks), rng.randint(0, m)))
        whole = rng.random() < 0.5
        try:
            await client.run(storage, rng.randrange(12))
            for number in sorted(lost - away)[: m - len(away)]:
                cell.lose(number)
                away.add(number)
            await client.run(storage, rng.randrange(12))
            if whole:
                await _until_redundant(storage)
                exposed = False
            await client.check(storage)
        except Unavailable:
            assert exposed
        await cell.power_cut(seed + round_number)
        exposed = exposed or not whole
        for number in sorted(away - lost):
            cell.bring_back(number)
            away.remove(number)
        for number in sorted(lost - away):
            cell.lose(number)
            away.add(number)
        try:
            storage = await cell.start()
            await client.check(storage)
        except (Unavailable, Damaged):
            assert exposed
            await cell.stop(flush=False)
            for number in sorted(away):
                cell.bring_back(number)
            away.clear()
            storage = await cell.start()
            await client.check(storage)
    await cell.stop(flush=False)
    for number in sorted(away):
        cell.bring_back(number)
    storage = await cell.start()
    await _until_redundant(storage)
    assert await storage.verify_members() == []
    await client.check(storage)
    await cell.stop()


async def _until_redundant(storage: EmbeddedStorage) -> None:
    async with asyncio.timeout(20):
        while not (status := storage.status())["writable"] or status["redundant"] < status["wanted"]:
            await asyncio.sleep(0.002)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), shape=st.sampled_from(((3, 1), (4, 1), (5, 2), (7, 3))))
def test_losses_and_power_cuts_together_lose_nothing(seed: int, shape: tuple[int, int]) -> None:
    """Disks go and come back (stale) between power cuts: the state is the acknowledged one, or the start is refused."""
    disks, m = shape
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_lose_and_cut(Path(root), disks=disks, m=m, seed=seed))

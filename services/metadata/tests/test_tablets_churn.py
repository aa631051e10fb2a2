# SPDX-License-Identifier: Apache-2.0
"""Three processes over one set of tablets: listings while tablets split and join and owners change miss nothing and invent nothing."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.ids import Key, Uid, make_write_id
from drystone_core.mutations import CreateBucket, DeleteBucket, DeleteObject, Outcome, PutObject
from drystone_metadata.owned import OwnedMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_metadata.tablets.owning import NotOwner
from drystone_testing.sim_world import RunningClock, SeededEntropy

SMALL = MetadataSettings(
    split_rows=48, size_looks=0.02, upkeep_pause=0.05, sweep_rows=16, fill_rows=16, sweep_after=0.2, sweep_interval=0.2
)


class Cluster:
    """Processes, and a ring that the test turns."""

    def __init__(self, seed: int, count: int = 3, settings: MetadataSettings = SMALL) -> None:
        self.chance = random.Random(seed)
        self.clock, self.entropy = RunningClock(), SeededEntropy(seed)
        self.tablets = MemoryTablets()
        self.turn = 0
        self.names = [f"m{number}" for number in range(count)]
        self.nodes = [
            OwnedMetadata(
                storage=MemoryStorage(self.tablets, clock=self.clock, delay=lambda: 0.0),
                name=name,
                owner=self.owner,
                clock=self.clock,
                entropy=self.entropy,
                settings=settings,
            )
            for name in self.names
        ]

    def owner(self, tablet: TabletId) -> str:
        return self.names[(sum(tablet) + self.turn) % len(self.names)]

    @asynccontextmanager
    async def running(self) -> Any:
        await self.nodes[0]._storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        work = [asyncio.ensure_future(node.run()) for node in self.nodes]
        try:
            yield self
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def id(self) -> Any:
        return make_write_id(self.clock.wall_us(), self.entropy.token(16))

    def any(self) -> OwnedMetadata:
        return self.chance.choice(self.nodes)

    async def decide(self, change: Any) -> Outcome:
        """As a gateway does: to some process, to the one it names, and again when nobody decided."""
        node = self.any()
        until = self.clock.monotonic() + 20
        while True:
            try:
                return await node.mutate(change)
            except NotOwner as elsewhere:
                node = self.nodes[self.names.index(elsewhere.details["owner"])]
                await asyncio.sleep(0.001)
            except Unavailable:
                await asyncio.sleep(0.02)
            if self.clock.monotonic() > until:
                raise AssertionError("nobody decides")

    async def put(self, key: bytes, bucket: str = "b") -> None:
        uid = Uid(self.entropy.token(16))
        await self.decide(
            PutObject(
                write_id=self.id(), bucket=bucket, key=Key(key), uid=uid, size=0, etag=uid.hex(), headers={},
                metadata={}, blobs=(),
            )
        )  # fmt: skip

    async def delete(self, key: bytes) -> None:
        await self.decide(DeleteObject(write_id=self.id(), bucket="b", key=Key(key)))

    async def create(self, bucket: str) -> None:
        await self.decide(CreateBucket(write_id=self.id(), bucket=bucket, owner="1" * 12, region="r"))

    async def read(self, call: Any) -> Any:
        """From any process; again from another when one cannot."""
        for _ in range(200):
            try:
                return await call(self.any())
            except Unavailable:
                await asyncio.sleep(0.01)
        raise AssertionError("nobody answers")

    async def listed(self, limit: int, *, versions: bool) -> list[bytes]:
        """All keys, page by page, each from another process."""
        keys: list[bytes] = []
        after, version = b"", ""
        while True:
            if versions:
                page = await self.read(
                    lambda node: node.list_versions("b", after_key=after, after_version=version, limit=limit)  # noqa: B023
                )
                keys += [bytes(row.key) for row in page.versions]
                after, version = page.next_key, page.next_version
            else:
                page = await self.read(lambda node: node.list_objects("b", after=after, limit=limit))  # noqa: B023
                keys += [bytes(row.key) for row in page.objects]
                after = page.next_after
            if not page.truncated:
                return keys


@pytest.mark.parametrize("seed", range(3))
async def test_listings_miss_nothing_and_invent_nothing_while_tablets_move(seed: int) -> None:
    """What was acknowledged before a listing began and not touched since is in it once; what was deleted before is not."""
    cluster = Cluster(seed)
    there: set[bytes] = set()
    gone: set[bytes] = set()
    begun: set[bytes] = set()
    ended = False

    async def write(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        for count in range(1000):
            if count > 150 and len(cluster.tablets.tablets) > 4 and cluster.turn > 2:
                return
            key = b"%04d/%d" % (chance.randrange(10_000), number)
            if key in begun:
                continue
            begun.add(key)
            await cluster.put(key)
            if count % 4 == 3:
                await cluster.delete(key)
                gone.add(key)
            else:
                there.add(key)

    async def turn() -> None:
        while not ended:
            upto = len(begun) + 80
            while len(begun) < upto and not ended:
                await asyncio.sleep(0.01)
            cluster.turn += 1

    listings = 0

    async def look() -> None:
        nonlocal listings
        while not ended:
            before, deleted = set(there), set(gone)
            found = await cluster.listed(cluster.chance.choice([7, 50, 1000]), versions=listings % 2 == 1)
            assert found == sorted(set(found))
            assert before <= set(found) and not deleted & set(found) and set(found) <= begun
            listings += 1
            await asyncio.sleep(0)

    async with cluster.running():
        await cluster.create("b")
        others = [asyncio.ensure_future(turn()), asyncio.ensure_future(look()), asyncio.ensure_future(look())]
        await asyncio.gather(*[write(number) for number in range(4)])
        ended = True
        await asyncio.gather(*others)
        assert set(await cluster.listed(1000, versions=False)) == there
    assert len(cluster.tablets.tablets) > 2 and cluster.turn > 2 and listings > 0


async def test_emptied_tablets_are_joined_once_they_are_quiet() -> None:
    """Many tablets become few again when their keys are gone and nothing is remembered; what is left is still there."""
    cluster = Cluster(5, 1, replace(SMALL, window=0.5))
    async with cluster.running():
        await cluster.create("b")
        for number in range(300):
            await cluster.put(b"%03d" % number)
        while len(cluster.tablets.tablets) < 6:
            await asyncio.sleep(0.05)
        for number in range(300):
            if number % 60:
                await cluster.delete(b"%03d" % number)
        until = cluster.clock.monotonic() + 60
        while len(cluster.tablets.tablets) > 2 and cluster.clock.monotonic() < until:
            assert await cluster.listed(3, versions=False) == [b"000", b"060", b"120", b"180", b"240"]
            await asyncio.sleep(0.05)
        assert len(cluster.tablets.tablets) <= 2
        await cluster.put(b"123")
        assert len(await cluster.listed(3, versions=True)) == 6


async def test_bucket_of_many_tablets_and_owners_is_deleted_and_made_anew() -> None:
    """BucketNotEmpty while any tablet has a key; then it goes from all of them, and its name is free."""
    cluster = Cluster(7)
    async with cluster.running():
        await cluster.create("b")
        for number in range(200):
            await cluster.put(b"%03d" % number)
        while len(cluster.tablets.tablets) < 4:
            await asyncio.sleep(0.05)
        for number in range(199):
            await cluster.delete(b"%03d" % number)
        delete = DeleteBucket(write_id=cluster.id(), bucket="b")
        with pytest.raises(Refused) as refused:
            await cluster.decide(delete)
        assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY
        await cluster.put(b"000")
        await cluster.delete(b"000")
        await cluster.delete(b"199")
        again = DeleteBucket(write_id=cluster.id(), bucket="b")
        assert await cluster.decide(again) == Outcome()
        with pytest.raises(DrystoneError):
            await cluster.read(lambda node: node.bucket("b"))
        assert await cluster.decide(again) == Outcome()
        await cluster.create("b")
        await cluster.put(b"new")
        assert await cluster.listed(10, versions=True) == [b"new"]

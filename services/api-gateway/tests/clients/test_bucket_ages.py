# SPDX-License-Identifier: Apache-2.0
"""A gateway's picture of a bucket: one look for all who want it, ahead of time, never older than was asked for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.ids import BucketId, Key, Uid, WriteId
from drystone_core.mutations import Mutation, Outcome, PutObject
from drystone_core.objects import Bucket
from drystone_gateway.clients.metadata import CellMetadata, MetadataNode
from drystone_runtime.background import Background
from drystone_testing.sim_world import ManualClock, SeededEntropy


class Far:
    """A metadata process that answers when it is let, with the bucket it has."""

    def __init__(self) -> None:
        self.asked = 0
        self.id = 1
        self.let = asyncio.Event()
        self.let.set()

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        self.asked += 1
        there = self.id  # as it is when the call comes in
        await self.let.wait()
        if not there:
            raise Refused(ErrorCode.NO_SUCH_BUCKET)
        return Bucket(name=name, bucket_id=BucketId(there), owner="o", region="r", created_ms=0)

    async def mutate_all(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        return [Refused(ErrorCode.NO_SUCH_BUCKET) for _ in batch]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Rig:
    """A gateway's metadata over one process."""

    def __init__(self) -> None:
        self.clock, self.far = ManualClock(), Far()
        self.background = Background(clock=self.clock)
        node = MetadataNode(name="m", client=self.far)  # type: ignore[arg-type]
        self.metadata = CellMetadata(
            nodes=lambda: [node], owner=lambda tablet: "m", clock=self.clock, entropy=SeededEntropy(1),
            background=self.background,
        )  # fmt: skip

    async def id(self, age: float = 1.0) -> int:
        return (await self.metadata.bucket("b", age=age)).bucket_id


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.background.stop()


async def test_many_who_want_it_at_once_share_one_look(rig: Rig) -> None:
    """Also when none of them had it; who wants it as it is now asks for himself."""
    rig.far.let.clear()
    waiting = [asyncio.ensure_future(rig.id()) for _ in range(20)]
    await asyncio.sleep(0.01)
    rig.far.let.set()
    assert await asyncio.gather(*waiting) == [1] * 20
    assert rig.far.asked == 1
    await rig.id(age=0.0)
    await rig.id(age=0.0)
    assert rig.far.asked == 3


async def test_it_is_looked_at_again_before_it_is_too_old(rig: Rig) -> None:
    """Nobody waits for that; when the look does not come back in time, people do."""
    await rig.id()
    rig.far.let.clear()
    rig.far.id = 2
    rig.clock.now += 0.6
    assert await rig.id() == 1
    await asyncio.sleep(0.01)
    assert rig.far.asked == 2
    rig.clock.now += 0.6
    late = asyncio.ensure_future(rig.id())
    await asyncio.sleep(0.01)
    assert not late.done()
    rig.far.let.set()
    assert await late == 2


async def test_a_look_that_began_before_says_nothing_about_what_is_not(rig: Rig) -> None:
    """The bucket is made while somebody's look is under way: who asks afterwards finds it."""
    rig.far.id = 0
    rig.far.let.clear()
    early = asyncio.ensure_future(rig.id())
    await asyncio.sleep(0.01)
    rig.far.id = 3  # made, and acknowledged through another gateway
    later = asyncio.ensure_future(rig.id())
    await asyncio.sleep(0.01)
    rig.far.let.set()
    assert await later == 3
    assert await early == 3


async def test_a_bucket_made_anew_is_missing_to_nobody_who_meant_the_one_before(rig: Rig) -> None:
    """Several mutations name the old bucket: each is told to try again, also after the first one had the picture dropped."""
    await rig.id()
    rig.far.id = 2

    def put(number: int) -> PutObject:
        return PutObject(
            write_id=WriteId(bytes((number,)) * 24), bucket="b", key=Key(b"k"), uid=Uid(bytes(16)), size=0, etag="",
            headers={}, metadata={}, blobs=(), bucket_id=BucketId(1),
        )  # fmt: skip

    answers = await asyncio.gather(*(rig.metadata.mutate(put(number)) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    rig.far.id = 0
    with pytest.raises(Refused):
        await rig.metadata.mutate(put(9))

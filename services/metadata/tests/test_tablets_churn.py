# SPDX-License-Identifier: Apache-2.0
"""Three processes over one set of tablets: listings while tablets split and join and owners change miss nothing and invent nothing."""

import asyncio
import random
from dataclasses import replace

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.mutations import DeleteBucket, Outcome
from drystone_testing.owned_cell import SMALL, OwnedCell


@pytest.mark.parametrize("seed", range(3))
async def test_listings_miss_nothing_and_invent_nothing_while_tablets_move(seed: int) -> None:
    """What was acknowledged before a listing began and not touched since is in it once; what was deleted before is not."""
    cluster = OwnedCell(seed)
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
    cluster = OwnedCell(5, 1, replace(SMALL, window=0.5))
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
    cluster = OwnedCell(7)
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

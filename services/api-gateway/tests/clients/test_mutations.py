# SPDX-License-Identifier: Apache-2.0
"""Mutations find the owner that decides them, and none waits for another's owner."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Stale, Unavailable
from drystone_core.ids import Key, WriteId
from drystone_core.mutations import DeleteBucket, DeleteObject, Mutation, Outcome
from drystone_gateway.clients.mutations import Mutations, MutationSettings
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy

LEFT, RIGHT = b"cell", b"right"


class Owners:
    """Two processes; keys from `m` on belong to the tablet `right`. What they decide is counted."""

    def __init__(self) -> None:
        self.ring: dict[bytes, str | None] = {LEFT: "one", RIGHT: "two"}
        self.hangs: set[str] = set()
        self.walks = False
        """A deletion of a bucket waits for a tablet that does not answer."""
        self.fails: list[DrystoneError] = []
        self.decided: list[bytes] = []
        self.calls: list[str] = []
        self.background = Background(clock=SystemClock())
        self.mutations = Mutations(
            send=self.send, owner=lambda tablet: self.ring[tablet], clock=SystemClock(), entropy=SystemEntropy(),
            background=self.background, settings=MutationSettings(patience=3.0, pauses=(0.01, 0.05), look=0.02),
        )  # fmt: skip

    async def send(self, name: str, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        self.calls.append(name)
        while name in self.hangs or (self.walks and any(isinstance(one, DeleteBucket) for one in batch)):
            await asyncio.sleep(0.01)
        if self.fails:
            raise self.fails.pop()
        return [self.answer(name, mutation) for mutation in batch]

    def answer(self, name: str, mutation: Mutation) -> Outcome | BaseException:
        if isinstance(mutation, DeleteBucket):
            return Outcome()
        assert isinstance(mutation, DeleteObject)
        tablet = RIGHT if mutation.key >= b"m" else LEFT
        if self.ring[tablet] != name:
            low, high = (b"m", b"") if tablet == RIGHT else (b"", b"m")
            return Stale("not ours", owner=self.ring[tablet] or "", tablet=tablet.hex(), low=low.hex(), high=high.hex())
        if mutation.key == b"no":
            return Refused(ErrorCode.NO_SUCH_KEY)
        self.decided.append(mutation.key)
        return Outcome()

    def delete(self, key: bytes) -> "asyncio.Future[Outcome]":
        write_id = WriteId(SystemEntropy().token(24))
        return self.mutations.submit(DeleteObject(write_id=write_id, bucket="b", key=Key(key)))

    def delete_bucket(self, name: str) -> "asyncio.Future[Outcome]":
        return self.mutations.submit(DeleteBucket(write_id=WriteId(SystemEntropy().token(24)), bucket=name))


@pytest.fixture
async def owners() -> AsyncIterator[Owners]:
    made = Owners()
    yield made
    await made.background.stop()


async def test_a_redirect_is_followed_at_once_and_remembered(owners: Owners) -> None:
    """The first one goes round, later ones straight; a refusal of the matter is an answer."""
    await owners.delete(b"z")
    assert owners.calls == ["one", "two"]
    await owners.delete(b"y")
    assert owners.calls == ["one", "two", "two"]
    with pytest.raises(Refused):
        await owners.delete(b"no")
    assert owners.mutations.repeated == 0


async def test_an_owner_that_hangs_holds_up_nobody_elses_mutations(owners: Owners) -> None:
    """Those of the other are answered while its own wait; when another takes over, these are answered too."""
    await owners.delete(b"z")
    owners.hangs.add("two")
    stuck = [owners.delete(b"z%d" % number) for number in range(10)]
    for number in range(50):
        async with asyncio.timeout(1):
            await owners.delete(b"a%d" % number)
    assert not any(one.done() for one in stuck)
    owners.ring[RIGHT] = "one"
    async with asyncio.timeout(2):
        await asyncio.gather(*stuck)
    assert sorted(key for key in owners.decided if key.startswith(b"z")) == sorted(
        [b"z", *(b"z%d" % number for number in range(10))]
    )


async def test_deletions_of_buckets_hold_up_nobody_and_not_one_another(owners: Owners) -> None:
    """Each waits for the tablets of its bucket in a call of its own."""
    owners.walks = True
    stuck = [owners.delete_bucket(f"bucket-{number}") for number in range(5)]
    for number in range(50):
        async with asyncio.timeout(1):
            await owners.delete(b"a%d" % number)
    assert not any(one.done() for one in stuck)
    owners.walks = False
    async with asyncio.timeout(2):
        await asyncio.gather(*stuck)


async def test_what_was_not_decided_is_sent_again_until_its_time_is_over(owners: Owners) -> None:
    """After failures, and while nobody owns the tablet; then the caller hears so."""
    owners.fails = [Unavailable("away"), Unavailable("away")]
    await owners.delete(b"a")
    assert owners.mutations.repeated == 2
    owners.ring[LEFT] = None
    waiting = owners.delete(b"b")
    await asyncio.sleep(0.1)
    owners.ring[LEFT] = "two"
    await waiting
    owners.ring[LEFT] = None
    with pytest.raises(Unavailable, match="no metadata process owns the tablet"):
        await owners.delete(b"c")


async def test_what_nobody_waits_for_any_more_is_not_sent_again(owners: Owners) -> None:
    """Given up while it waits for an owner."""
    owners.ring[LEFT] = None
    given_up = owners.delete(b"a")
    given_up.cancel()
    owners.ring[LEFT] = "one"
    await asyncio.sleep(0.2)
    assert owners.decided == []


async def test_when_the_gateway_stops_those_that_wait_hear_so(owners: Owners) -> None:
    """Also those that nobody owned just then."""
    owners.ring[LEFT] = None
    waiting = [owners.delete(b"a%d" % number) for number in range(3)]
    await asyncio.sleep(0.05)
    await owners.background.stop()
    async with asyncio.timeout(1):
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(answer, Unavailable)

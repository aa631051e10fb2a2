# SPDX-License-Identifier: Apache-2.0
"""Steps of bucket changes handed to the owners of tablets: attacks on each rule of tablets/handing and its callers."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable, Unreachable
from drystone_core.ids import BucketId, WriteId
from drystone_core.objects import Bucket
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, KeyOutOfRange, TabletId, UnknownTablet
from drystone_metadata.tablets.changes import AT_ONCE, BucketChanges, _Superseded
from drystone_metadata.tablets.handing import EndBegun, Handing, Step
from drystone_metadata.tablets.map import TabletMap
from drystone_metadata.tablets.owning import NotOwner
from drystone_metadata.tablets.splitting import shaped
from drystone_runtime.rpc.call_context import DEADLINE
from drystone_testing.owned_cell import Messages
from drystone_testing.sim_world import LeapingClock, RunningClock, SeededEntropy

TABLET = TabletId(b"right")
BUCKET = Bucket(bucket_id=BucketId(7), name="b", owner="o", created_ms=0, region="r", generation=2)
CARRY = CarryBucket(write_id=WriteId(bytes(24)), bucket="b", value=BUCKET)
BURY = BuryBucket(write_id=WriteId(bytes(24)), bucket="b", bucket_id=BUCKET.bucket_id)
END = EndChange(write_id=WriteId(bytes(24)), bucket="b", bucket_id=BUCKET.bucket_id, generation=2, done=True)


class Rig:
    """The handing of the process `me`; `says`: what each process answers, in turn, the last one for ever."""

    def __init__(self, *, clock: Any = None, lease: float = 4.0) -> None:
        self.clock = clock or LeapingClock()
        self.owner: str | None = "one"
        self.owned: set[TabletId] = set()
        self.registered = True
        self.says: dict[str, list[BaseException | str | None]] = {}
        self.asked: list[str] = []
        self.taken: list[tuple[TabletId, float]] = []
        self.cancelled = 0
        self.handing = Handing(
            name="me", owns=lambda tablet: tablet in self.owned, owner=lambda tablet: self.owner,
            registered=lambda: self.registered, here=self._here, ask=self._ask, take_over=self._take_over,
            clock=self.clock, entropy=SeededEntropy(1), lease=lease,
        )  # fmt: skip

    async def _here(self, tablet: TabletId, step: Step) -> None:
        self.asked.append("me")

    async def _take_over(self, tablet: TabletId, step: Step) -> None:
        self.taken.append((tablet, self.clock.monotonic()))

    async def _ask(self, name: str, tablet: TabletId, step: Step) -> None:
        self.asked.append(name)
        answers = self.says.get(name, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "silence":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(answer, BaseException):
            raise answer


def elsewhere(owner: str) -> NotOwner:
    """A redirect."""
    return NotOwner(owner=owner, tablet=TABLET.hex())


async def test_owner_that_is_named_is_asked_at_once() -> None:
    """The ring here is old: one says two, two says three, who decides."""
    rig = Rig()
    rig.says = {"one": [elsewhere("two")], "two": [elsewhere("three")]}
    began = rig.clock.monotonic()
    await rig.handing.step(TABLET, CARRY)
    assert rig.asked == ["one", "two", "three"] and rig.clock.monotonic() == began and not rig.taken


async def test_processes_that_name_one_another_are_not_asked_without_a_pause_for_ever() -> None:
    """Each believes the other to own it, for a while; the step is decided when one of them knows better."""
    rig = Rig()
    rig.says = {"one": [*[elsewhere("two")] * 9, None], "two": [elsewhere("one")]}
    began = rig.clock.monotonic()
    await rig.handing.step(TABLET, CARRY)
    assert rig.clock.monotonic() > began and not rig.taken


async def test_tablet_that_becomes_ours_meanwhile_takes_the_step_here() -> None:
    """Whoever was asked says that we own it; before long we do."""
    rig = Rig(clock=RunningClock())
    rig.says = {"one": [elsewhere("me")]}

    async def become() -> None:
        await asyncio.sleep(0.1)
        rig.owned.add(TABLET)

    await asyncio.gather(rig.handing.step(TABLET, CARRY), become())
    assert rig.asked[-1] == "me" and "one" in rig.asked and not rig.taken


@pytest.mark.parametrize(
    "said",
    [Refused(ErrorCode.BUCKET_NOT_EMPTY), KeyOutOfRange("moved"), UnknownTablet(), DrystoneError(ErrorCode.DAMAGED)],
)
async def test_what_is_said_about_the_matter_is_passed_on_at_once(said: DrystoneError) -> None:
    """H4: it is asked once."""
    rig = Rig()
    rig.says = {"one": [said]}
    with pytest.raises(type(said)) as raised:
        await rig.handing.step(TABLET, CARRY)
    assert raised.value is said and rig.asked == ["one"] and not rig.taken


async def test_tablet_is_taken_over_after_a_lease_and_not_again_within_one() -> None:
    """H3: its owner is registered and does not answer; the second step within a lease fails, a later one takes it again."""
    rig = Rig()
    rig.says = {"one": [Unreachable("away")]}
    began = rig.clock.monotonic()
    await rig.handing.step(TABLET, CARRY)
    (_, first), *_ = rig.taken
    assert 4.0 <= first - began < 6.0 and len(rig.asked) > 3
    rig.handing._lease = 1.0  # a step in less time than that from the last taking
    with pytest.raises(Unreachable):
        rig.handing._taken[TABLET] = rig.clock.monotonic() + 0.5
        await rig.handing.step(TABLET, CARRY)
    assert len(rig.taken) == 1
    await rig.handing.step(TABLET, CARRY)
    assert len(rig.taken) == 2


async def test_many_steps_at_once_take_a_tablet_over_once() -> None:
    """H3: all of them wait for a lease, one takes it."""
    rig = Rig(lease=20.0)
    rig.says = {"one": [Unreachable("away")]}
    answers = await asyncio.gather(*(rig.handing.step(TABLET, CARRY) for _ in range(8)), return_exceptions=True)
    assert len(rig.taken) == 1 and sum(answer is None for answer in answers) == 1
    assert all(isinstance(answer, Unavailable) for answer in answers if answer is not None)


async def test_process_that_is_not_registered_takes_nothing() -> None:
    """H3: the others may have made another one the owner."""
    rig = Rig()
    rig.registered, rig.owner = False, None
    with pytest.raises(Unavailable):
        await rig.handing.step(TABLET, CARRY)
    assert not rig.taken and not rig.asked


@pytest.mark.parametrize("step", [END, EndBegun(bucket="b", bucket_id=BucketId(7), generation=2)])
async def test_first_tablet_is_never_taken_over_for_a_step(step: Step) -> None:
    """Whoever owns it next ends the change by itself."""
    rig = Rig()
    rig.says = {"one": [Unreachable("away")]}
    with pytest.raises(Unavailable):
        await rig.handing.step(CELL_TABLET, step)
    assert not rig.taken


async def test_burying_is_not_insisted_on() -> None:
    """Nobody waits a lease for it."""
    rig = Rig()
    rig.says = {"one": [elsewhere("two")], "two": [Unreachable("away")]}
    began = rig.clock.monotonic()
    with pytest.raises(Unavailable):
        await rig.handing.step(TABLET, BURY)
    assert rig.asked == ["one", "two"] and rig.clock.monotonic() == began


async def test_silent_process_is_left_when_another_becomes_the_owner() -> None:
    """H5: long before its lease is over; the call to it is given up."""
    rig = Rig(clock=RunningClock(), lease=30.0)
    rig.says = {"one": ["silence"]}

    async def turn() -> None:
        await asyncio.sleep(0.05)
        rig.owner = "two"

    began = time.monotonic()
    await asyncio.gather(rig.handing.step(TABLET, CARRY), turn())
    assert rig.asked == ["one", "two"] and time.monotonic() - began < 5 and rig.cancelled == 1


async def test_cancelled_step_gives_its_call_up() -> None:
    """Who does not wait any more leaves nothing behind."""
    rig = Rig(clock=RunningClock())
    rig.says = {"one": ["silence"]}
    step = asyncio.ensure_future(rig.handing.step(TABLET, CARRY))
    await asyncio.sleep(0.05)
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    await asyncio.sleep(0)
    assert rig.cancelled == 1 and rig.asked == ["one"]


class Elsewhere:
    """Steps of a process that owns nothing: `end` is held until it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.calls = self.cancelled = 0
        self.deadlines: list[float | None] = []
        self.step_result: Callable[[TabletId], BaseException | None] = lambda tablet: None
        self.steps: list[TabletId] = []

    async def step(self, tablet: TabletId, step: Step) -> None:
        self.steps.append(tablet)
        await asyncio.sleep(0)
        error = self.step_result(tablet)
        if error is not None:
            raise error

    async def end(self, bucket: Bucket) -> None:
        self.calls += 1
        self.deadlines.append(DEADLINE.get())
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def changes_of(steps: Elsewhere, *, ours: bool = False) -> BucketChanges:
    storage = MemoryStorage(MemoryTablets())
    return BucketChanges(
        storage=storage, tablets=TabletMap(storage), steps=steps, ours=lambda tablet: ours, clock=RunningClock(),
        entropy=SeededEntropy(1),
    )  # fmt: skip


async def test_change_met_elsewhere_is_asked_for_once_and_given_up_with_the_last_who_waits() -> None:
    """W5: the deadline of the first is not that of the others; the next who meets it asks anew."""
    steps = Elsewhere()
    changes = changes_of(steps)
    DEADLINE.set(time.monotonic() + 0.01)
    waiting = [asyncio.ensure_future(changes.end(BUCKET)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert steps.calls == 1 and steps.deadlines == [None]
    for one in waiting[:2]:
        one.cancel()
    await asyncio.sleep(0.01)
    assert not steps.cancelled and not waiting[2].done()
    waiting[2].cancel()
    late = asyncio.ensure_future(changes.end(BUCKET))
    await asyncio.sleep(0.01)
    assert steps.cancelled == 1 and steps.calls == 2
    steps.let.set()
    await late
    assert not changes._asking


async def test_change_taken_for_another_process_is_not_asked_of_a_third() -> None:
    """H1: the first tablet was lost just then; the walk may fail, the ending is not handed on."""
    steps = Elsewhere()
    changes = changes_of(steps)

    async def found(name: str) -> Bucket:
        return replace(BUCKET, pending=bytes(24))

    changes.bucket = found  # type: ignore[method-assign]
    with pytest.raises(DrystoneError):
        async with asyncio.timeout(1.0):
            await changes.take(EndBegun(bucket="b", bucket_id=BUCKET.bucket_id, generation=2))
    assert steps.calls == 0


async def test_change_outlives_the_deadline_of_who_asked_for_it() -> None:
    """W4: what is begun here is bounded by no caller's time."""
    changes = changes_of(Elsewhere(), ours=True)
    DEADLINE.set(time.monotonic() - 1)
    seen: list[float | None] = []

    async def work() -> None:
        seen.append(DEADLINE.get())

    await changes.whole("b", work())
    assert seen == [None]


async def test_definite_refusal_of_one_tablet_decides_while_another_does_not_answer() -> None:
    """The walk hears of the key that keeps a bucket from being deleted, whichever tablet fails first; and waits for all."""
    steps = Elsewhere()
    done = []

    def result(tablet: TabletId) -> BaseException | None:
        done.append(tablet)
        return {b"a": Unavailable("away"), b"b": UnknownTablet(), b"c": Refused(ErrorCode.BUCKET_NOT_EMPTY)}.get(tablet)

    steps.step_result = result
    changes = changes_of(steps)

    async def found(name: str) -> Bucket:
        return BUCKET

    changes.bucket = found  # type: ignore[method-assign]
    with pytest.raises(Refused) as refused:
        await changes._carry_begun(BUCKET, [TabletId(name) for name in (b"a", b"b", b"c", b"d")])
    assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY and sorted(done) == [b"a", b"b", b"c", b"d"]


async def test_superseded_change_is_carried_no_further() -> None:
    """W3: the row is read after the tablets were found, before any of their owners is asked."""
    steps = Elsewhere()
    changes = changes_of(steps)
    for now in (None, replace(BUCKET, generation=3), replace(BUCKET, bucket_id=BucketId(8))):

        async def found(name: str, now: Bucket | None = now) -> Bucket | None:
            return now

        changes.bucket = found  # type: ignore[method-assign]
        with pytest.raises(_Superseded):
            await changes._carry_begun(BUCKET, [TABLET])
    assert steps.steps == []


async def test_change_that_is_another_by_now_is_not_ended_for_who_met_the_one_before() -> None:
    """Its generation or its id has grown since: nothing is walked."""
    steps = Elsewhere()
    changes = changes_of(steps, ours=True)

    async def found(name: str) -> Bucket:
        return replace(BUCKET, pending=bytes(24))

    changes.bucket = found  # type: ignore[method-assign]
    for begun in (
        EndBegun(bucket="b", bucket_id=BucketId(7), generation=1),
        EndBegun(bucket="b", bucket_id=BucketId(6), generation=2),
    ):
        await changes.take(begun)
    assert steps.steps == []


async def test_silent_tablet_holds_up_the_burying_of_others_once_a_turn() -> None:
    """W6: what fails waits for the next turn behind the others."""
    changes, tried = changes_of(Elsewhere()), []
    silent = True

    async def walk(bucket: Bucket, step: object) -> None:
        tried.append(bucket.bucket_id)
        if silent:
            raise Unavailable("away")

    changes._walk = walk  # type: ignore[assignment,method-assign]
    for number in (1, 2, 3):
        await changes._bury_all(replace(BUCKET, bucket_id=BucketId(number)))
    await changes.again()
    assert tried == [1, 2, 3, 1]
    silent = False
    await changes.again()
    assert tried == [1, 2, 3, 1, 2, 3, 1]
    await changes.again()
    assert len(tried) == 7


async def test_walk_goes_on_where_a_tablet_gave_its_upper_part_away_meanwhile() -> None:
    """Sixteen tablets and more, one of which is split while the steps are under way: its child gets one too."""
    steps, storage = Elsewhere(), MemoryStorage(MemoryTablets())
    address = [BUCKET.bucket_id.to_bytes(8, "big") + b"%02d" % number for number in range(40)]
    names = [CELL_TABLET, *(TabletId(b"t%02d" % number) for number in range(1, 40))]
    for number, name in enumerate(names):
        low = address[number] if number else b""
        high, child = (address[number + 1], names[number + 1]) if number < 39 else (b"", TabletId(b""))
        await storage.create(name, low=low, high=high, generation=1, child=child)
    late, middle = TabletId(b"late"), address[5] + b"m"
    changes = BucketChanges(
        storage=storage, tablets=TabletMap(storage), steps=steps, ours=lambda tablet: True, clock=RunningClock(),
        entropy=SeededEntropy(1),
    )  # fmt: skip
    split: list[int] = []

    async def step(bucket: Bucket, tablets: Sequence[TabletId]) -> None:
        assert len(tablets) <= AT_ONCE
        for tablet in tablets:
            await steps.step(tablet, CARRY)
        if not split:
            split.append(1)
            state = await storage.state(names[5])
            await storage.create(late, low=middle, high=state.high, generation=1, child=state.child)
            await storage.reshape(names[5], state, shaped(state, high=middle, child=late))

    await changes._walk(BUCKET, step)
    assert set(steps.steps) == {*names, late} and len(steps.steps) < 60


async def test_messages_of_the_simulated_cell_carry_steps_as_the_wire_does() -> None:
    """The errors by which a walk finds its way arrive as what they were."""
    messages = Messages(random.Random(1))

    class Taker:
        error: DrystoneError | None = None

        async def take(self, tablet: TabletId, step: Step) -> None:
            assert step in (CARRY, BURY, END)
            if self.error is not None:
                raise self.error

    taker = Taker()
    messages.takers = {"one": taker}  # type: ignore[dict-item]
    for step in (CARRY, BURY, END):
        await messages.asker()("one", TABLET, step)
    for error in (elsewhere("two"), KeyOutOfRange("moved"), UnknownTablet(), Refused(ErrorCode.BUCKET_NOT_EMPTY)):
        taker.error = error
        with pytest.raises(type(error)) as raised:
            await messages.asker()("one", TABLET, CARRY)
        assert dict(raised.value.details) == dict(error.details) and raised.value.code is error.code

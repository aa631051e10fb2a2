# SPDX-License-Identifier: Apache-2.0
"""What every Coordinator must do: subclass `CoordinatorContract` in a test module and give it a rig.

    class TestEmbedded(CoordinatorContract):
        @pytest.fixture
        async def rig(self, tmp_path): ...

The suite never measures time; it waits for states. A rig may let simulated time pass quickly.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest

from drystone_core.coordination import (
    ABSENT,
    VALUE_LIMIT,
    Changes,
    Coordinator,
    Delete,
    Deleted,
    Put,
    Require,
    Resync,
    Session,
    Watch,
    Written,
)
from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable
from drystone_core.ports import Clock

PATIENCE = 60.0
"""Real seconds after which a state that was waited for counts as never coming."""


class CoordinatorRig(Protocol):
    """Gives the suite coordinators that share one store, empty at first."""

    clock: Clock
    ttl: float
    """Shortest time to live the store takes, seconds."""

    async def connect(self) -> Coordinator:
        """Another process's coordinator."""
        ...

    async def cut(self, coordinator: Coordinator) -> None:
        """Nothing it sends arrives any more, nor does anything come back; nobody tells it so."""
        ...

    async def heal(self, coordinator: Coordinator) -> None: ...

    async def compact(self) -> None:
        """Forget all history."""
        ...


async def until(state: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a state, for PATIENCE at most."""
    async with asyncio.timeout(PATIENCE):
        while not await state():
            await asyncio.sleep(0.005)


async def collect(watch: Watch, last: str) -> list[Changes | Resync]:
    """What the watch gives, up to the change (or content) that has this key."""
    found: list[Changes | Resync] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            change = await watch.next()
            found.append(change)
            if last in keys(change):
                return found


def keys(change: Changes | Resync) -> list[str]:
    """Of what it tells, in order."""
    if isinstance(change, Resync):
        return [document.key for document in change.snapshot.documents]
    return [event.document.key if isinstance(event, Written) else event.key for event in change.events]


def apply(content: dict[str, bytes], changes: list[Changes | Resync]) -> dict[str, bytes]:
    """The map a reader of the watch has."""
    for change in changes:
        if isinstance(change, Resync):
            content = {document.key: document.value for document in change.snapshot.documents}
            continue
        for event in change.events:
            if isinstance(event, Written):
                content[event.document.key] = event.document.value
            else:
                content.pop(event.key, None)
    return content


class CoordinatorContract:
    """The suite: documents, watches, sessions."""

    @pytest.fixture
    def rig(self) -> CoordinatorRig:
        """Subclasses give their rig here."""
        pytest.fail("a contract suite needs a rig fixture")

    @pytest.fixture
    async def one(self, rig: CoordinatorRig) -> AsyncIterator[Coordinator]:
        """A coordinator, closed after the test."""
        coordinator = await rig.connect()
        yield coordinator
        await coordinator.close()

    @pytest.fixture
    async def other(self, rig: CoordinatorRig) -> AsyncIterator[Coordinator]:
        """Another process's."""
        coordinator = await rig.connect()
        yield coordinator
        await coordinator.close()

    async def test_a_document_carries_the_revisions_of_its_first_and_last_write(
        self, one: Coordinator, other: Coordinator
    ) -> None:
        """K1, K3: as another process sees it, from absent to written, rewritten, deleted, written anew."""
        assert await other.get("a") is None
        first = await one.commit(Put(key="a", value=b"1"))
        second = await one.commit(Put(key="a", value=b"\x00\xff"))
        assert second > first
        document = await other.get("a")
        assert document is not None
        assert (document.key, document.value, document.revision, document.created) == ("a", b"\x00\xff", second, first)
        third = await one.commit(Delete(key="a"))
        assert third > second and await other.get("a") is None
        assert await one.commit(Delete(key="a")) >= third
        fourth = await one.commit(Put(key="a", value=b""))
        document = await other.get("a")
        assert document is not None and document.created == document.revision == fourth > third

    async def test_a_commit_whose_expectation_fails_changes_nothing(self, one: Coordinator) -> None:
        """K2, for each kind of change and in both directions: there though expected absent, and the reverse."""
        revision = await one.commit(Put(key="a", value=b"1"), Put(key="b", value=b"1"))
        for wrong in (
            Put(key="a", value=b"2", expected=ABSENT),
            Put(key="c", value=b"2", expected=revision),
            Delete(key="a", expected=ABSENT),
            Delete(key="c", expected=revision),
            Require(key="c", expected=revision),
            Require(key="a", expected=ABSENT),
        ):
            with pytest.raises(Stale) as told:
                await one.commit(Put(key="b", value=b"2"), Put(key="d", value=b"2"), wrong)
            assert told.value.code is ErrorCode.STALE and told.value.details["key"] == wrong.key
        snapshot = await one.snapshot("")
        assert {each.key: each.value for each in snapshot.documents if each.key != "cell"} == {"a": b"1", "b": b"1"}

    async def test_a_commit_whose_expectations_hold_does_all_at_one_revision(self, one: Coordinator) -> None:
        """K1 with every kind of change in one commit."""
        first = await one.commit(Put(key="a", value=b"1"), Put(key="b", value=b"1"), Put(key="g", value=b"1"))
        second = await one.commit(
            Put(key="a", value=b"2", expected=first),
            Delete(key="b", expected=first),
            Put(key="c", value=b"2", expected=ABSENT),
            Require(key="g", expected=first),
            Require(key="h", expected=ABSENT),
        )
        found = {
            each.key: (each.value, each.revision) for each in (await one.snapshot("")).documents if each.key != "cell"
        }
        assert found == {"a": (b"2", second), "c": (b"2", second), "g": (b"1", first)}

    async def test_of_many_creators_one_wins_and_no_increment_is_lost(self, rig: CoordinatorRig) -> None:
        """K2 under concurrency: five processes create one key, then count it up together."""
        clients = [await rig.connect() for _ in range(5)]

        async def create(index: int) -> bool:
            try:
                await clients[index].commit(Put(key="counter", value=b"0", expected=ABSENT))
            except Stale:
                return False
            return True

        async def count(client: Coordinator) -> None:
            done = 0
            while done < 8:
                document = await client.get("counter")
                assert document is not None
                raised = b"%d" % (int(document.value) + 1)
                try:
                    await client.commit(Put(key="counter", value=raised, expected=document.revision))
                    done += 1
                except Stale:
                    pass

        assert sum(await asyncio.gather(*(create(index) for index in range(5)))) == 1
        await asyncio.gather(*(count(client) for client in clients))
        document = await clients[0].get("counter")
        assert document is not None and document.value == b"40"
        for client in clients:
            await client.close()

    async def test_a_snapshot_holds_exactly_the_prefix_in_order(self, one: Coordinator, other: Coordinator) -> None:
        """More documents than a page, neighbours of the prefix left out, any characters in keys."""
        wanted = {f"p/{i:04}": b"v%d" % i for i in range(1200)}
        items = sorted(wanted.items())
        for begin in range(0, len(items), 100):
            await one.commit(*(Put(key=key, value=value) for key, value in items[begin : begin + 100]))
        last = await one.commit(
            Put(key="p", value=b""), Put(key="p.", value=b""), Put(key="p0", value=b""), Put(key="p/é 漢", value=b"x")
        )
        snapshot = await other.snapshot("p/")
        assert snapshot.revision >= last
        assert [each.key for each in snapshot.documents] == [*sorted(wanted), "p/é 漢"]
        assert {each.key: each.value for each in snapshot.documents} == wanted | {"p/é 漢": b"x"}

    async def test_a_document_may_not_be_larger_than_the_limit(self, one: Coordinator) -> None:
        """Refused with its size; exactly the limit is taken."""
        with pytest.raises(Refused, match=str(VALUE_LIMIT)):
            await one.commit(Put(key="a", value=bytes(VALUE_LIMIT + 1)))
        await one.commit(Put(key="a", value=bytes(VALUE_LIMIT)))
        document = await one.get("a")
        assert document is not None and len(document.value) == VALUE_LIMIT

    async def test_a_watch_begins_with_all_there_is_and_tells_every_change_in_order(
        self, one: Coordinator, other: Coordinator
    ) -> None:
        """K4: whole commits together, nothing outside the prefix, deletions too."""
        await one.commit(Put(key="w/a", value=b"0"), Put(key="x", value=b"0"))
        watch = other.watch("w/")
        first = await watch.next()
        assert isinstance(first, Resync) and [each.key for each in first.snapshot.documents] == ["w/a"]
        revisions = [await one.commit(Put(key="w/b", value=b"1"), Put(key="w/c", value=b"1"), Put(key="x", value=b"1"))]
        revisions.append(await one.commit(Delete(key="w/a"), Put(key="w/b", value=b"2")))
        revisions.append(await one.commit(Put(key="w/end", value=b"")))
        told = await collect(watch, "w/end")
        assert all(isinstance(change, Changes) for change in told)
        events = [event for change in told if isinstance(change, Changes) for event in change.events]
        shape = [
            (event.document.key, event.document.value, event.document.revision)
            if isinstance(event, Written)
            else (event.key, None, event.revision)
            for event in events
        ]
        assert sorted(shape[:2]) == [("w/b", b"1", revisions[0]), ("w/c", b"1", revisions[0])]
        assert sorted(shape[2:4], key=str) == [("w/a", None, revisions[1]), ("w/b", b"2", revisions[1])]
        assert shape[4:] == [("w/end", b"", revisions[2])]
        for change in told:
            assert isinstance(change, Changes)
            ends = change.events[-1]
            assert change.revision >= (ends.document.revision if isinstance(ends, Written) else ends.revision)
        await watch.close()

    async def test_a_watch_resumes_after_any_revision(self, one: Coordinator, other: Coordinator) -> None:
        """K4: each change after it once, none before it."""
        revisions = [await one.commit(Put(key=f"w/{i}", value=b"")) for i in range(6)]
        watch = other.watch("w/", after=revisions[2])
        told = await collect(watch, "w/5")
        assert [key for change in told for key in keys(change)] == ["w/3", "w/4", "w/5"]
        await watch.close()
        again = other.watch("w/", after=told[-1].revision if isinstance(told[-1], Changes) else None)
        await one.commit(Put(key="w/6", value=b""))
        assert [key for change in await collect(again, "w/6") for key in keys(change)] == ["w/6"]
        await again.close()

    async def test_a_watch_loses_and_repeats_nothing_over_broken_connections(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """K4: 300 writes while the reader's connection breaks again and again."""
        watch = other.watch("w/")
        assert isinstance(await watch.next(), Resync)
        reading = asyncio.ensure_future(collect(watch, "w/end"))
        for i in range(300):
            if i % 50 == 20:
                await rig.cut(other)
            if i % 50 == 40:
                await rig.heal(other)
            await one.commit(Put(key=f"w/{i % 7}", value=b"%d" % i))
        await one.commit(Put(key="w/end", value=b""))
        told = await reading
        values = [
            int(event.document.value)
            for change in told
            if isinstance(change, Changes)
            for event in change.events
            if isinstance(event, Written) and event.document.key != "w/end"
        ]
        assert values == list(range(300))
        await watch.close()

    async def test_a_watch_that_missed_compacted_changes_is_given_all_there_is(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """K4: a Resync in place of what is forgotten, then changes again."""
        early = await one.commit(Put(key="w/a", value=b"1"), Put(key="w/b", value=b"1"))
        watch = other.watch("w/")
        assert isinstance(await watch.next(), Resync)
        await rig.cut(other)
        await one.commit(Delete(key="w/a"), Put(key="w/b", value=b"2"))
        await one.commit(Put(key="w/c", value=b"2"))
        await rig.compact()
        await rig.heal(other)
        await one.commit(Put(key="w/end", value=b""))
        content = apply({"w/a": b"1", "w/b": b"1"}, await collect(watch, "w/end"))
        assert content == {"w/b": b"2", "w/c": b"2", "w/end": b""}
        late = one.watch("w/", after=early)
        told = await collect(late, "w/end")
        assert isinstance(told[0], Resync) and apply({}, told) == content
        await watch.close()
        await late.close()

    async def test_a_watch_knows_when_it_was_last_current(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """`seen_at` moves on while nothing happens, stands still while the store is out of reach, and moves again."""
        watch = other.watch("w/")
        assert watch.seen_at() == float("-inf")
        await watch.next()
        reading = asyncio.ensure_future(watch.next())

        async def moves_beyond(mark: float) -> None:
            async def moved() -> bool:
                return watch.seen_at() > mark

            await until(moved)

        await moves_beyond(rig.clock.monotonic())
        await rig.cut(other)
        cut_at = rig.clock.monotonic()
        await self.pass_time(rig, 3 * rig.ttl)
        assert watch.seen_at() <= cut_at
        assert not reading.done()
        await rig.heal(other)
        await moves_beyond(rig.clock.monotonic())
        reading.cancel()
        await asyncio.wait([reading])
        await watch.close()

    async def test_documents_of_a_session_vanish_together_when_it_is_closed(
        self, one: Coordinator, other: Coordinator, rig: CoordinatorRig
    ) -> None:
        """K5: in one change; others stay, also one that was rewritten without a session or by somebody else's."""
        session, second = await one.open_session(ttl=rig.ttl * 5), await other.open_session(ttl=rig.ttl * 5)
        await one.commit(*(Put(key=f"s/{name}", value=b"1", session=session.id) for name in "abcd"))
        await one.commit(Put(key="s/stays", value=b"1"))
        await other.commit(Put(key="s/c", value=b"2"), Put(key="s/d", value=b"2", session=second.id))
        document = await other.get("s/a")
        assert document is not None and document.session == session.id
        watch = other.watch("s/")
        assert keys(await watch.next()) == ["s/a", "s/b", "s/c", "s/d", "s/stays"]
        session.check()
        await session.close()
        change = await watch.next()
        assert isinstance(change, Changes) and sorted(keys(change)) == ["s/a", "s/b"]
        assert all(isinstance(event, Deleted) for event in change.events)
        await self.assert_over(one, session)
        assert [each.key for each in (await other.snapshot("s/")).documents] == ["s/c", "s/d", "s/stays"]
        second.check()
        await watch.close()

    async def test_a_silent_holder_knows_that_its_session_is_over_before_anybody_sees_it_end(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """K5: out of reach, told by nobody, it finds out by its own clock; and it stays over when the store is back."""
        session = await one.open_session(ttl=rig.ttl)
        await one.commit(Put(key="s/a", value=b"1", session=session.id))
        waiting = asyncio.ensure_future(session.ended())
        await rig.cut(one)

        async def gone() -> bool:
            return await other.get("s/a") is None

        await until(gone)
        await self.assert_over(None, session)
        async with asyncio.timeout(PATIENCE):
            assert await waiting
        await rig.heal(one)
        await other.commit(Put(key="s/a", value=b"2", expected=ABSENT))
        await self.assert_over(one, session)

    async def test_a_session_outlives_a_short_silence(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """Its documents stay, and its time is long again."""
        session = await one.open_session(ttl=rig.ttl * 10)
        await one.commit(Put(key="s/a", value=b"1", session=session.id))
        await rig.cut(one)
        await self.pass_time(rig, rig.ttl)
        await rig.heal(one)
        low = session.left()

        async def renewed() -> bool:
            return session.left() > low

        await until(renewed)
        session.check()
        assert await other.get("s/a") is not None
        await session.close()

    async def test_sessions_live_as_long_as_their_holder_keeps_them(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """Several times their time to live."""
        session = await one.open_session(ttl=rig.ttl)
        await one.commit(Put(key="s/a", value=b"1", session=session.id))
        created = await other.get("s/a")
        await self.pass_time(rig, rig.ttl * 3)
        try:
            session.check()
        except Stale:
            pytest.skip("this machine stood still for longer than the session's time to live")
        assert await other.get("s/a") == created

    async def test_closing_a_coordinator_ends_its_sessions(self, rig: CoordinatorRig, other: Coordinator) -> None:
        """At once, not with their time."""
        leaving = await rig.connect()
        session = await leaving.open_session(ttl=rig.ttl * 1000)
        await leaving.commit(Put(key="s/a", value=b"1", session=session.id))
        await leaving.close()
        assert await other.get("s/a") is None

    async def test_calls_out_of_reach_end_with_unavailable(self, rig: CoordinatorRig, one: Coordinator) -> None:
        """K6: they do not hang, and nothing of the commit happened or all of it did."""
        await rig.cut(one)
        for call in (
            one.get("a"),
            one.snapshot(""),
            one.commit(Put(key="a", value=b"1")),
            one.open_session(ttl=rig.ttl),
        ):
            with pytest.raises(Unavailable):
                async with asyncio.timeout(PATIENCE):
                    await call
        await rig.heal(one)

        async def answers() -> bool:
            try:
                await one.get("a")
            except Unavailable:
                return False
            return True

        await until(answers)

    async def pass_time(self, rig: CoordinatorRig, seconds: float) -> None:
        """Let so much time of the rig's clock go by."""
        end = rig.clock.monotonic() + seconds

        async def passed() -> bool:
            return rig.clock.monotonic() >= end

        await until(passed)

    async def assert_over(self, coordinator: Coordinator | None, session: Session) -> None:
        """For its holder, and (when it can be asked) for the store."""
        assert session.left() == 0
        with pytest.raises(Stale) as told:
            session.check()
        assert told.value.code is ErrorCode.FENCED
        if coordinator is None:
            return

        async def refused() -> bool:
            try:
                await coordinator.commit(Put(key="s/late", value=b"", session=session.id))
            except Unavailable:
                return False
            except Stale as error:
                return error.code is ErrorCode.FENCED
            pytest.fail("a session that is over wrote")

        await until(refused)

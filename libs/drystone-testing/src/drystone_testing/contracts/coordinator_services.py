# SPDX-License-Identifier: Apache-2.0
"""What registration, elections and cached maps must do over every Coordinator; the rig is that of `coordinator`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from drystone_core.coordination import Coordinator, Delete, Put
from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.coordination import (
    CELL,
    DiskDocument,
    LeaderDocument,
    NodeDocument,
    decode,
    disk_key,
    election_key,
    node_key,
)
from drystone_core.ids import ClusterId, DiskId
from drystone_core.ring import Ring
from drystone_runtime.coordination.cache import CoordinatorCache, OwnerRing
from drystone_runtime.coordination.cell import join_cell
from drystone_runtime.coordination.election import Leadership, campaign, lead
from drystone_runtime.coordination.registration import Registration
from drystone_testing.contracts.coordinator import PATIENCE, CoordinatorRig, until
from drystone_testing.coordinator_rigs import LosesAnswers
from drystone_testing.sim_world import SeededEntropy

CELL_ID = ClusterId("c" * 32)


def node(name: str, *, claim: str = "", role: str = "storage-node", state: str = "serving") -> NodeDocument:
    """A node as its service tells it."""
    return NodeDocument(
        node=name, role=role, endpoint=f"{name}:9200", claim=claim or f"claim of {name}", incarnation="", state=state
    )


def disk(letter: str, *, free: int = 5) -> DiskDocument:
    """A disk as its node tells it."""
    return DiskDocument(
        disk=DiskId(letter * 32), node="", incarnation="", disk_class="ssd", state="healthy", total=10, free=free
    )


class CoordinatorServicesContract:
    """The suite: registration, elections, caches, the cell's identity."""

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

    @pytest.fixture
    async def register(self, rig: CoordinatorRig) -> AsyncIterator[Callable[..., Awaitable[Registration]]]:
        """Makes started registrations; they leave after the test."""
        made: list[Registration] = []

        async def start(
            coordinator: Coordinator, document: NodeDocument, *disks: DiskDocument, ttl: float = 0
        ) -> Registration:
            entropy = SeededEntropy(len(made))
            registration = Registration(
                coordinator=coordinator,
                node=document,
                disks=disks,
                ttl=ttl or rig.ttl,
                clock=rig.clock,
                entropy=entropy,
            )
            await registration.start()
            made.append(registration)
            return registration

        yield start
        for registration in made:
            await registration.stop()

    async def test_a_node_and_its_disks_are_registered_until_it_leaves(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """Under one incarnation; what it tells later replaces what it told; leaving removes all at once."""
        registration = await register(one, node("n1"), disk("a"), disk("b"), ttl=rig.ttl * 20)
        registration.check()
        await registration.tell(disks=[disk("a", free=3), disk("b")])
        found = {each.key: each for each in (await other.snapshot("")).documents}
        told = decode(NodeDocument, found[node_key("storage-node", "n1")].value, key="n1")
        disks = [decode(DiskDocument, found[disk_key(DiskId(letter * 32))].value, key=letter) for letter in "ab"]
        assert told.endpoint == "n1:9200" and told.wall_us > 0
        assert [(each.node, each.free) for each in disks] == [("n1", 3), ("n1", 5)]
        assert {told.incarnation, *(each.incarnation for each in disks)} == {registration.incarnation} != {""}
        await registration.stop()
        assert [each.key for each in (await other.snapshot("")).documents if each.key != CELL] == []
        with pytest.raises(Stale):
            registration.check()

    async def test_a_telling_whose_answer_was_lost_does_not_silence_the_node(
        self, rig: CoordinatorRig, one: Coordinator, register: Callable[..., Awaitable[Registration]]
    ) -> None:
        """The next one takes what stands there for its own, and not what another session wrote."""
        line = LosesAnswers(one)
        registration = await register(line, node("n1"), disk("a"), ttl=rig.ttl * 20)
        line.loses = True
        with pytest.raises(Unavailable):
            await registration.tell(disks=[disk("a", free=3)])
        line.loses = False
        await registration.tell(disks=[disk("a", free=2)])
        key = disk_key(DiskId("a" * 32))
        held = await one.get(key)
        assert held is not None and decode(DiskDocument, held.value, key=key).free == 2
        await one.commit(Put(key=key, value=held.value))
        with pytest.raises(Stale):
            await registration.tell(disks=[disk("a", free=1)])

    async def test_a_disk_told_of_by_a_call_whose_answer_was_lost_is_told_of_again(
        self, rig: CoordinatorRig, one: Coordinator, register: Callable[..., Awaitable[Registration]]
    ) -> None:
        """It took the place of another one; so did what stood there, and the node may say that it drains."""
        line = LosesAnswers(one)
        registration = await register(line, node("n1"), disk("a"), disk("b"), ttl=rig.ttl * 20)
        line.loses = True
        with pytest.raises(Unavailable):
            await registration.tell(disks=[disk("c"), disk("b")])
        line.loses = False
        await registration.tell(disks=[disk("c", free=2), disk("b", free=2)])
        for letter in "cb":
            key = disk_key(DiskId(letter * 32))
            held = await one.get(key)
            assert held is not None and decode(DiskDocument, held.value, key=key).free == 2
        await registration.tell(node=node("n1", state="draining"))

    async def test_an_id_in_use_is_refused_with_what_to_do(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """G2, for nodes and for disks; the one that was there is not disturbed, and its id works in another role."""
        first = await register(one, node("n1"), disk("a"), ttl=rig.ttl * 20)
        with pytest.raises(
            Refused, match=r"node id 'n1' is in use by the storage-node at n1:9200: give this one an id"
        ):
            await register(other, node("n1", claim="somebody else's"))
        with pytest.raises(Refused, match=r"disk a{32} is served by node 'n1': unmount it there"):
            await register(other, node("n2"), disk("a"))
        first.check()
        await register(other, node("n1", role="gateway", claim="somebody else's"), ttl=rig.ttl * 20)

    async def test_the_id_of_a_node_that_died_is_free_once_its_session_is_over(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """G2: a disk moved to another node is waited for."""
        await register(one, node("n1"), disk("a"))
        await rig.cut(one)
        moved = await register(other, node("n2"), disk("a"))
        moved.check()
        document = await other.get(disk_key(DiskId("a" * 32)))
        assert document is not None and decode(DiskDocument, document.value, key="a").node == "n2"
        await rig.heal(one)

    async def test_a_later_start_takes_the_place_of_the_earlier_one_which_is_told(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """G2: the same claim need not wait; should the earlier one live (a copied state directory) it stops for good."""
        first = await register(one, node("n1"), disk("a"), ttl=rig.ttl * 1000)
        second = await register(other, node("n1"), disk("a"), ttl=rig.ttl * 1000)
        assert second.incarnation != first.incarnation

        async def told() -> bool:
            try:
                first.check()
            except Refused as error:
                return "took this one's place" in error.message
            except Stale:
                pass
            return False

        await until(told)
        second.check()
        document = await other.get(node_key("storage-node", "n1"))
        assert document is not None
        assert decode(NodeDocument, document.value, key="n1").incarnation == second.incarnation

    async def test_a_node_that_lost_its_session_comes_back_under_a_new_incarnation(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """G1 and G3: while away `check` raises; an operator's deletion of the document is such a loss too."""
        registration = await register(one, node("n1"), disk("a"))
        seen = [registration.incarnation]

        async def gone() -> bool:
            return await other.get(node_key("storage-node", "n1")) is None

        async def back() -> bool:
            document = await other.get(node_key("storage-node", "n1"))
            if document is None or registration.incarnation in seen:
                return False
            return decode(NodeDocument, document.value, key="n1").incarnation == registration.incarnation

        await rig.cut(one)
        await until(gone)
        with pytest.raises(Stale):
            registration.check()
        await rig.heal(one)
        await until(back)
        seen.append(registration.incarnation)
        await other.commit(Delete(key=node_key("storage-node", "n1")))
        await until(back)

        async def holds() -> bool:
            try:
                registration.check()
            except Stale:  # a stalled machine may lose the new session as well
                return False
            return True

        await until(holds)

    async def test_one_leads_at_a_time_and_each_token_is_greater_than_all_before(self, rig: CoordinatorRig) -> None:
        """E1: twelve terms of four contenders who resign; what is guarded by an earlier term is refused."""
        clients = [await rig.connect() for _ in range(4)]
        terms: list[Leadership] = []
        leading: list[int] = []

        async def contend(index: int) -> None:
            session = await clients[index].open_session(ttl=rig.ttl * 20)
            while len(terms) < 12:
                leadership = await campaign(
                    coordinator=clients[index],
                    session=session,
                    election="repair",
                    leader=LeaderDocument(node=f"n{index}"),
                    clock=rig.clock,
                )
                leading.append(index)
                assert len(leading) == 1
                terms.append(leadership)
                leadership.check()
                await clients[index].commit(Put(key="led", value=b"%d" % index), leadership.guard())
                if len(terms) > 1:
                    with pytest.raises(Stale):
                        await clients[index].commit(Put(key="led", value=b"no"), terms[-2].guard())
                leading.clear()
                await leadership.resign()
                with pytest.raises(Stale):
                    leadership.check()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(contend(index) for index in range(4)))
        tokens = [each.token for each in terms]
        assert tokens == sorted(set(tokens))
        for client in clients:
            await client.close()

    async def test_a_leader_out_of_reach_is_superseded_and_knows_it(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """E2 and E3: before another one leads it says so by its own clock, and its guard refuses for ever."""
        session = await one.open_session(ttl=rig.ttl)
        old = await campaign(
            coordinator=one, session=session, election="repair", leader=LeaderDocument(node="n1"), clock=rig.clock
        )
        await rig.cut(one)
        new = await campaign(
            coordinator=other,
            session=await other.open_session(ttl=rig.ttl * 20),
            election="repair",
            leader=LeaderDocument(node="n2"),
            clock=rig.clock,
        )
        with pytest.raises(Stale) as told:
            old.check()
        assert told.value.code is ErrorCode.FENCED and new.token > old.token
        assert await old.ended()
        await rig.heal(one)
        await self.until_refused(one, Put(key="led", value=b"late"), old)
        await old.resign()
        new.check()
        document = await other.get(election_key("repair"))
        assert document is not None and decode(LeaderDocument, document.value, key="e").node == "n2"

    async def test_elections_whose_names_begin_alike_are_apart(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """`repair` waits for `repair` only, though `repair-2` comes and goes."""
        mine, theirs = await one.open_session(ttl=rig.ttl * 20), await other.open_session(ttl=rig.ttl * 20)
        leader = LeaderDocument(node="n")
        held = await campaign(coordinator=one, session=mine, election="repair", leader=leader, clock=rig.clock)
        waiting = asyncio.ensure_future(
            campaign(coordinator=other, session=theirs, election="repair", leader=leader, clock=rig.clock)
        )
        for _ in range(3):
            extra = await campaign(coordinator=one, session=mine, election="repair-2", leader=leader, clock=rig.clock)
            await extra.resign()
        assert not waiting.done()
        held.check()
        await held.resign()
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).token > held.token

    async def test_a_leaders_work_is_stopped_when_it_leads_no_more(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """`lead`: somebody deletes the document; the work is cancelled, Stale is raised, the next one leads."""
        session = await one.open_session(ttl=rig.ttl * 20)
        began, stopped = asyncio.Event(), asyncio.Event()

        async def work(leadership: Leadership) -> None:
            leadership.check()
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        leading = asyncio.ensure_future(
            lead(
                coordinator=one,
                session=session,
                election="repair",
                leader=LeaderDocument(node="n1"),
                clock=rig.clock,
                work=work,
            )
        )
        async with asyncio.timeout(PATIENCE):
            await began.wait()
            await other.commit(Delete(key=election_key("repair")))
            await stopped.wait()
            with pytest.raises(Stale):
                await leading

        async def finishes(leadership: Leadership) -> None:
            pass

        await lead(
            coordinator=one,
            session=session,
            election="repair",
            leader=LeaderDocument(node="n1"),
            clock=rig.clock,
            work=finishes,
        )
        assert await other.get(election_key("repair")) is None

    async def test_a_cache_serves_what_it_last_knew_and_says_how_old_that_is(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """C1 to C3: current while the store answers, the last content while it does not, the new one after that."""
        await one.commit(Put(key="m/a", value=b"1"), Put(key="m/b", value=b"1"))
        cache = CoordinatorCache(coordinator=other, prefix="m/", clock=rig.clock)
        assert cache.age() == float("inf")
        await cache.start(within=PATIENCE)
        assert {key: each.value for key, each in cache.documents.items()} == {"m/a": b"1", "m/b": b"1"}
        async with asyncio.timeout(PATIENCE):
            await cache.reached(await one.commit(Put(key="m/b", value=b"2"), Delete(key="m/a")))
        assert {key: each.value for key, each in cache.documents.items()} == {"m/b": b"2"}
        await rig.cut(other)
        cut_at = rig.clock.monotonic()
        last = await one.commit(Put(key="m/c", value=b"3"))

        async def old() -> bool:
            return cache.age() >= 2 * rig.ttl

        await until(old)
        assert list(cache.documents) == ["m/b"] and cache.get("m/c") is None
        assert cache.age() <= rig.clock.monotonic() - cut_at + 2 * rig.ttl
        await rig.heal(other)
        async with asyncio.timeout(PATIENCE):
            await cache.reached(last)
        assert sorted(cache.documents) == ["m/b", "m/c"]

        async def young() -> bool:
            return rig.clock.monotonic() - cache.age() > cut_at

        await until(young)
        await cache.close()
        assert sorted(cache.documents) == ["m/b", "m/c"]

    async def test_a_cache_that_gets_no_first_content_says_so(self, rig: CoordinatorRig, one: Coordinator) -> None:
        """Unavailable, not an empty map."""
        await rig.cut(one)
        cache = CoordinatorCache(coordinator=one, prefix="m/", clock=rig.clock)
        with pytest.raises(Unavailable, match="did not answer"):
            await cache.start(within=0.5)

    async def test_the_ring_follows_the_registry(
        self,
        rig: CoordinatorRig,
        one: Coordinator,
        other: Coordinator,
        register: Callable[..., Awaitable[Registration]],
    ) -> None:
        """Serving metadata nodes own the tablets; one that drains or is gone hands over its own only."""
        cache = CoordinatorCache(coordinator=other, prefix="nodes/", clock=rig.clock)
        await cache.start(within=PATIENCE)
        ring = OwnerRing(cache=cache)
        assert ring.owner(b"t") is None
        nodes = {name: node(name, role="metadata") for name in ("m0", "m1", "m2")}
        made = {name: await register(one, each, ttl=rig.ttl * 20) for name, each in nodes.items()}
        await register(one, node("s0"), ttl=rig.ttl * 20)

        async def members(*names: str) -> None:
            async def are() -> bool:
                return ring.members == names

            await until(are)

        await members("m0", "m1", "m2")
        tablets = [b"tablet %d" % i for i in range(100)]
        before = {tablet: found.node for tablet in tablets if (found := ring.owner(tablet)) is not None}
        assert before == {tablet: Ring(["m2", "m1", "m0"]).owner(tablet) for tablet in tablets}
        await made["m1"].tell(node=node("m1", role="metadata", state="draining"))
        await members("m0", "m2")
        for tablet in tablets:
            found = ring.owner(tablet)
            assert found is not None and found.node == (before[tablet] if before[tablet] != "m1" else found.node)
        await made["m0"].stop()
        await members("m2")
        await cache.close()

    async def test_the_cell_is_made_once_and_another_is_refused(
        self, rig: CoordinatorRig, one: Coordinator, other: Coordinator
    ) -> None:
        """Of several that initialise at once one wins; a process of another cell is told so."""
        if await one.get(CELL) is None:
            with pytest.raises(Refused, match="holds no cell: initialise it"):
                await join_cell(one, cell=CELL_ID, create=False, clock=rig.clock, where="it")
            await one.commit(Put(key="stray", value=b""))
            with pytest.raises(Refused, match="holds no cell"):
                await join_cell(one, cell=CELL_ID, create=True, clock=rig.clock, where="it")
            await one.commit(Delete(key="stray"))
        made = await asyncio.gather(
            *(join_cell(each, cell=CELL_ID, create=True, clock=rig.clock, where="it") for each in (one, other))
        )
        assert made[0] == made[1]
        assert await join_cell(other, cell=None, create=False, clock=rig.clock, where="it") == made[0]
        with pytest.raises(Refused, match=f"it belongs to cell {CELL_ID}, not to d+: give this one the coordinator"):
            await join_cell(other, cell=ClusterId("d" * 32), create=True, clock=rig.clock, where="it")

    async def until_refused(self, coordinator: Coordinator, put: Put, leadership: Leadership) -> None:
        """A guarded commit of a former leader, as soon as the store answers it again."""

        async def refused() -> bool:
            try:
                await coordinator.commit(put, leadership.guard())
            except Unavailable:
                return False
            except Stale:
                return True
            pytest.fail("a superseded leader wrote")

        await until(refused)

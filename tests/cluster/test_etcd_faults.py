# SPDX-License-Identifier: Apache-2.0
"""One etcd member killed, emptied, restored from a backup, full: what is served meanwhile, and what is told truthfully."""

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.coordination import (
    ABSENT,
    Change,
    Changes,
    Coordinator,
    Delete,
    Put,
    Require,
    Revision,
    Written,
)
from drystone_core.errors import Damaged, Refused, Stale, Unavailable, Unreachable
from drystone_core.formats.coordination import CELL, NodeDocument, decode, node_key
from drystone_core.keyspace import Keyspace
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.coordination.registration import Registration
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.contracts.coordinator import PATIENCE, collect, until
from drystone_testing.contracts.coordinator_services import disk, node
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import EtcdServers, own_etcd

__all__ = ["own_etcd"]


@pytest.fixture
async def rig(own_etcd: EtcdServers) -> AsyncIterator[EtcdRig]:
    made = EtcdRig(own_etcd, prefix="/drystone/")
    yield made
    await made.close()


def registration(rig: EtcdRig, coordinator: object, *, ttl: float) -> Registration:
    return Registration(
        coordinator=coordinator,  # type: ignore[arg-type]
        node=node("n1"),
        disks=(disk("a"),),
        ttl=ttl,
        clock=rig.clock,
        entropy=SystemEntropy(),
    )


async def test_a_restart_of_etcd_loses_no_session_and_no_change(own_etcd: EtcdServers, rig: EtcdRig) -> None:
    """Killed for less than the sessions' time: calls say that nothing happened, the cache serves on, then all goes on."""
    member = own_etcd.members[0]
    one, other = await rig.connect(), await rig.connect()
    registered = registration(rig, one, ttl=120)
    await registered.start()
    incarnation = registered.incarnation
    cache = CoordinatorCache(coordinator=other, prefix="m/", clock=rig.clock)
    await one.commit(Put(key="m/a", value=b"1"))
    await cache.start(within=PATIENCE)
    watch = other.watch("m/")
    await watch.next()
    for turn in range(3):
        member.kill()
        died = rig.clock.monotonic()

        async def unreachable() -> bool:
            try:
                await one.commit(Put(key="m/lost", value=b""))
            except Unreachable as error:
                return "no member of etcd answers: 127.0.0.1:" in error.message
            except Unavailable:
                return False  # sent before the broken connection was noticed
            pytest.fail("a dead etcd took a commit")

        await until(unreachable)
        with pytest.raises(Unavailable):
            await one.get("m/a")
        registered.check()
        assert "m/a" in cache.documents

        async def old(died: float = died) -> bool:
            return cache.age() > 0.5 and rig.clock.monotonic() - cache.age() <= died

        await until(old)
        member.start()
        await asyncio.to_thread(own_etcd.wait, member)

        async def written(turn: int = turn) -> bool:
            try:
                await one.commit(Put(key=f"m/{turn}", value=b""))
            except Unavailable:
                return False
            return True

        await until(written)
        changes = await collect(watch, f"m/{turn}")
        assert all(isinstance(change, Changes) for change in changes)

        async def current(turn: int = turn, died: float = died) -> bool:
            return f"m/{turn}" in cache.documents and rig.clock.monotonic() - cache.age() > died

        await until(current)
    assert "m/lost" not in cache.documents
    registered.check()
    assert registered.incarnation == incarnation
    await watch.close()
    await cache.close()
    await registered.stop()
    for each in (one, other):
        await each.close()


async def test_a_session_that_outlasted_etcds_absence_is_told_lost_and_made_anew(
    own_etcd: EtcdServers, rig: EtcdRig
) -> None:
    """Etcd is away for longer than the session lives: its holder says so by its own clock, then comes back as another."""
    member = own_etcd.members[0]
    one = await rig.connect()
    registered = registration(rig, one, ttl=rig.ttl)
    await registered.start()
    session, incarnation = registered.session, registered.incarnation
    member.kill()
    async with asyncio.timeout(PATIENCE):
        reason = await session.ended()
    assert "not renewed in time" in reason
    with pytest.raises(Stale):
        registered.check()
    member.start()
    await asyncio.to_thread(own_etcd.wait, member)

    async def back() -> bool:
        try:
            registered.check()
            document = await one.get(node_key("storage-node", "n1"))
        except (Stale, Unavailable):
            return False
        return document is not None and registered.incarnation != incarnation

    await until(back)
    document = await one.get(node_key("storage-node", "n1"))
    assert document is not None
    assert decode(NodeDocument, document.value, key="n1").incarnation == registered.incarnation
    await registered.stop()
    await one.close()


async def test_a_stream_torn_in_the_middle_of_catching_up_is_taken_up_where_the_reader_is(rig: EtcdRig) -> None:
    """T1: 3,000 changes to catch up with, the connection torn after each 60,000 bytes; docs/adr/0501 tells of a client that lost them."""
    one, other = await rig.connect(), await rig.connect()
    begin = await one.commit(Put(key="w/first", value=b""))
    for i in range(3000):
        if i % 100 == 0:
            await asyncio.gather(*(one.commit(Put(key=f"w/{i + j:05}", value=bytes(100))) for j in range(100)))
    line = rig.lines(other)[0]
    line.tear_after(60_000)
    line.tear()
    watch = other.watch("w/", after=begin)
    for count in (150_000, 400_000):
        await asyncio.sleep(0.3)
        line.tear_after(count)
        line.tear()
    await one.commit(Put(key="w/last", value=b""))
    told = await collect(watch, "w/last")
    written = [
        event.document.key
        for change in told
        if isinstance(change, Changes)
        for event in change.events
        if isinstance(event, Written)
    ]
    assert sorted(written) == sorted([*(f"w/{i:05}" for i in range(3000)), "w/last"])
    await watch.close()
    for each in (one, other):
        await each.close()


async def test_watches_and_sessions_close_while_etcd_is_just_dying(own_etcd: EtcdServers, rig: EtcdRig) -> None:
    """A cancellation and the failure of the stream come at the same moment; neither hides the other."""
    member = own_etcd.members[0]
    for turn in range(4):
        one = await rig.connect(endpoints=own_etcd.endpoints)
        watches = [one.watch("w/") for _ in range(20)]
        for watch in watches:
            await watch.next()
        session = await one.open_session(ttl=60)
        member.kill()
        time.sleep(0.2)  # noqa: ASYNC251 - the loop must not run while the streams fail
        async with asyncio.timeout(PATIENCE):
            if turn % 2:
                for watch in watches:
                    await watch.close()
                await session.close()
            await one.close()
        member.start()
        await asyncio.to_thread(own_etcd.wait, member)


async def test_a_commit_whose_answer_is_lost_is_told_unknown_never_stale(rig: EtcdRig) -> None:
    """O2: it went in, once; asked again behind the caller's back it would be told that another one was faster."""
    one, other = await rig.connect(), await rig.connect()
    line = rig.lines(one)[0]
    for turn in range(10):
        key = f"made/{turn}"
        await until_answers(one)
        line.hold_answers()
        commit = asyncio.ensure_future(one.commit(Put(key=key, value=b"mine", expected=ABSENT)))

        async def went_in(key: str = key) -> bool:
            return await other.get(key) is not None

        await until(went_in)
        line.tear()
        line.let_go()
        with pytest.raises(Unavailable) as told:
            await commit
        assert not isinstance(told.value, Unreachable)
        document = await other.get(key)
        assert document is not None and document.value == b"mine" and document.created == document.revision
    for each in (one, other):
        await each.close()


async def until_answers(coordinator: Coordinator) -> None:
    """A broken connection was noticed and another one is there."""

    async def answers() -> bool:
        try:
            await coordinator.get("any")
        except Unavailable:
            return False
        return True

    await until(answers)


async def test_etcd_restored_from_an_older_backup_is_noticed_and_nothing_is_trusted(
    own_etcd: EtcdServers, rig: EtcdRig, tmp_path: Path
) -> None:
    """N4: revisions, and so tokens, went back; every call says what to do, the cache keeps what it had."""
    member = own_etcd.members[0]
    one = await rig.connect()
    cache = CoordinatorCache(coordinator=one, prefix="m/", clock=rig.clock)
    await one.commit(Put(key="m/a", value=b"1"))
    await cache.start(within=PATIENCE)
    member.kill()
    data, backup = member.folder / member.name, tmp_path / "backup"
    shutil.copytree(data, backup)
    member.start()
    await asyncio.to_thread(own_etcd.wait, member)

    async def written() -> bool:
        try:
            await one.commit(*(Put(key=f"m/{i}", value=b"2") for i in range(5)))
            revision = await one.commit(Put(key="m/b", value=b"2"))
        except Unavailable:
            return False
        async with asyncio.timeout(PATIENCE):
            await cache.reached(revision)
        return True

    await until(written)
    member.kill()
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    member.start()
    await asyncio.to_thread(own_etcd.wait, member)

    async def noticed() -> bool:
        try:
            await one.get("m/a")
        except Unavailable:
            return False
        except Damaged as error:
            return "etcd went back from revision" in error.message and "restoring etcd" in error.message
        pytest.fail("a restored backup was believed")

    await until(noticed)
    for call in (one.get("m/a"), one.snapshot("m/"), one.commit(Put(key="m/c", value=b"")), one.open_session(ttl=2)):
        with pytest.raises(Damaged):
            await call
    assert "m/b" in cache.documents
    await cache.close()
    await one.close()


async def test_an_emptied_etcd_is_not_taken_for_a_new_cell(own_etcd: EtcdServers, rig: EtcdRig) -> None:
    """A process that runs notices, one that starts is told; nothing is initialised by itself."""
    member = own_etcd.members[0]
    one = await rig.connect()
    for i in range(5):
        await one.commit(Put(key="m/a", value=b"%d" % i))
    member.kill()
    shutil.rmtree(member.folder / member.name)
    member.start()
    await asyncio.to_thread(own_etcd.wait, member)

    async def noticed() -> bool:
        try:
            await one.get("m/a")
        except Unavailable:
            return False
        except Damaged:
            return True
        pytest.fail("an emptied etcd was believed")

    await until(noticed)
    with pytest.raises(Refused, match="holds no cell: initialise it, or see whether its data was lost"):
        await connect(settings=rig.settings(), cell=rig.cell, clock=rig.clock, entropy=SystemEntropy())
    await one.close()


async def test_a_commit_never_reaches_another_cell(rig: EtcdRig) -> None:
    """O1: the cell's document is another one now, as when a name leads to another etcd."""
    one = await rig.connect()
    kept = await one.get(CELL)
    assert kept is not None
    await one.commit(Put(key=CELL, value=b"another"))
    with pytest.raises(Refused, match="holds another cell now"):
        await one.commit(Put(key="m/a", value=b""))
    assert await one.get("m/a") is None
    await one.close()


async def test_etcd_without_space_still_answers_reads_and_says_what_to_do(tmp_path: Path) -> None:
    """The alarm NOSPACE: writes are Unavailable with a sentence, reads, watches and renewals of sessions go on."""
    servers = EtcdServers(tmp_path / "small", 1, more=("--quota-backend-bytes", str(4 << 20))).start()
    rig = EtcdRig(servers, prefix="/drystone/")
    try:
        one = await rig.connect()
        session = await one.open_session(ttl=rig.ttl)
        watch = one.watch("m/")
        await watch.next()
        await one.commit(Put(key="m/first", value=b"1"))
        with pytest.raises(Unavailable, match="no space left"):
            for i in range(200):
                await one.commit(Put(key=f"m/{i}", value=random.Random(i).randbytes(100_000)))
        document = await one.get("m/first")
        assert document is not None and document.value == b"1"
        await collect(watch, "m/first")
        await asyncio.sleep(rig.ttl * 2)
        session.check()
        await watch.close()
        await one.close()
    finally:
        await rig.close()
        servers.kill()


async def test_random_commits_end_as_the_model_says(rig: EtcdRig) -> None:
    """400 commits of the pure Keyspace and of etcd side by side: the same refusals, the same content, the same revisions."""
    one = await rig.connect()
    rng = random.Random(SEED)
    model = Keyspace()
    base = (await one.snapshot("")).revision - model.revision
    names = ["a", "a/b", "b", "c", "ü"]
    for turn in range(400):
        changes: list[Change] = []
        for key in rng.sample(names, rng.randrange(1, 4)):
            document = model.get(key)
            now = document.revision if document is not None else ABSENT
            expected = rng.choice([None, now, now, ABSENT, Revision(max(1, now - 1))])
            kind = rng.randrange(3)
            if kind == 0 or (kind == 2 and expected is None):
                changes.append(Put(key=key, value=b"%d" % turn, expected=expected))
            elif kind == 1:
                changes.append(Delete(key=key, expected=expected))
            else:
                changes.append(Require(key=key, expected=expected if expected is not None else ABSENT))
        try:
            wanted: Revision | str = Revision(model.commit(tuple(changes)) + base)
        except Stale as error:
            wanted = error.details["key"]
        try:
            real: Revision | str = await one.commit(*(shifted(change, base) for change in changes))
        except Stale as error:
            real = error.details["key"]
        assert real == wanted, f"seed {SEED}, turn {turn}: {changes}"
    snapshot = await one.snapshot("")
    assert [
        (each.key, each.value, each.revision - base, each.created - base)
        for each in snapshot.documents
        if each.key != CELL
    ] == [(each.key, each.value, each.revision, each.created) for each in model.snapshot("").documents]
    await one.close()


SEED = 20_240_501


def shifted(change: Change, base: int) -> Change:
    """The change with etcd's revisions."""
    expected = Revision(change.expected + base) if change.expected else change.expected
    if isinstance(change, Put):
        return Put(key=change.key, value=change.value, expected=expected)
    if isinstance(change, Delete):
        return Delete(key=change.key, expected=expected)
    return Require(key=change.key, expected=expected if expected is not None else ABSENT)

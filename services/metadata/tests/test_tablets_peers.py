# SPDX-License-Identifier: Apache-2.0
"""Three processes and their messages: changes of buckets go to the owners of tablets, whatever becomes of the messages."""

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

import pytest

from drystone.metadata.v1 import metadata_pb2 as pb
from drystone.metadata.v1.mutations_pb2 import Mutation
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME, object_address
from drystone_core.formats.row_parts import decode_bucket
from drystone_core.ids import BucketId, Key, Uid
from drystone_core.mutations import ConfigureBucket, DeleteBucket, DeleteObject, Outcome, PutObject
from drystone_core.objects import Bucket, Versioning
from drystone_metadata.logic.carrying import CarryBucket
from drystone_metadata.rpc.server import _Servicer
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.memory import MemoryStorage, MemoryTablet
from drystone_metadata.store.ports import CELL_TABLET, KeyOutOfRange, RowKey, TabletId, TabletPhase
from drystone_metadata.tablets import changes
from drystone_metadata.tablets.handing import EndBegun
from drystone_metadata.tablets.owning import NotOwner
from drystone_runtime.rpc.mutation_messages import mutation_message
from drystone_runtime.rpc.status import from_detail
from drystone_testing.owned_cell import OwnedCell

QUIET = MetadataSettings(size_looks=3600.0, upkeep_pause=0.05, fill_rows=16)
"""Nothing is split by itself, and nothing swept, buried or looked for but at the start."""
KEYS = [b"%02d" % number for number in range(0, 40, 4)]
SPLITS = KEYS[1:]


async def filled(cell: OwnedCell, bucket: str = "b") -> None:
    """A bucket in ten tablets, run by their owners."""
    await cell.create(bucket)
    for key in KEYS:
        await cell.put(key, bucket)
    for key in SPLITS:
        await cell.split(key, bucket)
        await cell.at_rest()
    await settled(cell)


async def settled(cell: OwnedCell) -> None:
    """No epoch has risen for a while."""
    before = -1
    while before != cell.epochs():
        before = cell.epochs()
        await asyncio.sleep(0.3)


async def emptied(cell: OwnedCell) -> None:
    for key in KEYS:
        await cell.delete(key)


def copies(cell: OwnedCell, name: str) -> list[tuple[TabletId, Bucket]]:
    """What each tablet's rows say of a bucket."""
    found: list[tuple[TabletId, MemoryTablet]] = list(cell.tablets.tablets.items())
    row = RowKey(BUCKET, name.encode())
    return [(at, decode_bucket(row.key, tablet.rows[row])) for at, tablet in found if row in tablet.rows]


def closed_copies(cell: OwnedCell, owner: str) -> list[Bucket]:
    """What that process's tablets say of the bucket `b`."""
    return [one for at, one in copies(cell, "b") if at != CELL_TABLET and cell.owner(owner, at) == owner]


async def owner_of(cell: OwnedCell, key: bytes) -> str:
    """Of the tablet of a key of `b`."""
    found = await cell.read(lambda node: node.bucket("b"))
    spot = await cell.nodes[0].map.look(object_address(found.bucket_id, Key(key)))
    return cell.owner("m0", spot.tablet)


def put_message(cell: OwnedCell, bucket: str, key: bytes) -> Mutation:
    """As a gateway sends it."""
    uid = Uid(cell.entropy.token(16))
    return mutation_message(
        PutObject(
            write_id=cell.id(), bucket=bucket, key=Key(key), uid=uid, size=0, etag=uid.hex(), headers={}, metadata={},
            blobs=(),
        )
    )  # fmt: skip


def unended(cell: OwnedCell) -> list[str]:
    rows = cell.tablets.tablets[CELL_TABLET].rows.items()
    found = [decode_bucket(row.key, value) for row, value in rows if row.kind == BUCKET]
    return [bucket.name for bucket in found if bucket.pending or bucket.closed]


def unburied(cell: OwnedCell) -> list[str]:
    found = []
    for at, tablet in cell.tablets.tablets.items():
        for row, value in tablet.rows.items():
            if at != CELL_TABLET and row.kind == BUCKET and (one := decode_bucket(row.key, value)).closed:
                if RowKey(BUCKET_NAME, one.bucket_id.to_bytes(8, "big")) in tablet.rows:
                    found.append(one.name)
    return found


async def versioned(cell: OwnedCell, bucket: str) -> None:
    await cell.decide(ConfigureBucket(write_id=cell.id(), bucket=bucket, versioning=Versioning.ENABLED))


async def test_changes_of_a_bucket_raise_no_epoch() -> None:
    """Versioning and a deletion reach tablets of three owners: all of them keep their tablets, several steps travel per call."""
    cell = OwnedCell(11, settings=QUIET, lease=20.0)
    async with cell.running():
        await filled(cell)
        before = cell.epochs()
        await versioned(cell, "b")
        assert {at for at, one in copies(cell, "b") if one.versioning is Versioning.ENABLED} == set(
            cell.tablets.tablets
        )
        await cell.put(KEYS[-1])
        page = await cell.read(lambda node: node.list_versions("b"))
        assert sum(row.key == KEYS[-1] for row in page.versions) == 2
        with pytest.raises(Refused):
            await cell.decide(DeleteBucket(write_id=cell.id(), bucket="b"))
        assert cell.epochs() == before
        assert len({name for name, _, step in cell.messages.sent if isinstance(step, CarryBucket)}) == 2
        assert not any(node.handing.taken_over for node in cell.nodes)


async def test_deleted_bucket_is_buried_in_tablets_of_others_at_once() -> None:
    """Without their owners' passes, also when the message about it is lost."""
    cell = OwnedCell(12, settings=QUIET, lease=5.0)
    async with cell.running():
        await filled(cell)
        await emptied(cell)
        before = cell.epochs()
        bury = changes.BuryBucket
        lost: list[TabletId] = []
        ask = cell.messages._deliver

        async def lose_first(name: str, tablet: TabletId, step: Any) -> DrystoneError | None:
            if isinstance(step, bury) and tablet not in lost:
                lost.append(tablet)
                return changes.Unavailable("ordered by the test")
            return await ask(name, tablet, step)

        cell.messages._deliver = lose_first  # type: ignore[method-assign]
        assert await cell.decide(DeleteBucket(write_id=cell.id(), bucket="b")) == Outcome()
        async with asyncio.timeout(5.0):
            while unburied(cell):  # beside, and its first attempts are lost
                await asyncio.sleep(0.02)
                for node in cell.nodes:
                    await node.changes.again()
        assert lost and cell.epochs() == before


async def test_change_met_elsewhere_is_ended_by_its_owner_and_waited_for() -> None:
    """A configuration is begun and left; a reader and a writer at processes that cannot end it get their answers."""
    cell = OwnedCell(13, settings=QUIET, lease=5.0)
    async with cell.running():
        await filled(cell)
        first = cell.nodes[cell.names.index(cell.owner("m0", CELL_TABLET))]
        other = next(node for node in cell.nodes if node is not first)
        begun = ConfigureBucket(write_id=cell.id(), bucket="b", versioning=Versioning.ENABLED)
        await first.tablets.submit(CELL_TABLET, begun)
        assert unended(cell) == ["b"]
        began = time.monotonic()
        found = await asyncio.gather(*(other.bucket("b") for _ in range(5)))
        assert {one.versioning for one in found} == {Versioning.ENABLED} and not unended(cell)
        assert time.monotonic() - began < 4.0
        assert sum(isinstance(step, EndBegun) for _, _, step in cell.messages.sent) == 1


async def test_put_to_a_bucket_whose_deletion_stands_still_holds_up_no_put_to_another() -> None:
    """A tablet's owner hangs, so a deletion takes a lease. The others hear soon that puts to that bucket are not decided, in
    answers that carry the outcome of puts to other buckets as well; the deletion ends all the same."""
    cell = OwnedCell(19, settings=QUIET, lease=3.0)
    async with cell.running():
        await filled(cell)
        await cell.create("c")
        for node in cell.nodes:
            await node.bucket("b")
        await emptied(cell)
        first = cell.owner("m0", CELL_TABLET)
        silent, asked = (name for name in cell.names if name != first)
        theirs = [key for key in KEYS if await owner_of(cell, key) == asked]
        cell.messages.silent.add(silent)
        deleting = asyncio.ensure_future(cell.decide(DeleteBucket(write_id=cell.id(), bucket="b")))
        while not any(one.closed for one in closed_copies(cell, asked)):
            await asyncio.sleep(0.01)
        servicer = _Servicer(cell.nodes[cell.names.index(asked)])
        puts = [put_message(cell, "b", key) for key in theirs] + [put_message(cell, "c", b"k")]
        began = time.monotonic()
        answer = await servicer.Mutate(pb.MutateRequest(mutations=puts), None)  # type: ignore[arg-type]
        assert time.monotonic() - began < 1.5
        for one in answer.results[:-1]:
            assert type(from_detail(one.error)) is Unavailable
        assert not deleting.done()
        assert await deleting == Outcome()
        with pytest.raises(Refused) as refused:
            await cell.put(theirs[0])
        assert refused.value.code is ErrorCode.NO_SUCH_BUCKET


async def test_tablet_that_is_being_moved_is_not_taken_over_for_a_step() -> None:
    """The walk looks again, and finds who holds the keys."""
    cell = OwnedCell(18, settings=QUIET)
    moving = TabletId(b"moving")
    await MemoryStorage(cell.tablets).create(
        moving, low=b"", high=b"", generation=1, phase=TabletPhase.CLOSED, child=TabletId(b"")
    )
    bucket = Bucket(bucket_id=BucketId(7), name="b", owner="o", created_ms=0, region="r")
    with pytest.raises(KeyOutOfRange):
        await cell.nodes[0].tablets.take_over_for(moving, CarryBucket(write_id=cell.id(), bucket="b", value=bucket))


async def test_processes_count_their_tablets_and_changes() -> None:
    """Each tablet is one process's; a change that cannot be ended yet is counted by the first tablet's owner, until it is."""
    cell = OwnedCell(17, settings=replace(QUIET, size_looks=0.1), lease=0.3)
    async with cell.running():
        await filled(cell)
        first = cell.nodes[cell.names.index(cell.owner("m0", CELL_TABLET))]
        assert sum(node.counts().tablets for node in cell.nodes) == len(cell.tablets.tablets)
        while any(node.counts().moves for node in cell.nodes):
            await asyncio.sleep(0.05)
        assert not any(node.counts().changes for node in cell.nodes)
        cell.unregistered, cell.messages.away = set(cell.names), set(cell.names)
        begun = ConfigureBucket(write_id=cell.id(), bucket="b", versioning=Versioning.ENABLED)
        with pytest.raises(DrystoneError):
            await first.mutate(begun)
        assert [node.counts().changes for node in cell.nodes if node is not first] == [0, 0]
        assert first.counts().changes == 1
        cell.messages.away.clear()
        await first.changes.again()
        assert first.counts().changes == 0 and not unended(cell)


async def test_step_that_came_from_another_process_is_not_handed_on() -> None:
    """H1: who is asked by mistake says who should be, and asks nobody."""
    cell = OwnedCell(14, settings=QUIET, lease=5.0)
    async with cell.running():
        await filled(cell)
        bucket = await cell.read(lambda node: node.bucket("b"))
        sent = len(cell.messages.sent)
        for node, name in zip(cell.nodes, cell.names, strict=True):
            for tablet in cell.tablets.tablets:
                if node.tablets.owns(tablet):
                    continue
                step: Any = CarryBucket(write_id=cell.id(), bucket="b", value=bucket)
                if tablet == CELL_TABLET:
                    step = EndBegun(bucket="b", bucket_id=bucket.bucket_id, generation=bucket.generation)
                with pytest.raises(NotOwner) as redirect:
                    await node.take(tablet, step)
                assert redirect.value.details["owner"] == cell.owner(name, tablet)
        assert len(cell.messages.sent) == sent


async def test_late_and_repeated_steps_change_nothing_that_came_after_them() -> None:
    """H2: every step of a bucket's life is sent again, in any order, after the bucket was deleted and made anew."""
    cell = OwnedCell(15, settings=QUIET, lease=5.0)
    async with cell.running():
        await filled(cell)
        await versioned(cell, "b")
        page = await cell.read(lambda node: node.list_versions("b"))
        for row in page.versions:
            purge = DeleteObject(write_id=cell.id(), bucket="b", key=Key(row.key), version_id=row.version_id)
            await cell.decide(purge)
        with pytest.raises(Refused):
            await cell.put(b"x", "b-none")
        await cell.decide(DeleteBucket(write_id=cell.id(), bucket="b"))
        await cell.create("b")
        await cell.put(b"new")
        old = list(cell.messages.sent)
        assert len(old) > 3
        before = {at: one for at, one in copies(cell, "b") if not one.closed}
        random.Random(15).shuffle(old)
        for name, tablet, step in old:
            try:
                await cell.nodes[cell.names.index(name)].take(tablet, step)
            except DrystoneError:
                continue
        assert {at: one for at, one in copies(cell, "b") if not one.closed} == before
        assert not unended(cell) and await cell.listed(10, versions=False) == [b"new"]


async def test_silent_owner_of_a_tablet_delays_a_change_by_its_lease() -> None:
    """It is registered and nothing reaches it: its tablet is taken over for the step, once, and it takes it back."""
    cell = OwnedCell(16, settings=QUIET, lease=0.6)
    async with cell.running():
        await filled(cell)
        first = cell.owner("m0", CELL_TABLET)
        silent = next(owner for tablet in cell.tablets.tablets if (owner := cell.owner("m0", tablet)) != first)
        before = cell.epochs()
        cell.messages.silent.add(silent)
        began = time.monotonic()
        await versioned(cell, "b")
        assert time.monotonic() - began >= 0.6
        taken = sum(node.handing.taken_over for node in cell.nodes)
        theirs = sum(cell.owner("m0", tablet) == silent for tablet in cell.tablets.tablets)
        assert taken == theirs
        cell.messages.silent.clear()
        await cell.at_rest()
        assert theirs <= cell.epochs() - before <= 2 * theirs
        assert not unended(cell)


@pytest.mark.parametrize("seed", range(4))
async def test_changes_hold_and_end_whatever_becomes_of_their_messages(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages lost before and after, repeated, late, and owners that change meanwhile, each process hearing of it at its own time:
    what is acknowledged holds in every tablet, and in the end no change is left half done."""
    monkeypatch.setattr(changes, "AGAIN_SECONDS", 0.1)
    cell = OwnedCell(seed, settings=replace(QUIET, sweep_interval=0.5), lease=0.6)
    messages, ended = cell.messages, False
    messages.lost_before, messages.lost_after, messages.twice, messages.late = 0.1, 0.1, 0.2, 0.1

    async def life(number: int) -> None:
        """A bucket comes, spreads over tablets, is configured, and goes."""
        name, chance = f"b{number}", random.Random(seed * 10 + number)
        for turn in range(3):
            await cell.create(name)
            keys = [b"%02d" % key for key in chance.sample(range(100), 12)]
            for key in keys:
                await cell.put(key, name)
            await cell.split(chance.choice(keys), name)
            await cell.split(chance.choice(keys), name)
            if turn % 2:
                await versioned(cell, name)
                for key in keys[:3]:
                    await cell.put(key, name)
                page = await cell.read(lambda node: node.list_versions(name))
                assert sum(row.key in keys[:3] for row in page.versions) == 6, "a version was lost"
            with pytest.raises(Refused) as refused:
                await cell.decide(DeleteBucket(write_id=cell.id(), bucket=name))
            assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY
            page = await cell.read(lambda node: node.list_versions(name))
            for row in page.versions:
                version = row.version_id if turn % 2 else None
                purge = DeleteObject(write_id=cell.id(), bucket=name, key=Key(row.key), version_id=version)
                await cell.decide(purge)
            assert await cell.decide(DeleteBucket(write_id=cell.id(), bucket=name)) == Outcome()
            with pytest.raises(Refused):
                await cell.put(b"late", name)
        await cell.create(name)
        await cell.put(b"last", name)

    async def turn() -> None:
        while not ended:
            await cell.turn_slowly()
            await asyncio.sleep(0.4)

    async with cell.running():
        await filled(cell, "steady")
        turning = asyncio.ensure_future(turn())
        await asyncio.gather(*(life(number) for number in range(3)))
        ended = True
        await turning
        messages.lost_before = messages.lost_after = messages.twice = messages.late = 0.0
        await messages.all_arrived()
        until = time.monotonic() + 20
        while (unended(cell) or unburied(cell)) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        assert not unended(cell) and not unburied(cell)
        for number in range(3):
            page = await cell.read(lambda node, name=f"b{number}": node.list_versions(name))
            assert [bytes(row.key) for row in page.versions] == [b"last"]
    assert sum(node.handing.handed for node in cell.nodes) > 0 and cell.turn > 1

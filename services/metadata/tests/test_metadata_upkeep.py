# SPDX-License-Identifier: Apache-2.0
"""What is kept, for how long, and what goes: write ids, feed, unreachable rows, and the time all that is measured by."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.row_keys import CURRENT, NAMED, PART, UPLOAD, VERSION
from drystone_core.ids import Key, UploadId, WriteId
from drystone_core.mutations import (
    AbortUpload,
    CompletePart,
    CompleteUpload,
    ConfigureBucket,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Preconditions,
    PutPart,
)
from drystone_core.objects import Part, Versioning
from drystone_core.services import BlobName
from drystone_metadata.cell_time import CellTime
from drystone_metadata.feed_retention import FeedCursor
from drystone_metadata.memory_of_writes import WriteMemory
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.memory import MemoryStorage
from drystone_metadata.store.ports import CELL_TABLET, FeedRow, RowKey, TabletId
from drystone_testing.metadata_rig import DAY_US, Rig, running
from drystone_testing.sim_world import SteppedClock

MINUTE_US = 60_000_000


def again(rig: Rig, put: Any) -> Any:
    """The client's own retry: a new issue time, new bytes, the same identity."""
    fresh = rig.put(bytes(put.key))
    return replace(fresh, write_id=WriteId(rig.id()[:8] + put.write_id[8:]), conditions=put.conditions)


async def turns(service: LocalMetadata, count: int = 200) -> None:
    """So many pieces of upkeep."""
    for _ in range(count):
        await service.upkeep.turn()


async def pass_over(service: LocalMetadata) -> None:
    """A whole pass of the sweeper."""
    async for _ in service.upkeep._sweeper.steps():
        pass


# Write ids


async def test_write_ids_are_remembered_for_the_whole_window_at_any_rate() -> None:
    """R1: however many mutations came since, a retry of fourteen minutes later gets the first outcome."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(conditions=Preconditions(if_none_match=True))
        first = await service.mutate(put)
        for minute in range(14):
            rig.clock.now_us += MINUTE_US
            service.committer.writes.sweep(rig.clock.monotonic())
            await asyncio.gather(*[service.mutate(rig.put(b"%d/%d" % (minute, i))) for i in range(50)])
        assert await service.mutate(again(rig, put)) == first


async def test_write_ids_take_no_memory_after_the_window() -> None:
    """What nobody can retry any more is given back, by busy and by idle stores."""
    memory = WriteMemory(window=900.0, limit=10**6)
    for second in range(1800):
        memory.learn(float(second), second + 1, [bytes([second % 251]) + second.to_bytes(15, "big")])
        memory.sweep(float(second))
    assert len(memory) <= 1000
    assert memory.oldest >= 898
    memory.sweep(1800.0 + 901)
    assert len(memory) == 0
    assert memory.oldest == 0


async def test_identities_alike_at_the_start_are_told_apart() -> None:
    """A few bytes lead to the feed; the whole identity decides there."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(b"one")
        await service.mutate(put)
        twin = rig.put(b"two", write_id=WriteId(put.write_id[:-1] + bytes([put.write_id[-1] ^ 1])))
        await service.mutate(twin)
        assert (await service.object("bkt", Key(b"two"))).uid == twin.uid
        found = service.committer.writes.sequences(put.write_id[8:])
        assert found


async def test_reads_do_not_wait_for_the_feed_at_the_start_and_mutations_do() -> None:
    """Until the recent write ids are in memory nothing is decided; objects are served all the same."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(conditions=Preconditions(if_none_match=True))
        first = await service.mutate(put)
    later = Rig(rig.tablets, rig.clock)
    gate = asyncio.Event()
    feed = later.storage.feed

    async def slow(tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        await gate.wait()
        return await feed(tablet, after, limit)

    later.storage.feed = slow  # type: ignore[method-assign]
    await later.service.start()
    task = asyncio.create_task(later.service.run())
    waiting = asyncio.ensure_future(later.service.mutate(again(later, put)))
    await asyncio.sleep(0.01)
    assert (await later.service.object("bkt", Key(b"k"))).uid == put.uid
    assert not waiting.done()
    gate.set()
    assert await waiting == first
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leap_us", [2 * 3_600_000_000, -2 * 3_600_000_000])
async def test_a_leap_of_the_clock_forgets_no_write_id(leap_us: int) -> None:
    """R1: neither a leap while running nor one between two starts makes a retry of ten seconds later a second write."""
    rig = Rig()
    async with running(rig) as service:
        old = rig.put(b"old", conditions=Preconditions(if_none_match=True))
        first_old = await service.mutate(old)
        mono = rig.clock.monotonic()
        rig.clock.monotonic = lambda: mono + 10.0  # type: ignore[method-assign]
        rig.clock.now_us += leap_us
        service.committer.writes.sweep(rig.clock.monotonic())
        await service.mutate(rig.put(b"another", blobs=()))
        assert await service.mutate(again(rig, old)) == first_old
    later = Rig(rig.tablets, rig.clock)
    async with running(later) as service:
        assert await service.mutate(again(later, old)) == first_old


# The feed


async def test_feed_is_trimmed_by_age_and_never_within_the_window() -> None:
    """Records go after their days, but none that a retry may need; a consumer that lagged is told to resync."""
    rig = Rig(feed_age=3600.0, feed_interval=0.0)
    async with running(rig) as service:
        for hour in range(5):
            await service.mutate(rig.put(b"%d" % hour))
            rig.clock.now_us += 40 * MINUTE_US
            await turns(service, 5)
        kept = await rig.storage.feed(CELL_TABLET, 0, 100)
        assert 1 < kept[0].seq <= 6
        with pytest.raises(Stale):
            await service.changes(FeedCursor())
        begin = FeedCursor(kept[0].seq, kept[0].batch_id)
        assert await service.changes(begin) == kept[1:]
        last = FeedCursor(kept[-1].seq, kept[-1].batch_id)
        assert await service.changes(last) == []
        rig.clock.now_us += 30 * DAY_US
        await turns(service, 5)
        for _ in range(5):  # one more record raised the floor; it goes as well, and no other follows
            rig.clock.now_us += 30 * DAY_US
            await turns(service, 5)
        assert await rig.storage.feed(CELL_TABLET, 0, 100) == []
        with pytest.raises(Stale):
            await service.changes(begin)


async def test_floor_passes_the_last_change_though_nobody_writes() -> None:
    """A day after the last change one commit raises the floor above it, so that what it removed can be freed (R7)."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put(b"a"))
        changed_us, head = rig.clock.now_us, service.committer.state.head
        await turns(service, 5)
        assert service.committer.state.head == head
        for _ in range(5):
            rig.clock.now_us += 30 * 60 * MINUTE_US
            await turns(service, 5)
        assert service.committer.state.floor_us > changed_us
        assert service.committer.state.head == head + 1


async def test_feed_is_trimmed_by_bytes_only_beyond_the_window() -> None:
    """A full feed loses its oldest segments once fifteen minutes have passed, and not before."""
    rig = Rig(feed_bytes=6400, feed_interval=0.0, window=900.0)
    async with running(rig) as service:
        first = rig.put(b"first", conditions=Preconditions(if_none_match=True))
        outcome = await service.mutate(first)
        for number in range(200):
            await service.mutate(rig.put(b"%d" % number))
            await turns(service, 1)
        assert len(await rig.storage.feed(CELL_TABLET, 0, 1000)) == 202
        assert await service.mutate(again(rig, first)) == outcome
        for number in range(20):
            rig.clock.now_us += MINUTE_US
            await service.mutate(rig.put(b"%d" % number))
            await turns(service, 3)
        await turns(service, 300)
        left = await rig.storage.feed(CELL_TABLET, 0, 1000)
        assert sum(len(row.record) + 40 for row in left) <= 6400 + 1000
        assert left[-1].seq == service.committer.state.head


async def test_feed_of_earlier_runs_counts_after_a_restart() -> None:
    """What was there before the start is estimated and trimmed like the rest."""
    rig = Rig()
    async with running(rig) as service:
        for number in range(300):
            await service.mutate(rig.put(b"%d" % number))
    rig.clock.now_us += 60 * MINUTE_US
    later = Rig(rig.tablets, rig.clock, feed_bytes=6400, feed_interval=0.0)
    async with running(later) as service:
        await turns(service, 2)
        real = sum(len(row.record) + 40 for row in await rig.storage.feed(CELL_TABLET, 0, 1000))
        assert abs(service.upkeep.retention.size - real) < real / 5
        later.clock.now_us += 16 * MINUTE_US
        await turns(service, 200)
        left = await rig.storage.feed(CELL_TABLET, 0, 1000)
        assert sum(len(row.record) + 40 for row in left) <= 6400 + 1000


async def test_cursor_of_another_history_must_resync() -> None:
    """A restored store may repeat sequences with other content: the batch id tells."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        with pytest.raises(Stale):
            await service.changes(FeedCursor(1, b"x" * 16))
        with pytest.raises(Stale):
            await service.changes(FeedCursor(99, b"x" * 16))
        assert len(await service.changes(FeedCursor())) == 2


# Rows nobody can reach


async def upload_with_parts(rig: Rig, service: LocalMetadata, count: int) -> tuple[UploadId, list[Part]]:
    """An upload and its parts, one blob each."""
    created = await service.mutate(
        CreateUpload(write_id=rig.id(), bucket="bkt", key=Key(b"k"), owner="1" * 12, headers={}, metadata={})
    )
    assert created.upload_id is not None
    parts = [
        Part(number=number, size=10, etag="ab" * 16, modified_ms=0, uid=rig.uid(), blobs=(rig.blob(),))
        for number in range(1, count + 1)
    ]
    for part in parts:
        await service.mutate(
            PutPart(write_id=rig.id(), bucket="bkt", key=Key(b"k"), upload_id=created.upload_id, part=part)
        )
    return created.upload_id, parts


def kinds(rig: Rig) -> dict[int, int]:
    """Rows by kind."""
    found: dict[int, int] = {}
    for row in rig.tablets.tablets[CELL_TABLET].rows:
        found[row.kind] = found.get(row.kind, 0) + 1
    return found


async def test_rows_of_a_deleted_bucket_are_swept() -> None:
    """Uploads and parts that a deleted bucket leaves behind go in bounded commits; a live bucket keeps its own."""
    rig = Rig(sweep_rows=7)
    async with running(rig) as service:
        await upload_with_parts(rig, service, 30)
        bucket_id = await rig.bucket_id()
        await service.mutate(DeleteBucket(write_id=rig.id(), bucket="bkt"))
        await service.mutate(CreateBucket(write_id=rig.id(), bucket="bkt", owner="1" * 12, region="r"))
        _, parts = await upload_with_parts(rig, service, 3)
        assert kinds(rig)[PART] == 33
        before = service.committer.state.head
        await pass_over(service)
        assert kinds(rig) | {1: 0, 2: 0, 3: 0} == {1: 0, 2: 0, 3: 0, UPLOAD: 1, PART: 3, NAMED: 3}
        assert service.committer.state.head - before > 5
        rig.clock.now_us += 2 * DAY_US
        await service.mutate(rig.put())
        blob = parts[0].blobs[0].blob_id
        assert await service.dead_blobs([BlobName(blob, await rig.bucket_id(), Key(b"k"), parts[0].uid, 1, 0)]) == [
            False
        ]
        assert await service.dead_blobs([BlobName(blob, bucket_id, Key(b"k"), parts[0].uid, 1, 0)]) == [True]


async def test_names_of_a_deleted_manifest_object_are_swept_and_live_ones_stay() -> None:
    """A multipart object in manifest form leaves its parts' names; they go, those that lead somewhere stay."""
    rig = Rig(sweep_rows=4)
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))

        async def complete() -> Any:
            upload, parts = await upload_with_parts(rig, service, 6)
            done = CompleteUpload(
                write_id=rig.id(),
                bucket="bkt",
                key=Key(b"k"),
                upload_id=upload,
                uid=rig.uid(),
                parts=tuple(CompletePart(number=p.number, etag=p.etag, uid=p.uid) for p in parts),
                etag="cd" * 16 + "-6",
                size=60,
                manifest=rig.blob(),
            )
            return await service.mutate(done), parts

        gone, dead = await complete()
        kept, alive = await complete()
        await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"k"), version_id=gone.version_id))
        await service.mutate(rig.put())
        assert kinds(rig)[NAMED] == 6 + 6 + 1
        await pass_over(service)
        assert kinds(rig)[NAMED] == 6 + 1
        assert kinds(rig)[VERSION] == 1
        rig.clock.now_us += 2 * DAY_US
        await service.mutate(rig.put(b"other"))
        bucket = await rig.bucket_id()
        names = [BlobName(p.blobs[0].blob_id, bucket, Key(b"k"), p.uid, p.number, 0) for p in (*dead, *alive)]
        assert await service.dead_blobs(names) == [True] * 6 + [False] * 6
        assert (await service.object("bkt", Key(b"k"), kept.version_id)).manifest is not None


async def test_sweeping_beside_changes_removes_no_name_in_use() -> None:
    """The suspicion of a sweep is judged again at the head: versions promoted and retired meanwhile keep their names."""
    rig = Rig(sweep_rows=3)
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        for number in range(12):
            await service.mutate(rig.put(b"%d" % (number % 3)))

        async def churn() -> None:
            for number in range(60):
                key = Key(b"%d" % (number % 3))
                newest = (await service.object("bkt", key)).version_id
                await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=key, version_id=newest))
                await service.mutate(rig.put(bytes(key)))

        async def sweep() -> None:
            for _ in range(20):
                await pass_over(service)

        await asyncio.gather(churn(), sweep())
        assert kinds(rig)[VERSION] == kinds(rig)[NAMED] == 9
        assert kinds(rig)[CURRENT] == 3


async def test_upkeep_goes_on_after_a_failure() -> None:
    """A storage that does not answer ends a turn, not the upkeep."""
    rig = Rig(feed_interval=0.0, sweep_after=0.0, sweep_interval=0.0)
    async with running(rig) as service:
        scan = rig.storage.scan

        async def failing(*_: Any) -> Any:
            raise Unavailable("ordered by the test")

        rig.storage.scan = failing  # type: ignore[method-assign]
        await turns(service, 2)
        rig.storage.scan = scan  # type: ignore[method-assign]
        rig.clock.now_us += MINUTE_US
        await turns(service, 50)
        assert service.upkeep.passes > 0


# Listing


class MovingStorage(MemoryStorage):
    """Each scan lets others go first, so that what a page needs several scans for moves meanwhile."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.between: Any = None

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        found = await super().scan(tablet, start, end, limit)
        if self.between is not None and start.kind in (CURRENT, VERSION) and end.key != start.key:
            await self.between()
        return found


async def test_version_listing_misses_nothing_while_every_read_is_overtaken() -> None:
    """A version promoted between the two scans of a page, again and again, is on the page all the same."""
    rig = Rig()
    rig.storage = MovingStorage(rig.tablets)
    rig.service = LocalMetadata(storage=rig.storage, tablet=CELL_TABLET, clock=rig.clock, entropy=rig.entropy)
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        old = (await service.mutate(rig.put())).version_id
        new = (await service.mutate(rig.put())).version_id
        state = {"new": new}

        async def move() -> None:
            if state["new"] is None:
                change: Any = rig.put()
            else:
                change = DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"k"), version_id=state["new"])
            waiting = asyncio.ensure_future(service.mutate(change))
            done, _ = await asyncio.wait([waiting], timeout=0.02)
            if done:
                state["new"] = (await waiting).version_id if state["new"] is None else None
            else:
                late.append(waiting)

        late: list[Any] = []
        rig.storage.between = move
        for _ in range(6):
            page = await service.list_versions("bkt")
            assert [v.version_id for v in page.versions].count(old) == 1
            for one in late:
                await one
            late.clear()
            rig.storage.between = None
            found = (await service.list_versions("bkt")).versions
            state["new"] = found[0].version_id if len(found) > 1 else None
            rig.storage.between = move


async def test_parts_listed_beside_complete_are_those_of_the_upload() -> None:
    """ListParts overtaken by Abort answers NoSuchUpload, never an upload without the parts it had."""
    rig = Rig()
    async with running(rig) as service:
        upload, _ = await upload_with_parts(rig, service, 3)
        scan = rig.storage.scan

        async def overtaken(*args: Any) -> Any:
            rig.storage.scan = scan  # type: ignore[method-assign]
            await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"none")))
            await service.mutate(AbortUpload(write_id=rig.id(), bucket="bkt", key=Key(b"k"), upload_id=upload))
            return await scan(*args)

        rig.storage.scan = overtaken  # type: ignore[method-assign]
        with pytest.raises(Refused) as refused:
            await service.list_parts("bkt", Key(b"k"), upload)
        assert refused.value.code is ErrorCode.NO_SUCH_UPLOAD


# Time


async def test_floor_does_not_follow_a_clock_that_was_wrong_at_the_start() -> None:
    """R7: a start with a clock years ahead, and back: slow writers go on, and nothing stamped then was named."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
    honest = rig.clock.now_us
    rig.clock.now_us += 3650 * DAY_US
    mono = rig.clock.monotonic()
    rig.clock.monotonic = lambda: mono  # type: ignore[method-assign]
    wrong = Rig(rig.tablets, rig.clock)
    async with running(wrong) as service:
        await service.mutate(wrong.put(b"empty", blobs=()))
        with pytest.raises(Unavailable):
            await service.mutate(wrong.put())
    rig.clock.now_us = honest + 5_000_000
    right = Rig(rig.tablets, rig.clock)
    async with running(right) as service:
        await service.mutate(right.put(age_us=DAY_US - 60_000_000))


async def test_floor_catches_up_after_the_store_was_off() -> None:
    """After three days off, blobs are named at once, and the floor is where it belongs three days later."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
    rig.clock.now_us += 3 * DAY_US
    later = Rig(rig.tablets, rig.clock)
    async with running(later) as service:
        await service.mutate(later.put())
        floor = service.committer.state.floor_us
        assert floor < rig.clock.now_us - 3 * DAY_US
        for _ in range(3):
            rig.clock.now_us += DAY_US
            await service.mutate(later.put())
        assert service.committer.state.floor_us == rig.clock.now_us - DAY_US


def test_cell_time_is_monotone_and_bounded() -> None:
    """Never back, never beyond the wall clock, never faster than twice the time that passed."""
    clock = SteppedClock()
    walls = [0, 10, 3600, 3610, 20, 30, 10**9, 40, 3700]
    start, mono = clock.now_us, 0.0
    clock.monotonic = lambda: mono  # type: ignore[method-assign]
    cell = CellTime(clock=clock, persisted_us=0)
    last = cell.now_us()
    for wall in walls:
        clock.now_us, mono = start + wall * 1_000_000, mono + 10.0
        now = cell.now_us()
        assert last <= now <= last + 40_000_000
        assert now <= max(clock.now_us, last)
        last = now
    assert last <= start + 110_000_000

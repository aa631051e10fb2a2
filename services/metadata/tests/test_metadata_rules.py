# SPDX-License-Identifier: Apache-2.0
"""One test per rule: each fails when its rule is removed from the code."""

import asyncio
from typing import Any

import pytest

from drystone_core.errors import Busy, Damaged, ErrorCode, Refused, Stale, Unavailable
from drystone_core.ids import Key, UploadId, WriteId, make_write_id
from drystone_core.mutations import (
    CompletePart,
    CompleteUpload,
    ConfigureBucket,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Preconditions,
    PutPart,
    ReplaceMetadata,
)
from drystone_core.objects import Part, Versioning
from drystone_core.services import BlobName, ObjectName
from drystone_metadata.store.memory import Fault
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_testing.metadata_rig import DAY_US, Rig, running


async def test_repeat_of_conditional_put_is_no_conflict_with_itself() -> None:
    """R1: the client that created an object never reads 412 for its own retry, a minute and a restart later."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(conditions=Preconditions(if_none_match=True))
        first = await service.mutate(put)
    rig.clock.now_us += 60_000_000
    later = Rig(rig.tablets, rig.clock)
    async with running(later) as service:
        again = later.put(
            write_id=WriteId(later.id()[:8] + put.write_id[8:]), conditions=Preconditions(if_none_match=True)
        )
        assert await service.mutate(again) == first
        assert (await service.object("bkt", Key(b"k"))).uid == put.uid


async def test_repeat_within_one_batch_makes_one_version() -> None:
    """R1: a retry sent beside the original gets its outcome."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        put = rig.put()
        one, two = await asyncio.gather(service.mutate(put), service.mutate(rig.put(write_id=put.write_id)))
        assert one == two
        assert len((await service.list_versions("bkt")).versions) == 1


@pytest.mark.parametrize("meanwhile", ["nothing", "put", "metadata", "deletion"])
async def test_put_over_a_version_replaces_that_one_or_nothing(meanwhile: str) -> None:
    """R6: also when only its metadata changed, in the same millisecond."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        seen = await service.object("bkt", Key(b"k"))
        common: dict[str, Any] = {"write_id": rig.id(), "bucket": "bkt", "key": Key(b"k")}
        if meanwhile == "put":
            await service.mutate(rig.put())
        elif meanwhile == "metadata":
            await service.mutate(ReplaceMetadata(**common, expected_uid=seen.uid, headers={}, metadata={"a": "2"}))
        elif meanwhile == "deletion":
            await service.mutate(DeleteObject(**common))
        put = rig.put(expected_uid=seen.uid, expected_ms=seen.modified_ms)
        if meanwhile == "nothing":
            await service.mutate(put)
            assert (await service.object("bkt", Key(b"k"))).uid == put.uid
            return
        with pytest.raises(Stale):
            await service.mutate(put)
        (now,) = await service.objects([ObjectName("bkt", Key(b"k"), None)])
        assert isinstance(now, Refused) if meanwhile == "deletion" else now.uid != put.uid


@pytest.mark.parametrize("shift_us", [-901_000_000, 10_000_000])
async def test_write_id_outside_the_window_is_never_decided(shift_us: int) -> None:
    """R1: an id issued longer ago than we remember (or in the future) gets 503 and leaves no trace."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(write_id=make_write_id(rig.clock.now_us + shift_us, b"w" * 16))
        with pytest.raises(Unavailable):
            await service.mutate(put)
        with pytest.raises(Refused):
            await service.object("bkt", Key(b"k"))


async def test_blob_below_the_floor_is_not_named() -> None:
    """R7: a writer frozen for more than a day gets 503, and its blob stays dead."""
    rig = Rig()
    async with running(rig) as service:
        rig.clock.now_us += 2 * DAY_US
        late = rig.put(age_us=DAY_US + 2_000_000)
        with pytest.raises(Unavailable):
            await service.mutate(late)
        await service.mutate(rig.put(age_us=DAY_US - 60_000_000))


async def test_blob_stamped_ahead_is_not_named() -> None:
    """R7: a stamp of the future could outlive every floor."""
    rig = Rig()
    async with running(rig) as service:
        with pytest.raises(Unavailable):
            await service.mutate(rig.put(age_us=-6_000_000))


async def test_registered_blobs_may_be_older_than_the_floor() -> None:
    """R7: what an upload row of the same key names already may be named by the object, however long the PUT took."""
    rig = Rig()
    async with running(rig) as service:
        create = CreateUpload(
            write_id=rig.id(), bucket="bkt", key=Key(b"k"), owner="o", headers={}, metadata={}, internal=True
        )
        upload = (await service.mutate(create)).upload_id
        assert upload is not None
        uid, blob = rig.uid(), rig.blob()
        part = Part(number=1, size=10, etag="0" * 32, modified_ms=0, uid=uid, blobs=(blob,))
        await service.mutate(PutPart(write_id=rig.id(), bucket="bkt", key=Key(b"k"), upload_id=upload, part=part))
        name = BlobName(blob.blob_id, await rig.bucket_id(), Key(b"k"), uid, 0, 0)
        rig.clock.now_us += 3 * DAY_US
        await service.mutate(rig.put(b"other"))
        assert await service.dead_blobs([name]) == [False]
        with pytest.raises(Unavailable):
            await service.mutate(rig.put(uid=uid, blobs=(blob,)))
        await service.mutate(rig.put(uid=uid, blobs=(blob,), registered=upload))
        assert await service.dead_blobs([name]) == [False]
        await service.mutate(rig.put())
        assert await service.dead_blobs([name]) == [True]


@pytest.mark.parametrize("together", [False, True])
async def test_bytes_written_for_a_deleted_bucket_are_not_named_in_its_successor(together: bool) -> None:
    """R3: their blobs carry the id of the bucket that is gone and die with it, so the new one must not name them."""
    rig = Rig()
    async with running(rig) as service:
        old = await rig.bucket_id()
        delete = DeleteBucket(write_id=rig.id(), bucket="bkt")
        create = CreateBucket(write_id=rig.id(), bucket="bkt", owner="1" * 12, region="r")
        base: dict[str, Any] = {"bucket": "bkt", "key": Key(b"k"), "bucket_id": old}
        put = rig.put(bucket_id=old)
        if together:
            put_answer = (await asyncio.gather(*map(service.mutate, (delete, create, put)), return_exceptions=True))[2]
        else:
            await service.mutate(delete)
            await service.mutate(create)
            (put_answer,) = await asyncio.gather(service.mutate(put), return_exceptions=True)
        assert isinstance(put_answer, Refused) and put_answer.code is ErrorCode.NO_SUCH_BUCKET
        with pytest.raises(Refused) as refused:
            await service.mutate(CreateUpload(write_id=rig.id(), owner="o", headers={}, metadata={}, **base))
        assert refused.value.code is ErrorCode.NO_SUCH_BUCKET
        part = Part(number=1, size=10, etag="0" * 32, modified_ms=0, uid=rig.uid(), blobs=(rig.blob(),))
        with pytest.raises(Refused) as refused:
            await service.mutate(PutPart(write_id=rig.id(), upload_id=UploadId("0" * 32), part=part, **base))
        assert refused.value.code is ErrorCode.NO_SUCH_BUCKET
        await service.mutate(rig.put(bucket_id=await rig.bucket_id()))


async def test_floor_does_not_follow_a_leaping_clock() -> None:
    """R7: a wall clock that leaps while we run takes neither floor nor stamps along; writing goes on afterwards."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        honest = rig.clock.now_us
        elapsed = rig.clock.monotonic()
        rig.clock.monotonic = lambda: elapsed  # type: ignore[method-assign]
        rig.clock.now_us += 3650 * DAY_US
        await service.mutate(rig.put(blobs=()))
        with pytest.raises(Unavailable):
            await service.mutate(rig.put())
        rig.clock.now_us = honest + 1_000_000
        await service.mutate(rig.put())


async def test_young_blob_is_never_dead() -> None:
    """R7: a blob stamped after the floor may yet be named."""
    rig = Rig()
    async with running(rig) as service:
        name = BlobName(rig.blob().blob_id, await rig.bucket_id(), Key(b"k"), rig.uid(), 0, 0)
        assert await service.dead_blobs([name]) == [False]


async def test_dead_question_costs_the_same_with_many_versions() -> None:
    """R3: whether a noncurrent version contains a blob is answered without scanning the key's versions."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        puts = [rig.put() for _ in range(60)]
        for put in puts:
            await service.mutate(put)
        bucket_id = await rig.bucket_id()
        rig.clock.now_us += 2 * DAY_US
        await service.mutate(rig.put(b"other"))
        rig.faults["scan"] = [Fault.UNAVAILABLE] * 9
        names = [BlobName(put.blobs[0].blob_id, bucket_id, put.key, put.uid, 0, 0) for put in puts]
        assert await service.dead_blobs(names) == [False] * 60
        stranger = BlobName(puts[0].blobs[0].blob_id, bucket_id, Key(b"k"), rig.uid(), 0, 0)
        assert await service.dead_blobs([stranger]) == [True]


async def test_parts_of_a_completed_upload_stay_alive_by_their_own_names() -> None:
    """R6: a part's blob is named by the part's uid; it lives as long as the object it became part of."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        create = CreateUpload(write_id=rig.id(), bucket="bkt", key=Key(b"k"), owner="o", headers={}, metadata={})
        upload = (await service.mutate(create)).upload_id
        assert upload is not None
        parts = [
            Part(number=n, size=10, etag=f"{n:032x}", modified_ms=0, uid=rig.uid(), blobs=(rig.blob(),)) for n in (1, 2)
        ]
        for part in parts:
            await service.mutate(PutPart(write_id=rig.id(), bucket="bkt", key=Key(b"k"), upload_id=upload, part=part))
        chosen = (CompletePart(number=1, etag=parts[0].etag, uid=parts[0].uid),)
        complete = CompleteUpload(
            write_id=rig.id(),
            bucket="bkt",
            key=Key(b"k"),
            upload_id=upload,
            uid=rig.uid(),
            parts=chosen,
            etag="x-1",
            size=10,
        )
        done = await service.mutate(complete)
        await service.mutate(rig.put())
        bucket_id = await rig.bucket_id()
        rig.clock.now_us += 2 * DAY_US
        await service.mutate(rig.put(b"other"))
        names = [BlobName(p.blobs[0].blob_id, bucket_id, Key(b"k"), p.uid, p.number, 0) for p in parts]
        assert await service.dead_blobs(names) == [False, True]
        gone = DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"k"), version_id=done.version_id)
        await service.mutate(gone)
        assert await service.dead_blobs(names) == [True, True]


async def test_unknown_outcome_is_settled_before_anything_else() -> None:
    """R6 of metadata.md: while it cannot be told whether a batch went in, nothing is decided; then it is known."""
    rig = Rig()
    async with running(rig) as service:
        put = rig.put(conditions=Preconditions(if_none_match=True))
        rig.faults = {"commit": [Fault.UNKNOWN_AFTER], "state": [Fault.UNAVAILABLE] * 2}
        with pytest.raises(Unavailable):
            await service.mutate(put)
        with pytest.raises(Unavailable):
            await service.mutate(rig.put(b"next"))
        assert rig.commits == 2
        outcome = await service.mutate(put)
        assert outcome.etag == put.etag
        assert sum(entry.key == b"k" for entry in await rig.feed()) == 1


async def test_former_owner_writes_nothing() -> None:
    """A tablet taken over is lost for its former owner, refusals included."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        async with running(Rig(rig.tablets, rig.clock)) as present:
            await present.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"k")))
            with pytest.raises(Unavailable):
                await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"k")))
            with pytest.raises(Unavailable):
                await service.mutate(rig.put())
            with pytest.raises(Refused):
                await present.object("bkt", Key(b"k"))


async def test_what_waits_shares_a_commit_and_sees_its_predecessors() -> None:
    """A batch composes: of eight creators of one key sent at once exactly one wins, in one commit."""
    rig = Rig()
    async with running(rig) as service:
        before = rig.commits
        puts = [rig.put(conditions=Preconditions(if_none_match=True)) for _ in range(8)]
        answers = await asyncio.gather(*[service.mutate(put) for put in puts], return_exceptions=True)
        assert [isinstance(answer, Refused) for answer in answers] == [False] + [True] * 7
        assert rig.commits == before + 1


async def test_full_queue_is_busy() -> None:
    """The queue is bounded; what does not fit is told so at once."""
    rig = Rig()
    async with running(rig) as service:
        answers = await asyncio.gather(*[service.mutate(rig.put()) for _ in range(120)], return_exceptions=True)
        assert sum(isinstance(answer, Busy) for answer in answers) == 20


async def test_damaged_row_is_no_missing_object() -> None:
    """R11: a flipped bit answers Damaged to reads, listings and conditional writes, never 404 and never 'absent'."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        await service.mutate(rig.put(b"healthy"))
        rows = rig.tablets.tablets[CELL_TABLET].rows
        (address,) = [key for key in rows if key.key.endswith(b"k") and key.kind == 10]
        rows[address] = rows[address][:20] + bytes([rows[address][20] ^ 4]) + rows[address][21:]
        with pytest.raises(Damaged):
            await service.object("bkt", Key(b"k"))
        with pytest.raises(Damaged):
            await service.list_objects("bkt")
        read = rig.storage.read

        async def verified(tablet: Any, keys: Any) -> Any:
            if address in keys:
                raise Damaged("ordered by the test")
            return await read(tablet, keys)

        rig.storage.read = verified  # type: ignore[method-assign]
        bad, good = await asyncio.gather(
            service.mutate(rig.put(conditions=Preconditions(if_none_match=True))),
            service.mutate(rig.put(b"healthy")),
            return_exceptions=True,
        )
        assert isinstance(bad, Damaged) and not isinstance(good, BaseException)


async def test_row_under_a_wrong_address_is_damaged() -> None:
    """R11: the checksum covers the address, so a row that strayed is not served."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(rig.put())
        tablet = rig.tablets.tablets[CELL_TABLET]
        (address,) = [key for key in tablet.rows if key.kind == 10]
        stray = RowKey(10, address.key[:8] + b"stray")
        tablet.rows[stray] = tablet.rows[address]
        with pytest.raises(Damaged):
            await service.object("bkt", Key(b"stray"))


async def test_bucket_change_raises_the_generation() -> None:
    """R2: a change of a bucket's state moves the tablet's generation, so that nobody commits on the former state."""
    rig = Rig()
    async with running(rig) as service:
        before = (await rig.storage.state(CELL_TABLET)).generation
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        assert (await rig.storage.state(CELL_TABLET)).generation == before + 1
        assert (await service.bucket("bkt")).generation == 2
        await service.mutate(rig.put())
        assert (await rig.storage.state(CELL_TABLET)).generation == before + 1


async def test_modified_time_of_a_key_never_goes_back() -> None:
    """A clock set back does not make a newer version look older."""
    rig = Rig()
    async with running(rig) as service:
        first = await service.mutate(rig.put())
        rig.clock.now_us -= 3_000_000
        assert (await service.mutate(rig.put())).modified_ms == first.modified_ms


async def test_version_ids_sort_newest_first_and_name_the_version() -> None:
    """Ids are given in the commit: their order is the order of commits and of places in a batch."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        batches = [await asyncio.gather(*[service.mutate(rig.put()) for _ in range(3)]) for _ in range(3)]
        ids = [str(outcome.version_id) for batch in batches for outcome in batch]
        assert ids == sorted(ids, reverse=True) and len({len(text) for text in ids} | {32}) == 1
        assert [row.version_id for row in (await service.list_versions("bkt")).versions] == ids[::-1]


async def test_listing_cost_does_not_grow_with_what_a_prefix_hides() -> None:
    """A common prefix is sought past: three prefixes over thousands of keys cost a few small scans."""
    rig = Rig()
    async with running(rig) as service:
        for folder in (b"x/", b"y/", b"z/"):
            for start in range(0, 900, 90):
                await asyncio.gather(*[service.mutate(rig.put(b"%s%04d" % (folder, start + i))) for i in range(90)])
        asked: list[int] = []
        scan = rig.storage.scan

        async def counted(tablet: Any, start: RowKey, end: RowKey, limit: int) -> Any:
            rows = await scan(tablet, start, end, limit)
            asked.append(len(rows))
            return rows

        rig.storage.scan = counted  # type: ignore[method-assign]
        page = await service.list_objects("bkt", delimiter=b"/")
        assert page.common_prefixes == [b"x/", b"y/", b"z/"] and sum(asked) <= 64


async def test_listing_skips_delete_markers_over_page_borders() -> None:
    """Delete markers take no place in a page."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        for i in range(12):
            await service.mutate(rig.put(b"%02d" % i))
        for i in range(3, 11):
            await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"%02d" % i)))
        page = await service.list_objects("bkt", limit=4)
        assert [row.key for row in page.objects] == [b"00", b"01", b"02", b"11"] and not page.truncated


async def test_bucket_with_only_a_marker_is_not_empty() -> None:
    """BucketNotEmpty counts noncurrent versions and delete markers; uploads in progress do not count."""
    rig = Rig()
    async with running(rig) as service:
        await service.mutate(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=Versioning.ENABLED))
        marker = await service.mutate(DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"never")))
        await service.mutate(
            CreateUpload(write_id=rig.id(), bucket="bkt", key=Key(b"u"), owner="o", headers={}, metadata={})
        )
        with pytest.raises(Refused) as refused:
            await service.mutate(DeleteBucket(write_id=rig.id(), bucket="bkt"))
        assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY
        gone = DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(b"never"), version_id=marker.version_id)
        assert (await service.mutate(gone)).delete_marker
        await service.mutate(DeleteBucket(write_id=rig.id(), bucket="bkt"))


async def test_buckets_of_an_owner_by_name() -> None:
    """ListBuckets shows one's own, by name, with prefix, marker and limit."""
    rig = Rig()
    async with running(rig) as service:
        for owner, name in (("1", "b1"), ("2", "b2"), ("1", "b3"), ("1", "c4")):
            await service.mutate(CreateBucket(write_id=rig.id(), bucket=name, owner=owner * 12, region="r"))
        own = "1" * 12
        assert [b.name for b in await service.buckets(own)] == ["b1", "b3", "bkt", "c4"]
        assert [b.name for b in await service.buckets(own, prefix="b", after="b1", limit=1)] == ["b3"]
        assert [b.name for b in await service.buckets(own, prefix="b", after="b3")] == ["bkt"]
        assert [b.name for b in await service.buckets(own, prefix="c", after="b3")] == ["c4"]

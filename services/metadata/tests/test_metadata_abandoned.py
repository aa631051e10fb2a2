# SPDX-License-Identifier: Apache-2.0
"""Internal uploads (of long PUTs): they end when their writer is gone, and only then."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.formats.feed import Operation
from drystone_core.formats.row_keys import NAMED, PART, UPLOAD
from drystone_core.ids import Key, Uid, UploadId
from drystone_core.mutations import CreateUpload, DeleteBucket, PutPart
from drystone_core.objects import Part
from drystone_core.services import BlobName
from drystone_metadata import abandoned
from drystone_metadata.logic.expiry import ExpireUpload
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_testing.metadata_rig import DAY_US, Rig, running

LOOKS, SILENCE = 1800.0, 3 * 3600.0
MINUTES_10 = 600


@dataclass
class Writer:
    """A long PUT: an internal upload, and what it has named by it."""

    rig: Rig
    service: LocalMetadata
    upload: UploadId
    key: Key
    uid: Uid
    parts: list[Part]

    async def add(self) -> None:
        """One more blob."""
        part = Part(
            number=len(self.parts) + 1, size=10, etag="0" * 32, modified_ms=0, uid=self.uid, blobs=(self.rig.blob(),)
        )
        self.parts.append(part)
        await self.put(part)

    async def renew(self) -> None:
        """As gateways do it."""
        await self.put(self.parts[0])

    async def put(self, part: Part) -> None:
        rig = self.rig
        await self.service.mutate(
            PutPart(write_id=rig.id(), bucket="bkt", key=self.key, upload_id=self.upload, part=part)
        )

    async def dead(self) -> list[bool]:
        """Of each blob."""
        bucket = await self.rig.bucket_id()
        blobs = [part.blobs[0].blob_id for part in self.parts]
        return await self.service.dead_blobs([BlobName(blob, bucket, self.key, self.uid, 0, 0) for blob in blobs])

    async def finish(self) -> None:
        """Name everything."""
        blobs = tuple(ref for part in self.parts for ref in part.blobs)
        await self.service.mutate(self.rig.put(bytes(self.key), uid=self.uid, blobs=blobs, registered=self.upload))


async def begin(rig: Rig, service: LocalMetadata, key: bytes = b"k", *, internal: bool = True) -> Writer:
    create = CreateUpload(
        write_id=rig.id(), bucket="bkt", key=Key(key), owner="o", headers={}, metadata={}, internal=internal
    )
    made = await service.mutate(create)
    assert made.upload_id is not None
    return Writer(rig, service, made.upload_id, Key(key), rig.uid(), [])


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig(upload_looks=LOOKS, upload_silence=SILENCE)
    async with running(rig):
        yield rig


async def looks(rig: Rig, hours: float, *living: Writer) -> None:
    """Time passes; the service looks twice an hour, living writers renew every ten minutes."""
    for minute in range(int(hours * 60)):
        rig.clock.now_us += 60_000_000
        if minute % 10 == 0:
            for writer in living:
                await writer.renew()
        if minute % 30 == 0:
            async for _ in rig.service.upkeep.abandoned.steps():
                pass


def rows(rig: Rig, *kinds: int) -> list[RowKey]:
    return [row for row in rig.tablets.tablets[CELL_TABLET].rows if row.kind in kinds]


async def test_upload_of_a_writer_that_is_gone_ends_and_its_blobs_die(rig: Rig) -> None:
    """A process killed in the middle of a long PUT leaves nothing for ever: rows go, then bytes are reclaimable."""
    service = rig.service
    writer = await begin(rig, service)
    for _ in range(3):
        await writer.add()
    await looks(rig, 2.9)
    assert len(rows(rig, UPLOAD, PART, NAMED)) == 5
    await looks(rig, 0.7)
    assert rows(rig, UPLOAD, PART, NAMED) == []
    (entry,) = [entry for entry in await rig.feed() if entry.operation == Operation.ABORT_UPLOAD]
    assert entry.key == b"k" and entry.bucket_id == await rig.bucket_id()
    assert sorted(entry.removed) == sorted(part.blobs[0].blob_id for part in writer.parts)
    assert await writer.dead() == [False] * 3, "younger than the floor"
    rig.clock.now_us += DAY_US
    await service.mutate(rig.put(b"other"))
    assert await writer.dead() == [True] * 3


async def test_upload_without_any_blob_ends_too(rig: Rig) -> None:
    """The process died between its two commits."""
    await begin(rig, rig.service)
    await looks(rig, SILENCE / 3600 + 1)
    assert rows(rig, UPLOAD) == []


async def test_upload_of_a_living_writer_is_never_ended(rig: Rig) -> None:
    """However long the PUT takes: its blobs stay named, and the object is made of all of them."""
    writer = await begin(rig, rig.service)
    await writer.add()
    for _ in range(3):
        await looks(rig, 26, writer)
        await writer.add()
    assert await writer.dead() == [False] * 4
    await writer.finish()
    assert rows(rig, UPLOAD, PART) == []
    assert len((await rig.service.object("bkt", writer.key)).blobs) == 4
    assert await writer.dead() == [False] * 4


async def test_uploads_of_clients_are_never_ended(rig: Rig) -> None:
    """Multipart uploads wait for their client for ever (until a lifecycle rule says otherwise)."""
    writer = await begin(rig, rig.service, internal=False)
    await writer.add()
    await looks(rig, 100)
    assert len(rows(rig, UPLOAD, PART, NAMED)) == 3
    assert [upload.upload_id for upload in (await rig.service.list_uploads("bkt")).uploads] == [writer.upload]


async def test_renewal_committed_before_the_decision_keeps_the_upload(rig: Rig) -> None:
    """X1: the mark is compared at the head, also within one batch."""
    service, writer = rig.service, await begin(rig, rig.service)
    await writer.add()
    (row,) = rows(rig, UPLOAD)
    seen: list[bytes] = []
    watcher = service.upkeep.abandoned
    mutate = watcher._mutate

    async def late(change: ExpireUpload) -> Any:
        seen.append(change.mark)
        rig.clock.now_us += 1000
        renewed = asyncio.ensure_future(writer.renew())
        await asyncio.sleep(0)  # it waits in the queue, before the decision
        ended = mutate(change)
        await renewed
        return await ended

    watcher._mutate = late
    await looks(rig, 4)
    assert len(seen) == 1 and rows(rig, UPLOAD) == [row]
    await looks(rig, 4)
    assert len(set(seen)) == 2, "and is judged anew"
    await writer.finish()


async def test_owner_that_was_stopped_for_long_does_not_end_what_could_not_be_renewed(rig: Rig) -> None:
    """A1: writers could not reach it either; they have time again."""
    writer = await begin(rig, rig.service)
    await writer.add()
    await looks(rig, 2, writer)
    await looks(rig, 1 / 60)
    rig.clock.now_us += DAY_US // 2
    await looks(rig, 1)
    await writer.renew()
    await looks(rig, 2)
    await writer.finish()


async def test_a_new_owner_counts_anew(rig: Rig) -> None:
    """A2: what a predecessor saw is not known, and not needed."""
    writer = await begin(rig, rig.service)
    await writer.add()
    await looks(rig, 2.5)
    later = Rig(rig.tablets, rig.clock, upload_looks=LOOKS, upload_silence=SILENCE)
    async with running(later):
        await looks(later, 2.5)
        assert len(rows(later, UPLOAD)) == 1
        await looks(later, 1.5)
        assert rows(later, UPLOAD) == []


async def test_wall_clock_set_years_ahead_ends_nothing(rig: Rig) -> None:
    """Silence is counted by the monotonic clock."""
    writer = await begin(rig, rig.service)
    await writer.add()
    await looks(rig, 1)
    elapsed = rig.clock.monotonic()
    rig.clock.monotonic = lambda: elapsed  # type: ignore[method-assign]
    await looks(rig, 24 * 30)
    assert len(rows(rig, UPLOAD)) == 1


async def test_hidden_upload_neither_shows_nor_keeps_a_bucket(rig: Rig) -> None:
    """DeleteBucket does not wait for it, and the living PUT is told that its bucket is gone."""
    service, writer = rig.service, await begin(rig, rig.service)
    await writer.add()
    assert (await service.list_uploads("bkt")).uploads == []
    await service.mutate(DeleteBucket(write_id=rig.id(), bucket="bkt"))
    for act in (writer.renew, writer.add, writer.finish):
        with pytest.raises(Refused) as refused:
            await act()
        assert refused.value.code is ErrorCode.NO_SUCH_BUCKET
    await looks(rig, 4)
    async for _ in service.upkeep._sweeper.steps():
        pass
    assert rows(rig, UPLOAD, PART, NAMED) == []


async def test_writer_that_comes_back_too_late_names_nothing_that_may_be_gone(rig: Rig) -> None:
    """R7: blobs below the floor are refused with 503; younger ones may be named though their upload ended."""
    old = await begin(rig, rig.service, b"old")
    await old.add()
    await looks(rig, 23, old)
    young = await begin(rig, rig.service, b"young")
    await young.add()
    await looks(rig, 5)
    assert rows(rig, UPLOAD) == []
    with pytest.raises(Refused) as refused:
        await young.add()
    assert refused.value.code is ErrorCode.NO_SUCH_UPLOAD
    young.parts.pop()
    await young.finish()
    assert await young.dead() == [False]
    await rig.service.mutate(rig.put(b"other"))
    with pytest.raises(Unavailable):
        await old.finish()


async def test_more_uploads_than_can_be_watched_go_in_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3: memory is bounded, and nothing stays for ever."""
    monkeypatch.setattr(abandoned, "_WATCHED", 4)
    for number in range(10):
        writer = await begin(rig, rig.service, b"k%d" % number)
        await writer.add()
    await looks(rig, 4)
    assert rig.service.upkeep.abandoned.watched <= 4
    assert len(rows(rig, UPLOAD)) == 6
    await looks(rig, 10)
    assert rows(rig, UPLOAD, PART, NAMED) == []


async def test_upkeep_looks_by_itself() -> None:
    """The turns of a running service end an abandoned upload."""
    rig = Rig(upload_looks=LOOKS, upload_silence=SILENCE)
    async with running(rig) as service:
        writer = await begin(rig, service)
        await writer.add()
        for _ in range(40):
            rig.clock.now_us += MINUTES_10 * 1_000_000
            await service.upkeep.turn()
        assert rows(rig, UPLOAD, PART, NAMED) == []

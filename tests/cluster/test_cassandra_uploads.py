# SPDX-License-Identifier: Apache-2.0
"""The largest upload S3 allows, in one Cassandra partition: ten thousand parts named by one commit."""

import asyncio

from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.formats.row_keys import PART
from drystone_core.ids import Key, Uid, VolumeId, make_blob_id, make_write_id
from drystone_core.mutations import CompletePart, CompleteUpload, CreateBucket, CreateUpload, PutPart
from drystone_core.objects import Part
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_cell import ApartStorage, open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode

PARTS = 10_000
KEY = Key(b"large")


async def test_ten_thousand_parts_are_put_listed_and_completed(node: CassandraNode) -> None:
    """All are there page by page; the object names them; their rows go with the sweeper, in pieces."""
    clock, entropy = SystemClock(), SystemEntropy()
    cell = await open_test_cell(settings_for(node))
    storage = ApartStorage(cell.storage, entropy.token(16))
    metadata = LocalMetadata(
        storage=storage, tablet=CELL_TABLET, clock=clock, entropy=entropy, settings=MetadataSettings(sweep_after=0.0)
    )

    def write() -> dict[str, object]:
        return {"write_id": make_write_id(clock.wall_us(), entropy.token(16)), "bucket": "many", "key": KEY}

    def blob(length: int) -> BlobRef:
        extent = PackedExtent(VolumeId(1), record=0, payload_at=64, fragment=0, position=0, length=length, crc=0)
        return BlobRef(make_blob_id(clock.wall_us(), entropy.token(8)), length, (extent,))

    def part(number: int) -> Part:
        return Part(
            number=number, uid=Uid(entropy.token(16)), size=7, etag=f"{number:032x}", modified_ms=0, blobs=(blob(7),)
        )

    await metadata.start()
    running = [asyncio.ensure_future(metadata.run())]
    try:
        name = write()
        del name["key"]
        await metadata.mutate(CreateBucket(**name, owner="o", region="us-east-1"))
        begun = await metadata.mutate(CreateUpload(**write(), owner="o", headers={}, metadata={}))
        assert begun.upload_id is not None
        parts = [part(number) for number in range(1, PARTS + 1)]
        for low in range(0, PARTS, 2000):
            some = parts[low : low + 2000]
            await asyncio.gather(
                *(metadata.mutate(PutPart(**write(), upload_id=begun.upload_id, part=one)) for one in some)
            )
        listed, after = [], 0
        while True:
            page = await metadata.list_parts("many", KEY, begun.upload_id, after=after, limit=1000)
            listed += [(one.number, one.uid) for one in page.parts]
            if not page.truncated:
                break
            after = page.parts[-1].number
        assert listed == [(one.number, one.uid) for one in parts]
        named = tuple(CompletePart(number=one.number, etag=one.etag, uid=one.uid) for one in parts)
        done = CompleteUpload(
            **write(), upload_id=begun.upload_id, uid=Uid(entropy.token(16)), parts=named, etag=f"{1:032x}-{PARTS}",
            size=7 * PARTS, manifest=blob(64 * PARTS),
        )  # fmt: skip
        await metadata.mutate(done)
        version = await metadata.object("many", KEY)
        assert (version.size, version.etag) == (7 * PARTS, f"{1:032x}-{PARTS}")
        running.append(asyncio.ensure_future(metadata.upkeep.run()))
        async with asyncio.timeout(120):
            while await storage.scan(CELL_TABLET, RowKey(PART, b""), RowKey(PART + 1, b""), 1):
                await asyncio.sleep(0.2)
        assert (await metadata.object("many", KEY)).uid == version.uid
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await cell.close()

# SPDX-License-Identifier: Apache-2.0
"""Reads through `GatewayApp.handle`: what is at hand does not suspend, what moved is followed, what is lost is said."""

import hashlib
from collections.abc import Sequence

import pytest

from drystone_core.errors import Busy, Damaged
from drystone_core.formats.manifest import encode_manifest
from drystone_core.ids import NULL_VERSION, Key, Uid
from drystone_core.mutations import SwapBlobs
from drystone_core.objects import ObjectVersion, Part
from drystone_core.services import BlobHeader, BlobName, SmallBlob
from drystone_gateway.operations.blob_layout import BlobLayout
from drystone_gateway.operations.write_ids import WriteIds
from drystone_testing.http_calls import answered_at_once, finished


async def test_small_get_and_head_answer_without_suspending(make_cell):
    """One pass: no wait, no task."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"small")
    got = await finished(answered_at_once(cell.app.handle(cell.caller.request("GET", "/bkt/k"))))
    assert got.status == 200 and got.body == b"small"
    head = answered_at_once(cell.app.handle(cell.caller.request("HEAD", "/bkt/k")))
    assert head.status == 200 and head.length == 5 and head.body == b""
    missing = answered_at_once(cell.app.handle(cell.caller.request("HEAD", "/bkt/none")))
    assert missing.status == 404 and missing.body == b""


async def test_head_reads_no_storage(make_cell):
    """HEAD answers although no blob can be read."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x" * 200_000)
    cell.blobs.faults.read = Damaged("nothing can be read")
    answer = await cell.caller.send("HEAD", "/bkt/k")
    assert answer.status == 200 and answer.length == 200_000


async def test_unreadable_object_is_refused_with_a_status(make_cell):
    """What fails before the first byte is an error document, without the inside's words."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x" * 200_000)
    cell.blobs.faults.read = Damaged("secret inner words")
    answer = await cell.caller.send("GET", "/bkt/k")
    assert answer.status == 500 and b"InternalError" in answer.body and b"secret" not in answer.body
    cell.blobs.faults.read = Busy("pool is empty")
    answer = await cell.caller.send("GET", "/bkt/k")
    assert answer.status == 503 and b"SlowDown" in answer.body and answer.headers["retry-after"]


@pytest.mark.parametrize("after", [0, 1 << 20, 3 << 20])
async def test_long_get_follows_bytes_that_moved(make_cell, after):
    """The row is read again and the stream goes on where it was."""
    cell = await make_cell()
    body = hashlib.sha512(b"m").digest() * 65536
    await cell.caller.send("PUT", "/bkt/k", body)
    response = await cell.app.handle(cell.caller.request("GET", "/bkt/k"))
    await move_blob(cell, after)
    answer = await finished(response)
    assert answer.status == 200 and answer.body == body


async def move_blob(cell, after: int) -> None:
    """Move the blob of `k`; the old place fails once `after` more bytes were read from it."""
    version = await cell.metadata.object("bkt", Key(b"k"))
    old = version.blobs[0]
    stored = cell.blobs.blobs.pop(old.blob_id)
    moved = cell.blobs.keep(stored.header, stored.payload, stored.trailer, old.extents)
    ids = WriteIds(clock=cell.clock, entropy=cell.entropy, identity=b"")
    await cell.metadata.mutate(
        SwapBlobs(write_id=ids.make(), bucket="bkt", key=Key(b"k"), uid=version.uid, old=(old.blob_id,), new=(moved,))
    )
    cell.blobs.faults.read_after = after


async def test_get_does_not_continue_with_another_version(make_cell):
    """When the key was overwritten and the old bytes are gone, the stream breaks: never a mix."""
    cell = await make_cell()
    body = b"old" * 1_000_000
    await cell.caller.send("PUT", "/bkt/k", body)
    response = await cell.app.handle(cell.caller.request("GET", "/bkt/k"))
    await cell.caller.send("PUT", "/bkt/k", b"new" * 1_000_000)
    cell.blobs.faults.read_after = 1 << 20
    with pytest.raises(Exception, match="Stale"):
        await finished(response)


async def test_closing_an_answer_that_was_never_read_gives_its_chunk_back(make_cell):
    """A client that goes away leaves nothing lent."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x" * 3_000_000)
    response = await cell.app.handle(cell.caller.request("GET", "/bkt/k"))
    assert cell.blobs.outstanding == 1
    await response.stream.aclose()
    await response.stream.aclose()
    assert cell.blobs.outstanding == 0


async def parts_in(cell, count: int) -> Sequence[Part]:
    parts = []
    for number in range(count):
        uid = Uid(cell.entropy.token(16))
        header = BlobHeader(bucket_id=1, key=Key(b"k"), uid=uid, part=number * 2 + 1)
        payload = number.to_bytes(4, "big") * (1 + number % 3)
        ref = await cell.blobs.append(SmallBlob(header=header, payload=payload, trailer=b""))
        parts.append(
            Part(
                number=number * 2 + 1,
                size=len(payload),
                etag=hashlib.md5(payload).hexdigest(),
                modified_ms=number,
                uid=uid,
                blobs=(ref,),
            )
        )
    return parts


async def test_manifest_of_many_pages_finds_bytes_and_parts(make_cell):
    """Windows, parts by number and lists of parts agree with the parts as they were written, over every page."""
    cell = await make_cell()
    parts = await parts_in(cell, 1500)
    data = encode_manifest(parts)
    writer = cell.blobs.writer(BlobHeader(bucket_id=1, key=Key(b"k"), uid=Uid(b"u" * 16), kind=1), expected=len(data))
    space = await writer.space()
    space[: len(data)] = data
    await writer.write(len(data))
    manifest = await writer.finish(b"")
    size = sum(part.size for part in parts)
    version = ObjectVersion(
        key=Key(b"k"),
        uid=Uid(b"u" * 16),
        version_id=NULL_VERSION,
        modified_ms=0,
        size=size,
        manifest=manifest,
        parts_count=len(parts),
    )
    layout = BlobLayout(storage=cell.blobs)
    seen, at = [], 0
    while at < size:
        window = await layout.window(version, at)
        assert window.first == at
        seen += window.blobs
        at += window.held
    assert seen == [blob for part in parts for blob in part.blobs]
    start = 0
    for place, part in enumerate(parts):
        if place % 97 == 0:
            found = await layout.part(version, part.number)
            assert found is not None and found.start == start and found.part == part
            assert await layout.part(version, part.number + 1) is None
            assert await layout.parts(version, part.number, 5) == list(parts[place + 1 : place + 6])
        start += part.size


async def test_blobs_named_by_a_row_are_alive(make_cell):
    """What a PUT names is what the row contains."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x")
    (stored,) = (blob for blob in cell.blobs.blobs.items() if blob[1].header.kind == 0)
    header = stored[1].header
    name = BlobName(stored[0], header.bucket_id, header.key, header.uid, header.part, header.offset)
    assert await cell.metadata.dead_blobs([name]) == [False]

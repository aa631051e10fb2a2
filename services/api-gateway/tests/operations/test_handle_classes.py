# SPDX-License-Identifier: Apache-2.0
"""Storage classes through `GatewayApp.handle`: which disks the bytes are sent to, what rows and answers say."""

from dataclasses import replace

import pytest

from drystone_core.formats.row_keys import UPLOAD
from drystone_core.formats.trailer import decode_trailer
from drystone_core.mutations import PutObject
from drystone_core.storage_classes import StorageClasses
from drystone_metadata.store.ports import CELL_TABLET, RowKey

TIERS = StorageClasses((("STANDARD", "ssd"), ("STANDARD_IA", "hdd"), ("GLACIER_IR", "smr")))
LARGE = 400_000
IA = {"x-amz-storage-class": "STANDARD_IA"}


def sent_to(cell, since=()) -> set[str]:
    """Classes of the disks that blobs were written to after those."""
    return {blob.header.disk_class for blob_id, blob in cell.blobs.blobs.items() if blob_id not in set(since)}


async def class_of(cell, key: str) -> str:
    """As HEAD says; STANDARD is not said."""
    return (await cell.caller.send("HEAD", f"/bkt/{key}")).headers.get("x-amz-storage-class", "STANDARD")


@pytest.mark.parametrize("size", [0, 900, LARGE])
@pytest.mark.parametrize(
    ("asked", "disks"), [("", "ssd"), ("STANDARD", "ssd"), ("STANDARD_IA", "hdd"), ("GLACIER_IR", "smr")]
)
async def test_an_object_goes_to_the_disks_of_its_class(make_cell, size, asked, disks):
    """Every blob of it; its trailer, HEAD, GET and listings name the storage class."""
    cell = await make_cell(classes=TIERS)
    headers = {"x-amz-storage-class": asked} if asked else {}
    assert (await cell.caller.send("PUT", "/bkt/k", b"n" * size, headers=headers)).status == 200
    assert sent_to(cell) == {disks}
    named = asked or "STANDARD"
    (trailer,) = {decode_trailer(blob.trailer).storage_class for blob in cell.blobs.blobs.values()}
    assert trailer == named == await class_of(cell, "k")
    answer = await cell.caller.send("GET", "/bkt/k")
    assert answer.headers.get("x-amz-storage-class", "STANDARD") == named and answer.body == b"n" * size
    listed = (await cell.caller.send("GET", "/bkt", query="list-type=2")).body
    assert f"<StorageClass>{named}</StorageClass>".encode() in listed


async def test_without_a_mapping_nothing_but_standard_is_taken(make_cell):
    """On whatever disks there are, as ever."""
    cell = await make_cell()
    answer = await cell.caller.send("PUT", "/bkt/k", b"x", headers=IA)
    assert answer.status == 501 and b"NotImplemented" in answer.body
    assert (await cell.caller.send("PUT", "/bkt/k", b"x", headers={"x-amz-storage-class": "STANDARD"})).status == 200
    assert sent_to(cell) == {""}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("ONEZONE_IA", b"NotImplemented"),
        ("GLACIER", b"NotImplemented"),
        ("standard_ia", b"InvalidStorageClass"),
        ("HOUSE", b"InvalidStorageClass"),
    ],
)
async def test_a_class_that_is_not_mapped_is_refused_and_nothing_written(make_cell, asked, code):
    """By each operation that could name it."""
    cell = await make_cell(classes=TIERS)
    await cell.caller.send("PUT", "/bkt/source", b"s")
    before = set(cell.blobs.blobs)
    headers = {"x-amz-storage-class": asked}
    for method, query, more in (
        ("PUT", "", {}),
        ("PUT", "", {"x-amz-copy-source": "/bkt/source"}),
        ("POST", "uploads", {}),
    ):
        answer = await cell.caller.send(method, "/bkt/k", query=query, headers=headers | more)
        assert code in answer.body, (method, query, answer.body)
    assert set(cell.blobs.blobs) == before


async def test_parts_lie_with_their_upload(make_cell):
    """Sent and copied ones, and the blob of the completion; a part itself may not name a class."""
    cell = await make_cell(classes=TIERS)
    await cell.caller.send("PUT", "/bkt/source", b"s" * LARGE)
    before = set(cell.blobs.blobs)
    upload = await cell.begin("k", **IA)
    at = f"partNumber={{}}&uploadId={upload}"
    answer = await cell.caller.send("PUT", "/bkt/k", b"p", query=at.format(1), headers=IA)
    assert b"NotImplemented" in answer.body
    sent = await cell.caller.send("PUT", "/bkt/k", b"p" * (5 << 20), query=at.format(1))
    copied = await cell.caller.send("PUT", "/bkt/k", query=at.format(2), headers={"x-amz-copy-source": "/bkt/source"})
    etags = [sent.headers["etag"], copied.body.partition(b"<ETag>")[2].partition(b"</ETag>")[0].decode()]
    document = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
    answer = await cell.caller.send("POST", "/bkt/k", body, query=f"uploadId={upload}")
    assert answer.status == 200, answer.body
    assert sent_to(cell, before) == {"hdd"} and await class_of(cell, "k") == "STANDARD_IA"
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"p" * (5 << 20) + b"s" * LARGE


@pytest.mark.parametrize("size", [900, LARGE])
async def test_a_copy_lies_where_it_asks_and_never_takes_the_source_class_over(make_cell, size):
    """The class is not copied: without a header a copy is STANDARD."""
    cell = await make_cell(classes=TIERS)
    await cell.caller.send("PUT", "/bkt/source", b"s" * size, headers=IA)
    for headers, disks, named in (
        ({}, "ssd", "STANDARD"),
        ({"x-amz-storage-class": "GLACIER_IR"}, "smr", "GLACIER_IR"),
    ):
        before = set(cell.blobs.blobs)
        answer = await cell.caller.send("PUT", "/bkt/copy", headers={"x-amz-copy-source": "/bkt/source"} | headers)
        assert answer.status == 200 and sent_to(cell, before) == {disks}
        assert await class_of(cell, "copy") == named


async def test_a_copy_onto_itself_with_another_class_moves_the_bytes(make_cell):
    """Metadata is kept; naming the class it has writes anew as well, which is how it reaches disks mapped since."""
    cell = await make_cell(classes=TIERS)
    await cell.caller.send("PUT", "/bkt/k", b"n" * 900, headers={"x-amz-meta-a": "1"})
    itself = {"x-amz-copy-source": "/bkt/k"}
    for asked, disks in (("STANDARD_IA", "hdd"), ("STANDARD_IA", "hdd"), ("STANDARD", "ssd")):
        before = set(cell.blobs.blobs)
        answer = await cell.caller.send("PUT", "/bkt/k", headers=itself | {"x-amz-storage-class": asked})
        assert answer.status == 200, answer.body
        assert sent_to(cell, before) == {disks} and await class_of(cell, "k") == asked
        found = await cell.caller.send("GET", "/bkt/k")
        assert (found.body, found.headers["x-amz-meta-a"]) == (b"n" * 900, "1")


def meanwhile(cell, *steps) -> None:
    """Just before bytes of class STANDARD_IA are named as `k`, somebody else does the next step."""
    mutate, left = cell.metadata.mutate, list(steps)

    async def slow(mutation):
        if isinstance(mutation, PutObject) and mutation.storage_class == "STANDARD_IA" and left:
            assert (await left.pop(0)()).status in (200, 204)
        return await mutate(mutation)

    cell.metadata.mutate = slow


@pytest.mark.parametrize("size", [0, 900, LARGE])
async def test_a_put_while_an_object_moves_is_not_undone(make_cell, size):
    """The newer object moves in its place; its metadata goes along, and nothing of the lost try stays named."""
    cell = await make_cell(classes=TIERS, piece_bytes=100_000, long_put_seconds=0.0)
    itself = {"x-amz-copy-source": "/bkt/k"} | IA
    await cell.caller.send("PUT", "/bkt/k", b"1" * size, headers={"x-amz-meta-a": "1"})
    meanwhile(cell, lambda: cell.caller.send("PUT", "/bkt/k", b"2" * size, headers={"x-amz-meta-a": "2"}))
    assert (await cell.caller.send("PUT", "/bkt/k", headers=itself)).status == 200
    found = await cell.caller.send("GET", "/bkt/k")
    assert (found.body, found.headers["x-amz-meta-a"]) == (b"2" * size, "2")
    assert await class_of(cell, "k") == "STANDARD_IA"
    start, end = RowKey(UPLOAD, b""), RowKey(UPLOAD + 1, b"")
    assert await cell.metadata._storage.scan(CELL_TABLET, start, end, 100) == []


async def test_new_metadata_and_a_deletion_while_an_object_moves_are_not_undone(make_cell):
    """The one keeps the bytes, so it is not seen by them; after the other there is nothing to move."""
    cell = await make_cell(classes=TIERS)
    itself = {"x-amz-copy-source": "/bkt/k"}
    anew = itself | {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-a": "2"}
    await cell.caller.send("PUT", "/bkt/k", b"n" * 900, headers={"x-amz-meta-a": "1"})
    meanwhile(
        cell,
        lambda: cell.caller.send("PUT", "/bkt/k", headers=anew),
        lambda: cell.caller.send("DELETE", "/bkt/k"),
    )
    answer = await cell.caller.send("PUT", "/bkt/k", headers=itself | IA)
    assert answer.status == 404 and b"NoSuchKey" in answer.body
    assert (await cell.caller.send("GET", "/bkt/k")).status == 404
    await cell.caller.send("PUT", "/bkt/k", b"n" * 900, headers={"x-amz-meta-a": "1"})
    meanwhile(cell, lambda: cell.caller.send("PUT", "/bkt/k", headers=anew))
    assert (await cell.caller.send("PUT", "/bkt/k", headers=itself | IA)).status == 200
    assert (await cell.caller.send("HEAD", "/bkt/k")).headers["x-amz-meta-a"] == "2"


async def test_an_object_that_changes_all_the_time_is_not_moved(make_cell):
    """The client hears so, and may try again; the last put stands."""
    cell = await make_cell(classes=TIERS)
    await cell.caller.send("PUT", "/bkt/k", b"0")
    meanwhile(cell, *(lambda body=b"%d" % turn: cell.caller.send("PUT", "/bkt/k", body) for turn in (1, 2, 3)))
    assert (await cell.caller.send("PUT", "/bkt/k", headers={"x-amz-copy-source": "/bkt/k"} | IA)).status == 503
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"3"
    assert await class_of(cell, "k") == "STANDARD"


async def test_new_metadata_alone_keeps_the_bytes_where_the_class_stays(make_cell):
    """REPLACE without a class asks for STANDARD: of a STANDARD object the row changes, one of another class moves."""
    cell = await make_cell(classes=TIERS)
    anew = {"x-amz-metadata-directive": "REPLACE"}
    await cell.caller.send("PUT", "/bkt/warm", b"n")
    await cell.caller.send("PUT", "/bkt/cold", b"n", headers=IA)
    for key, moved in (("warm", set()), ("cold", {"ssd"})):
        before = set(cell.blobs.blobs)
        answer = await cell.caller.send("PUT", f"/bkt/{key}", headers=anew | {"x-amz-copy-source": f"/bkt/{key}"})
        assert answer.status == 200 and sent_to(cell, before) == moved
        assert await class_of(cell, key) == "STANDARD"


async def test_a_copy_onto_itself_without_a_mapping_moves_nothing(make_cell):
    """As ever: the header says that something changes, and the row is written again."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"n")
    before = set(cell.blobs.blobs)
    headers = {"x-amz-copy-source": "/bkt/k", "x-amz-storage-class": "STANDARD"}
    assert (await cell.caller.send("PUT", "/bkt/k", headers=headers)).status == 200
    assert set(cell.blobs.blobs) == before


async def test_an_upload_whose_class_is_mapped_no_more_takes_no_part(make_cell):
    """It is never put elsewhere; the upload can be aborted."""
    cell = await make_cell(classes=TIERS)
    upload = await cell.begin("k", **IA)
    fewer = replace(cell.settings, classes=StorageClasses(TIERS.mapped[:1]))
    cell.app._gateway = replace(cell.app._gateway, settings=fewer)
    answer = await cell.caller.send("PUT", "/bkt/k", b"p", query=f"partNumber=1&uploadId={upload}")
    assert answer.status == 501 and not cell.blobs.blobs
    assert (await cell.caller.send("DELETE", "/bkt/k", query=f"uploadId={upload}")).status == 204

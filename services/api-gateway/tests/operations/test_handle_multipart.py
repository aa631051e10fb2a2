# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads and copies through `GatewayApp.handle`: claims at completion, exact ranges, sources, retries."""

import asyncio
import hashlib
from xml.etree import ElementTree

import pytest

from drystone_core.errors import Unavailable
from drystone_core.ids import Key
from drystone_gateway.s3.checksums import ALGORITHMS, encode
from drystone_gateway.settings import Limits

LARGE = 1_000_000


async def keys(cell) -> list[bytes]:
    return [entry.key for entry in (await cell.metadata.list_objects("bkt")).objects]


def completion(*parts: tuple[int, str]) -> bytes:
    """A CompleteMultipartUpload document."""
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


async def test_own_retries_of_abort_and_bucket_deletion_get_their_first_answer(make_cell):
    """R1 again: what the first attempt removed is not missing for the second."""
    cell = await make_cell()
    upload = await cell.begin("m")
    for path, query in (("/bkt/m", f"uploadId={upload}"), ("/bkt", "")):
        headers = {"amz-sdk-invocation-id": f"id{path}", "amz-sdk-request": "attempt=1; max=3"}
        assert (await cell.caller.send("DELETE", path, query=query, headers=headers)).status == 204
        headers["amz-sdk-request"] = "attempt=2; max=3"
        assert (await cell.caller.send("DELETE", path, query=query, headers=headers)).status == 204
        assert (await cell.caller.send("DELETE", path, query=query)).status == 404


async def test_abort_by_its_time_spares_another_upload(make_cell):
    """x-amz-if-match-initiated-time: another second is 412 and the upload stays; what is no time is an argument error."""
    cell = await make_cell()
    upload = await cell.begin("m")
    query = f"uploadId={upload}"
    for text, code in (("Thu, 01 Jan 2026 00:00:00 GMT", b"PreconditionFailed"), ("soon", b"InvalidArgument")):
        headers = {"x-amz-if-match-initiated-time": text}
        answer = await cell.caller.send("DELETE", "/bkt/m", query=query, headers=headers)
        assert code in answer.body
    listed = await cell.caller.send("GET", "/bkt", query="uploads")
    initiated = listed.body.partition(b"<Initiated>")[2].partition(b"<")[0].decode()
    headers = {"x-amz-if-match-initiated-time": initiated}
    assert (await cell.caller.send("DELETE", "/bkt/m", query=query, headers=headers)).status == 204


async def test_copy_onto_itself_keeps_the_bytes(make_cell):
    """REPLACE in an unversioned bucket writes no blob and keeps the uid (R6)."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"abc", headers={"x-amz-meta-a": "1"})
    before = await cell.metadata.object("bkt", Key(b"k"))
    appends = cell.blobs.appends
    headers = {"x-amz-copy-source": "/bkt/k", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert (await cell.caller.send("PUT", "/bkt/k", headers=headers)).status == 200
    after = await cell.metadata.object("bkt", Key(b"k"))
    assert after.uid == before.uid and after.blobs == before.blobs and after.metadata == {"b": "2"}
    assert cell.blobs.appends == appends


async def test_copy_of_damaged_bytes_names_nothing(make_cell):
    """A source that cannot be read is no copy."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x" * LARGE)
    version = await cell.metadata.object("bkt", Key(b"k"))
    cell.blobs.faults.damaged.add(version.blobs[0].blob_id)
    answer = await cell.caller.send("PUT", "/bkt/copy", headers={"x-amz-copy-source": "/bkt/k"})
    assert answer.status == 500 and await keys(cell) == [b"k"]


async def test_what_a_copy_cannot_do_is_refused(make_cell):
    """A range of a whole copy, unknown directives and algorithms; but the null version onto itself is a copy."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"abc")
    for headers, code in (
        ({"range": "bytes=0-1"}, b"InvalidArgument"),
        ({"x-amz-copy-source-range": "bytes=0-1"}, b"InvalidArgument"),
        ({"x-amz-metadata-directive": "KEEP"}, b"InvalidArgument"),
        ({"x-amz-tagging-directive": "KEEP"}, b"NotImplemented"),
        ({"x-amz-checksum-algorithm": "CRC7"}, b"InvalidRequest"),
    ):
        answer = await cell.caller.send("PUT", "/bkt/to", headers={"x-amz-copy-source": "/bkt/k", **headers})
        assert code in answer.body and await keys(cell) == [b"k"], headers
    answer = await cell.caller.send("PUT", "/bkt/k", headers={"x-amz-copy-source": "/bkt/k?versionId=null"})
    assert answer.status == 200 and answer.headers["x-amz-copy-source-version-id"] == "null"


async def test_a_source_above_the_limit_is_copied_by_ranges_only(make_cell):
    """5 GiB at AWS: InvalidRequest for the whole, as object or as part; a range within the limit is copied."""
    cell = await make_cell(limits=Limits(put_bytes=1000, part_bytes=1))
    upload = await cell.begin("big")
    rows = []
    for number in (1, 2):
        query = f"partNumber={number}&uploadId={upload}"
        rows.append((number, (await cell.caller.send("PUT", "/bkt/big", b"x" * 600, query=query)).headers["etag"]))
    assert (await cell.caller.send("POST", "/bkt/big", completion(*rows), query=f"uploadId={upload}")).status == 200
    source = {"x-amz-copy-source": "/bkt/big"}
    query = f"partNumber=1&uploadId={await cell.begin('to')}"
    for asked in ("", query):
        answer = await cell.caller.send("PUT", "/bkt/to", query=asked, headers=source)
        assert answer.status == 400 and b"maximum allowable size" in answer.body
    headers = source | {"x-amz-copy-source-range": "bytes=200-1199"}
    assert (await cell.caller.send("PUT", "/bkt/to", query=query, headers=headers)).status == 200


async def test_of_a_completion_and_an_abort_one_happens(make_cell):
    """Sent at once, in either order: an object, or none and NoSuchUpload for the completion; never half of it."""
    cell = await make_cell()
    outcomes = set()
    for turn in range(20):
        upload = await cell.begin("m")
        query = f"uploadId={upload}"
        part = await cell.caller.send("PUT", "/bkt/m", b"part", query=f"partNumber=1&{query}")
        calls = [
            cell.caller.send("POST", "/bkt/m", completion((1, part.headers["etag"])), query=query),
            cell.caller.send("DELETE", "/bkt/m", query=query),
        ]
        done = await asyncio.gather(*(calls if turn % 2 else calls[::-1]))
        completed, aborted = done if turn % 2 else done[::-1]
        assert (completed.status, aborted.status) in ((200, 404), (404, 204))
        if completed.status == 404:
            assert b"<Code>NoSuchUpload</Code>" in completed.body
        assert await keys(cell) == ([b"m"] if completed.status == 200 else [])
        outcomes.add(completed.status)
        await cell.caller.send("DELETE", "/bkt/m")
    assert outcomes == {200, 404}


@pytest.mark.parametrize("kind", ["object", "part"])
@pytest.mark.parametrize("end", ["well", "badly", "gone"])
async def test_a_slow_copy_keeps_its_client_waiting_with_blanks(make_cell, kind, end):
    """200 and the prolog after a while, then blanks, then the result or an Error document; who goes away ends it."""
    cell = await make_cell(copy_patience_seconds=0.01)
    await cell.caller.send("PUT", "/bkt/from", b"x" * LARGE)
    upload = await cell.begin("to")
    go_on, read = asyncio.Event(), cell.blobs.read

    async def slow(*span):
        await go_on.wait()
        async for chunk in read(*span):
            yield chunk

    cell.blobs.read = slow
    query = f"partNumber=1&uploadId={upload}" if kind == "part" else ""
    request = cell.caller.request("PUT", "/bkt/to", query=query, headers={"x-amz-copy-source": "/bkt/from"})
    response = await cell.app.handle(request)
    assert response.status == 200 and response.length is None and b"application/xml" in response.head
    said = [bytes((await anext(response.stream)).data) for _ in range(3)]
    assert said == [b'<?xml version="1.0" encoding="UTF-8"?>\n', b" ", b" "]
    if end == "badly":
        cell.blobs.faults.read = Unavailable("away")
    if end != "gone":
        go_on.set()
        said += [bytes(chunk.data) async for chunk in response.stream]
        root = ElementTree.fromstring(b"".join(said))
        assert root.tag.endswith(("CopyObjectResult", "CopyPartResult") if end == "well" else ("Error",))
        assert root.findtext("Code") == (None if end == "well" else "ServiceUnavailable")
    await response.stream.aclose()
    assert await keys(cell) == ([b"from", b"to"] if (kind, end) == ("object", "well") else [b"from"])
    listed = await cell.caller.send("GET", "/bkt/to", query=f"uploadId={upload}")
    assert listed.body.count(b"<Part>") == ((kind, end) == ("part", "well"))


async def test_part_of_an_upload_without_algorithm_may_bring_any_checksum(make_cell):
    """It is verified and shown, while the object's CRC64NVME is combined from what is kept."""
    cell = await make_cell()
    upload = await cell.begin("m")
    value = encode(hashlib.sha1(b"part").digest())
    query = f"partNumber=1&uploadId={upload}"
    wrong = await cell.caller.send("PUT", "/bkt/m", b"qart", query=query, headers={"x-amz-checksum-sha1": value})
    assert b"BadDigest" in wrong.body
    part = await cell.caller.send("PUT", "/bkt/m", b"part", query=query, headers={"x-amz-checksum-sha1": value})
    assert part.status == 200 and part.headers["x-amz-checksum-sha1"] == value
    document = completion((1, part.headers["etag"]))
    done = await cell.caller.send("POST", "/bkt/m", document, query=f"uploadId={upload}")
    crc = ALGORITHMS["CRC64NVME"].new()
    crc.update(b"part")
    assert f"<ChecksumCRC64NVME>{encode(crc.digest())}</ChecksumCRC64NVME>".encode() in done.body


async def test_copy_source_must_belong_to_the_caller_and_expected_owner(make_cell):
    """x-amz-source-expected-bucket-owner of another account is AccessDenied, for copies of objects and of parts."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"abc")
    headers = {"x-amz-copy-source": "bkt/k", "x-amz-source-expected-bucket-owner": "999999999999"}
    answer = await cell.caller.send("PUT", "/bkt/copy", headers=headers)
    assert answer.status == 403 and await keys(cell) == [b"k"]
    upload = await cell.begin("m")
    answer = await cell.caller.send("PUT", "/bkt/m", query=f"partNumber=1&uploadId={upload}", headers=headers)
    assert answer.status == 403


async def test_completion_checks_what_the_client_claims(make_cell):
    """Size, checksum and checksum type that differ are refused, the upload stays open; the right ones are accepted."""
    cell = await make_cell()
    named = {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}
    upload = await cell.begin("m", **named)
    crc = ALGORITHMS["CRC32C"].new()
    crc.update(b"part")
    value = encode(crc.digest())
    query = f"partNumber=1&uploadId={upload}"
    part = await cell.caller.send("PUT", "/bkt/m", b"part", query=query, headers={"x-amz-checksum-crc32c": value})
    document, query = completion((1, part.headers["etag"])), f"uploadId={upload}"
    for headers, code in (
        ({"x-amz-mp-object-size": "5"}, b"InvalidRequest"),
        ({"x-amz-checksum-crc32c": "AAAAAA=="}, b"BadDigest"),
        ({"x-amz-checksum-type": "COMPOSITE"}, b"InvalidRequest"),
        ({"x-amz-checksum-sha1": encode(bytes(20))}, b"InvalidRequest"),
        ({"x-amz-checksum-crc32c": "nonsense"}, b"InvalidRequest"),
        ({"x-amz-checksum-crc32c": value, "x-amz-checksum-sha1": encode(bytes(20))}, b"InvalidRequest"),
    ):
        answer = await cell.caller.send("POST", "/bkt/m", document, query=query, headers=headers)
        assert answer.status == 400 and code in answer.body, headers
    headers = {"x-amz-mp-object-size": "4", "x-amz-checksum-crc32c": value, "x-amz-checksum-type": "FULL_OBJECT"}
    answer = await cell.caller.send("POST", "/bkt/m", document, query=query, headers=headers)
    assert answer.status == 200 and f"<ChecksumCRC32C>{value}<".encode() in answer.body


async def test_a_composite_needs_every_part_with_its_checksum(make_cell):
    """As AWS: a part without one is refused, and so is a completion that leaves it out or names another algorithm."""
    cell = await make_cell()
    upload = await cell.begin("m", **{"x-amz-checksum-algorithm": "SHA256"})
    query = f"partNumber=1&uploadId={upload}"
    without = await cell.caller.send("PUT", "/bkt/m", b"part", query=query)
    assert without.status == 400 and b"actual checksum Type: null" in without.body
    value = encode(hashlib.sha256(b"part").digest())
    part = await cell.caller.send("PUT", "/bkt/m", b"part", query=query, headers={"x-amz-checksum-sha256": value})
    etag, query = part.headers["etag"], f"uploadId={upload}"
    for sums, code in (
        ("", b"InvalidRequest"),
        (f"<ChecksumSHA1>{encode(bytes(20))}</ChecksumSHA1>", b"BadDigest"),
        (f"<ChecksumSHA256>{encode(bytes(32))}</ChecksumSHA256>", b"InvalidPart"),
        (f"<ChecksumSHA256>{value}</ChecksumSHA256>", b"-1</ChecksumSHA256>"),
    ):
        row = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag>{sums}</Part>"
        document = f"<CompleteMultipartUpload>{row}</CompleteMultipartUpload>".encode()
        assert code in (await cell.caller.send("POST", "/bkt/m", document, query=query)).body


async def test_a_full_object_checksum_needs_none_of_its_parts(make_cell):
    """The parts' sums are ours to take; another algorithm named at completion is still refused."""
    cell = await make_cell()
    upload = await cell.begin("m", **{"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"})
    part = await cell.caller.send("PUT", "/bkt/m", b"part", query=f"partNumber=1&uploadId={upload}")
    row = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag>SUM</Part>"
    document = f"<CompleteMultipartUpload>{row}</CompleteMultipartUpload>"
    query = f"uploadId={upload}"
    other = document.replace("SUM", f"<ChecksumSHA1>{encode(bytes(20))}</ChecksumSHA1>").encode()
    assert b"BadDigest" in (await cell.caller.send("POST", "/bkt/m", other, query=query)).body
    done = await cell.caller.send("POST", "/bkt/m", document.replace("SUM", "").encode(), query=query)
    assert done.status == 200 and b"<ChecksumType>FULL_OBJECT<" in done.body


@pytest.mark.parametrize("span", [(0, 0), (5, 131_076), (1_048_570, 3_000_001), (0, 4_999_999), (4_999_999, 4_999_999)])
async def test_ranges_of_a_source_are_copied_exactly(make_cell, span):
    """Whatever chunks the bytes come in and whatever pieces they go to."""
    cell = await make_cell(piece_bytes=700_001)
    data = bytes(range(256)) * 19_532
    data = data[:5_000_000]
    await cell.caller.send("PUT", "/bkt/from", data)
    upload = await cell.begin("to")
    first, last = span
    headers = {"x-amz-copy-source": "/bkt/from", "x-amz-copy-source-range": f"bytes={first}-{last}"}
    part = await cell.caller.send("PUT", "/bkt/to", query=f"partNumber=1&uploadId={upload}", headers=headers)
    etag = hashlib.md5(data[first : last + 1]).hexdigest()
    assert part.status == 200 and etag.encode() in part.body
    done = await cell.caller.send("POST", "/bkt/to", completion((1, etag)), query=f"uploadId={upload}")
    assert done.status == 200
    assert (await cell.caller.send("GET", "/bkt/to")).body == data[first : last + 1]

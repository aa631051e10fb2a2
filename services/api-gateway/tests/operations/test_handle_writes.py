# SPDX-License-Identifier: Apache-2.0
"""Writes through `GatewayApp.handle`: refusals before the body, failures that name nothing, retries, long bodies."""

import asyncio
import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Unavailable
from drystone_core.formats.row_keys import PART, UPLOAD
from drystone_core.formats.trailer import decode_trailer
from drystone_core.ids import Key
from drystone_gateway.operations.body_source import ChunkedSource
from drystone_gateway.operations.table import OPERATIONS
from drystone_gateway.s3.aws_chunked import ChunkedDecoder
from drystone_gateway.s3.checksums import ALGORITHMS, encode
from drystone_gateway.s3.payload import EMPTY_SHA256, Streaming
from drystone_gateway.s3.route_tables import BUCKET_SUB, OBJECT_SUB
from drystone_gateway.settings import Limits
from drystone_metadata.store.ports import RowKey
from drystone_testing.http_calls import MemoryBody, counted_waits

LARGE = 1_000_000
RETRY = {"amz-sdk-invocation-id": "x", "amz-sdk-request": "attempt=2"}


async def keys(cell) -> list[bytes]:
    return [entry.key for entry in (await cell.metadata.list_objects("bkt")).objects]


def late(data: bytes, **options) -> MemoryBody:
    """A body that has not arrived with its head."""
    return MemoryBody(data, arrived=False, **options)


@pytest.mark.parametrize("size", [100, LARGE])
async def test_refusals_do_not_read_the_body(make_cell, size):
    """Wrong signature, no bucket, failed condition, unsupported header, too large: `100 Continue` is never sent."""
    cell = await make_cell(limits=Limits(put_bytes=2 * LARGE))
    await cell.caller.send("PUT", "/bkt/k", b"old")
    cases = [
        ("/none/k", {}, b"NoSuchBucket"),
        ("/bkt/k", {"if-none-match": "*"}, b"PreconditionFailed"),
        ("/bkt/k", {"if-match": '"00"'}, b"PreconditionFailed"),
        ("/bkt/none", {"if-match": '"00"'}, b"NoSuchKey"),
        ("/bkt/k", {"x-amz-server-side-encryption": "AES256"}, b"NotImplemented"),
        ("/bkt/k", {"x-amz-checksum-crc32": "nonsense"}, b"InvalidRequest"),
        ("/bkt/k", {"content-md5": "nonsense"}, b"InvalidDigest"),
        ("/bkt/k", {"x-amz-expected-bucket-owner": "999999999999"}, b"AccessDenied"),
    ]
    for path, headers, code in cases:
        body = late(b"n" * size)
        answer = await cell.caller.send("PUT", path, body, headers=headers)
        assert code in answer.body and not body.read_begun, (path, headers, answer.body)
    body = late(b"n" * size)
    request = cell.caller.request("PUT", "/bkt/k", body)
    request.headers["authorization"] = request.headers["authorization"][:-1] + "x"
    answer = await cell.caller.run(request)
    assert answer.status in (400, 403) and not body.read_begun
    body = late(b"n" * (2 * LARGE + 1))
    answer = await cell.caller.send("PUT", "/bkt/k", body)
    assert b"EntityTooLarge" in answer.body and not body.read_begun
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"old"


@pytest.mark.parametrize("size", [0, 1, 131_072, 131_073, LARGE])
@pytest.mark.parametrize("arrived", [True, False])
async def test_bytes_are_the_same_however_they_arrive(make_cell, size, arrived):
    """With their head or after it, in one piece or many."""
    cell = await make_cell(piece_bytes=300_000)
    data = bytes(number * 7 % 251 for number in range(1000)) * (size // 1000 + 1)
    body = MemoryBody(data[:size], arrived=arrived)
    answer = await cell.caller.send("PUT", "/bkt/k", body)
    assert answer.status == 200 and answer.headers["etag"] == f'"{hashlib.md5(data[:size]).hexdigest()}"'
    assert (await cell.caller.send("GET", "/bkt/k")).body == data[:size]


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_client_that_goes_away_leaves_nothing(make_cell, size):
    """The old object stays, no buffer stays lent, no slot stays taken."""
    cell = await make_cell(piece_bytes=300_000, limits=Limits(bodies=1))
    await cell.caller.send("PUT", "/bkt/k", b"old")
    before = set(cell.blobs.blobs)
    for _ in range(2):
        answer = await cell.caller.send("PUT", "/bkt/k", late(b"n" * size, cut=size * 3 // 4))
        assert b"IncompleteBody" in answer.body
    assert set(cell.blobs.blobs) == before and cell.blobs.lent == 0
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"old"
    assert (await cell.caller.send("PUT", "/bkt/k", late(b"n" * size))).status == 200


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_cancelled_upload_leaves_nothing(make_cell, size):
    """Cancellation while bytes are awaited aborts the writer and is not swallowed."""
    cell = await make_cell(piece_bytes=300_000)
    waiting = asyncio.Event()

    async def stall() -> None:
        waiting.set()
        await asyncio.sleep(60)

    upload = asyncio.ensure_future(cell.caller.send("PUT", "/bkt/k", late(b"n" * size, on_first_read=stall)))
    await waiting.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await keys(cell) == [] and cell.blobs.lent == 0


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_storage_that_is_full_is_said(make_cell, size):
    """507 and nothing named."""
    cell = await make_cell()
    cell.blobs.faults.append = Unavailable("full", ErrorCode.INSUFFICIENT_STORAGE)
    answer = await cell.caller.send("PUT", "/bkt/k", b"n" * size)
    assert answer.status == 507 and b"InsufficientStorage" in answer.body
    assert await keys(cell) == [] and cell.blobs.lent == 0


async def test_too_many_bodies_are_told_to_slow_down(make_cell):
    """The bound holds while bodies arrive, and is given back."""
    cell = await make_cell(limits=Limits(bodies=1))
    waiting, go = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        waiting.set()
        await go.wait()

    first = asyncio.ensure_future(cell.caller.send("PUT", "/bkt/1", late(b"n" * LARGE, on_first_read=stall)))
    await waiting.wait()
    answer = await cell.caller.send("PUT", "/bkt/2", late(b"n" * LARGE))
    assert answer.status == 503 and b"SlowDown" in answer.body
    assert cell.app.refused_bodies == 1
    go.set()
    assert (await first).status == 200
    assert (await cell.caller.send("PUT", "/bkt/2", late(b"n" * LARGE))).status == 200


async def test_own_retry_of_a_create_is_not_refused(make_cell):
    """R1: a client that lost the answer of its If-None-Match PUT gets that answer, not 412."""
    cell = await make_cell()
    headers = {"if-none-match": "*", "amz-sdk-invocation-id": "5a6a7f4e", "amz-sdk-request": "attempt=1; max=3"}
    first = await cell.caller.send("PUT", "/bkt/k", b"mine", headers=headers)
    again = await cell.caller.send("PUT", "/bkt/k", b"mine", headers={**headers, "amz-sdk-request": "attempt=2; max=3"})
    assert first.status == again.status == 200 and first.headers["etag"] == again.headers["etag"]
    other = {**headers, "amz-sdk-invocation-id": "other", "amz-sdk-request": "attempt=2; max=3"}
    assert (await cell.caller.send("PUT", "/bkt/k", b"theirs", headers=other)).status == 412
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"mine"


async def test_own_retry_is_known_though_its_mark_is_not_signed(make_cell):
    """botocore adds the header after it has signed (docs/adr/0303-unsigned-retry-identity.md)."""
    cell = await make_cell()
    for attempt in (1, 2):
        request = cell.caller.request("PUT", "/bkt/k", b"mine", headers={"if-none-match": "*"})
        assert "amz-sdk" not in request.headers["authorization"]
        request.headers["amz-sdk-invocation-id"] = "5a6a7f4e"
        request.headers["amz-sdk-request"] = f"attempt={attempt}; max=3"
        assert (await cell.caller.run(request)).status == 200


async def test_long_upload_registers_its_blobs(make_cell):
    """R7: a body that takes long is cut into blobs named by an internal upload, which nobody sees and the commit
    drops."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=200_000)
    data = bytes(range(250)) * 4000
    answer = await cell.caller.send("PUT", "/bkt/k", late(data))
    assert answer.status == 200 and answer.headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    version = await cell.metadata.object("bkt", Key(b"k"))
    assert len(version.blobs) == 5
    assert (await cell.caller.send("GET", "/bkt/k")).body == data
    part = await cell.caller.send("GET", "/bkt/k", headers={"range": "bytes=199990-200009"})
    assert part.body == data[199_990:200_010]
    assert (await cell.metadata.list_uploads("bkt")).uploads == []
    assert (await cell.caller.send("DELETE", "/bkt/k")).status == 204
    assert (await cell.caller.send("DELETE", "/bkt")).status == 204


async def test_failed_long_upload_drops_what_it_registered(make_cell):
    """A wrong digest at the end of a long body leaves neither object nor upload."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=200_000)
    sha = hashlib.sha256(b"other").hexdigest()
    answer = await cell.caller.send("PUT", "/bkt/k", late(b"n" * LARGE), sha256=sha)
    assert b"XAmzContentSHA256Mismatch" in answer.body and await keys(cell) == []
    refused = await cell.caller.send("PUT", "/bkt/k", late(b"n" * LARGE), headers={"if-match": '"00"', **RETRY})
    assert refused.status == 404
    storage, tablet = cell.metadata._storage, cell.metadata._tablet
    assert await storage.scan(tablet, RowKey(UPLOAD, b""), RowKey(UPLOAD + 1, b""), 10) == []
    assert await storage.scan(tablet, RowKey(PART, b""), RowKey(PART + 1, b""), 10) == []


@pytest.mark.parametrize("long_put_seconds", [3600.0, 0.0])
@pytest.mark.parametrize("size", [100, LARGE])
@pytest.mark.parametrize("made_again", [False, True])
async def test_put_into_a_bucket_deleted_meanwhile_is_no_such_bucket(make_cell, long_put_seconds, size, made_again):
    """Its bytes carry the id of the bucket they were sent to: another of the same name does not get them."""
    cell = await make_cell(long_put_seconds=long_put_seconds, piece_bytes=200_000)

    async def delete() -> None:
        assert (await cell.caller.send("DELETE", "/bkt")).status == 204
        if made_again:
            assert (await cell.caller.send("PUT", "/bkt")).status == 200

    answer = await cell.caller.send("PUT", "/bkt/k", late(b"n" * size, on_first_read=delete))
    assert answer.status == 404 and b"<Code>NoSuchBucket</Code>" in answer.body
    if made_again:
        assert await keys(cell) == []
        assert (await cell.caller.send("PUT", "/bkt/k", late(b"n" * size))).status == 200


async def test_name_blobs_survive_beside_empty_and_completed_objects(make_cell):
    """`recover` finds zero-byte objects and completions by their name blobs, data by its trailer."""
    cell = await make_cell()
    headers = {"content-type": "text/plain", "x-amz-meta-color": "blue"}
    await cell.caller.send("PUT", "/bkt/empty", b"", headers=headers)
    (stored,) = cell.blobs.blobs.values()
    trailer = decode_trailer(stored.trailer)
    assert stored.header.kind == 2 and stored.header.key == b"empty" and trailer.size == 0
    assert trailer.metadata == {"color": "blue"} and trailer.headers == {"content-type": "text/plain"}
    await cell.caller.send("PUT", "/bkt/data", b"abc", headers=headers)
    stored = list(cell.blobs.blobs.values())[-1]
    trailer = decode_trailer(stored.trailer)
    assert stored.header.kind == 0 and trailer.etag == hashlib.md5(b"abc").hexdigest() and trailer.checksum is not None
    answer = await cell.caller.send("POST", "/bkt/multi", query="uploads", headers=headers)
    upload = answer.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
    part = await cell.caller.send("PUT", "/bkt/multi", b"part", query=f"partNumber=1&uploadId={upload}")
    etag = part.headers["etag"].strip('"')
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    done = await cell.caller.send("POST", "/bkt/multi", document.encode(), query=f"uploadId={upload}")
    assert done.status == 200
    stored = list(cell.blobs.blobs.values())[-1]
    trailer = decode_trailer(stored.trailer)
    assert stored.header.kind == 2 and trailer.size == 4 and trailer.etag.endswith("-1")
    assert trailer.metadata == {"color": "blue"}


def signed_chunks(request, secret: str, data: bytes, step: int) -> bytes:
    """`data` as signed aws-chunked, continuing from the request's own signature."""
    fields = request.headers["authorization"]
    seed = fields.rpartition("Signature=")[2]
    scope = fields.partition("Credential=")[2].partition(",")[0].partition("/")[2]
    key = f"AWS4{secret}".encode()
    for piece in scope.split("/"):
        key = hmac.digest(key, piece.encode(), "sha256")
    out, previous = b"", seed
    for at in [*range(0, len(data), step), len(data)]:
        piece = data[at : at + step]
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                request.headers["x-amz-date"],
                scope,
                previous,
                EMPTY_SHA256,
                hashlib.sha256(piece).hexdigest(),
            )
        )
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        out += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + b"\r\n"
    return out


@pytest.mark.parametrize("size", [0, 10, 70_000, LARGE])
@pytest.mark.parametrize("tampered", ["", "flipped", "no end", "bytes after"])
@pytest.mark.parametrize("arrived", [True, False])
async def test_signed_chunks_are_verified(make_cell, size, tampered, arrived):
    """STREAMING-AWS4-HMAC-SHA256-PAYLOAD: a flipped byte anywhere stores nothing."""
    cell = await make_cell(piece_bytes=300_000)
    data = b"s" * size
    headers = {"x-amz-decoded-content-length": str(size), "content-encoding": "aws-chunked"}
    sha = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    request = cell.caller.request("PUT", "/bkt/k", b"", headers=headers, sha256=sha)
    body = bytearray(signed_chunks(request, cell.caller.secret_key, data, 65536))
    if tampered == "flipped":
        at = body.index(b"\r\n") + 3 if size else body.index(b"=") + 5
        body[at] ^= 1
    elif tampered == "no end":
        del body[body.rindex(b"0;chunk-signature") :]
    elif tampered == "bytes after":
        body += b"0"
    request.body = MemoryBody(bytes(body), arrived=arrived)
    request.headers["content-length"] = str(len(body))
    answer = await cell.caller.run(request)
    if tampered:
        assert answer.status in (400, 403) and await keys(cell) == []
    else:
        assert answer.status == 200, answer.body
        got = await cell.caller.send("GET", "/bkt/k")
        assert got.body == data and "content-encoding" not in got.headers


async def test_operations_without_an_engine_are_not_implemented(make_cell):
    """Nothing falls through to another operation, and nothing changes."""
    cell = await make_cell()
    await cell.caller.send("PUT", "/bkt/k", b"x")
    cases = [("POST", "/bkt", ""), ("POST", "/WriteGetObjectResponse", "")]
    for path, table in (("/bkt", BUCKET_SUB), ("/bkt/k", OBJECT_SUB)):
        for sub, methods in table.items():
            query = "select&select-type=2" if sub == "select" else sub
            cases += [(method, path, query) for method, operation in methods.items() if operation not in OPERATIONS]
    assert len(cases) > 40
    verbs = ("Put", "Create", "Update", "Rename", "Restore", "Select", "Write", "Post")
    done = {operation.value for operation in OPERATIONS if operation.value.startswith(verbs)}
    assert done == {"PutObject", "CreateBucket", "CreateMultipartUpload"}
    for method, path, query in cases:
        for body in (b"", b"<Anything/>"):
            answer = await cell.caller.send(method, path, body, query=query)
            assert answer.status == 501 and b"<Code>NotImplemented</Code>" in answer.body, (method, path, query, answer)
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"x" and await keys(cell) == [b"k"]
    assert (await cell.metadata.bucket("bkt")).generation == 1


async def test_a_body_of_unknown_length_is_not_implemented(make_cell):
    """Transfer-Encoding: chunked without a decoded length is 501 and not read; with aws-chunked it has one."""
    cell = await make_cell()
    body = late(b"n" * 100, declared=None)
    answer = await cell.caller.send("PUT", "/bkt/k", body, headers={"transfer-encoding": "chunked"})
    assert answer.status == 501 and b"<Code>NotImplemented</Code>" in answer.body and not body.read_begun
    framed = MemoryBody(b"3\r\nabc\r\n0\r\n\r\n", arrived=False, declared=None)
    headers = {"transfer-encoding": "chunked", "x-amz-decoded-content-length": "3"}
    sha256 = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert (await cell.caller.send("PUT", "/bkt/k", framed, headers=headers, sha256=sha256)).status == 200
    assert (await cell.caller.send("GET", "/bkt/k")).body == b"abc"


async def test_a_bucket_made_again_is_a_conflict_outside_us_east_1(make_cell):
    """BucketAlreadyOwnedByYou; the region is its location."""
    cell = await make_cell(region="eu-central-1")
    made = await cell.caller.send("PUT", "/new")
    assert made.status == 200
    again = await cell.caller.send("PUT", "/new")
    assert again.status == 409 and b"<Code>BucketAlreadyOwnedByYou</Code>" in again.body
    location = await cell.caller.send("GET", "/new", query="location")
    assert b">eu-central-1</LocationConstraint>" in location.body


async def test_anonymous_and_preflight_are_denied(make_cell):
    """AccessDenied before anything is looked up; a preflight hears that there is no CORS configuration."""
    cell = await make_cell()
    for path in ("/bkt/k", "/none/k"):
        answer = await cell.caller.send("GET", path, sign=False)
        assert answer.status == 403 and b"<Code>AccessDenied</Code>" in answer.body
    request = cell.caller.request("OPTIONS", "/bkt/k", sign=False, headers={"origin": "http://x"})
    answer = await cell.caller.run(request)
    assert answer.status == 403 and b"<Code>AccessForbidden</Code>" in answer.body
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = await cell.caller.send("POST", "/bkt", b"--x--", sign=False, headers=form)
    assert answer.status == 501 and b"<Code>NotImplemented</Code>" in answer.body


async def test_two_uploads_through_one_url_are_two(make_cell):
    """The header that marks a retry is not signed in a URL: it must not make an upload answered and not stored."""
    cell = await make_cell()
    for body in (b"first", b"second"):
        request = cell.caller.presigned("PUT", "/bkt/k", body)
        request.headers["amz-sdk-invocation-id"] = "same"
        assert (await cell.caller.run(request)).status == 200
        assert (await cell.caller.run(cell.caller.presigned("GET", "/bkt/k"))).body == body


async def test_presigned_requests_are_verified(make_cell):
    """A GET and a PUT by query; an expired or altered one is refused."""
    cell = await make_cell()
    assert (await cell.caller.run(cell.caller.presigned("PUT", "/bkt/k", b"by url"))).status == 200
    assert (await cell.caller.run(cell.caller.presigned("GET", "/bkt/k"))).body == b"by url"
    other = cell.caller.presigned("GET", "/bkt/k")
    other.method = "DELETE"
    assert (await cell.caller.run(other)).status == 403
    assert (await cell.caller.send("GET", "/bkt/k")).status == 200


async def test_refusal_of_the_commit_is_answered(make_cell):
    """Conditions are decided in the commit whatever the early look said."""
    cell = await make_cell()

    async def meanwhile() -> None:
        assert (await cell.caller.send("PUT", "/bkt/k", b"first")).status == 200

    answer = await cell.caller.send(
        "PUT", "/bkt/k", late(b"n" * LARGE, on_first_read=meanwhile), headers={"if-none-match": "*"}
    )
    assert answer.status == 412 and (await cell.caller.send("GET", "/bkt/k")).body == b"first"


async def test_small_put_waits_for_its_append_and_its_commit_only(make_cell):
    """With an append that is answered at once, one wait is left: the commit."""
    cell = await make_cell()
    request = cell.caller.request("PUT", "/bkt/k", b"small")
    response, waits = await counted_waits(cell.app.handle(request))
    assert response.status == 200 and waits == 1


@pytest.mark.parametrize("algorithm", ["XXHASH64", "XXHASH3", "XXHASH128", "SHA512", "MD5"])
async def test_newer_checksum_algorithms_are_verified(make_cell, algorithm):
    """Algorithms that boto3 cannot compute by itself: kept when right, refused when wrong."""
    cell = await make_cell()
    hasher = ALGORITHMS[algorithm].new()
    hasher.update(b"abc")
    name, value = ALGORITHMS[algorithm].header, encode(hasher.digest())
    answer = await cell.caller.send("PUT", "/bkt/k", b"abc", headers={name: value})
    assert answer.status == 200 and answer.headers[name] == value
    head = await cell.caller.send("HEAD", "/bkt/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert head.headers[name] == value and head.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    wrong = await cell.caller.send("PUT", "/bkt/other", b"abd", headers={name: value})
    assert b"BadDigest" in wrong.body and await keys(cell) == [b"k"]


async def test_delete_objects_shares_commits(make_cell):
    """A thousand keys need a few commits, not a thousand."""
    cell = await make_cell()
    objects = "".join(f"<Object><Key>k{number}</Key></Object>" for number in range(1000))
    for number in range(1000):
        if number % 10 == 0:
            await cell.caller.send("PUT", f"/bkt/k{number}", b"")
    document = f"<Delete>{objects}</Delete>".encode()
    head = (await cell.metadata._storage.state(cell.metadata._tablet)).head
    digest = base64.b64encode(hashlib.md5(document).digest()).decode()
    answer = await cell.caller.send("POST", "/bkt", document, query="delete", headers={"content-md5": digest})
    assert answer.status == 200 and answer.body.count(b"<Deleted>") == 1000 and await keys(cell) == []
    assert (await cell.metadata._storage.state(cell.metadata._tablet)).head - head <= 20


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70_000), max_size=6),
    targets=st.lists(st.integers(1, 90_000), min_size=1, max_size=8),
)
async def test_framing_is_removed_whatever_the_sizes(sizes, targets):
    """Chunks and receive buffers of any sizes: the payload comes out whole, in order, and ends."""
    pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    total = sum(sizes)
    decoder = ChunkedDecoder(Streaming(signed=False, trailer=True), decoded_length=total)
    source = ChunkedSource(MemoryBody(framed, arrived=False), total, decoder)
    got, turn = b"", 0
    while len(got) < total:
        target = bytearray(min(targets[turn % len(targets)], total - len(got)))
        count = await source.receive(memoryview(target))
        assert count == len(target)
        got += target
        turn += 1
    assert got == b"".join(pieces)
    assert await source.receive(memoryview(bytearray(1))) == 0
    assert await source.finish() == {}

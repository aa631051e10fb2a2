# SPDX-License-Identifier: Apache-2.0
"""Objects through boto3: bytes, metadata, ranges, keys of every shape, copies, deletes, presigned URLs."""

import hashlib
import urllib.request

import pytest
from botocore.exceptions import ClientError


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def status_of(error: pytest.ExceptionInfo[ClientError]) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


SIZES = [0, 1, 4096, 65536, 131071, 131072, 131073, 1 << 20, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, (17 << 20) + 5]


def pattern(size: int) -> bytes:
    """Bytes that differ everywhere a block could be taken for another."""
    block = hashlib.sha512(str(size).encode()).digest() * 64
    return b"".join(number.to_bytes(8, "big") + block for number in range(size // 4104 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_object_of_any_size_comes_back_as_it_was(s3, bucket, size):
    """Sizes around every limit of the write path."""
    body = pattern(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    assert put["ETag"] == etag
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ContentLength"] == size and got["ETag"] == etag
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ContentLength"] == size and head["ContentType"] == "binary/octet-stream"


def test_overwrite_replaces_bytes_and_metadata(s3, bucket):
    """The last PUT wins whole."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"one", Metadata={"a": "1"}, ContentType="text/plain")
    s3.put_object(Bucket=bucket, Key="k", Body=b"two")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"two" and got["Metadata"] == {} and got["ContentType"] == "binary/octet-stream"


def test_system_and_user_metadata_are_replayed(s3, bucket):
    """Headers come back verbatim."""
    sent = {
        "CacheControl": "max-age=7",
        "ContentDisposition": 'attachment; filename="x y.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/plain; charset=utf-8",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"Color": "Blue", "n-2": "a b"}, **sent)
    for got in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: got[name] for name in sent} == sent
        assert got["Metadata"] == {"color": "Blue", "n-2": "a b"}


def test_nothing_is_compressed_on_the_way(s3_raw, s3, bucket):
    """Accept-Encoding changes nothing; a stored Content-Encoding is a label, lengths and ranges are of the bytes."""
    body = b"a" * 10_000
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ContentEncoding="gzip")
    assert "VersionId" not in put
    status, headers, got = s3_raw("GET", f"/{bucket}/k", headers={"accept-encoding": "gzip, br"})
    assert (status, got, headers["content-length"], headers["content-encoding"]) == (200, body, "10000", "gzip")
    assert "x-amz-version-id" not in headers
    _, headers, got = s3_raw("GET", f"/{bucket}/k", headers={"accept-encoding": "gzip", "range": "bytes=5-9"})
    assert (got, headers["content-range"]) == (b"aaaaa", "bytes 5-9/10000")
    assert s3_raw("HEAD", f"/{bucket}/k", headers={"accept-encoding": "gzip"})[1]["content-length"] == "10000"


def test_user_metadata_beyond_two_kilobytes_is_refused(s3, bucket):
    """MetadataTooLarge, and nothing stored."""
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "x" * 2100})
    assert code_of(error) == "MetadataTooLarge"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_response_overrides_apply_to_one_answer(s3, bucket):
    """response-* parameters replace headers of a signed GET."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="text/html", ResponseContentDisposition="inline; filename=a"
    )
    assert got["ContentType"] == "text/html" and got["ContentDisposition"] == "inline; filename=a"
    assert s3.get_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, None),
    ("bytes=5-9", 5, 10),
    ("bytes=-7", -7, None),
    ("bytes=300000-300099", 300000, 300100),
    ("bytes=299999-999999999", 299999, None),
    ("bytes=-999999999", 0, None),
]


@pytest.mark.parametrize(("text", "start", "end"), RANGES)
def test_range_returns_its_bytes(s3, bucket, text, start, end):
    """206 with Content-Range for every satisfiable form."""
    body = pattern(400_000)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k", Range=text)
    want = body[start:end]
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["Body"].read() == want and got["ContentLength"] == len(want)
    first = start if start >= 0 else len(body) + start
    assert got["ContentRange"] == f"bytes {first}-{first + len(want) - 1}/{len(body)}"


@pytest.mark.parametrize("text", ["bytes=400000-", "bytes=-0", "bytes=500000-600000"])
def test_unsatisfiable_range_is_416(s3, bucket, text):
    """InvalidRange when nothing is in it."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", Range=text)
    assert status_of(error) == 416 and code_of(error) == "InvalidRange"


@pytest.mark.parametrize("text", ["bytes=9-3", "bits=0-1", "bytes=a-b", "bytes=0-1,5-6"])
def test_malformed_or_multiple_ranges_are_ignored(s3, bucket, text):
    """The whole object, 200."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=text)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200 and got["Body"].read() == b"0123456789"


def test_a_download_is_resumed_only_of_the_same_version(s3_raw, s3, bucket):
    """If-Range with another ETag: the whole object, 200; with its own: the tail."""
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")["ETag"]
    for validator, status, body in (('"old"', 200, b"0123456789"), (etag, 206, b"789")):
        headers = {"range": "bytes=7-", "if-range": validator}
        assert s3_raw("GET", f"/{bucket}/k", headers=headers)[::2] == (status, body)


def test_a_part_number_is_judged_before_the_object(s3_raw, bucket):
    """InvalidArgument, and InvalidRequest beside Range, whether the key exists or not."""
    for query, headers, code in (
        ("partNumber=0", {}, b"InvalidArgument"),
        ("partNumber=10001", {}, b"InvalidArgument"),
        ("partNumber=1", {"range": "bytes=0-1"}, b"InvalidRequest"),
    ):
        status, _, body = s3_raw("GET", f"/{bucket}/none?{query}", headers=headers)
        assert status == 400 and code in body
        assert s3_raw("HEAD", f"/{bucket}/none?{query}", headers=headers)[0] == 400


def test_any_range_of_an_empty_object_is_416(s3, bucket):
    """Zero bytes satisfy no range."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-0")
    assert status_of(error) == 416


KEYS = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "../x",
    "/a",
    "//",
    ".",
    "..",
    "a/../b",
    "a b",
    "a+b",
    "a%2Fb",
    "%",
    "ü/ö",
    "日本/語",
    "\U0001f600",
    "a?b=c",
    "a#b",
    "a&b=c",
    "a;b",
    "a'b\"c",
    "<x>&amp;",
    "\\",
    "x" * 1024,
    "é" * 512,
    "tab\there",
    "bell\x07",
    "new\nline",
    "~",
    "a\u00adb",
    "?versions",
    "?uploads",
    " lead",
    "trail ",
    "%zz",
    "a=b",
    "*",
    "[x]",
    "{y}",
    "|",
    "^",
    "`",
    "@:$,!",
]


def test_keys_of_every_shape_live_side_by_side(s3, bucket):
    """Keys are bytes, not paths: all are stored, read back and listed, and none hides another."""
    for number, key in enumerate(KEYS):
        s3.put_object(Bucket=bucket, Key=key, Body=f"{number}".encode())
    for number, key in enumerate(KEYS):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == f"{number}".encode()
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(KEYS, key=str.encode)
    for key in KEYS:
        s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_key_beyond_1024_bytes_is_refused(s3, bucket):
    """Bytes count, not characters."""
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="é" * 512 + "x", Body=b"x")
    assert code_of(error) == "KeyTooLongError"


def test_missing_key_is_404(s3, bucket):
    """GET has a code, HEAD only its status."""
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="none")
    assert code_of(error) == "NoSuchKey" and status_of(error) == 404
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="none")
    assert status_of(error) == 404


def test_delete_is_idempotent(s3, bucket):
    """204 whether the key was there or not."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="k")


def test_a_thousand_keys_are_deleted_in_one_call(s3, bucket):
    """Missing keys count as deleted; Quiet says nothing."""
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{number:04d}", Body=b"x")
    keys = [{"Key": f"k{number:04d}"} for number in range(1000)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    assert len(answer["Deleted"]) == 1000 and "Errors" not in answer
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys[:3], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer


def test_more_than_a_thousand_keys_are_malformed(s3, bucket):
    """The limit is S3's."""
    with pytest.raises(ClientError) as error:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{number}"} for number in range(1001)]})
    assert code_of(error) == "MalformedXML"


def test_copy_has_the_bytes_and_metadata_of_its_source(s3, bucket):
    """COPY takes everything, REPLACE takes what is sent."""
    body = pattern(300_000)
    s3.put_object(Bucket=bucket, Key="from", Body=body, Metadata={"a": "1"}, ContentType="text/plain")
    copied = s3.copy_object(Bucket=bucket, Key="to ü", CopySource={"Bucket": bucket, "Key": "from"})
    assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="to ü")
    assert got["Body"].read() == body and got["Metadata"] == {"a": "1"} and got["ContentType"] == "text/plain"
    s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource={"Bucket": bucket, "Key": "to ü"},
        MetadataDirective="REPLACE",
        Metadata={"b": "2"},
    )
    got = s3.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == body and got["Metadata"] == {"b": "2"} and got["ContentType"] == "binary/octet-stream"
    s3.delete_object(Bucket=bucket, Key="from")
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body


def test_copy_onto_itself_needs_a_change(s3, bucket):
    """InvalidRequest unchanged; REPLACE keeps the bytes and the ETag."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"abc", Metadata={"a": "1"})
    source = {"Bucket": bucket, "Key": "k"}
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert code_of(error) == "InvalidRequest"
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (
        got["Body"].read() == b"abc"
        and got["Metadata"] == {"b": "2"}
        and got["ETag"] == f'"{hashlib.md5(b"abc").hexdigest()}"'
    )


def test_copy_of_a_missing_source_is_404(s3, bucket):
    """NoSuchKey of the source, NoSuchBucket of its bucket."""
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "none"})
    assert code_of(error) == "NoSuchKey"
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket + "-none", "Key": "none"})
    assert code_of(error) == "NoSuchBucket"


def test_presigned_urls_read_and_write(s3, bucket):
    """A bearer of the URL needs no credentials."""
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k ü+%"}, ExpiresIn=60)
    request = urllib.request.Request(url, data=b"presigned", method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k ü+%"}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned"


def test_attributes_are_what_was_asked_for(s3, bucket):
    """ETag without quotes, size, class and checksum; nothing else."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "ObjectSize", "StorageClass", "Checksum"]
    )
    assert got["ETag"] == hashlib.md5(b"abc").hexdigest() and got["ObjectSize"] == 3
    assert got["StorageClass"] == "STANDARD" and got["Checksum"]["ChecksumSHA256"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert "ETag" not in got and got["ObjectSize"] == 3
    for attributes, code in (([], "InvalidRequest"), (["Colour"], "InvalidArgument")):
        with pytest.raises(ClientError) as error:
            s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=attributes)
        assert code_of(error) == code


def test_a_redirect_location_is_kept_for_its_object_alone(s3, bucket):
    """Replayed, checked for its form, and not copied unless it is sent again."""
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", WebsiteRedirectLocation="elsewhere")
    assert code_of(error) == "InvalidRedirectLocation"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", WebsiteRedirectLocation="/there")
    assert s3.head_object(Bucket=bucket, Key="k")["WebsiteRedirectLocation"] == "/there"
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    assert "WebsiteRedirectLocation" not in s3.head_object(Bucket=bucket, Key="copy")


def test_headers_without_an_engine_are_refused(s3, bucket):
    """Encryption, locks, website redirects of classes that do not exist yet are refused and nothing is stored."""
    for options in (
        {"ServerSideEncryption": "aws:kms"},
        {"ACL": "public-read"},
        {"ObjectLockLegalHoldStatus": "ON"},
        {"StorageClass": "GLACIER"},
    ):
        with pytest.raises(ClientError):
            s3.put_object(Bucket=bucket, Key="k", Body=b"x", **options)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private", StorageClass="STANDARD")

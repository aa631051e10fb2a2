# SPDX-License-Identifier: Apache-2.0
"""Conditional requests through boto3: GET, HEAD, PUT, DELETE and copies."""

import datetime

import pytest
from botocore.exceptions import ClientError

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2091, 1, 1, tzinfo=datetime.UTC)
OTHER = '"00000000000000000000000000000000"'


@pytest.fixture
def made(s3, bucket):
    """(bucket, etag) with the object `k`."""
    return bucket, s3.put_object(Bucket=bucket, Key="k", Body=b"abc", CacheControl="max-age=1")["ETag"]


def refused(call) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_reads_with_conditions_that_hold(s3, made):
    """200 with the body."""
    bucket, etag = made
    for options in (
        {"IfMatch": etag},
        {"IfMatch": etag.strip('"')},
        {"IfMatch": "*"},
        {"IfNoneMatch": OTHER},
        {"IfModifiedSince": PAST},
        {"IfUnmodifiedSince": FUTURE},
        {"IfMatch": etag, "IfUnmodifiedSince": PAST},
    ):
        assert s3.get_object(Bucket=bucket, Key="k", **options)["Body"].read() == b"abc", options


def test_reads_with_conditions_that_fail(s3, made):
    """412, or 304 with the validators and no body."""
    bucket, etag = made
    for options in ({"IfMatch": OTHER}, {"IfUnmodifiedSince": PAST}):
        assert refused(lambda options=options: s3.get_object(Bucket=bucket, Key="k", **options)) == (
            412,
            "PreconditionFailed",
        )
        assert refused(lambda options=options: s3.head_object(Bucket=bucket, Key="k", **options))[0] == 412
    for options in ({"IfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfNoneMatch": etag, "IfModifiedSince": PAST}):
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=bucket, Key="k", **options)
        response = error.value.response["ResponseMetadata"]
        assert response["HTTPStatusCode"] == 304, options
        assert response["HTTPHeaders"]["etag"] == etag and response["HTTPHeaders"]["cache-control"] == "max-age=1"


def test_a_failed_condition_is_named(s3_raw, made):
    """<Condition> in the document; a HEAD has no document, a 304 neither."""
    bucket, etag = made
    for headers, status, name in (
        ({"if-match": OTHER}, 412, b"<Condition>If-Match</Condition>"),
        ({"if-unmodified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 412, b"<Condition>If-Unmodified-Since</Condition>"),
        ({"if-none-match": etag}, 304, b""),
    ):
        answer = s3_raw("GET", f"/{bucket}/k", headers=headers)
        assert answer[0] == status and name in answer[2] and bool(answer[2]) is (status == 412)
        answer = s3_raw("HEAD", f"/{bucket}/k", headers=headers)
        assert answer[0] == status and answer[2] == b"" and "content-length" not in answer[1]


def test_put_if_none_match_creates_once(s3, made):
    """412 when the key exists, 200 when not; other values are not implemented."""
    bucket, _ = made
    put = lambda key, **options: s3.put_object(Bucket=bucket, Key=key, Body=b"new", **options)  # noqa: E731
    assert refused(lambda: put("k", IfNoneMatch="*")) == (412, "PreconditionFailed")
    put("other", IfNoneMatch="*")
    assert refused(lambda: put("other", IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert refused(lambda: put("k", IfNoneMatch=OTHER)) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


def test_put_if_match_is_compare_and_set(s3, made):
    """The present ETag wins, another is 412, an absent key 404."""
    bucket, etag = made
    put = lambda key, **options: s3.put_object(Bucket=bucket, Key=key, Body=b"new", **options)  # noqa: E731
    assert refused(lambda: put("k", IfMatch=OTHER)) == (412, "PreconditionFailed")
    put("k", IfMatch=etag)
    assert refused(lambda: put("k", IfMatch=etag)) == (412, "PreconditionFailed")
    assert refused(lambda: put("none", IfMatch=etag)) == (404, "NoSuchKey")
    assert refused(lambda: put("k", IfMatch=etag, IfNoneMatch="*")) == (501, "NotImplemented")


def test_large_put_is_refused_before_its_body(s3, made):
    """A condition that already fails costs no upload."""
    bucket, _ = made
    big = b"x" * (3 << 20)
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="k", Body=big, IfNoneMatch="*"))[0] == 412
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


def test_delete_if_match(s3, made):
    """Only the ETag named is deleted."""
    bucket, etag = made
    assert refused(lambda: s3.delete_object(Bucket=bucket, Key="k", IfMatch=OTHER)) == (412, "PreconditionFailed")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert refused(lambda: s3.head_object(Bucket=bucket, Key="k"))[0] == 404


def test_delete_objects_judges_each_etag(s3, made):
    """A failed condition is an Error entry inside a 200."""
    bucket, etag = made
    s3.put_object(Bucket=bucket, Key="m", Body=b"m")
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "k", "ETag": etag}, {"Key": "m", "ETag": OTHER}]}
    )
    assert [entry["Key"] for entry in answer["Deleted"]] == ["k"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("m", "PreconditionFailed")]


def test_copy_conditions_on_the_source(s3, made):
    """All failures are 412, never 304."""
    bucket, etag = made

    def copy(**options):
        return s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "k"}, **options)

    copy(CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=PAST)
    copy(CopySourceIfNoneMatch=OTHER)
    for options in (
        {"CopySourceIfMatch": OTHER},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": PAST},
        {"CopySourceIfUnmodifiedSince": PAST},
    ):
        assert refused(lambda options=options: copy(**options)) == (412, "PreconditionFailed"), options


def test_creators_race_and_one_wins(s3_factory, bucket):
    """Of many If-None-Match creators exactly one succeeds."""
    from concurrent.futures import ThreadPoolExecutor

    def create(number: int) -> int:
        try:
            s3_factory().put_object(Bucket=bucket, Key="race", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412)
            return 0
        return 1

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(16))) == 1

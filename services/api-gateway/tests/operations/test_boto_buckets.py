# SPDX-License-Identifier: Apache-2.0
"""Buckets through boto3: make, name rules, list by pages, location, head, delete, and what is unconfigured."""

import pytest
from botocore.exceptions import ClientError


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def status_of(error: pytest.ExceptionInfo[ClientError]) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_bucket_is_listed_after_creation_and_gone_after_deletion(s3, fresh_name):
    """Create, list and delete are seen by the next call."""
    assert s3.create_bucket(Bucket=fresh_name)["Location"] == f"/{fresh_name}"
    assert fresh_name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    head = s3.head_bucket(Bucket=fresh_name)
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"
    assert s3.delete_bucket(Bucket=fresh_name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert fresh_name not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket=fresh_name)
    assert status_of(error) == 404


def test_owner_may_create_a_bucket_again_in_us_east_1(s3, bucket):
    """us-east-1 answers 200 to the owner."""
    s3.create_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    "name", ["Abc-upper", "ab", "a..b", "192.168.5.4", "xn--abc", "abc-s3alias", "abc--ol-s3", "-abc"]
)
def test_invalid_bucket_names_are_refused(s3_raw, name):
    """Names AWS refuses are refused."""
    status, _, body = s3_raw("PUT", f"/{name}")
    assert status == 400 and b"<Code>InvalidBucketName</Code>" in body


def test_location_of_us_east_1_is_empty(s3, bucket):
    """The root element is LocationConstraint, and empty."""
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def test_create_with_a_foreign_location_is_refused(s3, fresh_name):
    """Another region's constraint is not this endpoint's."""
    with pytest.raises(ClientError) as error:
        s3.create_bucket(Bucket=fresh_name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert code_of(error) in ("IllegalLocationConstraintException", "InvalidLocationConstraint")


def test_delete_of_a_bucket_with_an_object_is_refused(s3, bucket):
    """BucketNotEmpty until the last object is gone."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert code_of(error) == "BucketNotEmpty" and status_of(error) == 409


def test_buckets_are_listed_by_pages(s3, fresh_name):
    """max-buckets and the continuation token walk every bucket once."""
    names = [f"{fresh_name}-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    seen, token = [], None
    while True:
        options = {"ContinuationToken": token} if token else {}
        page = s3.list_buckets(MaxBuckets=2, Prefix=fresh_name, **options)
        assert len(page["Buckets"]) <= 2 and page["Prefix"] == fresh_name
        seen += [entry["Name"] for entry in page["Buckets"]]
        token = page.get("ContinuationToken")
        if not token:
            break
    assert seen == names
    for name in names:
        s3.delete_bucket(Bucket=name)


def test_missing_bucket_is_told_by_every_operation(s3, fresh_name):
    """NoSuchBucket, never NoSuchKey."""
    calls = (
        lambda: s3.get_object(Bucket=fresh_name, Key="k"),
        lambda: s3.put_object(Bucket=fresh_name, Key="k", Body=b"x"),
        lambda: s3.delete_object(Bucket=fresh_name, Key="k"),
        lambda: s3.list_objects_v2(Bucket=fresh_name),
        lambda: s3.create_multipart_upload(Bucket=fresh_name, Key="k"),
        lambda: s3.delete_bucket(Bucket=fresh_name),
        lambda: s3.get_bucket_location(Bucket=fresh_name),
        lambda: s3.get_bucket_versioning(Bucket=fresh_name),
        lambda: s3.get_bucket_policy(Bucket=fresh_name),
    )
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error) == "NoSuchBucket" and status_of(error) == 404


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
        ("get_bucket_ownership_controls", "OwnershipControlsNotFoundError"),
    ],
)
def test_unconfigured_sub_resources_answer_as_aws(s3, bucket, method, code):
    """A probe of what was never configured gets AWS's own refusal."""
    with pytest.raises(ClientError) as error:
        getattr(s3, method)(Bucket=bucket)
    assert code_of(error) == code and status_of(error) == 404


def test_unconfigured_sub_resources_with_an_empty_answer(s3, bucket):
    """Versioning, logging, notification, accelerate are empty; the owner pays for requests; lists are empty."""
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert "TopicConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    assert "InventoryConfigurationList" not in s3.list_bucket_inventory_configurations(Bucket=bucket)
    assert "AnalyticsConfigurationList" not in s3.list_bucket_analytics_configurations(Bucket=bucket)
    assert "MetricsConfigurationList" not in s3.list_bucket_metrics_configurations(Bucket=bucket)
    listed = s3.list_bucket_intelligent_tiering_configurations(Bucket=bucket)
    assert "IntelligentTieringConfigurationList" not in listed
    acl = s3.get_bucket_acl(Bucket=bucket)
    assert acl["Grants"][0]["Permission"] == "FULL_CONTROL"


def test_configuration_without_an_engine_is_refused(s3, bucket):
    """What is not supported is refused, never silently ignored."""
    with pytest.raises(ClientError) as error:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert code_of(error) == "NotImplemented" and status_of(error) == 501


def test_unknown_sub_resources_never_fall_through(s3_raw, s3, bucket):
    """`DELETE ?foo-like` sub-resources must not delete the object, nor create a bucket."""
    s3.put_object(Bucket=bucket, Key="keep", Body=b"x")
    for target in (f"/{bucket}/keep?legal-hold", f"/{bucket}/keep?torrent", f"/{bucket}/keep?acl"):
        status, _, _ = s3_raw("DELETE", target)
        assert status >= 400
    assert s3.get_object(Bucket=bucket, Key="keep")["Body"].read() == b"x"
    status, _, _ = s3_raw("PUT", f"/{bucket}-other?publicAccessBlock", b"<x/>")
    assert status >= 400
    with pytest.raises(ClientError):
        s3.head_bucket(Bucket=f"{bucket}-other")


def test_expected_bucket_owner_must_match(s3, bucket):
    """x-amz-expected-bucket-owner of another account is AccessDenied."""
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="999999999999")
    assert code_of(error) == "AccessDenied" and status_of(error) == 403


def test_anonymous_requests_are_denied(s3_anonymous, bucket):
    """Without credentials everything is AccessDenied."""
    with pytest.raises(ClientError) as error:
        s3_anonymous.list_objects_v2(Bucket=bucket)
    assert code_of(error) == "AccessDenied"


def test_a_refused_head_of_a_bucket_tells_its_region(s3_raw, s3_factory, s3_anonymous, bucket):
    """x-amz-bucket-region on 403 and 400, so that a client set to another region finds the way as boto3 does."""
    _, headers, body = s3_raw("HEAD", f"/{bucket}", headers={"x-amz-expected-bucket-owner": "999999999999"})
    assert headers["x-amz-bucket-region"] == "us-east-1" and body == b""
    with pytest.raises(ClientError) as error:
        s3_anonymous.head_bucket(Bucket=bucket)
    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"
    elsewhere = s3_factory(region_name="eu-west-1")
    elsewhere.put_object(Bucket=bucket, Key="k", Body=b"abc")
    assert s3_factory(region_name="eu-west-1").head_object(Bucket=bucket, Key="k")["ContentLength"] == 3
    status, headers, _ = s3_raw("HEAD", f"/{bucket}-none")
    assert status == 404 and "x-amz-bucket-region" not in headers


def test_every_answer_carries_request_ids(s3_raw, bucket):
    """x-amz-request-id and x-amz-id-2 stand on success and on refusal, and the error names the same id."""
    status, headers, _ = s3_raw("GET", f"/{bucket}")
    assert status == 200 and headers["x-amz-request-id"] and headers["x-amz-id-2"]
    status, headers, body = s3_raw("GET", f"/{bucket}/missing")
    assert status == 404 and headers["x-amz-id-2"]
    assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body

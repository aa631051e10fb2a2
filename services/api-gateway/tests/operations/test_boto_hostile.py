# SPDX-License-Identifier: Apache-2.0
"""What a hostile or broken client sends: XML bombs, wrong lengths, bad signatures, unsigned headers."""

import pytest


@pytest.mark.parametrize(
    "document",
    [
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Delete><Object><Key>k</Key></Object></Delete>',
        b"<Delete><Object><Key>k</Key></Object>",
        b"<Delete/>",
        b"<Other><Object><Key>k</Key></Object></Other>",
        b"\xff\xfe\x00",
        b"<Delete>" + b"<a>" * 1000 + b"</a>" * 1000 + b"</Delete>",
    ],
)
def test_hostile_delete_documents_are_malformed(s3_raw, s3, bucket, document):
    """MalformedXML, and nothing is deleted."""
    import base64
    import hashlib

    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    digest = base64.b64encode(hashlib.md5(document).digest()).decode()
    status, _, body = s3_raw("POST", f"/{bucket}?delete", document, headers={"content-md5": digest})
    assert status == 400 and b"<Code>MalformedXML</Code>" in body
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_xml_beyond_the_cap_is_refused(s3_raw, bucket):
    """Not parsed at all."""
    import base64
    import hashlib

    document = b"<Delete>" + b" " * (9 << 20) + b"</Delete>"
    digest = base64.b64encode(hashlib.md5(document).digest()).decode()
    status, _, _ = s3_raw("POST", f"/{bucket}?delete", document, headers={"content-md5": digest})
    assert status in (400, 413)


def test_delete_objects_needs_an_integrity_header(s3_raw, bucket):
    """Content-MD5 or a checksum."""
    status, _, body = s3_raw("POST", f"/{bucket}?delete", b"<Delete><Object><Key>k</Key></Object></Delete>")
    assert status == 400 and b"<Code>InvalidRequest</Code>" in body


def test_wrong_signature_is_refused_without_effect(s3_raw, s3, bucket):
    """SignatureDoesNotMatch and InvalidAccessKeyId."""
    status, _, body = s3_raw("PUT", f"/{bucket}/k", b"x", secret_key="wrong")
    assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in body
    status, _, body = s3_raw("PUT", f"/{bucket}/k", b"x", access_key="NOSUCHKEY")
    assert status == 403 and b"<Code>InvalidAccessKeyId</Code>" in body
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_unsigned_amz_header_is_refused(s3_raw, s3, bucket):
    """A copy source that the signature does not cover copies nothing."""
    s3.put_object(Bucket=bucket, Key="secret", Body=b"s")
    status, _, _ = s3_raw("PUT", f"/{bucket}/k", unsigned_headers={"x-amz-copy-source": f"/{bucket}/secret"})
    assert status in (400, 403)
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["secret"]


def test_truncated_body_stores_nothing(s3_cut, s3, bucket):
    """The client goes away in the middle: no object."""
    for size, sent in ((5000, 10), (3 << 20, 2 << 20)):
        s3_cut("PUT", f"/{bucket}/k", b"x" * size, sent)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_put_without_a_length_is_411(s3_cut, bucket):
    """MissingContentLength."""
    answer = s3_cut("PUT", f"/{bucket}/k", b"", 0, drop_length=True)
    assert b" 411 " in answer and b"<Code>MissingContentLength</Code>" in answer


def test_expectation_is_answered_before_the_body(s3_cut, bucket):
    """A refused request never asks for its body."""
    answer = s3_cut("PUT", f"/{bucket}-none/k", b"x" * 100_000, 0, headers={"expect": "100-continue"})
    assert b"100 Continue" not in answer and b" 404 " in answer
    answer = s3_cut("PUT", f"/{bucket}/k", b"x" * 100_000, 0, headers={"expect": "100-continue"}, linger=0.5)
    assert answer.startswith(b"HTTP/1.1 100 Continue")


def test_copy_source_of_odd_forms_is_refused(s3_raw, bucket):
    """Empty, without a key, with bad escapes: an argument error, never a crash."""
    for source in ("/", "x", f"{bucket}/", "%zz/k", f"{bucket}/%ff", f"{bucket}/k?versionId="):
        status, _, _ = s3_raw("PUT", f"/{bucket}/to", headers={"x-amz-copy-source": source})
        assert 400 <= status < 500, source

# SPDX-License-Identifier: Apache-2.0
"""Checksums through boto3 and raw HTTP: every algorithm, trailers, composites, defaults and mismatches."""

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError


def big(value: int, size: int) -> str:
    return base64.b64encode(value.to_bytes(size, "big")).decode()


SUMS = {
    "CRC32": lambda data: big(zlib.crc32(data), 4),
    "CRC32C": lambda data: big(crt.crc32c(data), 4),
    "CRC64NVME": lambda data: big(crt.crc64nvme(data), 8),
    "SHA1": lambda data: base64.b64encode(hashlib.sha1(data).digest()).decode(),
    "SHA256": lambda data: base64.b64encode(hashlib.sha256(data).digest()).decode(),
}


@pytest.mark.parametrize("size", [0, 5, 200_000, (9 << 20) + 1])
@pytest.mark.parametrize("algorithm", SUMS)
def test_checksum_is_verified_kept_and_shown(s3, bucket, algorithm, size):
    """The client's checksum comes back on PUT, and on GET and HEAD when asked for."""
    body = b"q" * size
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    want = SUMS[algorithm](body)
    assert put[f"Checksum{algorithm}"] == want and put["ChecksumType"] == "FULL_OBJECT"
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == want
    assert s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["Body"].read() == body
    assert (
        f"x-amz-checksum-{algorithm.lower()}"
        not in (s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"])
    )


@pytest.mark.parametrize("algorithm", SUMS)
@pytest.mark.parametrize("size", [5, 300_000])
def test_wrong_checksum_is_bad_digest_and_stores_nothing(s3, bucket, algorithm, size):
    """BadDigest before anything is named."""
    with pytest.raises(ClientError) as error:
        s3.put_object(
            Bucket=bucket, Key="k", Body=b"x" * size, **{f"Checksum{algorithm}": SUMS[algorithm](b"something else")}
        )
    assert error.value.response["Error"]["Code"] in ("BadDigest", "InvalidRequest")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_default_checksum_is_crc64nvme(s3_plain, bucket):
    """A client that sends none gets a full-object CRC64NVME."""
    s3_plain.put_object(Bucket=bucket, Key="k", Body=b"abc")
    head = s3_plain.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == SUMS["CRC64NVME"](b"abc") and head["ChecksumType"] == "FULL_OBJECT"


def test_checksum_is_not_shown_for_ranges(s3, bucket):
    """A range has no checksum of its own."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"abcdef", ChecksumAlgorithm="CRC32")
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=1-2", ChecksumMode="ENABLED")
    assert "ChecksumCRC32" not in got


def framed(data: bytes, trailer: str = "", step: int = 65536) -> bytes:
    """aws-chunked without signatures."""
    out = b""
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        out += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    return out + b"0\r\n" + trailer.encode() + b"\r\n"


@pytest.mark.parametrize("size", [0, 10, 70_000, 400_000, (8 << 20) + 77])
def test_unsigned_trailer_carries_the_checksum(s3_raw, s3, bucket, size):
    """STREAMING-UNSIGNED-PAYLOAD-TRAILER: stored decoded, `aws-chunked` removed from Content-Encoding."""
    data = b"t" * size
    trailer = f"x-amz-checksum-crc32c:{SUMS['CRC32C'](data)}\r\n"
    headers = {
        "content-encoding": "aws-chunked,gzip",
        "x-amz-decoded-content-length": str(size),
        "x-amz-trailer": "x-amz-checksum-crc32c",
    }
    sha = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    status, answer, body = s3_raw("PUT", f"/{bucket}/k", framed(data, trailer), headers=headers, sha256=sha)
    assert status == 200, body
    assert answer["x-amz-checksum-crc32c"] == SUMS["CRC32C"](data)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data and got["ContentEncoding"] == "gzip"


@pytest.mark.parametrize("size", [10, 400_000])
@pytest.mark.parametrize("fault", ["wrong sum", "missing trailer", "short", "long", "cut"])
def test_faulty_trailer_bodies_store_nothing(s3_raw, s3, bucket, size, fault):
    """400 and no object, whatever is wrong with the framing."""
    data = b"t" * size
    trailer = f"x-amz-checksum-crc32c:{SUMS['CRC32C'](data)}\r\n"
    length = size
    if fault == "wrong sum":
        trailer = f"x-amz-checksum-crc32c:{SUMS['CRC32C'](b'other')}\r\n"
    if fault == "missing trailer":
        trailer = ""
    if fault == "short":
        length = size + 1
    if fault == "long":
        length = size - 1
    body = framed(data, trailer)
    if fault == "cut":
        body = body[: len(body) // 2]
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(length),
        "x-amz-trailer": "x-amz-checksum-crc32c",
    }
    sha = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    status, _, _ = s3_raw("PUT", f"/{bucket}/k", body, headers=headers, sha256=sha)
    assert status == 400
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_payload_hash_must_match(s3_raw, s3, bucket):
    """XAmzContentSHA256Mismatch, nothing stored, small and large."""
    for size in (5, 300_000):
        sha = hashlib.sha256(b"other").hexdigest()
        status, _, body = s3_raw("PUT", f"/{bucket}/k", b"x" * size, sha256=sha)
        assert status == 400 and b"XAmzContentSHA256Mismatch" in body
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_content_md5_is_checked(s3_raw, s3, bucket):
    """InvalidDigest when malformed, BadDigest when wrong."""
    for text, code in (
        ("nonsense", b"InvalidDigest"),
        (base64.b64encode(hashlib.md5(b"other").digest()).decode(), b"BadDigest"),
    ):
        status, _, body = s3_raw("PUT", f"/{bucket}/k", b"abc", headers={"content-md5": text})
        assert status == 400 and code in body
    good = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    assert s3_raw("PUT", f"/{bucket}/k", b"abc", headers={"content-md5": good})[0] == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"


def test_two_checksum_headers_are_refused(s3_raw, bucket):
    """InvalidRequest."""
    headers = {"x-amz-checksum-crc32": SUMS["CRC32"](b"abc"), "x-amz-checksum-sha1": SUMS["SHA1"](b"abc")}
    status, _, body = s3_raw("PUT", f"/{bucket}/k", b"abc", headers=headers)
    assert status == 400 and b"InvalidRequest" in body


FIVE = 5 << 20


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"), ("CRC32C", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"),
    ],
)  # fmt: skip
def test_multipart_checksums_are_combined(s3, bucket, algorithm, kind):
    """Composite: the sum of the parts' sums; full object: the sum of the bytes, combined without reading them."""
    bodies = [b"m" * FIVE, b"n" * 1234]
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)[
        "UploadId"
    ]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(**options, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        assert answer[f"Checksum{algorithm}"] == SUMS[algorithm](body)
        parts.append(
            {"PartNumber": number, "ETag": answer["ETag"], f"Checksum{algorithm}": answer[f"Checksum{algorithm}"]}
        )
    done = s3.complete_multipart_upload(**options, MultipartUpload={"Parts": parts}, ChecksumType=kind)
    if kind == "FULL_OBJECT":
        want = SUMS[algorithm](b"".join(bodies))
    else:
        raw = b"".join(base64.b64decode(SUMS[algorithm](body)) for body in bodies)
        want = SUMS[algorithm](raw) + "-2"
    assert done[f"Checksum{algorithm}"] == want and done["ChecksumType"] == kind
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == want and head["ChecksumType"] == kind


def test_multipart_without_checksums_has_crc64nvme(s3_plain, bucket):
    """The default holds for uploads too."""
    bodies = [b"m" * FIVE, b"n" * 10]
    upload_id = s3_plain.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    parts = [
        {"PartNumber": number, "ETag": s3_plain.upload_part(**options, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    s3_plain.complete_multipart_upload(**options, MultipartUpload={"Parts": parts})
    head = s3_plain.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == SUMS["CRC64NVME"](b"".join(bodies))


def test_part_with_another_algorithm_is_refused(s3, bucket):
    """The algorithm is fixed at Create."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")
    assert error.value.response["Error"]["Code"] == "InvalidRequest"

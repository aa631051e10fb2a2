# SPDX-License-Identifier: Apache-2.0
"""boto3: objects, transfers, listings, multi-delete, presigned URLs, conditional writes, checksums."""

import io
import os
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "compat-boto3"


def expect(code: str, call, **arguments) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        assert error.response["ResponseMetadata"]["RequestId"], error.response
    else:
        raise AssertionError(f"expected {code}")


def main() -> None:
    style = {"addressing_style": "path"}
    s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=Config(s3=style))
    s3.create_bucket(Bucket=BUCKET)
    objects(s3)
    transfers(s3)
    listings(s3)
    conditions(s3)
    checksums(s3)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": o["Key"]} for o in page.get("Contents", [])]})
    s3.delete_bucket(Bucket=BUCKET)
    expect("NoSuchBucket", s3.list_objects_v2, Bucket=BUCKET)
    print("ok")


def objects(s3) -> None:
    for key in ("a", "a/b", "a//b", "a/", "../x", "sp ace+plus%41.txt", "ü/日本語", "k" * 1024):
        body = os.urandom(5000)
        put = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"who": "me"}, ContentType="text/x-own")
        got = s3.get_object(Bucket=BUCKET, Key=key)
        assert got["Body"].read() == body and got["ETag"] == put["ETag"]
        assert got["Metadata"] == {"who": "me"} and got["ContentType"] == "text/x-own"
        assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == 5000
        ranged = s3.get_object(Bucket=BUCKET, Key=key, Range="bytes=100-199")
        assert ranged["Body"].read() == body[100:200]
        s3.copy_object(Bucket=BUCKET, Key="copied", CopySource={"Bucket": BUCKET, "Key": key})
        assert s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read() == body
    expect("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="absent")
    expect("InvalidRange", s3.get_object, Bucket=BUCKET, Key="a", Range="bytes=9999-")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "a"}, ExpiresIn=60)
    assert len(urllib.request.urlopen(link).read()) == 5000


def transfers(s3) -> None:
    data = os.urandom(23 << 20)
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "big", Config=TransferConfig(multipart_chunksize=8 << 20))
    sink = io.BytesIO()
    s3.download_fileobj(BUCKET, "big", sink, Config=TransferConfig(multipart_chunksize=8 << 20))
    assert sink.getvalue() == data
    assert s3.head_object(Bucket=BUCKET, Key="big", PartNumber=1)["PartsCount"] == 3
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key="big", ObjectAttributes=["ObjectSize", "ObjectParts"])
    assert attributes["ObjectSize"] == len(data)
    s3.copy({"Bucket": BUCKET, "Key": "big"}, BUCKET, "big-copy", Config=TransferConfig(multipart_threshold=8 << 20))
    assert s3.get_object(Bucket=BUCKET, Key="big-copy")["Body"].read() == data


def listings(s3) -> None:
    for n in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"list/{n % 5}/{n:03d}", Body=b"x")
    keys = []
    for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 7}
    ):
        keys += [o["Key"] for o in page["Contents"]]
    assert len(keys) == 25 and keys == sorted(keys)
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/", Delimiter="/", MaxKeys=3)
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["list/0/", "list/1/", "list/2/"] and page["IsTruncated"]
    first = s3.list_objects(Bucket=BUCKET, Prefix="list/", MaxKeys=10)
    assert len(first["Contents"]) == 10 and first["IsTruncated"]


def conditions(s3) -> None:
    put = s3.put_object(Bucket=BUCKET, Key="cond", Body=b"1", IfNoneMatch="*")
    expect("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="cond", Body=b"2", IfNoneMatch="*")
    s3.put_object(Bucket=BUCKET, Key="cond", Body=b"3", IfMatch=put["ETag"])
    expect("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="cond", Body=b"4", IfMatch=put["ETag"])
    expect("NoSuchKey", s3.put_object, Bucket=BUCKET, Key="never", Body=b"4", IfMatch=put["ETag"])
    expect(
        "304", s3.get_object, Bucket=BUCKET, Key="cond", IfNoneMatch=s3.head_object(Bucket=BUCKET, Key="cond")["ETag"]
    )


def checksums(s3) -> None:
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        put = s3.put_object(Bucket=BUCKET, Key="sum", Body=b"check me", ChecksumAlgorithm=algorithm)
        head = s3.head_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
        s3.put_object(Bucket=BUCKET, Key="sum", Body=io.BytesIO(b"streamed" * 1000), ChecksumAlgorithm=algorithm)
        assert s3.get_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")["Body"].read() == b"streamed" * 1000


main()

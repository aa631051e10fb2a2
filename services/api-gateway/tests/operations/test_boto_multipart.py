# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads through boto3: parts, listings, completion rules, copies, ranges over parts, attributes."""

import hashlib

import pytest
from botocore.exceptions import ClientError

FIVE = 5 << 20


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def block(size: int, seed: int) -> bytes:
    unit = hashlib.sha512(bytes([seed])).digest() * 128
    return (unit * (size // len(unit) + 1))[:size]


def upload(s3, bucket, key, bodies, **options):
    """Upload `bodies` by number and complete; returns (upload id, parts, answer)."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    parts = []
    for number, body in bodies.items():
        answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    answer = s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    return upload_id, parts, answer


def test_parts_become_one_object(s3, bucket):
    """Sparse numbers, a short last part, metadata from Create, the composed ETag, and reads across the seams."""
    bodies = {1: block(FIVE, 1), 4: block(FIVE + 3, 2), 9: block(1000, 3)}
    _, _, done = upload(s3, bucket, "k", bodies, Metadata={"a": "1"}, ContentType="text/plain")
    digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies.values())).hexdigest()
    assert done["ETag"] == f'"{digest}-3"' and done["Bucket"] == bucket and done["Key"] == "k"
    whole = b"".join(bodies.values())
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == whole and got["Metadata"] == {"a": "1"} and got["ContentType"] == "text/plain"
    seam = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={FIVE - 10}-{FIVE + 9}")
    assert seam["Body"].read() == whole[FIVE - 10 : FIVE + 10]
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=-1001")["Body"].read() == whole[-1001:]


def test_one_part_has_a_composed_etag_too(s3, bucket):
    """md5(md5)-1."""
    body = b"small"
    _, _, done = upload(s3, bucket, "k", {1: body})
    assert done["ETag"] == f'"{hashlib.md5(hashlib.md5(body).digest()).hexdigest()}-1"'


def test_part_number_reads_one_part(s3, bucket):
    """206, the part's bytes, and how many parts there are."""
    bodies = {1: block(FIVE, 1), 2: block(77, 2)}
    upload(s3, bucket, "k", bodies)
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert got["Body"].read() == bodies[2] and got["PartsCount"] == 2
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == FIVE
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", PartNumber=3)
    assert code_of(error) in ("InvalidPartNumber", "416")
    s3.put_object(Bucket=bucket, Key="single", Body=b"abc")
    got = s3.get_object(Bucket=bucket, Key="single", PartNumber=1)
    assert got["Body"].read() == b"abc" and "PartsCount" not in got
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="single", PartNumber=2)
    assert code_of(error) == "InvalidPartNumber"


def test_part_is_replaced_by_uploading_it_again(s3, bucket):
    """The last upload of a number counts."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    first = s3.upload_part(**options, PartNumber=1, Body=b"first")
    second = s3.upload_part(**options, PartNumber=1, Body=b"second!")
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**options, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first["ETag"]}]})
    assert code_of(error) == "InvalidPart"
    s3.complete_multipart_upload(**options, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": second["ETag"]}]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second!"


def test_completion_rules(s3, bucket):
    """Ascending, known, large enough, not empty."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    tags = {number: s3.upload_part(**options, PartNumber=number, Body=b"x" * number)["ETag"] for number in (1, 2)}

    def complete(*parts):
        return s3.complete_multipart_upload(
            **options, MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in parts]}
        )

    for parts, code in (
        (((2, tags[2]), (1, tags[1])), "InvalidPartOrder"),
        (((1, tags[1]), (1, tags[1])), "InvalidPartOrder"),
        (((1, tags[1]), (3, tags[2])), "InvalidPart"),
        (((1, '"' + "0" * 32 + '"'),), "InvalidPart"),
        (((1, tags[1]), (2, tags[2])), "EntityTooSmall"),
        ((), "MalformedXML"),
    ):
        with pytest.raises(ClientError) as error:
            complete(*parts)
        assert code_of(error) == code, parts
    complete((2, tags[2].strip('"')))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"xx"


def test_completion_repeated_is_the_same(s3, bucket):
    """A retry after a lost answer gets the answer."""
    upload_id, parts, done = upload(s3, bucket, "k", {1: b"abc"})
    again = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert again["ETag"] == done["ETag"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=1, Body=b"x")
    assert code_of(error) == "NoSuchUpload"


def test_aborted_upload_is_gone(s3, bucket):
    """NoSuchUpload afterwards, and no object."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    tag = s3.upload_part(**options, PartNumber=1, Body=b"x")["ETag"]
    assert s3.abort_multipart_upload(**options)["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (
        lambda: s3.upload_part(**options, PartNumber=1, Body=b"x"),
        lambda: s3.list_parts(**options),
        lambda: s3.complete_multipart_upload(**options, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]}),
        lambda: s3.abort_multipart_upload(**options),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error) == "NoSuchUpload"
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("number", [0, 10001])
def test_part_numbers_have_limits(s3, bucket, number):
    """1 … 10,000."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=b"x")
    assert code_of(error) == "InvalidArgument"


def test_parts_are_listed_by_pages(s3, bucket):
    """max-parts and the marker walk every part once."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    for number in (1, 2, 5, 7, 10000):
        s3.upload_part(**options, PartNumber=number, Body=b"x" * number)
    seen, marker = [], 0
    while True:
        page = s3.list_parts(**options, MaxParts=2, PartNumberMarker=marker)
        seen += [(part["PartNumber"], part["Size"]) for part in page.get("Parts", [])]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    assert seen == [(number, number) for number in (1, 2, 5, 7, 10000)]


def test_uploads_are_listed_with_prefix_delimiter_and_pages(s3, bucket):
    """By key, then by initiation; common prefixes are folded."""
    made = []
    for key in ("a", "a", "b/1", "b/2", "c"):
        made.append((key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]))
    page = s3.list_multipart_uploads(Bucket=bucket)
    assert [(entry["Key"], entry["UploadId"]) for entry in page["Uploads"]][2:] == made[2:]
    assert {entry["UploadId"] for entry in page["Uploads"]} == {upload_id for _, upload_id in made}
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/"]
    assert [entry["Key"] for entry in page["Uploads"]] == ["a", "a", "c"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/1", "b/2"]
    seen, markers = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2, **markers)
        seen += [entry["UploadId"] for entry in page.get("Uploads", [])]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert sorted(seen) == sorted(upload_id for _, upload_id in made)


def test_part_is_copied_from_an_object(s3, bucket):
    """Whole or by range; the range must lie in the source."""
    source = block(6 << 20, 7)
    s3.put_object(Bucket=bucket, Key="from", Body=source)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    options = {"Bucket": bucket, "Key": "to", "UploadId": upload_id, "CopySource": {"Bucket": bucket, "Key": "from"}}
    first = s3.upload_part_copy(**options, PartNumber=1)["CopyPartResult"]["ETag"]
    second = s3.upload_part_copy(**options, PartNumber=2, CopySourceRange="bytes=100-199")["CopyPartResult"]["ETag"]
    assert second == f'"{hashlib.md5(source[100:200]).hexdigest()}"'
    for text in (f"bytes=0-{len(source)}", "bytes=5-", "bytes=-5", "0-5"):
        with pytest.raises(ClientError) as error:
            s3.upload_part_copy(**options, PartNumber=3, CopySourceRange=text)
        assert code_of(error) in ("InvalidArgument", "InvalidRange")
    del options["CopySource"]
    s3.complete_multipart_upload(
        **options,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]},
    )
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == source + source[100:200]


def test_conditions_hold_at_completion(s3, bucket):
    """If-None-Match on Complete: exists → 412; the upload survives it."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    tag = s3.upload_part(**options, PartNumber=1, Body=b"new")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**options, MultipartUpload=parts, IfNoneMatch="*")
    assert code_of(error) == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    s3.complete_multipart_upload(**options, MultipartUpload=parts, IfMatch=hashlib.md5(b"old").hexdigest())
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_many_parts_need_a_manifest_and_read_the_same(s3, bucket):
    """An object of more parts than a row holds is read across any seam."""
    bodies = {number: block(FIVE, number % 200) for number in range(1, 3)}
    source = bodies[1]
    s3.put_object(Bucket=bucket, Key="src", Body=source)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    options = {"Bucket": bucket, "Key": "big", "UploadId": upload_id}
    parts = []
    count = 130
    tag = None
    for number in range(1, count + 1):
        if number == count:
            tag = s3.upload_part(**options, PartNumber=number, Body=b"tail")["ETag"]
        else:
            size = FIVE
            tag = s3.upload_part_copy(
                **options, PartNumber=number, CopySource=f"{bucket}/src", CopySourceRange=f"bytes=0-{size - 1}"
            )["CopyPartResult"]["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(**options, MultipartUpload={"Parts": parts})
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ContentLength"] == (count - 1) * FIVE + 4
    for at in (0, FIVE - 5, 77 * FIVE - 3, (count - 1) * FIVE - 3):
        got = s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={at}-{at + 6}")["Body"].read()
        want = bytes(
            b"tail"[offset - (count - 1) * FIVE] if offset >= (count - 1) * FIVE else source[offset % FIVE]
            for offset in range(at, min(at + 7, head["ContentLength"]))
        )
        assert got == want, at
    got = s3.get_object(Bucket=bucket, Key="big", PartNumber=count)
    assert got["Body"].read() == b"tail" and got["PartsCount"] == count
    s3.delete_object(Bucket=bucket, Key="big")


def test_attributes_tell_the_parts_uploaded_with_checksums(s3, bucket):
    """PartsCount always, the parts themselves by pages when they have checksums."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    options = {"Bucket": bucket, "Key": "k", "UploadId": upload_id}
    parts = []
    for number, body in ((1, block(FIVE, 1)), (2, b"end")):
        answer = s3.upload_part(**options, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
    done = s3.complete_multipart_upload(**options, MultipartUpload={"Parts": parts})
    assert done["ChecksumSHA256"].endswith("-2") and done["ChecksumType"] == "COMPOSITE"
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"], MaxParts=1)
    assert got["ObjectParts"]["TotalPartsCount"] == 2 and got["ObjectParts"]["IsTruncated"] is True
    assert got["ObjectParts"]["Parts"][0]["ChecksumSHA256"] == parts[0]["ChecksumSHA256"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], PartNumberMarker=1)
    assert [part["PartNumber"] for part in got["ObjectParts"]["Parts"]] == [2]

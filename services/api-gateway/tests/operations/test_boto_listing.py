# SPDX-License-Identifier: Apache-2.0
"""Listings through boto3: order, prefixes, delimiters, paging of both versions, encoding, versions."""

import email.utils
import re

import pytest
from botocore.exceptions import ClientError

KEYS = sorted(
    ["a", "a/", "a/1", "a/2", "a//x", "b", "dir/sub/1", "dir/sub/2", "dir/x", "z%z", "z z", "z+z", "é", "日"],
    key=str.encode,
)


@pytest.fixture
def filled(s3, bucket):
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def keys(page) -> list[str]:
    return [entry["Key"] for entry in page.get("Contents", [])]


def prefixes(page) -> list[str]:
    return [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


def test_order_is_by_utf8_bytes(s3, filled):
    """Both versions."""
    assert keys(s3.list_objects_v2(Bucket=filled)) == KEYS
    assert keys(s3.list_objects(Bucket=filled)) == KEYS


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize("delimiter", ["", "/", "//", "z"])
def test_paging_shows_every_key_and_prefix_once(s3, filled, version, step, delimiter):
    """No entry is lost or repeated at a page's edge, whatever its size."""
    seen: list[str] = []
    options = {"Delimiter": delimiter} if delimiter else {}
    marker: dict[str, str] = {}
    while True:
        if version == 2:
            page = s3.list_objects_v2(Bucket=filled, MaxKeys=step, **options, **marker)
            assert page["KeyCount"] == len(keys(page)) + len(prefixes(page)) <= step
        else:
            page = s3.list_objects(Bucket=filled, MaxKeys=step, **options, **marker)
        seen += sorted(keys(page) + prefixes(page), key=str.encode)
        if not page["IsTruncated"]:
            break
        if version == 2:
            marker = {"ContinuationToken": page["NextContinuationToken"]}
        elif delimiter:
            marker = {"Marker": page["NextMarker"]}
        else:
            assert "NextMarker" not in page
            marker = {"Marker": keys(page)[-1]}
    want: list[str] = []
    for key in KEYS:
        at = key.find(delimiter) if delimiter else -1
        entry = key[: at + len(delimiter)] if at >= 0 else key
        if entry not in want:
            want.append(entry)
    assert seen == want


def test_prefix_and_delimiter_together(s3, filled):
    """The delimiter is sought behind the prefix."""
    page = s3.list_objects_v2(Bucket=filled, Prefix="dir/", Delimiter="/")
    assert keys(page) == ["dir/x"] and prefixes(page) == ["dir/sub/"] and page["Prefix"] == "dir/"
    page = s3.list_objects_v2(Bucket=filled, Prefix="none")
    assert keys(page) == [] and page["KeyCount"] == 0 and not page["IsTruncated"]


def test_start_after_and_marker_exclude_their_key(s3, filled):
    """Strictly after."""
    assert keys(s3.list_objects_v2(Bucket=filled, StartAfter="b")) == KEYS[KEYS.index("b") + 1 :]
    assert keys(s3.list_objects(Bucket=filled, Marker="b")) == KEYS[KEYS.index("b") + 1 :]


@pytest.mark.parametrize("marker", ["dir/", "dir/sub/", "dir/sub/1", "dir/sub/9", "dir/x"])
def test_a_marker_inside_a_common_prefix_is_behind_it(s3, filled, marker):
    """As AWS: the prefix was shown before; start-after shows what follows it, its own prefix too."""
    page = s3.list_objects(Bucket=filled, Marker=marker, Delimiter="/")
    assert prefixes(page) == [] and keys(page) == ["z z", "z%z", "z+z", "é", "日"] and page["Marker"] == marker
    page = s3.list_object_versions(Bucket=filled, KeyMarker=marker, Delimiter="/")
    assert prefixes(page) == [] and page["KeyMarker"] == marker
    page = s3.list_object_versions(Bucket=filled, KeyMarker=marker, VersionIdMarker="null", Delimiter="/")
    assert prefixes(page) == []
    page = s3.list_objects_v2(Bucket=filled, StartAfter=marker, Delimiter="/")
    assert prefixes(page) == (["dir/"] if marker not in ("dir/", "dir/x") else [])
    uploads = [s3.create_multipart_upload(Bucket=filled, Key=key)["UploadId"] for key in ("dir/sub/1", "dir/x")]
    page = s3.list_multipart_uploads(Bucket=filled, KeyMarker=marker, Delimiter="/", UploadIdMarker=uploads[0])
    assert prefixes(page) == [] and page["KeyMarker"] == marker


def test_max_keys_zero_is_empty_and_not_truncated(s3, filled):
    """0 → nothing, and more than 1000 is clamped."""
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert keys(page) == [] and page["IsTruncated"] is False
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000


@pytest.mark.parametrize("query", ["max-keys=-1", "max-keys=x", "list-type=2&continuation-token=", "encoding-type=xml"])
def test_bad_parameters_are_invalid_arguments(s3_raw, filled, query):
    """400, never ignored."""
    status, _, body = s3_raw("GET", f"/{filled}?{query}")
    assert status == 400 and b"<Code>InvalidArgument</Code>" in body


def test_owner_is_shown_when_asked_for(s3, filled):
    """V2 with fetch-owner, V1 always."""
    assert "Owner" not in s3.list_objects_v2(Bucket=filled)["Contents"][0]
    assert s3.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]["Owner"]["ID"]
    assert s3.list_objects(Bucket=filled)["Contents"][0]["Owner"]["ID"]


def test_encoding_type_url_covers_keys_and_prefixes(s3_raw, filled):
    """Percent escapes with a plus as %2B and a space as %20."""
    _, _, body = s3_raw("GET", f"/{filled}?encoding-type=url&prefix=z")
    for text in (b"<Key>z%20z</Key>", b"<Key>z%2Bz</Key>", b"<Key>z%25z</Key>", b"<EncodingType>url</EncodingType>"):
        assert text in body


def texts(body: bytes, name: str) -> list[str]:
    return re.findall(f"<{name}>([^<]*)</{name}>", body.decode())


def test_encoding_type_url_covers_all_that_is_echoed(s3_raw, s3, bucket):
    """Prefix, Delimiter, markers of every listing and common prefixes; never tokens, upload or version ids."""
    for key in ("p +a|b+c", "p +a|d+e", "p +b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    asked = "prefix=p%20%2B&delimiter=%7C&encoding-type=url"
    _, _, body = s3_raw("GET", f"/{bucket}?{asked}&marker=p%20%2B&max-keys=1")
    assert texts(body, "Prefix") == ["p%20%2B", "p%20%2Ba%7C"] and texts(body, "Delimiter") == ["%7C"]
    assert texts(body, "Marker") == ["p%20%2B"] and texts(body, "NextMarker") == ["p%20%2Ba%7C"]
    _, _, body = s3_raw("GET", f"/{bucket}?list-type=2&{asked}&start-after=p%20%2B&max-keys=1")
    assert texts(body, "StartAfter") == ["p%20%2B"]
    (token,) = texts(body, "NextContinuationToken")
    _, _, body = s3_raw("GET", f"/{bucket}?list-type=2&{asked}&continuation-token={token}")
    assert texts(body, "ContinuationToken") == [token] and texts(body, "Key") == ["p%20%2Bb"]
    _, _, body = s3_raw("GET", f"/{bucket}?versions&encoding-type=url&key-marker=p%20%2B&max-keys=1")
    assert texts(body, "KeyMarker") == ["p%20%2B"] and texts(body, "NextKeyMarker") == ["p%20%2Ba%7Cb%2Bc"]
    assert texts(body, "VersionId") == ["null"]
    _, _, body = s3_raw("GET", f"/{bucket}?uploads&{asked}&key-marker=p%20%2B&max-uploads=1")
    assert texts(body, "KeyMarker") == ["p%20%2B"] and texts(body, "NextKeyMarker") == ["p%20%2Ba%7C"]


def test_control_characters_are_references_without_encoding(s3_raw, s3, bucket):
    """Such a key is stored, and listed as AWS writes it; with encoding-type=url it survives any parser."""
    s3.put_object(Bucket=bucket, Key="a\x01b\r", Body=b"")
    assert texts(s3_raw("GET", f"/{bucket}")[2], "Key") == ["a&#1;b&#13;"]
    assert texts(s3_raw("GET", f"/{bucket}?encoding-type=url")[2], "Key") == ["a%01b%0D"]


def test_an_empty_delimiter_is_none(s3_raw, filled):
    """Nothing is folded and nothing echoed."""
    for version in ("", "list-type=2&"):
        _, _, body = s3_raw("GET", f"/{filled}?{version}delimiter=")
        assert b"Delimiter" not in body and len(texts(body, "Key")) == len(KEYS)


def test_dates_are_the_same_instant_everywhere(s3_raw, s3, bucket):
    """Whole seconds: RFC 9110 in headers, ISO with .000Z in documents."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    headers = s3_raw("HEAD", f"/{bucket}/k")[1]
    modified = email.utils.parsedate_to_datetime(headers["last-modified"])
    (listed,) = texts(s3_raw("GET", f"/{bucket}")[2], "LastModified")
    assert listed == modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    copied = s3_raw("PUT", f"/{bucket}/c", headers={"x-amz-copy-source": f"{bucket}/k"})[2]
    headers = s3_raw("HEAD", f"/{bucket}/c")[1]
    modified = email.utils.parsedate_to_datetime(headers["last-modified"])
    assert texts(copied, "LastModified") == [modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")]


def test_versions_of_a_plain_bucket_are_null_and_latest(s3, filled):
    """One stream, every version `null` and latest; pages by key and version."""
    page = s3.list_object_versions(Bucket=filled)
    assert [entry["Key"] for entry in page["Versions"]] == KEYS
    assert all(entry["VersionId"] == "null" and entry["IsLatest"] for entry in page["Versions"])
    seen, markers = [], {}
    while True:
        page = s3.list_object_versions(Bucket=filled, MaxKeys=4, **markers)
        seen += [entry["Key"] for entry in page.get("Versions", [])]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]
    assert seen == KEYS


def test_version_marker_needs_a_key_marker(s3, filled):
    """InvalidArgument alone."""
    with pytest.raises(ClientError) as error:
        s3.list_object_versions(Bucket=filled, VersionIdMarker="null")
    assert error.value.response["Error"]["Code"] == "InvalidArgument"


def test_listing_is_strong(s3, bucket):
    """What was put is listed, what was deleted is not, at once."""
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
        assert f"k{number}" in keys(s3.list_objects_v2(Bucket=bucket))
        if number % 2:
            s3.delete_object(Bucket=bucket, Key=f"k{number}")
            assert f"k{number}" not in keys(s3.list_objects_v2(Bucket=bucket))


def test_only_the_null_version_exists(s3, filled):
    """`null` reads the object; another well-formed id does not exist; an empty one is an argument error."""
    assert s3.get_object(Bucket=filled, Key="a", VersionId="null")["Body"].read() == b"a"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=filled, Key="a", VersionId="0123456789abcdef0123456789abcdef")
    assert error.value.response["Error"]["Code"] == "NoSuchVersion"

# SPDX-License-Identifier: Apache-2.0
"""Metadata in and out, header lines that cannot be split, and headers without an engine (§5 #9, #14, #26 to #28)."""

import email.header

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import ObjectVersion
from drystone_gateway.operations.table import OPERATIONS
from drystone_gateway.s3 import headers
from drystone_gateway.s3.acceptance import FAMILIES, REFUSED, check_acceptable
from drystone_gateway.s3.operation import Operation


def code_of(call, *args, **options):
    with pytest.raises(Refused) as refused:
        call(*args, **options)
    return refused.value.code


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b"])
def test_header_lines_cannot_be_split(value):
    """CR, LF and NUL never reach the wire, each alone suffices."""
    with pytest.raises(ValueError, match="cannot be sent"):
        headers.header_line("x-amz-meta-a", value)
    with pytest.raises(ValueError, match="cannot be sent"):
        headers.header_line("bad\r\nname", "v")
    assert headers.header_line("B", "ü") == b"B: \xfc\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("aws-chunked", None),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("AWS-Chunked, gzip, br", "gzip,br"),
        ("gzip", "gzip"),
        ("gzip, br", "gzip, br"),
        ("", None),
    ],
)
def test_pitfall_09_aws_chunked_is_not_stored(value, expected):
    """The rest of Content-Encoding stays; alone, nothing does."""
    assert headers.system_metadata({"content-encoding": value}).get("content-encoding") == expected


def test_pitfall_26_system_headers_are_stored_and_replayed_verbatim():
    """Expires stays the text it was; the default type is binary/octet-stream; other headers are not stored."""
    sent = {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-cache",
        "content-disposition": 'attachment; filename="a.txt"',
        "content-language": "de",
        "expires": "whenever",
        "x-amz-website-redirect-location": "/other",
    }
    assert headers.system_metadata(sent | {"x-other": "1", "host": "h"}) == sent
    lines = headers.object_lines(version(headers=sent))
    for value in sent.values():
        assert f": {value}\r\n".encode() in lines
    assert b"Expires: whenever\r\n" in lines
    assert b"Content-Type: binary/octet-stream\r\n" in headers.object_lines(version())
    assert (
        code_of(headers.system_metadata, {"x-amz-website-redirect-location": "ftp://x"})
        is ErrorCode.INVALID_REDIRECT_LOCATION
    )
    assert code_of(headers.system_metadata, {"cache-control": "x" * 9000}) is ErrorCode.REQUEST_HEADER_SECTION_TOO_LARGE


def version(**options):
    values = {"key": b"k", "uid": b"", "version_id": "null", "modified_ms": 784111777_999, "etag": "e" * 32}
    return ObjectVersion(**(values | options))


def test_pitfall_23_and_24_dates_and_etags_in_headers():
    """Last-Modified in whole seconds, the ETag quoted."""
    lines = headers.object_lines(version())
    assert b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in lines
    assert b'ETag: "' + b"e" * 32 + b'"\r\n' in lines


def test_pitfall_27_overrides_are_for_authenticated_callers():
    """response-* replace stored headers; anonymous use is InvalidRequest, unsafe values are refused."""
    query = {"response-content-type": "text/html", "response-expires": "0", "versionId": "v"}
    found = headers.response_overrides(query, anonymous=False)
    assert found == {"content-type": "text/html", "expires": "0"}
    lines = headers.object_lines(version(headers={"content-type": "text/plain"}), found)
    assert b"Content-Type: text/html\r\n" in lines
    assert b"text/plain" not in lines
    assert code_of(headers.response_overrides, query, anonymous=True) is ErrorCode.INVALID_REQUEST
    assert headers.response_overrides({"versionId": "v"}, anonymous=True) == {}
    assert headers.response_overrides({"response-content-type": ""}, anonymous=False) == {}
    for bad in ("a\r\nb", "a\nb", "a\0b"):
        refused = code_of(headers.response_overrides, {"response-content-type": bad}, anonymous=False)
        assert refused is ErrorCode.INVALID_ARGUMENT


def test_pitfall_28_user_metadata_in():
    """Names lose their prefix; UTF-8 bytes and RFC 2047 words become text; latin-1 stays what it was."""
    sent = {
        "x-amz-meta-plain": "a, b",
        "x-amz-meta-utf8": "中ü".encode().decode("latin-1"),
        "x-amz-meta-word": "=?UTF-8?B?w7w=?= =?utf-8?q?=C3=BC_x?=",
        "x-amz-meta-latin": "\xfc",
        "x-amz-meta-broken": "=?UTF-8?B?!?=",
        "content-type": "x",
    }
    assert headers.user_metadata(sent) == {
        "plain": "a, b",
        "utf8": "中ü",
        "word": "üü x",
        "latin": "ü",
        "broken": "=?UTF-8?B?!?=",
    }


@settings(max_examples=100)
@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=80))
def test_pitfall_28_user_metadata_survives_the_round_trip(text):
    """What goes out is ASCII that the standard library and we ourselves read back as it was."""
    text = text.strip()
    lines = headers.metadata_lines({"a": text})
    assert lines.isascii()
    assert lines.count(b"\r\n") == 1
    value = lines.decode().partition(": ")[2].rstrip("\r\n")
    if not text.isascii() or "=?" in text:
        assert str(email.header.make_header(email.header.decode_header(value))) == text
        assert all(len(word) <= 75 for word in value.split(" "))
    assert headers.user_metadata({"x-amz-meta-a": value}) == {"a": text}


def test_pitfall_28_what_cannot_be_sent_is_counted():
    """Names and values no header can hold are left out and counted."""
    lines = headers.metadata_lines({"ok": "1", "bad\nname": "1", "value": "a\r\nb"})
    assert lines == b"x-amz-meta-ok: 1\r\nx-amz-missing-meta: 2\r\n"


def test_pitfall_17_user_metadata_is_limited_to_2_kb():
    """2,048 bytes of names and values pass, one more does not; UTF-8 counts by bytes."""
    assert headers.user_metadata({"x-amz-meta-a": "v" * 2047}) == {"a": "v" * 2047}
    assert code_of(headers.user_metadata, {"x-amz-meta-a": "v" * 2048}) is ErrorCode.METADATA_TOO_LARGE
    wide = ("ü" * 1024).encode().decode("latin-1")
    assert code_of(headers.user_metadata, {"x-amz-meta-a": wide}) is ErrorCode.METADATA_TOO_LARGE
    assert code_of(headers.user_metadata, {"x-amz-meta-a": "a\x01"}) is ErrorCode.INVALID_ARGUMENT
    assert code_of(headers.user_metadata, {"x-amz-meta-": "a"}) is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-acl", "private", None),
        ("x-amz-acl", "bucket-owner-full-control", None),
        ("x-amz-acl", "public-read", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-acl", "nonsense", ErrorCode.INVALID_ARGUMENT),
        ("x-amz-storage-class", "STANDARD", None),
        ("x-amz-storage-class", "GLACIER", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-storage-class", "NONSENSE", ErrorCode.INVALID_STORAGE_CLASS),
        ("x-amz-server-side-encryption", "AES256", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-server-side-encryption", "ROT13", ErrorCode.INVALID_ARGUMENT),
        ("x-amz-server-side-encryption-customer-key", "a2V5", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-tagging", "a=b", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-tagging", "", None),
        ("x-amz-object-lock-mode", "GOVERNANCE", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-object-lock-legal-hold", "OFF", None),
        ("x-amz-object-lock-legal-hold", "ON", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-object-lock-event-hold", "ON", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-object-lock-something-new", "1", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-server-side-encryption-something-new", "1", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-bucket-object-lock-enabled", "true", ErrorCode.NOT_IMPLEMENTED),
        ("content-range", "bytes 0-4/10", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-grant-read", "id=1", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-write-offset-bytes", "0", ErrorCode.NOT_IMPLEMENTED),
        ("x-amz-website-redirect-location", "/x", None),
        ("x-amz-meta-acl", "public-read", None),
        ("x-amz-expected-bucket-owner", "1", None),
    ],
)
def test_headers_without_an_engine_are_refused_unless_default(name, value, code):
    """accepted = done: nothing that asks for more than the default is silently ignored."""
    if code is None:
        check_acceptable({name: value, "host": "h"}, Operation.PUT_OBJECT)
    else:
        assert code_of(check_acceptable, {name: value}, Operation.PUT_OBJECT) is code


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_every_listed_header_has_something_it_refuses(name):
    """No entry of the table lets everything pass."""
    assert code_of(check_acceptable, {name: "something else"}, Operation.PUT_OBJECT) in {
        ErrorCode.NOT_IMPLEMENTED,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.INVALID_STORAGE_CLASS,
    }


ACTED_UPON = frozenset(
    """cache-control content-disposition content-encoding content-language content-length content-md5 content-type
    expires if-match if-modified-since if-none-match if-unmodified-since range x-amz-checksum-algorithm
    x-amz-checksum-crc32 x-amz-checksum-crc32c x-amz-checksum-crc64nvme x-amz-checksum-md5 x-amz-checksum-mode
    x-amz-checksum-sha1 x-amz-checksum-sha256 x-amz-checksum-sha512 x-amz-checksum-type x-amz-checksum-xxhash128
    x-amz-checksum-xxhash3 x-amz-checksum-xxhash64 x-amz-copy-source x-amz-copy-source-if-match
    x-amz-copy-source-if-modified-since x-amz-copy-source-if-none-match x-amz-copy-source-if-unmodified-since
    x-amz-copy-source-range x-amz-expected-bucket-owner x-amz-if-match-initiated-time
    x-amz-if-match-last-modified-time x-amz-if-match-size x-amz-max-parts x-amz-metadata-directive
    x-amz-mp-object-size x-amz-object-attributes x-amz-part-number-marker x-amz-sdk-checksum-algorithm
    x-amz-source-expected-bucket-owner x-amz-website-redirect-location""".split()
)
WITHOUT_EFFECT = frozenset(
    {"x-amz-object-annotation-directive", "x-amz-optional-object-attributes", "x-amz-request-payer"}
)
"""No object has annotations or is being restored, and nobody but the owner pays."""


def test_every_header_of_the_model_is_acted_upon_or_refused():
    """What botocore can send to an operation we have is known: a new header of S3 does not slip through unseen."""
    model = botocore.session.get_session().get_service_model("s3")
    unknown = set()
    for name in {operation.value for operation in OPERATIONS} & set(model.operation_names):
        shape = model.operation_model(name).input_shape
        for member in shape.members.values() if shape else ():
            if member.serialization.get("location") == "header":
                header = member.serialization["name"].lower()
                if header not in REFUSED and not header.startswith(FAMILIES):
                    unknown.add(header)
    assert unknown == ACTED_UPON | WITHOUT_EFFECT


@pytest.mark.parametrize("name", ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"])
@pytest.mark.parametrize(
    "operation",
    [
        Operation.ABORT_MULTIPART_UPLOAD, Operation.CREATE_BUCKET, Operation.CREATE_MULTIPART_UPLOAD,
        Operation.DELETE_BUCKET, Operation.DELETE_OBJECTS, Operation.UPLOAD_PART, Operation.UPLOAD_PART_COPY,
    ],
)  # fmt: skip
def test_conditions_are_refused_where_they_would_be_ignored(name, operation):
    """Who makes a change conditional does not want it made unconditionally."""
    assert code_of(check_acceptable, {name: "*"}, operation) is ErrorCode.NOT_IMPLEMENTED


def test_encoded_words_cost_no_more_than_their_length():
    """Beginnings of encoded words without an end were once tried against all that follows: nine seconds of CPU."""
    assert not headers._ENCODED_WORD.search("=?utf-8?q?a?b?=")
    for text in ("=?utf-8?q?x" * 5000, "a" * 60_000):
        assert code_of(headers.user_metadata, {"x-amz-meta-a": text}) is ErrorCode.METADATA_TOO_LARGE
    text = "=?utf-8?q?x" * 100
    assert headers.user_metadata({"x-amz-meta-a": text}) == {"a": text}
    sent = "=?UTF-8?Q?=C3=BC_a?= =?utf-8?b?w7w=?="
    assert headers.user_metadata({"x-amz-meta-a": sent}) == {"a": "ü aü"}

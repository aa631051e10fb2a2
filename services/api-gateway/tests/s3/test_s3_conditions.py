# SPDX-License-Identifier: Apache-2.0
"""Conditions, ranges, copy sources, tokens and listing parameters, a table per pitfall (s3-surface §5 #31 to #66)."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_core.mutations import NO_CONDITIONS, Preconditions
from drystone_gateway.s3 import conditions, listing, ranges
from drystone_gateway.s3.amz_time import amz_date, http_date, iso_date, parse_amz_date, parse_http_date, parse_iso_date
from drystone_gateway.s3.copy_source import CopySource, parse_copy_source, parse_version_id
from drystone_gateway.s3.tokens import TokenKind, make_token, read_token

MODIFIED = 1_795_443_521
BEFORE, SAME, AFTER = http_date(MODIFIED - 1), http_date(MODIFIED), http_date(MODIFIED + 1)


def code_of(call, *args, **options):
    with pytest.raises(Refused) as refused:
        call(*args, **options)
    return refused.value.code


READS = [
    ({}, None, None),
    ({"if-match": '"e"'}, None, None),
    ({"if-match": "e"}, None, None),
    ({"if-match": "*"}, None, None),
    ({"if-match": '"x", "e"'}, None, None),
    ({"if-match": "x"}, 412, 412),
    ({"if-match": ""}, 412, 412),
    ({"if-none-match": "x"}, None, None),
    ({"if-none-match": '"e"'}, 304, 412),
    ({"if-none-match": 'W/"e"'}, 304, 412),
    ({"if-none-match": "*"}, 304, 412),
    ({"if-unmodified-since": BEFORE}, 412, 412),
    ({"if-unmodified-since": SAME}, None, None),
    ({"if-modified-since": BEFORE}, None, None),
    ({"if-modified-since": SAME}, 304, 412),
    ({"if-modified-since": AFTER}, 304, 412),
    ({"if-modified-since": "yesterday"}, None, None),
    ({"if-match": "e", "if-unmodified-since": BEFORE}, None, None),
    ({"if-none-match": "e", "if-modified-since": BEFORE}, 304, 412),
    ({"if-none-match": "x", "if-modified-since": AFTER}, None, None),
    ({"if-match": "e", "if-none-match": "e"}, 304, 412),
    ({"if-match": "x", "if-none-match": "e"}, 412, 412),
]
CODES = {304: ErrorCode.NOT_MODIFIED, 412: ErrorCode.PRECONDITION_FAILED}


@pytest.mark.parametrize(("headers", "read", "copy"), READS)
def test_pitfall_31_and_32_read_and_copy_conditions(headers, read, copy):
    """ETags beat dates, 304 on reads is 412 on copies, sub-second changes do not count."""
    sources = {f"x-amz-copy-source-{name}": value for name, value in headers.items()}
    for given_headers, check, status in (
        (headers, conditions.check_read, read),
        (sources, conditions.check_copy_source, copy),
    ):
        version = {"etag": "e", "modified_ms": MODIFIED * 1000 + 999, "now_s": MODIFIED + 60}
        if status is None:
            check(given_headers, **version)
        else:
            assert code_of(check, given_headers, **version) is CODES[status]
    assert conditions.has_read_conditions(headers) is bool(headers)


def test_if_modified_since_a_time_to_come_is_ignored():
    """As RFC 9110 allows and AWS does: a date ahead of the clock says nothing, for reads and for copies."""
    version = {"etag": "e", "modified_ms": MODIFIED * 1000, "now_s": MODIFIED}
    for prefix, check in (("", conditions.check_read), ("x-amz-copy-source-", conditions.check_copy_source)):
        check({f"{prefix}if-modified-since": AFTER}, **version)
        failed = code_of(check, {f"{prefix}if-modified-since": SAME}, **version)
        assert failed in (ErrorCode.NOT_MODIFIED, ErrorCode.PRECONDITION_FAILED)
        failed = code_of(check, {f"{prefix}if-none-match": "e", f"{prefix}if-modified-since": AFTER}, **version)
        assert failed in (ErrorCode.NOT_MODIFIED, ErrorCode.PRECONDITION_FAILED)
        assert code_of(check, {f"{prefix}if-unmodified-since": BEFORE}, **version) is ErrorCode.PRECONDITION_FAILED


def test_a_failed_copy_condition_is_named_as_it_was_sent():
    """The document's <Condition> tells the source's conditions from the target's."""
    for name in ("If-Match", "If-Unmodified-Since", "If-None-Match", "If-Modified-Since"):
        value = {"If-Match": "x", "If-None-Match": "e", "If-Unmodified-Since": BEFORE, "If-Modified-Since": SAME}[name]
        headers = {f"x-amz-copy-source-{name.lower()}": value}
        with pytest.raises(Refused) as refused:
            conditions.check_copy_source(headers, etag="e", modified_ms=MODIFIED * 1000, now_s=MODIFIED)
        assert refused.value.details["Condition"] == f"x-amz-copy-source-{name}"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, NO_CONDITIONS),
        ({"if-none-match": "*"}, Preconditions(if_none_match=True)),
        ({"if-match": '"e"'}, Preconditions(if_match="e")),
        ({"if-match": "*"}, Preconditions(if_match="*")),
        ({"if-none-match": '"e"'}, ErrorCode.NOT_IMPLEMENTED),
        ({"if-none-match": ""}, ErrorCode.NOT_IMPLEMENTED),
        ({"if-none-match": "*", "if-match": "e"}, ErrorCode.NOT_IMPLEMENTED),
        ({"if-modified-since": SAME}, ErrorCode.NOT_IMPLEMENTED),
        ({"if-unmodified-since": SAME}, ErrorCode.NOT_IMPLEMENTED),
        ({"if-match": ""}, ErrorCode.INVALID_ARGUMENT),
        ({"if-match": '"a","b"'}, ErrorCode.INVALID_ARGUMENT),
    ],
)
def test_pitfall_33_write_conditions(headers, expected):
    """Only `If-None-Match: *` or one If-Match; never both; dates are not offered."""
    if isinstance(expected, Preconditions):
        assert conditions.write_conditions(headers) == expected
    else:
        assert code_of(conditions.write_conditions, headers) is expected


def test_pitfall_34_delete_conditions():
    """ETag, size and time of the current version; HTTP and ISO dates; no If-None-Match."""
    headers = {"if-match": '"e"', "x-amz-if-match-size": "7", "x-amz-if-match-last-modified-time": SAME}
    expected = Preconditions(if_match="e", if_match_size=7, if_match_modified_ms=MODIFIED * 1000)
    assert conditions.delete_conditions(headers) == expected
    headers["x-amz-if-match-last-modified-time"] = iso_date(MODIFIED)
    assert conditions.delete_conditions(headers) == expected
    assert conditions.delete_conditions({}) is NO_CONDITIONS
    for name, value in (("if-none-match", "*"), ("if-modified-since", SAME), ("if-unmodified-since", SAME)):
        assert code_of(conditions.delete_conditions, {name: value}) is ErrorCode.NOT_IMPLEMENTED
    assert code_of(conditions.delete_conditions, {"x-amz-if-match-size": "-1"}) is ErrorCode.INVALID_ARGUMENT
    assert code_of(conditions.delete_conditions, {"x-amz-if-match-last-modified-time": "x"}) is (
        ErrorCode.INVALID_ARGUMENT
    )


@given(st.integers(0, 4_000_000_000))
def test_dates_survive_their_texts(seconds):
    """HTTP, ISO and SigV4 dates are read back as written; invalid days are not dates."""
    assert parse_http_date(http_date(seconds)) == seconds
    assert parse_iso_date(iso_date(seconds)) == seconds
    assert parse_amz_date(amz_date(seconds)) == seconds


def test_dates_of_all_three_http_forms_and_no_others():
    """RFC 9110's example in its three spellings; impossible dates are refused."""
    for text in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_http_date(text) == 784111777
    for text in ("", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT"):
        assert parse_http_date(text) is None
    assert parse_amz_date("20261301T000000Z") is None
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=2-5", 10, (2, 4)),
        ("bytes=2-", 10, (2, 8)),
        ("bytes=2-99", 10, (2, 8)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-99", 10, (0, 10)),
        ("Bytes=1-1", 10, (1, 1)),
        ("bytes=0-99999999999999999", 10, (0, 10)),
        ("bytes=2-18446744073709551615", 10, (2, 8)),
        ("bytes=-18446744073709551616", 10, (0, 10)),
        ("bytes=18446744073709551616-", 10, ErrorCode.INVALID_RANGE),
        ("bytes=10-", 10, ErrorCode.INVALID_RANGE),
        ("bytes=-0", 10, ErrorCode.INVALID_RANGE),
        ("bytes=0-0", 0, ErrorCode.INVALID_RANGE),
        ("bytes=-1", 0, ErrorCode.INVALID_RANGE),
        ("bytes=0-", 0, ErrorCode.INVALID_RANGE),
        ("bytes=5-2", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=", 10, None),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
        ("items=0-1", 10, None),
        ("bytes=٣-", 10, None),
    ],
)
def test_pitfall_35_ranges(text, size, expected):
    """Clamping, suffixes, unsatisfiable ranges, and malformed or several ranges that mean the whole."""
    if isinstance(expected, ErrorCode):
        assert code_of(ranges.parse_range, text, size) is expected
    else:
        assert ranges.parse_range(text, size) == expected


@pytest.mark.parametrize(
    ("text", "applies"),
    [
        (None, True), ('"e"', True), ("e", True), ('"x"', False), ('W/"e"', False), ("*", False), ("", False),
        (SAME, True), (BEFORE, False), (AFTER, False),
    ],
)  # fmt: skip
def test_if_range_lets_a_range_through_for_the_same_version_only(text, applies):
    """A strong ETag or the very date; otherwise who resumes a download gets the new version whole, not its tail."""
    headers = {} if text is None else {"if-range": text}
    assert conditions.range_applies(headers, etag="e", modified_ms=MODIFIED * 1000 + 5) is applies


@given(st.integers(0, 60), st.integers(0, 60), st.binary(min_size=1, max_size=50))
def test_a_range_is_a_slice(first, last, data):
    """parse_range agrees with Python's slices, and Content-Range says what was cut."""
    if first >= len(data) or last < first:
        return
    found = ranges.parse_range(f"bytes={first}-{last}", len(data))
    assert data[found.start : found.start + found.length] == data[first : last + 1]
    assert found.content_range(len(data)) == f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"


@pytest.mark.parametrize("text", ["bytes=0-10", "bytes=5-", "bytes=-5", "0-5", "bytes=5-2", "bytes=0-1,3-4", ""])
def test_pitfall_44_copied_ranges_lie_inside_the_source(text):
    """Anything but first-last inside the source is InvalidArgument, not 416."""
    assert code_of(ranges.parse_copy_range, text, 10) is ErrorCode.INVALID_ARGUMENT
    assert ranges.parse_copy_range("bytes=0-9", 10) == (0, 10)


@pytest.mark.parametrize("text", ["0", "10001", "", "-1", "1.0", "x", "٣", "9" * 30])
def test_pitfall_46_part_numbers(text):
    """1 … 10,000."""
    assert code_of(ranges.parse_part_number, text) is ErrorCode.INVALID_ARGUMENT
    assert (ranges.parse_part_number("1"), ranges.parse_part_number("10000")) == (1, 10000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bucket/key", ("bucket", b"key", None)),
        ("/bucket/key", ("bucket", b"key", None)),
        ("bucket/a%20b%2Bc+d", ("bucket", b"a b+c+d", None)),
        ("bucket%2Fkey", ("bucket", b"key", None)),
        ("bucket/a%3FversionId=x", ("bucket", b"a?versionId=x", None)),
        ("bucket/a?versionId=v1", ("bucket", b"a", "v1")),
        ("bucket/a?versionId=null", ("bucket", b"a", "null")),
        ("bucket/a%3Fb?versionId=v1", ("bucket", b"a?b", "v1")),
        ("bucket//../a", ("bucket", b"/../a", None)),
        ("bucket/%E4%B8%AD", ("bucket", "中".encode(), None)),
        ("bucket/" + "中".encode().decode("latin-1"), ("bucket", "中".encode(), None)),
        ("bucket/%2525", ("bucket", b"%25", None)),
        ("", ErrorCode.INVALID_ARGUMENT),
        ("/", ErrorCode.INVALID_ARGUMENT),
        ("bucket", ErrorCode.INVALID_ARGUMENT),
        ("bucket/", ErrorCode.INVALID_ARGUMENT),
        ("bucket/a?versionId=", ErrorCode.INVALID_ARGUMENT),
        ("bucket/a?versionId=a%20b", ErrorCode.INVALID_ARGUMENT),
        ("bucket/a?acl", ErrorCode.INVALID_ARGUMENT),
        ("bucket/%zz", ErrorCode.INVALID_ARGUMENT),
        ("bucket/%ff", ErrorCode.INVALID_ARGUMENT),
        ("../x/key", ErrorCode.INVALID_BUCKET_NAME),
        ("b\x00/key", ErrorCode.INVALID_ARGUMENT),
        ("bucket/" + "k" * 1025, ErrorCode.KEY_TOO_LONG),
        ("arn:aws:s3:us-west-2:123456789012:accesspoint/a/object/k", ErrorCode.NOT_IMPLEMENTED),
    ],
)
def test_pitfall_40_copy_sources(text, expected):
    """One leading slash, the literal ?versionId= split first, one decoding; nothing else."""
    if isinstance(expected, ErrorCode):
        assert code_of(parse_copy_source, text) is expected
    else:
        assert parse_copy_source(text) == CopySource(*expected)


@given(st.binary(min_size=1, max_size=60), st.sampled_from([None, "v1"]))
def test_any_key_survives_a_copy_source(key, version):
    """Percent-encoded keys come back as they were, when they are UTF-8."""
    text = "bucket/" + quote(key) + (f"?versionId={version}" if version else "")
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        assert code_of(parse_copy_source, text) is ErrorCode.INVALID_ARGUMENT
    else:
        assert parse_copy_source(text) == ("bucket", key, version)


@pytest.mark.parametrize("text", ["", "a b", "ü", "a/b", "x" * 1025, "a\n"])
def test_pitfall_55_version_ids(text):
    """Empty and malformed ids are InvalidArgument; `null` is an id."""
    assert code_of(parse_version_id, text) is ErrorCode.INVALID_ARGUMENT
    assert parse_version_id("null") == "null"


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=3), st.data())
def test_pitfall_62_tokens_come_back_or_are_refused(fields, data):
    """A token gives back its fields; one changed character, another kind or count is InvalidArgument."""
    token = make_token(TokenKind.OBJECTS, *fields)
    assert read_token(TokenKind.OBJECTS, token, count=len(fields)) == tuple(fields)
    assert code_of(read_token, TokenKind.BUCKETS, token, count=len(fields)) is ErrorCode.INVALID_ARGUMENT
    assert code_of(read_token, TokenKind.OBJECTS, token, count=len(fields) + 1) is ErrorCode.INVALID_ARGUMENT
    at = data.draw(st.integers(0, len(token) - 2))
    changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    assert code_of(read_token, TokenKind.OBJECTS, changed, count=len(fields)) is ErrorCode.INVALID_ARGUMENT


@given(st.text(max_size=60))
def test_foreign_tokens_are_refused(text):
    """No text of a client's own making is a token, the empty one included."""
    assert code_of(read_token, TokenKind.OBJECTS, text) is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1", 1), ("1000", 1000), ("5000", 1000), ("", 1000), (None, 1000), ("2147483647", 1000), ("-1", None),
     ("x", None), ("1.5", None), ("2147483648", None), ("٣", None)],
)  # fmt: skip
def test_pitfall_60_max_keys(text, expected):
    """0 is empty, more than 1,000 is clamped, anything else is InvalidArgument."""
    query = {} if text is None else {"max-keys": text}
    if expected is None:
        assert code_of(listing.list_objects_v1, query) is ErrorCode.INVALID_ARGUMENT
    else:
        assert listing.list_objects_v1(query).limit == expected


def test_pitfall_62_the_token_beats_start_after():
    """A token says where to go on; an empty or foreign one is refused; start-after is echoed."""
    token = listing.next_objects_token(b"m")
    query = listing.list_objects_v2({"continuation-token": token, "start-after": "a"})
    assert (query.after, query.start_after, query.token) == (b"m", b"a", token)
    assert listing.list_objects_v2({"start-after": "a"}).after == b"a"
    assert code_of(listing.list_objects_v2, {"continuation-token": ""}) is ErrorCode.INVALID_ARGUMENT
    assert not listing.list_objects_v2({}).fetch_owner


def test_pitfall_63_encoding_types_are_url_or_refused():
    """Other values are InvalidArgument."""
    assert listing.list_objects_v1({"encoding-type": "url"}).encode_url
    assert not listing.list_objects_v1({}).encode_url
    assert code_of(listing.list_objects_v1, {"encoding-type": "base64"}) is ErrorCode.INVALID_ARGUMENT


def test_pitfall_65_delimiters_are_bytes_and_empty_is_absent():
    """Several characters, `%` and blanks are delimiters; the empty one is none."""
    assert listing.list_objects_v1({"delimiter": "%-ü"}).delimiter == "%-ü".encode()
    assert listing.list_objects_v1({"delimiter": ""}).delimiter == b""


def test_pitfall_56_and_66_markers():
    """A version marker needs a key marker; an upload marker without one is ignored."""
    assert code_of(listing.list_versions, {"version-id-marker": "v"}) is ErrorCode.INVALID_ARGUMENT
    assert code_of(listing.list_versions, {"version-id-marker": "v", "key-marker": ""}) is ErrorCode.INVALID_ARGUMENT
    assert listing.list_versions({"version-id-marker": "v", "key-marker": "k"}).version_marker == "v"
    assert listing.list_uploads({"upload-id-marker": "u"}).upload_marker == ""
    ours = "0" * 32
    assert listing.list_uploads({"upload-id-marker": ours, "key-marker": "k"}).upload_marker == ours
    assert code_of(listing.list_uploads, {"upload-id-marker": "u", "key-marker": "k"}) is ErrorCode.INVALID_ARGUMENT


def test_pitfall_67_bucket_pages():
    """max-buckets is 1 … 10,000; the token continues after a name."""
    query = listing.list_buckets(
        {"max-buckets": "5", "continuation-token": listing.next_buckets_token("b"), "prefix": "p"}
    )
    assert (query.limit, query.after, query.prefix, query.paged) == (5, "b", "p", True)
    assert not listing.list_buckets({}).paged
    for text in ("0", "10001", "x"):
        assert code_of(listing.list_buckets, {"max-buckets": text}) is ErrorCode.INVALID_ARGUMENT

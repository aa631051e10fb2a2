# SPDX-License-Identifier: Apache-2.0
"""Conditions: of reads, of copy sources and of writes (s3-surface §5 #31 to #34).

Dates compare at second granularity; ETags with or without quotes, `W/` ignored, several separated by commas.
Evaluate only after authorisation: conditions must not tell an unauthorised caller whether a key exists.
"""

from collections.abc import Iterable, Mapping

from drystone_core.errors import ErrorCode, Refused
from drystone_core.mutations import NO_CONDITIONS, Preconditions
from drystone_gateway.s3.amz_time import parse_http_date, parse_iso_date

_READ = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_DATES = ("if-modified-since", "if-unmodified-since")


def plain_etag(text: str) -> str:
    """An ETag without blanks, weakness mark and quotes."""
    text = text.strip()
    if text.startswith("W/"):
        text = text[2:]
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def has_read_conditions(headers: Mapping[str, str]) -> bool:
    """Does a GET or HEAD carry any condition? (The usual answer is no, and cheap.)"""
    return not _READ_SET.isdisjoint(headers)


_READ_SET = frozenset(_READ)


def check_read(headers: Mapping[str, str], *, etag: str, modified_ms: int, now_s: int) -> None:
    """Raises Refused NOT_MODIFIED (304, no body, keep ETag and Last-Modified) or PRECONDITION_FAILED (412).

    `now_s`: Unix seconds. An If-Modified-Since beyond it is ignored, as AWS does.
    """
    if _READ_SET.isdisjoint(headers):
        return
    _check(headers, "", etag, modified_ms // 1000, now_s, unchanged=ErrorCode.NOT_MODIFIED)


def check_copy_source(headers: Mapping[str, str], *, etag: str, modified_ms: int, now_s: int) -> None:
    """The four x-amz-copy-source-if-* conditions: every failure is 412 (#32)."""
    prefix = "x-amz-copy-source-"
    _check(headers, prefix, etag, modified_ms // 1000, now_s, unchanged=ErrorCode.PRECONDITION_FAILED)


def _check(
    headers: Mapping[str, str], prefix: str, etag: str, modified: int, now: int, *, unchanged: ErrorCode
) -> None:
    match = headers.get(prefix + "if-match")
    if match is not None:
        if not _matches(match, etag):
            raise Refused(ErrorCode.PRECONDITION_FAILED, Condition=prefix + "If-Match")
    else:
        since = _date(headers, prefix + "if-unmodified-since")
        if since is not None and modified > since:
            raise Refused(ErrorCode.PRECONDITION_FAILED, Condition=prefix + "If-Unmodified-Since")
    none_match = headers.get(prefix + "if-none-match")
    if none_match is not None:
        if _matches(none_match, etag):
            raise Refused(unchanged, Condition=prefix + "If-None-Match")
        return
    since = _date(headers, prefix + "if-modified-since")
    if since is not None and modified <= since <= now:
        raise Refused(unchanged, Condition=prefix + "If-Modified-Since")


def range_applies(headers: Mapping[str, str], *, etag: str, modified_ms: int) -> bool:
    """If-Range: is what the client has a part of still this version? If not, Range is ignored (RFC 9110 §13.1.5)."""
    text = headers.get("if-range")
    if text is None:
        return True
    seconds = parse_http_date(text)
    if seconds is not None:
        return seconds == modified_ms // 1000
    return not text.startswith("W/") and plain_etag(text) == etag


def _matches(text: str, etag: str) -> bool:
    return any(candidate == "*" or candidate == etag for candidate in map(plain_etag, text.split(",")))


def _date(headers: Mapping[str, str], name: str) -> int | None:
    """An HTTP (or ISO) date; one that cannot be read is ignored, as RFC 9110 §13.1.3 says."""
    text = headers.get(name)
    if text is None:
        return None
    seconds = parse_http_date(text)
    return seconds if seconds is not None else parse_iso_date(text)


def write_conditions(headers: Mapping[str, str]) -> Preconditions:
    """Of PutObject, CopyObject and CompleteMultipartUpload (#33). NotImplemented for what S3 does not offer."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    _refuse(headers, _DATES)
    if match is None and none_match is None:
        return NO_CONDITIONS
    if match is not None and none_match is not None:
        raise _not_offered("if-match, if-none-match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise _not_offered("if-none-match")
        return Preconditions(if_none_match=True)
    return Preconditions(if_match=_one_etag(match or "", "If-Match"))


def delete_conditions(headers: Mapping[str, str]) -> Preconditions:
    """Of DeleteObject, on the current version (#34): If-Match, x-amz-if-match-size, …-last-modified-time."""
    match = headers.get("if-match")
    size = headers.get("x-amz-if-match-size")
    modified = headers.get("x-amz-if-match-last-modified-time")
    _refuse(headers, ("if-none-match", *_DATES))
    if match is None and size is None and modified is None:
        return NO_CONDITIONS
    return Preconditions(
        if_match="" if match is None else _one_etag(match, "If-Match"),
        if_match_size=None if size is None else parse_match_size(size),
        if_match_modified_ms=None if modified is None else parse_match_modified(modified),
    )


def parse_match_size(text: str) -> int:
    """A size condition; InvalidArgument when it is no number."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName="x-amz-if-match-size", ArgumentValue=text[:64])
    return int(text)


def parse_match_modified(text: str, name: str = "x-amz-if-match-last-modified-time") -> int:
    """A time condition (HTTP or ISO date) in milliseconds; InvalidArgument when it is no date."""
    seconds = parse_http_date(text)
    if seconds is None:
        seconds = parse_iso_date(text)
    if seconds is None:
        raise Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName=name, ArgumentValue=text[:64])
    return seconds * 1000


def refuse_conditions(headers: Mapping[str, str]) -> None:
    """For what changes something and takes none of them: NotImplemented, never ignored."""
    _refuse(headers, _READ)


def _refuse(headers: Mapping[str, str], names: Iterable[str]) -> None:
    for name in names:
        if name in headers:
            raise _not_offered(name)


def _one_etag(text: str, name: str) -> str:
    etag = plain_etag(text)
    if not etag or "," in etag:
        raise Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName=name, ArgumentValue=text[:128])
    return etag


def _not_offered(name: str) -> Refused:
    return Refused(
        ErrorCode.NOT_IMPLEMENTED,
        "A header you provided implies functionality that is not implemented",
        Header=name,
    )

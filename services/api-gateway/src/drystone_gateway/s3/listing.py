# SPDX-License-Identifier: Apache-2.0
"""Parameters of the listings (s3-surface §5 #59 to #67), ready to be passed to the metadata service."""

from collections.abc import Mapping
from dataclasses import dataclass

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.row_keys import parse_upload
from drystone_gateway.s3.copy_source import parse_version_id
from drystone_gateway.s3.tokens import TokenKind, make_token, read_token

PAGE_LIMIT = 1000
BUCKET_PAGE_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListObjectsQuery:
    """ListObjects and ListObjectsV2. `after` is where to go on: keys (or a common prefix) greater than it."""

    prefix: bytes
    delimiter: bytes
    after: bytes
    limit: int
    """max-keys, 0 … 1000; 0 = answer an empty page that is not truncated."""
    encode_url: bool
    marker: bytes = b""
    """V1, to echo."""
    start_after: bytes = b""
    """V2, to echo."""
    token: str = ""
    """V2 continuation-token, to echo."""
    fetch_owner: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersionsQuery:
    prefix: bytes
    delimiter: bytes
    key_marker: bytes
    version_marker: str
    limit: int
    encode_url: bool

    @property
    def after(self) -> tuple[bytes, str]:
        """Key and version after which to go on."""
        common = _common(self.key_marker, self.prefix, self.delimiter)
        return (self.key_marker, self.version_marker) if common is None else (common, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUploadsQuery:
    prefix: bytes
    delimiter: bytes
    key_marker: bytes
    upload_marker: str
    """Ignored without a key marker, as AWS does."""
    limit: int
    encode_url: bool

    @property
    def after(self) -> tuple[bytes, str]:
        """Key and upload after which to go on."""
        common = _common(self.key_marker, self.prefix, self.delimiter)
        return (self.key_marker, self.upload_marker) if common is None else (common, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartsQuery:
    after: int
    limit: int
    encode_url: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBucketsQuery:
    prefix: str
    after: str
    limit: int
    paged: bool
    """The client asked for pages (max-buckets or a token)."""


def list_objects_v1(query: Mapping[str, str]) -> ListObjectsQuery:
    """Parameters of ListObjects."""
    marker, prefix, delimiter = (_bytes(query, name) for name in ("marker", "prefix", "delimiter"))
    return ListObjectsQuery(
        prefix=prefix,
        delimiter=delimiter,
        after=_common(marker, prefix, delimiter) or marker,
        marker=marker,
        limit=parse_limit(query, "max-keys"),
        encode_url=parse_encoding(query),
    )


def list_objects_v2(query: Mapping[str, str]) -> ListObjectsQuery:
    """Parameters of ListObjectsV2; the token beats start-after, an empty one is InvalidArgument (#62)."""
    start_after = _bytes(query, "start-after")
    token = query.get("continuation-token")
    after = start_after
    if token is not None:
        (after,) = read_token(TokenKind.OBJECTS, token)
    return ListObjectsQuery(
        prefix=_bytes(query, "prefix"),
        delimiter=_bytes(query, "delimiter"),
        after=after,
        start_after=start_after,
        token=token or "",
        limit=parse_limit(query, "max-keys"),
        encode_url=parse_encoding(query),
        fetch_owner=query.get("fetch-owner", "").lower() == "true",
    )


def next_objects_token(next_after: bytes) -> str:
    """NextContinuationToken for `ObjectPage.next_after`."""
    return make_token(TokenKind.OBJECTS, next_after)


def list_versions(query: Mapping[str, str]) -> ListVersionsQuery:
    """Parameters of ListObjectVersions; a version-id-marker needs a key-marker (#56)."""
    version_marker = query.get("version-id-marker", "")
    if "version-id-marker" in query and not query.get("key-marker"):
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
            ArgumentValue=version_marker[:128],
        )
    return ListVersionsQuery(
        prefix=_bytes(query, "prefix"),
        delimiter=_bytes(query, "delimiter"),
        key_marker=_bytes(query, "key-marker"),
        version_marker=parse_version_id(version_marker) if version_marker else "",
        limit=parse_limit(query, "max-keys"),
        encode_url=parse_encoding(query),
    )


def list_uploads(query: Mapping[str, str]) -> ListUploadsQuery:
    """Parameters of ListMultipartUploads."""
    key_marker, upload_marker = _bytes(query, "key-marker"), query.get("upload-id-marker", "")
    if key_marker and upload_marker and parse_upload(upload_marker) is None:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "Invalid uploadId marker",
            ArgumentName="upload-id-marker",
            ArgumentValue=upload_marker[:128],
        )
    return ListUploadsQuery(
        prefix=_bytes(query, "prefix"),
        delimiter=_bytes(query, "delimiter"),
        key_marker=key_marker,
        upload_marker=upload_marker if key_marker else "",
        limit=parse_limit(query, "max-uploads"),
        encode_url=parse_encoding(query),
    )


def list_parts(query: Mapping[str, str]) -> ListPartsQuery:
    """Parameters of ListParts."""
    return ListPartsQuery(
        after=_number(query.get("part-number-marker") or "0", "part-number-marker"),
        limit=parse_limit(query, "max-parts"),
        encode_url=parse_encoding(query),
    )


def list_buckets(query: Mapping[str, str]) -> ListBucketsQuery:
    """Parameters of ListBuckets (#67)."""
    token = query.get("continuation-token")
    after = ""
    if token is not None:
        (raw,) = read_token(TokenKind.BUCKETS, token)
        after = raw.decode("utf-8", "replace")
    limit = BUCKET_PAGE_LIMIT
    if "max-buckets" in query:
        limit = _number(query["max-buckets"], "max-buckets")
        if not 1 <= limit <= BUCKET_PAGE_LIMIT:
            raise _not_integer("max-buckets", query["max-buckets"])
    return ListBucketsQuery(
        prefix=query.get("prefix", ""), after=after, limit=limit, paged=token is not None or "max-buckets" in query
    )


def next_buckets_token(last_name: str) -> str:
    """ContinuationToken after the bucket `last_name`."""
    return make_token(TokenKind.BUCKETS, last_name.encode())


def parse_limit(query: Mapping[str, str], name: str) -> int:
    """0 … 1000; more is clamped; no number or a negative one → InvalidArgument (#60)."""
    text = query.get(name)
    if text is None or text == "":
        return PAGE_LIMIT
    return min(_number(text, name), PAGE_LIMIT)


def parse_encoding(query: Mapping[str, str]) -> bool:
    """Is `encoding-type=url` asked for? Other values → InvalidArgument (#63)."""
    text = query.get("encoding-type")
    if not text:
        return False
    if text.lower() != "url":
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=text[:128],
        )
    return True


def _common(marker: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix a marker lies in, which AWS then does not show again; None when there is none.

    (start-after of V2 is different: what follows it is shown, the prefix it lies in too.)
    """
    if not delimiter or not marker.startswith(prefix):
        return None
    at = marker.find(delimiter, len(prefix))
    return None if at < 0 else marker[: at + len(delimiter)]


def _bytes(query: Mapping[str, str], name: str) -> bytes:
    return query.get(name, "").encode("utf-8")


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > 2**31 - 1:
        raise _not_integer(name, text)
    return int(text)


def _not_integer(name: str, text: str) -> Refused:
    return Refused(
        ErrorCode.INVALID_ARGUMENT,
        f"Provided {name} not an integer or within integer range",
        ArgumentName=name,
        ArgumentValue=text[:128],
    )

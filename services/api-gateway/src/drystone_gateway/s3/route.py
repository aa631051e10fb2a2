# SPDX-License-Identifier: Apache-2.0
"""Which operation a request asks for: path, host and query against tables. Nothing is reached by falling through.

Invariants
  O1  A sub-resource (a query name of `BUCKET_SUB` or `OBJECT_SUB`) decides the operation; two of them are refused, and
      one that has no operation for the method is MethodNotAllowed. So `PUT /b?publicAccessBlock` makes no bucket.
  O2  A query name that is in no table is refused on every method that changes something, and on reads when it has no
      value (it could be a sub-resource we do not know); `?v=123` on a GET is a cache buster and ignored, as AWS does.
  O3  Keys are decoded exactly once, `+` is literal, `//`, `.` and `..` are ordinary (s3-surface §5 #1, #2, #37).
  O4  A known query name that comes twice is refused, and versionId where no version can be chosen (a PUT with one
      would replace the current version).
Source: botocore's s3/2006-03-01 model; a test compares these tables with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.bucket_name import check_addressed_bucket
from drystone_gateway.s3.escape import uri_decode
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.request import RequestHead
from drystone_gateway.s3.route_tables import (
    BUCKET_PLAIN,
    BUCKET_SUB,
    NO_VERSION,
    OBJECT_PLAIN,
    OBJECT_SUB,
    PARAMETERS,
    READ_METHODS,
    SERVICE_PLAIN,
    SIGNATURE_PARAMETERS,
    SUPPORTED_METHODS,
    VERSION_TWO_PARAMETERS,
)

KEY_LIMIT = 1024
"""Bytes of UTF-8 in an object key."""
TARGET_LIMIT = 16 * 1024
"""Characters of a request target: a key of 1,024 bytes may be 3,072 encoded, and presigned queries carry tokens."""

OBJECT_LAMBDA_PATH = "WriteGetObjectResponse"
"""`POST /WriteGetObjectResponse`; no bucket can have that name (capitals)."""

_NO_QUERY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class S3Call:
    """A request, understood: what is asked of which bucket and key."""

    operation: Operation
    bucket: str
    """Empty for service-level operations."""
    key: bytes
    """Decoded exactly once, 1 … 1024 bytes of UTF-8; empty for bucket- and service-level operations."""
    query: Mapping[str, str]
    """Decoded query parameters by name as sent; empty string for a bare name. Signature parameters are left out."""
    headers: Mapping[str, str]
    """The request's headers by lower-case name, and the `x-amz-*` ones a presigned URL carries in its query."""
    virtual_bucket: str = ""
    """The bucket when the Host header names it; empty for path style."""


class Router:
    """Turns requests into calls. One per gateway; holds only settings."""

    def __init__(self, *, domains: Sequence[str] = ()) -> None:
        self._domains = tuple(domain.lower().strip(".") for domain in domains)
        self._suffixes = tuple("." + domain for domain in self._domains)

    def route(self, request: RequestHead) -> S3Call:
        """The call, or Refused: InvalidURI, InvalidBucketName, KeyTooLongError, MethodNotAllowed, NotImplemented, …"""
        path = request.path
        if not path.startswith("/"):
            raise Refused(ErrorCode.INVALID_URI)
        if len(path) + len(request.query) > TARGET_LIMIT:
            raise Refused(ErrorCode.URI_TOO_LONG)
        virtual = self._virtual_bucket(request.headers.get("host", "")) if self._domains else ""
        bucket = virtual
        if bucket:
            raw_key = path[1:]
        else:
            raw_bucket, _, raw_key = path[1:].partition("/")
            bucket = _decode(raw_bucket).decode("utf-8", "replace") if "%" in raw_bucket else raw_bucket
            if not bucket and raw_key:
                raise Refused(ErrorCode.INVALID_BUCKET_NAME, BucketName="")
        query = parse_query(request.query) if request.query else _NO_QUERY
        method = request.method
        if method not in SUPPORTED_METHODS:
            raise Refused(ErrorCode.METHOD_NOT_ALLOWED, Method=method, ResourceType="SERVICE")
        if bucket:
            check_addressed_bucket(bucket)
        key = decode_key(raw_key) if raw_key else b""
        operation = _operation(method, bucket, key, query, request.headers)
        if "versionId" in query and operation in NO_VERSION:
            raise Refused(
                ErrorCode.INVALID_ARGUMENT,
                "This operation does not accept a version-id.",
                ArgumentName="versionId",
                ArgumentValue=query["versionId"][:128],
            )
        headers = _with_hoisted(request.headers, query) if query else request.headers
        return S3Call(operation, bucket, key, query, headers, virtual)

    def _virtual_bucket(self, host: str) -> str:
        """The bucket a Host header names under one of our domains, empty for path style."""
        name = host.lower()
        if not name.endswith("]"):
            head, colon, port = name.rpartition(":")
            if colon and port.isdecimal():
                name = head
        if name in self._domains:
            return ""
        for suffix in self._suffixes:
            if name.endswith(suffix):
                return name[: -len(suffix)]
        return ""


def decode_key(raw: str) -> bytes:
    """An object key from its raw path text. Refused: InvalidURI (bad escapes, not UTF-8), KeyTooLongError."""
    if raw.isascii() and "%" not in raw:
        key = raw.encode("ascii")
    else:
        key = _decode(raw)
        try:
            key.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(ErrorCode.INVALID_URI, "The key is not valid UTF-8.") from None
    if len(key) > KEY_LIMIT:
        raise Refused(ErrorCode.KEY_TOO_LONG, Size=str(len(key)), MaxSizeAllowed=str(KEY_LIMIT))
    return key


def parse_query(raw: str) -> dict[str, str]:
    """Decoded parameters; Refused for bad escapes and for a known name that is repeated (O4)."""
    query: dict[str, str] = {}
    mechanism = VERSION_TWO_PARAMETERS if "AWSAccessKeyId=" in raw else SIGNATURE_PARAMETERS
    for piece in raw.split("&"):
        if not piece:
            continue
        raw_name, _, raw_value = piece.partition("=")
        name = _decode_text(raw_name)
        if name in mechanism:
            continue
        value = _decode_text(raw_value) if raw_value else ""
        if name in query:
            if name in PARAMETERS or name in BUCKET_SUB or name in OBJECT_SUB or name.lower().startswith("x-amz-"):
                raise Refused(ErrorCode.INVALID_ARGUMENT, "A query parameter was given twice.", ArgumentName=name)
            continue
        query[name] = value
    return query


def _decode(raw: str) -> bytes:
    try:
        return uri_decode(raw)
    except ValueError:
        raise Refused(ErrorCode.INVALID_URI) from None


def _decode_text(raw: str) -> str:
    if raw.isascii() and "%" not in raw and "+" not in raw:
        return raw
    try:
        return uri_decode(raw, plus_is_space=True).decode("utf-8")
    except ValueError:
        raise Refused(ErrorCode.INVALID_URI, "A query parameter is not valid percent-encoded UTF-8.") from None


def _operation(method: str, bucket: str, key: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    if method == "OPTIONS":
        return Operation.OPTIONS_PREFLIGHT
    if not bucket:
        return _service_operation(method, query)
    if bucket == OBJECT_LAMBDA_PATH and not key and method == "POST":
        return Operation.WRITE_GET_OBJECT_RESPONSE
    table, plain, kind = (OBJECT_SUB, OBJECT_PLAIN, "OBJECT") if key else (BUCKET_SUB, BUCKET_PLAIN, "BUCKET")
    sub = _sub_resource(method, query, table, other=BUCKET_SUB if key else OBJECT_SUB) if query else ""
    if sub:
        found = table[sub].get(method)
        if found is None:
            raise Refused(ErrorCode.METHOD_NOT_ALLOWED, Method=method, ResourceType=sub.upper())
        return _refined(found, query, headers) if sub in _REFINED_SUBS else found
    operation = plain.get(method)
    if operation is None:
        raise Refused(ErrorCode.METHOD_NOT_ALLOWED, Method=method, ResourceType=kind)
    return _refined(operation, query, headers) if operation in _REFINE else operation


def _service_operation(method: str, query: Mapping[str, str]) -> Operation:
    for name in query:
        if name not in PARAMETERS and not name.lower().startswith("x-amz-"):
            _unknown(method, name, query[name])
    operation = SERVICE_PLAIN.get(method)
    if operation is None:
        raise Refused(ErrorCode.METHOD_NOT_ALLOWED, Method=method, ResourceType="SERVICE")
    if "max-directory-buckets" in query or query.get("x-id") == "ListDirectoryBuckets":
        return Operation.LIST_DIRECTORY_BUCKETS
    return operation


def _sub_resource(
    method: str, query: Mapping[str, str], table: Mapping[str, object], other: Mapping[str, object]
) -> str:
    """The one sub-resource named, or ""; Refused for two, and for names that are in no table (O1, O2)."""
    found = ""
    for name, value in query.items():
        if name in table:
            if found:
                raise Refused(
                    ErrorCode.INVALID_ARGUMENT,
                    f"Conflicting query string parameters: {found}, {name}",
                    ArgumentName="ResourceType",
                    ArgumentValue=name,
                )
            found = name
        elif name in other and not (value and method in READ_METHODS):
            raise Refused(
                ErrorCode.NOT_IMPLEMENTED, Header=name, ResourceType="OBJECT" if other is BUCKET_SUB else "BUCKET"
            )
        elif name not in PARAMETERS and not name.lower().startswith("x-amz-"):
            _unknown(method, name, value)
    return found


def _unknown(method: str, name: str, value: str) -> None:
    if method in READ_METHODS and value:
        return
    raise Refused(
        ErrorCode.NOT_IMPLEMENTED, "This query parameter is not known.", ArgumentName=name, ArgumentValue=value
    )


def _list_type(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    kind = query.get("list-type")
    if kind is None:
        return operation
    if kind != "2":
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "Invalid List Type specified in Query",
            ArgumentName="list-type",
            ArgumentValue=kind,
        )
    return Operation.LIST_OBJECTS_V2


def _put_object(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    if "x-amz-copy-source" in headers or _hoists(query, "x-amz-copy-source"):
        return Operation.COPY_OBJECT
    _needs_upload_id(query)
    return operation


def _plain_object(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    _needs_upload_id(query, part_number_alone=operation in (Operation.GET_OBJECT, Operation.HEAD_OBJECT))
    return operation


def _needs_upload_id(query: Mapping[str, str], *, part_number_alone: bool = False) -> None:
    if "partNumber" in query and not part_number_alone:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT, "partNumber needs an uploadId here.", ArgumentName="uploadId", ArgumentValue=""
        )


def _upload_id(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    if operation is Operation.UPLOAD_PART:
        if "partNumber" not in query:
            raise Refused(
                ErrorCode.INVALID_ARGUMENT,
                "This operation needs a partNumber.",
                ArgumentName="partNumber",
                ArgumentValue="",
            )
        if "x-amz-copy-source" in headers or _hoists(query, "x-amz-copy-source"):
            return Operation.UPLOAD_PART_COPY
    return operation


def _one_or_list(
    one: Operation, many: Operation
) -> Callable[[Operation, Mapping[str, str], Mapping[str, str]], Operation]:
    return lambda operation, query, headers: one if query.get("id") else many


def _annotation(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    return operation if "annotationName" in query else Operation.LIST_OBJECT_ANNOTATIONS


def _select(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    if query.get("select-type") != "2":
        raise Refused(
            ErrorCode.INVALID_ARGUMENT, ArgumentName="select-type", ArgumentValue=query.get("select-type", "")
        )
    return operation


_REFINE: Mapping[Operation, Callable[[Operation, Mapping[str, str], Mapping[str, str]], Operation]] = MappingProxyType(
    {
        Operation.LIST_OBJECTS: _list_type,
        Operation.PUT_OBJECT: _put_object,
        Operation.GET_OBJECT: _plain_object,
        Operation.HEAD_OBJECT: _plain_object,
        Operation.DELETE_OBJECT: _plain_object,
        Operation.UPLOAD_PART: _upload_id,
        Operation.GET_OBJECT_ANNOTATION: _annotation,
        Operation.SELECT_OBJECT_CONTENT: _select,
        Operation.GET_BUCKET_ANALYTICS_CONFIGURATION: _one_or_list(
            Operation.GET_BUCKET_ANALYTICS_CONFIGURATION, Operation.LIST_BUCKET_ANALYTICS_CONFIGURATIONS
        ),
        Operation.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION: _one_or_list(
            Operation.GET_BUCKET_INTELLIGENT_TIERING_CONFIGURATION,
            Operation.LIST_BUCKET_INTELLIGENT_TIERING_CONFIGURATIONS,
        ),
        Operation.GET_BUCKET_INVENTORY_CONFIGURATION: _one_or_list(
            Operation.GET_BUCKET_INVENTORY_CONFIGURATION, Operation.LIST_BUCKET_INVENTORY_CONFIGURATIONS
        ),
        Operation.GET_BUCKET_METRICS_CONFIGURATION: _one_or_list(
            Operation.GET_BUCKET_METRICS_CONFIGURATION, Operation.LIST_BUCKET_METRICS_CONFIGURATIONS
        ),
    }
)
_REFINED_SUBS = frozenset(
    {"uploadId", "analytics", "intelligent-tiering", "inventory", "metrics", "annotation", "select"}
)


def _refined(operation: Operation, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation:
    refine = _REFINE.get(operation)
    return refine(operation, query, headers) if refine else operation


def _hoists(query: Mapping[str, str], header: str) -> bool:
    return any(name.lower() == header for name in query)


def _with_hoisted(headers: Mapping[str, str], query: Mapping[str, str]) -> Mapping[str, str]:
    """Headers with the `x-amz-*` query parameters a presigner hoisted; the same one in both places is refused."""
    hoisted = {name.lower(): value for name, value in query.items() if name[:6].lower() == "x-amz-"}
    if not hoisted:
        return headers
    for name, value in hoisted.items():
        if not (name.isascii() and value.isprintable()):
            raise Refused(ErrorCode.INVALID_ARGUMENT, "A header value cannot be represented.", ArgumentName=name)
        hoisted[name] = value = value.encode("utf-8").decode("latin-1")
        if headers.get(name, value) != value:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "A header is given in the query too.", ArgumentName=name)
    return {**headers, **hoisted}

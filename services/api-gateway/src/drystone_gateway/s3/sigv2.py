# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs of AWS Signature Version 2: what boto3's generate_presigned_url makes unless told otherwise.

Invariants
  W1  Only query parameters that the signature covers are accepted, and those that can change nothing: `x-id`, and
      `content-type` and `content-md5` when they repeat the signed header (botocore writes them there).
  W2  Listings are refused: Version 2 does not sign their parameters, so whoever holds a URL made for one prefix could
      drop the prefix.
  W3  Two requests that differ in operation, object or parameters have different strings to sign, except that a value
      signed with `&` in it may be read as two parameters: combinations that only such a reading makes are refused.
  W4  Every `x-amz-*` header present is signed; none is taken from the query but the session token, which is signed.
Source: "Signing and Authenticating REST Requests" (Version 2), botocore.auth.HmacV1QueryAuth;
docs/adr/0302-presigned-version-two.md.
"""

import base64
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.amz_time import iso_date
from drystone_gateway.s3.canonical import normal_path
from drystone_gateway.s3.escape import uri_decode
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.request import RequestHead

SIGNED_PARAMETERS = frozenset(
    "accelerate acl analytics cors delete inventory lifecycle location logging metrics notification object-lock"
    " partNumber policy replication requestPayment response-cache-control response-content-disposition"
    " response-content-encoding response-content-language response-content-type response-expires restore select"
    " select-type tagging torrent uploadId uploads versionId versioning versions website".split()
)
"""What stands in the canonical resource (botocore's list, without two names S3 does not know)."""
TOKEN = "x-amz-security-token"
MECHANISM = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
VERSION_TWO = frozenset({"AWSAccessKeyId", "Signature"})
"""Either of them in a query claims a Version 2 signature."""
REPEATED_HEADERS = frozenset({"content-type", "content-md5"})
_BESIDE_OVERRIDES = frozenset({"versionId", "partNumber"})
_PARAMETRISED = frozenset(
    {
        Operation.LIST_BUCKETS,
        Operation.LIST_DIRECTORY_BUCKETS,
        Operation.LIST_OBJECTS,
        Operation.LIST_OBJECTS_V2,
        Operation.LIST_OBJECT_VERSIONS,
        Operation.LIST_MULTIPART_UPLOADS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryV2:
    """The mechanism's own parameters, and the canonical query of what else was sent."""

    access_key: str
    signature: str
    expires: str
    token: str
    signed_query: str
    """Latin-1 text of the decoded bytes, with `?` when not empty."""


def parse_query_v2(request: RequestHead) -> QueryV2:
    """The parameters, or Refused: AccessDenied for one that is missing, doubled or not signed (W1), InvalidURI."""
    found: dict[str, str] = {}
    signed: list[tuple[str, str]] = []
    for name, equals, value in _pieces(request.query):
        if name in found:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "A query parameter was given twice.", ArgumentName=name[:128])
        found[name] = value
        if name in SIGNED_PARAMETERS:
            signed.append((name, f"{name}{equals}{value}"))
        elif name in REPEATED_HEADERS:
            if request.headers.get(name) != value:
                raise _unsigned(name)
        elif name not in MECHANISM and name not in ("x-id", TOKEN):
            raise _unsigned(name)
    if not all(found.get(name) for name in MECHANISM):
        raise Refused(
            ErrorCode.ACCESS_DENIED,
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
        )
    _check_readings(found)
    signed.sort()
    return QueryV2(
        access_key=found["AWSAccessKeyId"],
        signature=found["Signature"],
        expires=found["Expires"],
        token=found.get(TOKEN, ""),
        signed_query="?" + "&".join([text for _, text in signed]) if signed else "",
    )


def check_expiry_v2(expires: str, now: int) -> None:
    """AccessDenied when `expires` (Unix seconds, as sent) is no number or lies before `now`."""
    if not (expires.isascii() and expires.isdecimal()) or len(expires) > 11:
        raise Refused(ErrorCode.ACCESS_DENIED, f"Invalid date (should be seconds since epoch): {expires[:64]}")
    if now > int(expires):
        raise Refused(
            ErrorCode.ACCESS_DENIED, "Request has expired", Expires=iso_date(int(expires)), ServerTime=iso_date(now)
        )


def check_operation_v2(operation: Operation) -> None:
    """W2."""
    if operation in _PARAMETRISED:
        raise Refused(
            ErrorCode.ACCESS_DENIED,
            "Signature Version 2 does not cover the parameters of a listing. Please use AWS4-HMAC-SHA256.",
        )


def check_signature_v2(request: RequestHead, query: QueryV2, secret_key: str, virtual_bucket: str) -> None:
    """SignatureDoesNotMatch unless the request as sent, or its path in normal spelling, was signed."""
    prefix = f"/{virtual_bucket}" if virtual_bucket else ""
    given = query.signature.encode("latin-1")
    message = string_to_sign(request, query, prefix + request.path)
    if hmac.compare_digest(_sign(secret_key, message), given):
        return
    path = normal_path(request.path)
    if path is not None:
        message = string_to_sign(request, query, prefix + path)
        if hmac.compare_digest(_sign(secret_key, message), given):
            return
    details = {"AWSAccessKeyId": query.access_key[:128], "SignatureProvided": query.signature[:128]}
    if b"customer-key:" not in message and b"x-amz-security-token:" not in message:
        details["StringToSign"] = message.decode("utf-8", "replace")
        details["StringToSignBytes"] = message.hex(" ")
    raise Refused(ErrorCode.SIGNATURE_DOES_NOT_MATCH, **details)


def string_to_sign(request: RequestHead, query: QueryV2, path: str) -> bytes:
    """Method, Content-MD5, Content-Type, Expires, the x-amz- headers and the resource, one a line."""
    headers = request.headers
    custom = {name: value for name, value in headers.items() if name.startswith("x-amz-")}
    if query.token:
        custom.setdefault(TOKEN, query.token)
    lines = [request.method, headers.get("content-md5", ""), headers.get("content-type", ""), query.expires]
    lines += [f"{name}:{custom[name]}" for name in sorted(custom)]
    lines.append(path + query.signed_query)
    return "\n".join(lines).encode("latin-1")


def _sign(secret_key: str, message: bytes) -> bytes:
    return base64.b64encode(hmac.digest(secret_key.encode("utf-8"), message, "sha1"))


def _pieces(query: str) -> Iterator[tuple[str, str, str]]:
    """Decoded (name, `=` or nothing, value), decoded as the router decodes; latin-1 text of the bytes."""
    for piece in query.split("&"):
        if piece:
            name, equals, value = piece.partition("=")
            yield _decoded(name), equals, _decoded(value)


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return uri_decode(text, plus_is_space=True).decode("latin-1")
    except ValueError:
        raise Refused(ErrorCode.INVALID_URI) from None


def _check_readings(found: dict[str, str]) -> None:
    """W3: refuse line ends and merged parameters in values, and parameters that make no sense beside overrides."""
    for name, value in found.items():
        if any(character in value for character in "\r\n\0"):
            raise _unsigned(name)
        if name in SIGNED_PARAMETERS and "&" in value:
            if any(piece.partition("=")[0] in SIGNED_PARAMETERS for piece in value.split("&")[1:]):
                raise _unsigned(name)
    signed = found.keys() & SIGNED_PARAMETERS
    overrides = {name for name in signed if name.startswith("response-")}
    if overrides and not signed - overrides <= _BESIDE_OVERRIDES:
        raise _unsigned(min(signed - overrides - _BESIDE_OVERRIDES))


def _unsigned(name: str) -> Refused:
    return Refused(
        ErrorCode.ACCESS_DENIED,
        "There were query parameters present in the request which Signature Version 2 does not cover",
        ParametersNotSigned=name[:128],
    )

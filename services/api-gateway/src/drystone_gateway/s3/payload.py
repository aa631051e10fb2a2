# SPDX-License-Identifier: Apache-2.0
"""How a request's body is protected, as said by `x-amz-content-sha256`: one table, deny by default.

Source: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" and its streaming forms.
"""

import re
from dataclasses import dataclass, field

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.signing_key import SigningKey

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class SignedHash:
    """The body's SHA-256 is signed; compare it before anything becomes visible (XAmzContentSHA256Mismatch)."""

    hex: str


@dataclass(frozen=True, slots=True)
class Unsigned:
    """The signature does not cover the body."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """The body is aws-chunked: decode it with `aws_chunked.ChunkedDecoder`."""

    signed: bool
    """Each chunk (and the trailer) carries a signature that continues from `seed`."""
    trailer: bool
    """Trailing headers follow the last chunk."""
    seed: str = ""
    """The request's own signature."""
    key: SigningKey | None = field(default=None, repr=False)
    scope: str = ""
    """`date/region/s3/aws4_request`."""
    date: str = ""
    """`x-amz-date` of the request."""


PayloadMode = SignedHash | Unsigned | Streaming

UNSIGNED = Unsigned()
_EMPTY = SignedHash(EMPTY_SHA256)


def payload_mode(
    text: str, *, seed: str = "", key: SigningKey | None = None, scope: str = "", date: str = ""
) -> PayloadMode:
    """The mode `text` names; signed streaming needs `key`. InvalidArgument for anything unknown."""
    if text == UNSIGNED_PAYLOAD:
        return UNSIGNED
    if text == EMPTY_SHA256:
        return _EMPTY
    if _HEX.match(text):
        return SignedHash(text)
    if text == STREAMING_UNSIGNED_TRAILER:
        return Streaming(signed=False, trailer=True)
    if text in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER):
        if key is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "Signed chunks need an Authorization header.")
        return Streaming(True, text == STREAMING_SIGNED_TRAILER, seed, key, scope, date)
    if text.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"):
        raise Refused(ErrorCode.NOT_IMPLEMENTED, "Signature Version 4A is not supported.")
    raise Refused(
        ErrorCode.INVALID_ARGUMENT,
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        ArgumentName="x-amz-content-sha256",
        ArgumentValue=text,
    )

# SPDX-License-Identifier: Apache-2.0
"""Opaque continuation tokens: version byte, kind byte, fields, CRC32C; URL-safe base64. Valid on any gateway, for ever.

A token is not a secret and grants nothing: it says where to go on, and the caller's rights are checked anew. The
checksum turns a mangled or foreign token into InvalidArgument instead of a wrong page.
Layout: 1 byte version (1) | 1 byte kind | each field: 2 bytes length (big endian), bytes | 4 bytes CRC32C of the rest.
"""

import base64
from enum import IntEnum

from awscrt import checksums as crt  # type: ignore[import-untyped,unused-ignore]

from drystone_core.errors import ErrorCode, Refused

_VERSION = 1


class TokenKind(IntEnum):
    """What a token continues."""

    OBJECTS = 1
    BUCKETS = 2


def make_token(kind: TokenKind, *fields: bytes) -> str:
    """A token that carries `fields` (each at most 65,535 bytes)."""
    body = bytes((_VERSION, kind)) + b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    checksum = crt.crc32c(body).to_bytes(4, "big")
    return base64.urlsafe_b64encode(body + checksum).decode("ascii").rstrip("=")


def read_token(kind: TokenKind, text: str, *, count: int = 1) -> tuple[bytes, ...]:
    """The `count` fields; InvalidArgument for an empty, mangled or foreign token (s3-surface §5 #62)."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _incorrect() from None
    body, checksum = raw[:-4], raw[-4:]
    if len(body) < 2 or body[0] != _VERSION or body[1] != kind or crt.crc32c(body).to_bytes(4, "big") != checksum:
        raise _incorrect()
    fields, at = [], 2
    while at < len(body):
        length = int.from_bytes(body[at : at + 2], "big")
        fields.append(body[at + 2 : at + 2 + length])
        at += 2 + length
    if len(fields) != count or at != len(body):
        raise _incorrect()
    return tuple(fields)


def _incorrect() -> Refused:
    return Refused(
        ErrorCode.INVALID_ARGUMENT, "The continuation token provided is incorrect", ArgumentName="continuation-token"
    )

# SPDX-License-Identifier: Apache-2.0
"""Object metadata in and out of headers, and header lines that cannot be split.

Invariants
  H1  No header line is ever built from a value that holds CR, LF or NUL: `header_line` raises (Ceph CVE-2020-10753,
      CVE-2021-3524: the first fix there forgot CR).
  H2  What was stored is replayed verbatim; user metadata outside ASCII goes out as RFC 2047 encoded words, in ≤ 75
      characters each (s3-surface §5 #26, #28).
"""

import base64
import re
from collections.abc import Mapping

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import ObjectVersion
from drystone_gateway.s3.amz_time import http_date

DEFAULT_TYPE = "binary/octet-stream"
METADATA_LIMIT = 2048
"""Bytes of user metadata: names and values."""
_WIRE_LIMIT = 8 * METADATA_LIMIT
"""Of one value as sent: an encoded word has three characters for a byte, and its frame."""
META_PREFIX = "x-amz-meta-"
REDIRECT = "x-amz-website-redirect-location"
SYSTEM_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    REDIRECT,
)
SYSTEM_LIMIT = 8192
"""Bytes of all system headers together."""
_SHOWN = {
    "content-type": "Content-Type",
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
    REDIRECT: REDIRECT,
}
_OVERRIDES = {
    "response-content-type": "content-type",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-expires": "expires",
}
_UNSAFE = re.compile("[\r\n\0]")
_CONTROL = re.compile("[\0-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_ENCODED_WORD = re.compile(r"=\?utf-8\?([qb])\?([ !->@-~]*)\?=", re.IGNORECASE)
"""Its text holds no `?` (RFC 2047 §2), so a match is tried once for each beginning: linear."""
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t]+(=\?)")


def header_line(name: str, value: str) -> bytes:
    """`Name: value\\r\\n`. ValueError for CR, LF or NUL; characters beyond latin-1 become UTF-8 bytes."""
    if _UNSAFE.search(value) or not _TOKEN.match(name):
        raise ValueError(f"header {name!r} cannot be sent")
    try:
        return f"{name}: {value}\r\n".encode("latin-1")
    except UnicodeEncodeError:
        return f"{name}: {value}\r\n".encode()


def system_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """System headers to store with an object, verbatim but for `aws-chunked` (#9); only those that were sent."""
    found: dict[str, str] = {}
    total = 0
    for name in SYSTEM_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        if name == "content-encoding":
            value = plain_encoding(value)
        if not value:
            continue
        if _CONTROL.search(value):
            raise _bad_header(name)
        total += len(name) + len(value)
        found[name] = value
    if total > SYSTEM_LIMIT:
        raise Refused(ErrorCode.REQUEST_HEADER_SECTION_TOO_LARGE)
    if REDIRECT in found and not found[REDIRECT].startswith(("/", "http://", "https://")):
        raise Refused(ErrorCode.INVALID_REDIRECT_LOCATION)
    return found


def plain_encoding(value: str) -> str:
    """Content-Encoding without `aws-chunked`; empty when nothing is left."""
    if "aws-chunked" not in value.lower():
        return value
    kept = [piece.strip() for piece in value.split(",") if piece.strip().lower() != "aws-chunked"]
    return ",".join(piece for piece in kept if piece)


def user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """`x-amz-meta-*` by lower-case name without prefix, as text; MetadataTooLarge beyond 2 KB.

    Values come as latin-1 text of the bytes sent: UTF-8 is recovered, RFC 2047 words (clients' non-ASCII) decoded.
    """
    found: dict[str, str] = {}
    total = 0
    for name, value in headers.items():
        if not name.startswith(META_PREFIX):
            continue
        short = name[len(META_PREFIX) :]
        if not short or not _TOKEN.match(short):
            raise _bad_header(name)
        if _CONTROL.search(value):
            raise _bad_header(name)
        if len(value) > _WIRE_LIMIT:
            raise _metadata_too_large(len(value))
        text = value if value.isascii() and "=?" not in value else _decoded(value)
        total += len(short) + len(text.encode("utf-8"))
        found[short] = text
    if total > METADATA_LIMIT:
        raise _metadata_too_large(total)
    return found


def _metadata_too_large(size: int) -> Refused:
    return Refused(ErrorCode.METADATA_TOO_LARGE, Size=str(size), MaxSizeAllowed=str(METADATA_LIMIT))


def _decoded(value: str) -> str:
    if value.isascii():
        return _decode_words(value)
    raw = value.encode("latin-1", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _decode_words(value: str) -> str:
    """RFC 2047 encoded words in UTF-8 decoded; anything malformed (or that holds control characters) stays as it is."""

    def word(match: re.Match[str]) -> bytes:
        kind, text = match.groups()
        if kind in "bB":
            return base64.b64decode(text, validate=True)
        plain = text.replace("_", " ")
        return re.sub(r"=([0-9A-Fa-f]{2})", lambda hexes: chr(int(hexes.group(1), 16)), plain).encode("latin-1")

    joined = _BETWEEN_WORDS.sub(r"\1\2", value)
    pieces: list[bytes] = []
    at = 0
    try:
        for match in _ENCODED_WORD.finditer(joined):
            pieces += (joined[at : match.start()].encode("ascii"), word(match))
            at = match.end()
        pieces.append(joined[at:].encode("ascii"))
        text = b"".join(pieces).decode("utf-8")
    except ValueError:
        return value
    return value if _CONTROL.search(text) else text


def encode_words(text: str) -> str:
    """`text` as RFC 2047 encoded words (Q) when it is not plain ASCII; one word for each ≤ 75 characters."""
    if text.isascii():
        return text if "=?" not in text else _words(text)
    return _words(text)


def _words(text: str) -> str:
    words, current = [], ""
    for char in text:
        if char.isascii() and (char.isalnum() or char in "!*+-/"):
            piece = char
        else:
            piece = "_" if char == " " else "".join(f"={byte:02X}" for byte in char.encode("utf-8"))
        if len(current) + len(piece) > 63:
            words.append(current)
            current = ""
        current += piece
    words.append(current)
    return " ".join(f"=?UTF-8?Q?{word}?=" for word in words)


def metadata_lines(metadata: Mapping[str, str]) -> bytes:
    """`x-amz-meta-*` lines; names or values that no header can hold are counted in x-amz-missing-meta."""
    lines, missing = [], 0
    for name, value in metadata.items():
        if not _TOKEN.match(name) or _UNSAFE.search(value):
            missing += 1
            continue
        shown = value if value.isascii() and "=?" not in value else encode_words(value)
        lines.append(f"{META_PREFIX}{name}: {shown}\r\n")
    if missing:
        lines.append(f"x-amz-missing-meta: {missing}\r\n")
    return "".join(lines).encode("ascii")


def object_lines(version: ObjectVersion, overrides: Mapping[str, str] | None = None) -> bytes:
    """What GET and HEAD say of a version: ETag, Last-Modified, Accept-Ranges, system and user metadata.

    `overrides` as `response_overrides` gave them. Version id, checksums and lengths are the operation's to add.
    """
    system = dict(version.headers)
    if overrides:
        system.update(overrides)
    lines = [
        f'ETag: "{version.etag}"\r\nLast-Modified: {http_date(version.modified_ms // 1000)}\r\nAccept-Ranges: bytes\r\n'
    ]
    system.setdefault("content-type", DEFAULT_TYPE)
    for name, value in system.items():
        if _UNSAFE.search(value):
            continue
        lines.append(f"{_SHOWN.get(name, name)}: {value}\r\n")
    text = "".join(lines)
    block = text.encode("ascii") if text.isascii() else text.encode("latin-1", "replace")
    return block + metadata_lines(version.metadata) if version.metadata else block


def response_overrides(query: Mapping[str, str], *, anonymous: bool) -> dict[str, str]:
    """`response-*` as system headers (#27); InvalidRequest for anonymous callers, InvalidArgument for unsafe values."""
    found: dict[str, str] = {}
    for name, value in query.items():
        target = _OVERRIDES.get(name)
        if target is None or not value:
            continue
        if anonymous:
            raise Refused(
                ErrorCode.INVALID_REQUEST,
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        if _CONTROL.search(value):
            raise Refused(
                ErrorCode.INVALID_ARGUMENT,
                "Header value cannot be represented.",
                ArgumentName=name,
                ArgumentValue=value,
            )
        if not value.isascii():
            value = value.encode("utf-8").decode("latin-1")
        found[target] = value
    return found


def _bad_header(name: str) -> Refused:
    return Refused(ErrorCode.INVALID_ARGUMENT, "A header value cannot be represented.", ArgumentName=name[:128])

# SPDX-License-Identifier: Apache-2.0
"""The SigV4 canonical request of S3: what was signed, rebuilt from what was received.

A path or query is first taken as it was sent (clients sign what they send, once-encoded, nothing normalised); for those
that send one spelling and sign another, `normal_path` and `normal_query` give the form AWS computes: decoded once and
encoded once. Both forms determine the decoded key and parameters, so accepting either lets nothing be altered.
Source: "Create a signed AWS API request", S3 exceptions; s3-surface §5 #1 to #4.
"""

import re
from collections.abc import Mapping, Sequence

from drystone_gateway.s3.escape import uri_decode, uri_encode

_BLANKS = re.compile(" +")


def canonical_headers(headers: Mapping[str, str], signed: Sequence[str]) -> str:
    """`name:value\\n` for each signed header in order; a header that is absent counts as empty."""
    lines = "".join([f"{name}:{headers.get(name, '')}\n" for name in signed])
    return _BLANKS.sub(" ", lines) if "  " in lines else lines


def canonical_query(raw: str) -> str:
    """Sorted by name then value, bare names with `=`, `X-Amz-Signature` left out; escapes are kept as sent."""
    if not raw:
        return ""
    if "&" not in raw:
        return raw if "=" in raw else raw + "="
    pairs = []
    for piece in raw.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            if name != "X-Amz-Signature":
                pairs.append((name, value))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def normal_query(raw: str) -> str | None:
    """The query with every name and value decoded (`+` is a space) and encoded once; None when that changes nothing."""
    pieces = []
    for piece in raw.split("&"):
        name, equals, value = piece.partition("=")
        try:
            pieces.append(_again(name) + equals + _again(value))
        except ValueError:
            return None
    normal = "&".join(pieces)
    return normal if normal != raw else None


def normal_path(raw: str) -> str | None:
    """The path decoded and encoded once; None when that changes nothing (or it cannot be decoded)."""
    try:
        normal = uri_encode(uri_decode(raw), keep_slash=True)
    except ValueError:
        return None
    return normal if normal != raw else None


def _again(text: str) -> str:
    return uri_encode(uri_decode(text, plus_is_space=True), keep_slash=False)

# SPDX-License-Identifier: Apache-2.0
"""Text forms: XML escaping and percent encoding, the way S3 writes them.

Control characters that XML 1.0 cannot hold are written as character references, as AWS does (s3-surface §5 #64);
percent encoding leaves the unreserved characters of RFC 3986 (and on request `/`) and uses upper-case hex.
"""

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_SPECIAL = re.compile("[&<>\"'\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")
_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def xml_text(text: str) -> str:
    """`text` as XML character data (also fit for an attribute)."""
    return _SPECIAL.sub(_reference, text) if _SPECIAL.search(text) else text


def _reference(match: re.Match[str]) -> str:
    char = match.group()
    return _NAMES.get(char) or f"&#{ord(char)};"


def uri_encode(raw: bytes, *, keep_slash: bool) -> str:
    """Percent-encode everything but unreserved characters (RFC 3986) and, when asked, `/`."""
    return quote_from_bytes(raw, safe="/~" if keep_slash else "~")


def uri_decode(text: str, *, plus_is_space: bool = False) -> bytes:
    """Decode exactly once. `text` is latin-1 (bytes as received). ValueError for a stray `%`."""
    if "%" in text and _BAD_PERCENT.search(text):
        raise ValueError("stray percent sign")
    if plus_is_space:
        text = text.replace("+", " ")
    return unquote_to_bytes(text.encode("latin-1"))

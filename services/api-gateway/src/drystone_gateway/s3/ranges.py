# SPDX-License-Identifier: Apache-2.0
"""Range requests: one byte range of a known size, and the range of a copied part (s3-surface §5 #35, #36, #44)."""

import re
from typing import NamedTuple

from drystone_core.errors import ErrorCode, Refused

_RANGE = re.compile(r"bytes=(\d{0,100})-(\d{0,100})\Z", re.ASCII | re.IGNORECASE)
"""More digits than any size has: clients that mean "to the end" send 2**64 - 1 and the like."""
_COPY_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})\Z", re.ASCII)


class ByteRange(NamedTuple):
    """A non-empty run of bytes."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """Value of Content-Range."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(text: str, size: int) -> ByteRange | None:
    """What of `size` bytes a Range header asks for; None = the whole, with 200 (malformed or several ranges).

    InvalidRange when it cannot be satisfied: an empty object, `-0`, a start at or past the end.
    """
    match = _RANGE.match(text.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        suffix = min(int(last), size)
        if not suffix:
            raise _unsatisfiable(text, size)
        return ByteRange(size - suffix, suffix)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise _unsatisfiable(text, size)
    return ByteRange(start, (min(int(last), size - 1) if last else size - 1) - start + 1)


def parse_copy_range(text: str, size: int) -> ByteRange:
    """x-amz-copy-source-range: `bytes=a-b` inside the source, else InvalidArgument (not 416)."""
    match = _COPY_RANGE.match(text)
    if match is None or int(match.group(2)) < int(match.group(1)):
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the"
            " zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text[:128],
        )
    start, last = int(match.group(1)), int(match.group(2))
    if last >= size:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text[:128],
        )
    return ByteRange(start, last - start + 1)


def parse_part_number(text: str) -> int:
    """partNumber 1 … 10,000, else InvalidArgument (#46)."""
    if text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= 10_000:
        return int(text)
    raise Refused(
        ErrorCode.INVALID_ARGUMENT,
        "Part number must be an integer between 1 and 10000, inclusive",
        ArgumentName="partNumber",
        ArgumentValue=text[:64],
    )


def part_number_with_range() -> Refused:
    """The refusal of partNumber together with Range (#36)."""
    return Refused(ErrorCode.INVALID_REQUEST, "Cannot specify both Range header and partNumber query parameter")


def _unsatisfiable(text: str, size: int) -> Refused:
    return Refused(ErrorCode.INVALID_RANGE, RangeRequested=text[:128], ActualObjectSize=str(size))

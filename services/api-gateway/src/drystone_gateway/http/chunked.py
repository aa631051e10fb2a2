# SPDX-License-Identifier: Apache-2.0
"""Chunked transfer coding, decoded incrementally and without I/O.

Invariants
  C1  A chunk size is 1 to 15 hexadecimal digits and nothing else; chunk extensions are refused (nobody sends them, and
      they have hidden requests from one of two parsers before).
  C2  Every line ends in CRLF; framing lines and trailer fields are bounded and checked, trailer fields then dropped.
States  SIZE -> DATA -> DATA_END -> SIZE …; size 0: SIZE -> TRAILER -> ENDED
Source  RFC 9112 §7.1.
"""

import re
from collections.abc import Callable

_SIZE, _DATA, _DATA_END, _TRAILER, _ENDED = range(5)
_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{1,15}").fullmatch
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*").fullmatch
SIZE_LINE_LIMIT = 32
TRAILER_LIMIT = 8 * 1024


class ChunkedError(Exception):
    """The framing is malformed: nothing after it can be understood."""


class ChunkedDecoder:
    """Feed it what arrives; it hands payload runs to a sink."""

    __slots__ = ("_line", "_state", "_trailer_bytes", "run")

    def __init__(self) -> None:
        self._state = _SIZE
        self._line = bytearray()
        self._trailer_bytes = 0
        self.run = 0
        """Payload bytes that certainly come next; a caller that takes them elsewhere calls `took`."""

    @property
    def ended(self) -> bool:
        return self._state == _ENDED

    def took(self, count: int) -> None:
        """`count` bytes of the run were received past the decoder."""
        self.run -= count
        if not self.run:
            self._state = _DATA_END

    def feed(self, data: memoryview, sink: Callable[[memoryview], None]) -> int:
        """Consume `data` up to the end of the body at most; returns how much. Raises ChunkedError."""
        at, end = 0, len(data)
        while at < end and self._state != _ENDED:
            if self._state == _DATA:
                count = min(self.run, end - at)
                sink(data[at : at + count])
                at += count
                self.took(count)
            else:
                at = self._framing(data, at)
        return at

    def _framing(self, data: memoryview, at: int) -> int:
        """Take bytes of one framing line; acts when the line is complete."""
        piece = bytes(data[at : at + (TRAILER_LIMIT if self._state == _TRAILER else SIZE_LINE_LIMIT)])
        newline = piece.find(b"\n")
        taken = len(piece) if newline < 0 else newline + 1
        self._line += piece[:taken]
        if len(self._line) > (TRAILER_LIMIT if self._state == _TRAILER else SIZE_LINE_LIMIT):
            raise ChunkedError("a framing line is too long")
        if newline >= 0:
            if self._line[-2:] != b"\r\n":
                raise ChunkedError("a framing line ends in a bare LF")
            line = bytes(self._line[:-2])
            self._line.clear()
            self._act(line)
        return at + taken

    def _act(self, line: bytes) -> None:
        if self._state == _SIZE:
            if not _SIZE_LINE(line):
                raise ChunkedError("a chunk size is malformed")
            self.run = int(line, 16)
            self._state = _DATA if self.run else _TRAILER
        elif self._state == _DATA_END:
            if line:
                raise ChunkedError("a chunk is longer than its size")
            self._state = _SIZE
        elif not line:
            self._state = _ENDED
        else:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_LIMIT or not _TRAILER_LINE(line):
                raise ChunkedError("a trailer field is malformed or too long")

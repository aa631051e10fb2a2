# SPDX-License-Identifier: Apache-2.0
"""The aws-chunked body: an incremental decoder without I/O for the three streaming payload modes S3 clients use.

Invariants
  K1  `feed` yields slices of what it was given: no byte is copied. A slice may be yielded before its chunk's signature
      has been seen, so nothing decoded may become visible before `finish` has returned.
  K2  `finish` returns only when the final 0-chunk, and the trailer where the mode has one, were seen and (in signed
      modes) their signatures fit; exactly the declared decoded length came; no byte followed.
  K3  Memory is bounded: a line is at most LINE_LIMIT bytes, the trailer at most TRAILER_LIMIT.
States  SIZE → DATA → DATA_END → SIZE … → (size 0) LAST or TRAILER → DONE; any error is final.
Source: "Signature Calculations … Transferring Payload in Multiple Chunks" and "… including trailing headers";
s3-surface §5 #7, #8.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.payload import EMPTY_SHA256, Streaming

LINE_LIMIT = 256
"""Bytes of a chunk header: 16 hex digits, `;chunk-signature=` and 64 hex digits, with room to spare."""
TRAILER_LIMIT = 4096
CHUNK_LIMIT = 5 * 1024**3

_UNSIGNED_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})\Z")
_SIGNED_HEAD = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})\Z")
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class _State(IntEnum):
    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3
    LAST = 4
    DONE = 5


class ChunkedDecoder:
    """Decodes one body. Single use; not safe for use from two threads at once."""

    def __init__(self, mode: Streaming, *, decoded_length: int, trailer_names: Sequence[str] = ()) -> None:
        """`decoded_length` from x-amz-decoded-content-length, `trailer_names` from `declared_trailers`."""
        self._mode = mode
        self._left = decoded_length
        self._names = frozenset(trailer_names)
        self._state = _State.SIZE
        self._chunk_left = 0
        self._line = bytearray()
        self._trailer_lines: list[bytes] = []
        self._trailer_size = 0
        self._blank_seen = False
        self._trailers: dict[str, str] = {}
        self._previous = mode.seed
        self._signature = ""
        self._hash = hashlib.sha256() if mode.signed else None

    @property
    def trailers(self) -> Mapping[str, str]:
        """Trailing headers by lower-case name (without the trailer signature); complete after `finish`."""
        return self._trailers

    @property
    def done(self) -> bool:
        """Has the end of the body been seen?"""
        return self._state is _State.DONE

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """Payload slices of `data`, in order. Consume all of them before `data`'s memory is used again.

        Refused: SignatureDoesNotMatch (tampered), IncompleteBody (lengths do not add up), InvalidRequest (framing),
        MalformedTrailerError.
        """
        at, end = 0, len(data)
        while at < end:
            if self._state is _State.DATA:
                size = min(self._chunk_left, end - at)
                piece = data[at : at + size]
                at += size
                self._chunk_left -= size
                self._left -= size
                if self._hash is not None:
                    self._hash.update(piece)
                if not self._chunk_left:
                    self._state = _State.DATA_END
                yield piece
                continue
            at = self._take_line(data, at)

    def finish(self) -> Mapping[str, str]:
        """Declare the end of input. Returns the trailers; raises IncompleteBody for a body cut short (K2)."""
        if self._state is _State.LAST and not self._line:
            self._state = _State.DONE
        elif self._state is _State.TRAILER:
            self._end_of_input_in_trailer()
        if self._state is not _State.DONE:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        if self._left:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        missing = self._names - self._trailers.keys()
        if missing:
            raise _trailer(f"{min(missing)[:64]} was announced but did not come")
        return self._trailers

    def _take_line(self, data: memoryview, at: int) -> int:
        """Consume bytes up to a line's end; acts on the line when it is whole. Returns the new position."""
        if self._state is _State.DONE:
            raise Refused(ErrorCode.INVALID_REQUEST, "Bytes follow the end of the aws-chunked body.")
        limit = TRAILER_LIMIT if self._state is _State.TRAILER else LINE_LIMIT
        window = bytes(data[at : at + limit + 2 - len(self._line)])
        newline = window.find(b"\n")
        if newline < 0:
            self._line += window
            if len(self._line) > limit:
                raise _framing("a line is too long")
            return at + len(window)
        self._line += window[: newline + 1]
        line = bytes(self._line)
        if not line.endswith(b"\r\n") and self._state is not _State.TRAILER:
            raise _framing("a line does not end in CR LF")
        self._line.clear()
        self._on_line(line.rstrip(b"\r\n") if self._state is _State.TRAILER else line[:-2])
        return at + newline + 1

    def _on_line(self, line: bytes) -> None:
        match self._state:
            case _State.SIZE:
                self._on_size(line)
            case _State.DATA_END:
                if line:
                    raise _framing("a chunk is longer than its size")
                self._check_chunk()
                self._state = _State.SIZE
            case _State.LAST:
                if line:
                    raise _framing("something follows the last chunk")
                self._state = _State.DONE
            case _State.TRAILER:
                self._on_trailer(line)
            case _:
                raise _framing("unexpected line")

    def _on_size(self, line: bytes) -> None:
        match = (_SIGNED_HEAD if self._mode.signed else _UNSIGNED_HEAD).match(line)
        if match is None:
            if self._mode.signed and _UNSIGNED_HEAD.match(line.partition(b";")[0]):
                raise Refused(ErrorCode.SIGNATURE_DOES_NOT_MATCH, "A chunk carries no valid signature.")
            raise _framing("a chunk header is malformed")
        size = int(match.group(1), 16)
        if size > CHUNK_LIMIT:
            raise _framing("a chunk is too large")
        if size > self._left or (not size and self._left):
            raise Refused(ErrorCode.INCOMPLETE_BODY, "The chunks do not add up to x-amz-decoded-content-length.")
        self._chunk_left = size
        if self._mode.signed:
            self._signature = match.group(2).decode("ascii")
        if size:
            self._state = _State.DATA
            return
        self._check_chunk()
        self._state = _State.TRAILER if self._mode.trailer else _State.LAST

    def _check_chunk(self) -> None:
        """The signature of the chunk just read (the empty last one too) continues the chain."""
        if self._hash is None:
            return
        text = f"{EMPTY_SHA256}\n{self._hash.hexdigest()}"
        self._verify("AWS4-HMAC-SHA256-PAYLOAD", text, self._signature)
        self._hash = hashlib.sha256()

    def _on_trailer(self, line: bytes) -> None:
        if not line:
            if self._awaits_signature():
                self._blank_seen = True
                return
            self._end_trailer()
            return
        self._trailer_size += len(line)
        if self._trailer_size > TRAILER_LIMIT:
            raise _trailer("it is too long")
        self._trailer_lines.append(line)

    def _awaits_signature(self) -> bool:
        """minio-go sends one blank line between the trailers and their signature; it ends nothing."""
        lines = self._trailer_lines
        if not self._mode.signed or self._blank_seen or not lines:
            return False
        return not any(line.lower().startswith(_TRAILER_SIGNATURE.encode()) for line in lines)

    def _end_of_input_in_trailer(self) -> None:
        """Some SDKs leave out the blank line at the end: the body's end ends the trailer, if its last line is whole."""
        if self._line or not self._trailer_lines:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        self._end_trailer()

    def _end_trailer(self) -> None:
        signature = ""
        signed_part = []
        for line in self._trailer_lines:
            name, value = _trailer_field(line)
            if name == _TRAILER_SIGNATURE:
                if not self._mode.signed or signature:
                    raise _trailer("unexpected signature")
                signature = value
                continue
            if signature or name in self._trailers or name not in self._names:
                raise _trailer(f"{name[:64]} was not announced in x-amz-trailer")
            self._trailers[name] = value
            signed_part.append(f"{name}:{value}\n")
        if self._mode.signed:
            digest = hashlib.sha256("".join(signed_part).encode("latin-1")).hexdigest()
            self._verify("AWS4-HMAC-SHA256-TRAILER", digest, signature)
        self._state = _State.DONE

    def _verify(self, algorithm: str, hashes: str, given: str) -> None:
        mode = self._mode
        if mode.key is None:
            raise Refused(ErrorCode.INTERNAL_ERROR)
        message = f"{algorithm}\n{mode.date}\n{mode.scope}\n{self._previous}\n{hashes}"
        expected = mode.key.sign(message.encode("latin-1"))
        if not hmac.compare_digest(expected.encode(), given.encode("latin-1")):
            raise Refused(ErrorCode.SIGNATURE_DOES_NOT_MATCH, "The signature of a chunk or trailer does not match.")
        self._previous = expected


def _trailer_field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not name or name != name.strip():
        raise _trailer("a line is malformed")
    return name.lower(), value.strip()


def _framing(what: str) -> Refused:
    return Refused(ErrorCode.INVALID_REQUEST, f"The aws-chunked body is malformed: {what}.")


def _trailer(what: str) -> Refused:
    return Refused(ErrorCode.MALFORMED_TRAILER, f"The trailer of the aws-chunked body is malformed: {what}.")


def declared_trailers(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Lower-case names announced in x-amz-trailer."""
    text = headers.get("x-amz-trailer", "")
    return tuple(name for name in (piece.strip().lower() for piece in text.split(",")) if name)


def decoded_length(headers: Mapping[str, str]) -> int:
    """x-amz-decoded-content-length, which an aws-chunked body needs; Refused: MissingContentLength, InvalidArgument."""
    text = headers.get("x-amz-decoded-content-length")
    if text is None:
        raise Refused(ErrorCode.MISSING_CONTENT_LENGTH)
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName="x-amz-decoded-content-length", ArgumentValue=text[:64])
    return int(text)

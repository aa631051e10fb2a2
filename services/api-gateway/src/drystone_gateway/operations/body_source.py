# SPDX-License-Identifier: Apache-2.0
"""A request's payload bytes, whatever framing S3 put around them: plain, or aws-chunked in its three forms.

Invariants
  B1  `receive` fills the caller's buffer; a plain body is never copied, an aws-chunked one once (its framing must go).
  B2  `finish` has returned before anything received counts: it alone knows that the framing, its signatures and the
      declared length were right.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.http.messages import Body
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.hashing import document_hashes
from drystone_gateway.s3.aws_chunked import ChunkedDecoder, declared_trailers, decoded_length
from drystone_gateway.s3.payload import Streaming
from drystone_gateway.s3.xml_in import SMALL_BODY

_SCRATCH = 64 * 1024
_NO_TRAILERS: Mapping[str, str] = MappingProxyType({})


class BodySource(Protocol):
    """Payload bytes and the trailers behind them."""

    size: int
    """Payload bytes the client declared."""

    def at_once(self) -> bytes | memoryview | bytearray | None:
        """The whole payload when it has already arrived, else None; then the others are not to be called but
        `finish`."""
        ...

    async def ready(self) -> None:
        """Wait until bytes have come, before a large buffer is borrowed for them."""
        ...

    async def receive(self, target: memoryview) -> int:
        """Fill `target`; short only at the payload's end, or when interrupted."""
        ...

    def interrupt(self) -> None:
        """End a receive under way with what has come."""
        ...

    async def finish(self) -> Mapping[str, str]:
        """The trailers, after all was found right; Refused otherwise."""
        ...


class PlainSource:
    """The body is the payload."""

    __slots__ = ("_body", "size")

    def __init__(self, body: Body, size: int) -> None:
        self._body = body
        self.size = size

    def at_once(self) -> bytes | None:
        return self._body.buffered()

    async def ready(self) -> None:
        await self._body.arrived(min(self.size, _SCRATCH))

    async def receive(self, target: memoryview) -> int:
        return await self._body.receive(target)

    def interrupt(self) -> None:
        self._body.interrupt()

    async def finish(self) -> Mapping[str, str]:
        return _NO_TRAILERS


class ChunkedSource:
    """The payload is inside aws-chunked framing."""

    __slots__ = ("_body", "_decoder", "_ended", "_interrupted", "_pieces", "_rest", "_scratch", "size")

    def __init__(self, body: Body, size: int, decoder: ChunkedDecoder) -> None:
        self._body = body
        self._decoder = decoder
        self.size = size
        self._scratch: memoryview | None = None
        self._pieces: Iterator[memoryview] = iter(())
        self._rest: memoryview | None = None
        self._ended = False
        self._interrupted = False

    def at_once(self) -> bytes | memoryview | bytearray | None:
        raw = self._body.buffered()
        if raw is None:
            return None
        self._ended = True
        pieces = list(self._decoder.feed(memoryview(raw)))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def ready(self) -> None:
        await self._body.arrived(min(self.size, _SCRATCH))

    async def receive(self, target: memoryview) -> int:
        self._interrupted = False
        filled, size = 0, len(target)
        while filled < size:
            piece = self._rest
            if piece is None:
                piece = next(self._pieces, None)
                if piece is None:
                    if self._interrupted or not await self._more():
                        break
                    continue
            step = min(size - filled, len(piece))
            target[filled : filled + step] = piece[:step]
            filled += step
            self._rest = piece[step:] if step < len(piece) else None
        return filled

    def interrupt(self) -> None:
        self._interrupted = True
        self._body.interrupt()

    async def finish(self) -> Mapping[str, str]:
        self._interrupted = False
        while True:
            for _ in self._pieces:
                raise Refused(ErrorCode.INCOMPLETE_BODY)
            if not await self._more():
                return self._decoder.finish()

    async def _more(self) -> bool:
        if self._ended:
            return False
        scratch = self._scratch
        if scratch is None:
            scratch = self._scratch = memoryview(bytearray(_SCRATCH))
        count = await self._body.receive(scratch)
        if count < len(scratch) and not self._interrupted:
            self._ended = True
        self._pieces = self._decoder.feed(scratch[:count])
        return count > 0


def body_source(call: Call, limit: int) -> BodySource:
    """The payload of a PUT. Refused: MissingContentLength, EntityTooLarge, NotImplemented (unframed transfer
    coding)."""
    body = call.request.body
    if isinstance(call.caller.payload, Streaming):
        source = _chunked(call, call.caller.payload)
        _check_size(source.size, limit)
        return source
    if body.declared is None:
        raise Refused(ErrorCode.NOT_IMPLEMENTED, "Transfer-Encoding is not supported without a decoded length.")
    if "content-length" not in call.request.headers:
        raise Refused(ErrorCode.MISSING_CONTENT_LENGTH)
    if "x-amz-trailer" in call.s3.headers:
        raise Refused(ErrorCode.INVALID_REQUEST, "A trailer needs a streaming x-amz-content-sha256.")
    _check_size(body.declared, limit)
    return PlainSource(body, body.declared)


async def read_document(call: Call, *, checksum: bool = True, limit: int = SMALL_BODY) -> bytes:
    """A small request document, verified. `checksum`: whether x-amz-checksum-* speaks of the document (not so in
    Complete).

    Refused: MaxMessageLengthExceeded, BadDigest, XAmzContentSHA256Mismatch, IncompleteBody.
    """
    body, payload = call.request.body, call.caller.payload
    hashes = document_hashes(call.s3.headers, payload, checksum=checksum)
    trailers = _NO_TRAILERS
    if isinstance(payload, Streaming):
        source = _chunked(call, payload)
        if source.size > limit:
            raise Refused(ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED)
        whole = bytearray(source.size)
        if await source.receive(memoryview(whole)) != source.size:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        data = bytes(whole)
        trailers = await source.finish()
    else:
        arrived = body.buffered()
        data = await body.read_all(limit) if arrived is None else arrived
        if len(data) > limit:
            raise Refused(ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED)
    if hashes is not None:
        hashes.update(data)
        hashes.verified(trailers)
    return data


def _chunked(call: Call, payload: Streaming) -> ChunkedSource:
    size = decoded_length(call.s3.headers)
    decoder = ChunkedDecoder(payload, decoded_length=size, trailer_names=declared_trailers(call.s3.headers))
    return ChunkedSource(call.request.body, size, decoder)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise Refused(ErrorCode.ENTITY_TOO_LARGE, ProposedSize=str(size), MaxSizeAllowed=str(limit))

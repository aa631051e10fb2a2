# SPDX-License-Identifier: Apache-2.0
"""Request bodies: what a handler receives and what a connection feeds.

Invariants
  B1  A byte of the body is copied at most once: straight from the kernel into the receiver's memory while one waits, or
      through the ring while nobody does.
  B2  The ring holds at most RING bytes and one read; beyond that the connection stops reading (back-pressure).
  B3  A body never takes a byte that follows it on the connection.
  B4  `100 Continue` goes out at the first wait for bytes none of which has come, or never.
States of IncomingBody   OPEN -> ENDED (all arrived) | FAILED (client gone, too slow, malformed)
                         what arrived before stays readable
"""

from asyncio import Future
from typing import Protocol

from drystone_core.check import check
from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_gateway.http.chunked import ChunkedDecoder, ChunkedError
from drystone_gateway.http.pacing import Progress

RING = 64 * 1024
DIRECT = 4096
"""Runs at least this long are received straight into the target."""


class BodySource(Protocol):
    """The connection, as its body sees it."""

    def wait_for_body(self) -> Future[int]:
        """A future for the body to complete; sees to it that the connection reads."""
        ...

    def pause_body(self) -> None:
        """Enough for now."""
        ...

    def send_continue(self) -> None:
        """Write `100 Continue`."""
        ...


class ArrivedBody:
    """A body that came with its head (or none at all)."""

    __slots__ = ("_at", "_data", "declared")

    def __init__(self, data: bytes = b"") -> None:
        self.declared: int | None = len(data)
        self._data = data
        self._at = 0

    def buffered(self) -> bytes | None:
        return self._data if self._at == 0 else self._data[self._at :]

    async def arrived(self, count: int) -> int:
        return len(self._data) - self._at

    async def receive(self, target: memoryview) -> int:
        at = self._at
        count = min(len(target), len(self._data) - at)
        if count:
            target[:count] = memoryview(self._data)[at : at + count]
            self._at = at + count
        return count

    def interrupt(self) -> None:
        """Nothing is ever waited for."""

    async def read_all(self, limit: int) -> bytes:
        rest = self._data[self._at :]
        if len(rest) > limit:
            raise _too_long(limit)
        self._at = len(self._data)
        return rest


class IncomingBody:
    """A body still on its way."""

    __slots__ = (
        "_at",
        "_chunks",
        "_discarding",
        "_error",
        "_expects_continue",
        "_left",
        "_ring",
        "_source",
        "_target",
        "_waiter",
        "_wanted",
        "declared",
        "ended",
        "progress",
        "received",
    )

    def __init__(self, source: BodySource, declared: int | None, expects_continue: bool) -> None:
        self.declared = declared
        self._source = source
        self._chunks = ChunkedDecoder() if declared is None else None
        self._left = declared or 0
        self._expects_continue = expects_continue
        self._ring = bytearray()
        self._target: memoryview | None = None
        self._at = 0
        self._wanted = 0
        self._waiter: Future[int] | None = None
        self._error: DrystoneError | None = None
        self._discarding = False
        self.received = 0
        """Payload bytes that arrived."""
        self.ended = False
        """All has arrived."""
        self.progress = Progress()

    # The handler's side.

    def buffered(self) -> bytes | None:
        return bytes(self._ring) if self.ended else None

    async def arrived(self, count: int) -> int:
        wanted = min(count, RING)
        while len(self._ring) < wanted and not self.ended:
            self._wanted = wanted
            await self._wait()
        return len(self._ring)

    async def receive(self, target: memoryview) -> int:
        check(self._target is None, "one receive at a time")
        size = len(target)
        count = self._take(target, size)
        if count == size or self.ended:
            return count
        if target.format != "B":
            target = target.cast("B")
        self._target, self._at = target, count
        try:
            return await self._wait()
        finally:
            self._target = None

    def interrupt(self) -> None:
        if self._target is not None:
            self._wake_receiver()

    async def read_all(self, limit: int) -> bytes:
        if self._chunks is None and self._left + len(self._ring) > limit:
            raise _too_long(limit)
        if self._chunks is None and not self.ended:
            whole = bytearray(self._left + len(self._ring))
            await self.receive(memoryview(whole))
            return bytes(whole)
        parts = bytearray()
        while True:
            parts += self._ring
            self._ring.clear()
            if len(parts) > limit:
                raise _too_long(limit)
            if self.ended:
                return bytes(parts)
            self._wanted = 1
            await self._wait()

    def _take(self, target: memoryview, size: int) -> int:
        """Move what the ring holds."""
        ring = self._ring
        count = min(size, len(ring))
        if count:
            with memoryview(ring) as view:
                target[:count] = view[:count]
            del ring[:count]
        return count

    async def _wait(self) -> int:
        if self._error is not None:
            raise self._error
        check(self._waiter is None, "one waiter at a time")
        if self._expects_continue:
            self._expects_continue = False
            if not self.received:
                self._source.send_continue()
        self._waiter = waiter = self._source.wait_for_body()
        try:
            return await waiter
        finally:
            self._waiter = None
            del waiter  # a future that failed and the frame that awaited it hold each other

    # The connection's side.

    @property
    def waiting(self) -> bool:
        """Is a handler waiting for the client?"""
        return self._waiter is not None

    @property
    def full(self) -> bool:
        return len(self._ring) >= RING

    @property
    def failed(self) -> bool:
        return self._error is not None

    def unread(self) -> int | None:
        """Bytes to drop before the next request can follow; None = not known, or the client holds them back."""
        if self._chunks is not None or self._error is not None or (self._expects_continue and not self.received):
            return None
        return self._left

    def discard(self) -> None:
        """The handler is done: drop what is here and what will come."""
        self._discarding = True
        self._ring.clear()

    def space(self) -> memoryview | None:
        """Where the kernel may write the next bytes, else None: then they come through feed()."""
        target = self._target
        if target is None:
            return None
        run = self._left if self._chunks is None else self._chunks.run
        rest = len(target) - self._at
        if run >= rest:
            return target[self._at :] if self._at else target
        if run >= DIRECT or self._chunks is None:
            return target[self._at : self._at + run]
        return None

    def filled(self, count: int) -> None:
        """The kernel wrote `count` bytes into space()."""
        target = self._target
        assert target is not None
        self.received += count
        self._at += count
        if self._chunks is None:
            self._left -= count
            self.ended = self._left == 0
        else:
            self._chunks.took(count)
        if self.ended or self._at == len(target):
            self._wake_receiver()

    def feed(self, data: memoryview) -> int:
        """Take what belongs to the body; returns how much did."""
        if self._error is not None:
            return len(data)
        if self._chunks is not None:
            try:
                count = self._chunks.feed(data, self._sink)
            except ChunkedError as error:
                self.fail(Refused(ErrorCode.INVALID_REQUEST, f"Chunked transfer coding: {error}."))
                return len(data)
            self.ended = self._chunks.ended
        else:
            count = min(self._left, len(data))
            self._left -= count
            self.ended = self._left == 0
            if count:
                self._sink(data[:count])
        if self._target is not None:
            if self.ended or self._at == len(self._target):
                self._wake_receiver()
        elif self._waiter is not None and (self.ended or len(self._ring) >= self._wanted):
            self._wake(len(self._ring))
        return count

    def fail(self, error: DrystoneError) -> None:
        """Nothing more will come."""
        if self._error is None and not self.ended:
            self._error = error
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    def _sink(self, data: memoryview) -> None:
        self.received += len(data)
        if self._discarding:
            return
        target = self._target
        if target is not None:
            count = min(len(data), len(target) - self._at)
            if count:
                target[self._at : self._at + count] = data[:count]
                self._at += count
                data = data[count:]
        if data:
            self._ring += data

    def _wake_receiver(self) -> None:
        count, self._target = self._at, None
        if not self.ended:
            self._source.pause_body()
        self._wake(count)

    def _wake(self, count: int) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(count)


def open_body(
    source: BodySource, length: int | None, expects_continue: bool, buffer: bytearray, at: int, end: int
) -> tuple[ArrivedBody | IncomingBody, int]:
    """The body that begins at buffer[at:end], and where what arrived of it ends."""
    if length == 0:
        return ArrivedBody(), at
    if length is not None and end - at >= length:
        with memoryview(buffer) as view:
            return ArrivedBody(bytes(view[at : at + length])), at + length
    body = IncomingBody(source, length, expects_continue)
    if at < end:
        with memoryview(buffer) as view:
            at += body.feed(view[at:end])
    return body, at


def incomplete_body() -> Refused:
    """The client stopped early."""
    return Refused(ErrorCode.INCOMPLETE_BODY, "You did not provide the number of bytes specified by the request.")


def slow_body() -> Refused:
    """The client sends too slowly."""
    return Refused(
        ErrorCode.REQUEST_TIMEOUT,
        "Your socket connection to the server was not read from or written to within the timeout period.",
    )


def _too_long(limit: int) -> Refused:
    return Refused(ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED, "Your request was too big.", MaxMessageLengthBytes=str(limit))

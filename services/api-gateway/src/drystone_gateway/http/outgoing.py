# SPDX-License-Identifier: Apache-2.0
"""The sending side of one connection: what the transport holds, and streams with back-pressure.

Invariants
  O1  A chunk is released after its bytes left the transport, or after the connection is lost; exactly once.
  O2  The transport holds at most one chunk; while it does, the next one is fetched from the stream but not written.
  O3  `paused` is true exactly while the transport holds bytes (its water marks are zero).
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

from drystone_core.ports import Buffer
from drystone_core.services import ReadChunk, ReleaseFn
from drystone_gateway.http.pacing import Pace, Progress

TURN = 4 * 1024 * 1024
"""Bytes of one answer after which other connections get their turn, should nothing make it wait."""
_RESET = struct.pack("ii", 1, 0)


class ShortStream(Exception):
    """A stream gave fewer or more bytes than its response announced."""


class ClientGone(Exception):
    """The connection ended while an answer was being sent."""


class Outgoing:
    """Writes to one transport."""

    __slots__ = ("_drained", "_in_flight", "_loop", "_progress", "_secure", "_transport", "paused", "written")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, secure: bool) -> None:
        self._transport = transport
        self._loop = loop
        self._secure = secure
        self._in_flight: ReleaseFn | None = None
        """Of the chunk the transport holds."""
        self._drained: asyncio.Future[None] | None = None
        self._progress: Progress | None = None
        """Of the client's reading; only while it is behind."""
        self.paused = False
        self.written = 0

    def bound(self) -> None:
        """Let the transport hold nothing. Pauses at once while the end of a TLS handshake is still to be sent."""
        # uvloop's TLS transport compares with >=, the others with >.
        self._transport.set_write_buffer_limits(high=1 if self._secure else 0, low=0)

    def write(self, data: Buffer) -> None:
        self.written += len(data)
        self._transport.write(data)

    def write_both(self, lead: bytes, body: Buffer) -> None:
        self.written += len(lead) + len(body)
        self._transport.writelines((lead, body))

    def close(self, farewell: float) -> None:
        """End the connection where nothing is left to send.

        Over TLS the transport waits for the client's own farewell, and an idle client does not read: after `farewell`
        seconds it is cut.
        """
        self._transport.close()
        if self._secure:
            self._loop.call_later(farewell, self._transport.abort)

    async def stream(
        self, lead: bytes, chunks: AsyncIterator[ReadChunk], length: int | None, *, wanted: bool, chunked: bool
    ) -> Exception | None:
        """Send a head and all chunks, or the head alone, and end the stream; returns what broke it.

        That is what the stream raises, ShortStream or ClientGone. The head goes out with the first chunk: until then
        `written` does not move.
        """
        left, turn = length, 0
        try:
            if not wanted:
                self.write(lead)
                return None
            async for chunk in chunks:
                if self.paused:
                    await self._wait_drained(chunk)
                size = len(chunk.data)
                if self._transport.is_closing():
                    chunk.release()
                    raise ClientGone
                if left is not None:
                    left -= size
                    if left < 0:
                        chunk.release()
                        raise ShortStream(f"{-left} bytes too many")
                self._send_chunk(lead, chunk, size, chunked)
                lead = b""
                turn += size
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
            if left:
                raise ShortStream(f"{left} bytes missing")
            if chunked:
                lead += b"0\r\n\r\n"
            if lead:
                self.write(lead)
        except Exception as broken:
            return broken
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        return None

    async def _wait_drained(self, chunk: ReadChunk) -> None:
        """Wait until the transport is empty; `chunk` is ours should we be cancelled."""
        self._drained = self._loop.create_future()
        try:
            await self._drained
        except BaseException:
            chunk.release()
            raise
        finally:
            self._drained = None

    def _send_chunk(self, lead: bytes, chunk: ReadChunk, size: int, chunked: bool) -> None:
        self._in_flight = chunk.release
        if chunked and size:
            opening = b"%b%x\r\n" % (lead, size)
            self.written += len(opening) + size + 2
            self._transport.writelines((opening, chunk.data, b"\r\n"))
        elif lead:
            self.write_both(lead, chunk.data)
        else:
            self.write(chunk.data)
        if not self.paused:
            self.release()

    def release(self) -> None:
        """The transport holds nothing any more."""
        release, self._in_flight = self._in_flight, None
        if release is not None:
            release()

    def pause(self) -> None:
        self.paused = True
        self._progress = Progress()

    def resume(self) -> None:
        self.paused = False
        self._progress = None
        self.release()
        drained = self._drained
        if drained is not None and not drained.done():
            drained.set_result(None)

    def too_slow(self, elapsed: float, pace: Pace) -> bool:
        """Does the client take what the transport holds too slowly?"""
        progress = self._progress
        if progress is None:
            return False
        return progress.too_slow(self.written - self._transport.get_write_buffer_size(), elapsed, pace)

    def abort(self) -> None:
        """End the connection as it is."""
        self._transport.abort()

    def reset(self) -> None:
        """Break the connection so that the client notices (RST rather than FIN)."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

# SPDX-License-Identifier: Apache-2.0
"""One client connection: bytes in, requests to the handler in order, answers out.

Invariants
  P1  One request at a time; what a client pipelines behind it waits in `_pending` (bounded: reading pauses).
  P2  Nothing is read into memory of our own while a handler receives: get_buffer() is the receiver's memory.
  P3  A chunk is released after its bytes left the transport, or after the connection is lost; exactly once.
  P4  An answer that cannot be completed after its head went out ends in a reset, never in a silent short body.
  P5  Nothing is written while the transport still holds bytes of the answer before: no client makes answers pile up.
  P6  When the client goes away the handler is cancelled (or, when it reads the body, told IncompleteBody).

States           event                                                next
  HEAD           a head is complete (_begin)                          BUSY
                 a bad head, too slow (_refuse)                       LINGER
  BUSY           answered, all of the body has arrived (_finish)      HEAD
                 answered, little of the body is left (_finish)       DISCARD
                 answered for the last time (_finish)                 LINGER when input is left over, else CLOSED
  DISCARD        the rest of the body has arrived                     HEAD
  LINGER         end of input, or linger_s passed                     CLOSED
  any            connection_lost                                      CLOSED

Concurrency  everything runs on the loop; handlers are stepped without a task until they first wait (see stepping.py).
"""

import asyncio
import logging
import socket
import struct
from typing import cast

from drystone_core.errors import DrystoneError, ErrorCode
from drystone_core.services import ReadChunk, ReleaseFn
from drystone_gateway.http import stepping
from drystone_gateway.http.bodies import RING, ArrivedBody, IncomingBody, incomplete_body, slow_body
from drystone_gateway.http.heads import Head, HeadRefused, parse_head, refuse_early
from drystone_gateway.http.messages import Body, Request, Response
from drystone_gateway.http.pacing import Progress
from drystone_gateway.http.responses import frame, refusal
from drystone_gateway.http.shared import Shared

HEAD, BUSY, DISCARD, LINGER, CLOSED = range(5)
JOIN_LIMIT = 16 * 1024
"""Bodies up to this are copied behind their head and written as one piece."""
TURN = 4 * 1024 * 1024
"""Bytes of one answer after which other connections get their turn, should nothing make it wait."""
_RESET = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger(__name__)


class ShortStream(Exception):
    """A stream gave fewer or more bytes than its response announced."""


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection."""

    __slots__ = (
        "_age",
        "_direct",
        "_drained",
        "_eof",
        "_head",
        "_in_flight",
        "_incoming",
        "_pending",
        "_progress",
        "_read_paused",
        "_request",
        "_scanned",
        "_shared",
        "_state",
        "_task",
        "_transport",
        "_write_paused",
        "_written",
        "peer",
        "secure",
    )

    _transport: asyncio.Transport

    def __init__(self, shared: Shared, *, secure: bool) -> None:
        self._shared = shared
        self.secure = secure
        self.peer = ""
        self._state = HEAD
        self._pending = bytearray()
        """Unparsed input: part of a head, or what was pipelined."""
        self._scanned = 0
        """Bytes of `_pending` known to hold no end of a head."""
        self._direct = False
        """The kernel writes into the body's target."""
        self._incoming: IncomingBody | None = None
        """The body that is still arriving."""
        self._head: Head | None = None
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_flight: ReleaseFn | None = None
        """Of the chunk the transport holds."""
        self._drained: asyncio.Future[None] | None = None
        self._read_paused = False
        self._write_paused = False
        self._eof = False
        self._written = 0
        self._progress: Progress | None = None
        """Of the client's reading; only while it is behind."""
        self._age = 0.0
        """Seconds in HEAD (since the first byte, if any) or LINGER."""

    # Transport callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # "Paused" shall mean: bytes are left over. (uvloop's TLS transport compares with >=, the others with >.)
        self._transport.set_write_buffer_limits(high=1 if self.secure else 0, low=0)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        shared = self._shared
        shared.stats.connections += 1
        shared.stats.connections_total += 1
        shared.connections[self] = None
        limit = shared.settings.max_connections
        if shared.stats.connections > limit or shared.draining:
            shared.stats.refused_connections += 1
            if shared.stats.connections > limit + limit // 8 + 16:
                transport.close()
            else:
                self._refuse(HeadRefused("Please reduce your request rate.", ErrorCode.SLOW_DOWN, 503))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._state = CLOSED
        self._shared.stats.connections -= 1
        self._shared.connections.pop(self, None)
        self._release_in_flight()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._incoming is not None:
            self._incoming.fail(incomplete_body())
            self._incoming = None

    def get_buffer(self, sizehint: int) -> memoryview:
        incoming = self._incoming
        if incoming is not None:
            space = incoming.space()
            if space is not None:
                self._direct = True
                return space
        self._direct = False
        return self._shared.view

    def buffer_updated(self, count: int) -> None:
        incoming = self._incoming
        if self._direct and incoming is not None:
            incoming.filled(count)
            if incoming.ended:
                self._incoming = None
            return
        state = self._state
        if state == HEAD:
            if self._pending:
                self._pending += self._shared.view[:count]
                self._parse_pending()
            else:
                used = self._parse(self._shared.buffer, 0, count)
                if used < count and self._state <= DISCARD:
                    self._keep(self._shared.view[used:count])
        elif state <= DISCARD:
            self._more(self._shared.view[:count])

    def eof_received(self) -> bool:
        self._eof = True
        if self._state != BUSY:
            return False
        if self._incoming is not None:
            self._incoming.fail(incomplete_body())
            return not self.secure
        if self._head is None:
            return not self.secure  # Being answered: let the client have it, should it only have stopped sending.
        if self._task is not None:
            self._task.cancel()
        return False

    def pause_writing(self) -> None:
        self._write_paused = True
        self._progress = Progress()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._progress = None
        self._release_in_flight()
        drained = self._drained
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self._state == HEAD and self._pending:
            self._shared.loop.call_soon(self._parse_pending)

    # Input.

    def _parse(self, buffer: bytearray, at: int, end: int) -> int:
        """Begin the requests whose heads are in buffer[at:end]; returns where what remains begins."""
        while at < end and self._state == HEAD and not self._write_paused:
            if buffer[at] == 13 and buffer[at : at + 2] == b"\r\n" and at + 2 <= end:
                at += 2  # RFC 9112 §2.2: an empty line before the request line is ignored.
                self._scanned = 0
                continue
            stop = buffer.find(b"\r\n\r\n", at + max(0, self._scanned - 3), end)
            try:
                if stop < 0:
                    refuse_early(buffer, at, self._scanned, end)
                    self._scanned = end - at
                    return at
                self._scanned = 0
                head = parse_head(bytes(memoryview(buffer)[at : stop + 4]))
            except HeadRefused as refused:
                self._refuse(refused)
                return end
            at = self._begin(head, buffer, at, stop + 4, end)
        return at

    def _parse_pending(self) -> None:
        pending = self._pending
        if self._state == HEAD and pending:
            used = self._parse(pending, 0, len(pending))
            del pending[:used]
            self._watch_pending()

    def _keep(self, data: memoryview) -> None:
        """Hold what cannot be parsed yet."""
        if not self._pending:
            self._age = 0.0
        self._pending += data
        self._watch_pending()

    def _watch_pending(self) -> None:
        if self._state != HEAD or self._write_paused:
            if len(self._pending) > RING:
                self._pause_reading()
        elif self._read_paused:
            self._resume_reading()

    def _more(self, data: memoryview) -> None:
        """Input while a request is being answered, or its body dropped."""
        incoming = self._incoming
        if incoming is not None:
            data = data[incoming.feed(data) :]
            if incoming.ended:
                self._incoming = None
                if self._state == DISCARD:
                    self._next()
            elif incoming.failed and self._state == DISCARD:
                self._transport.close()
            elif incoming.full and self._state == BUSY:
                self._pause_reading()
        if data:
            self._keep(data)
            if self._state == HEAD:
                self._parse_pending()

    def _begin(self, head: Head, buffer: bytearray, at: int, body_at: int, end: int) -> int:
        """Start a request; returns where its body's arrived part ends."""
        shared = self._shared
        length = head.length
        body: Body
        if length == 0:
            body = ArrivedBody()
        elif length is not None and end - body_at >= length:
            body = ArrivedBody(bytes(memoryview(buffer)[body_at : body_at + length]))
            body_at += length
        else:
            body = incoming = IncomingBody(self, length, head.expects_continue)
            if body_at < end:
                with memoryview(buffer) as view:
                    body_at += incoming.feed(view[body_at:end])
            if not incoming.ended:
                self._incoming = incoming
        self._state = BUSY
        self._head = head
        self._request = request = Request(
            method=head.method,
            target=head.target,
            headers=head.headers,
            repeated=head.repeated,
            body=body,
            peer=self.peer,
            secure=self.secure,
            request_id=shared.ids.next(),
            host_id=shared.host_id,
        )
        stats = shared.stats
        stats.requests += 1
        stats.in_flight += 1
        self._task = stepping.start(self._exchange(request, head), shared.loop)
        return body_at

    # A request and its answer.

    async def _exchange(self, request: Request, head: Head) -> None:
        shared = self._shared
        stats = shared.stats
        started = 0.0 if shared.access_log is None else shared.clock.monotonic()
        before = self._written
        status = 0
        error: BaseException | None = None
        try:
            try:
                if stats.in_flight > shared.settings.max_in_flight:
                    stats.slow_downs += 1
                    response = self._refusal(request, 503, ErrorCode.SLOW_DOWN, "Please reduce your request rate.")
                else:
                    response = await shared.handler(request)
            except (Exception, asyncio.CancelledError) as failure:
                error = failure
                response = self._failed(request, failure)
            status = response.status
            self._head = None
            if response.stream is None:
                self._answer(request, head, response)
            else:
                error = await self._stream(request, head, response) or error
        except BaseException as failure:
            error = failure
            self._reset()
            raise
        finally:
            stats.in_flight -= 1
            self._task = None
            body = request.body
            arrived = body.received if type(body) is IncomingBody else body.declared or 0
            stats.bytes_in += arrived
            stats.bytes_out += self._written - before
            if shared.access_log is not None:
                seconds = shared.clock.monotonic() - started
                shared.access_log(request, status, arrived, self._written - before, seconds, error)

    def _failed(self, request: Request, failure: BaseException) -> Response:
        """The answer to what a handler raised; raises it again when we were cancelled."""
        if isinstance(failure, asyncio.CancelledError) and (
            self._state == CLOSED or self._eof or (self._task is not None and self._task.cancelling())
        ):
            raise failure
        if isinstance(failure, DrystoneError):
            expected = failure
        else:
            self._shared.stats.errors += 1
            log.error("http.handler_failed request_id=%s", request.request_id, exc_info=failure)
            expected = DrystoneError(ErrorCode.INTERNAL_ERROR)
        try:
            return self._shared.render_error(request, expected)
        except Exception as unrendered:
            log.error("http.error_not_rendered request_id=%s", request.request_id, exc_info=unrendered)
            return self._refusal(request, 500, ErrorCode.INTERNAL_ERROR, "We encountered an internal error.")

    def _refusal(self, request: Request, status: int, code: ErrorCode, message: str) -> Response:
        return refusal(status, code.value, message, request.request_id, self._shared.host_id)

    def _answer(self, request: Request, head: Head, response: Response) -> None:
        """Answer with a body at hand."""
        if self._state == CLOSED:
            return
        keep = self._keeps(head, response)
        bodyless = request.method == "HEAD"
        lead = self._shared.heads.build(
            response,
            request.request_id,
            framing=frame(response, head_only=bodyless, old=head.old),
            keep_alive=keep,
            old=head.old,
        )
        body = response.body
        if bodyless or not body or response.status == 204 or response.status == 304:
            self._written += len(lead)
            self._transport.write(lead)
        elif len(body) <= JOIN_LIMIT:
            lead += body
            self._written += len(lead)
            self._transport.write(lead)
        else:
            self._written += len(lead) + len(body)
            self._transport.writelines((lead, body))
        self._finish(keep)

    async def _stream(self, request: Request, head: Head, response: Response) -> BaseException | None:
        """Answer with a stream; returns what broke it."""
        stream = response.stream
        assert stream is not None
        wanted = request.method != "HEAD" and response.status not in (204, 304)
        framing = frame(response, head_only=not wanted, old=head.old)
        chunked = wanted and response.length is None and not head.old
        keep = self._keeps(head, response) and not (wanted and head.old and response.length is None)
        lead = self._shared.heads.build(response, request.request_id, framing=framing, keep_alive=keep, old=head.old)
        left = response.length
        turn = 0
        sent_head = False
        try:
            if wanted:
                async for chunk in stream:
                    if self._write_paused:
                        await self._wait_drained(chunk)
                    size = len(chunk.data)
                    if left is not None:
                        left -= size
                    if self._transport.is_closing() or (left is not None and left < 0):
                        chunk.release()
                        raise ShortStream("the client has gone" if left is None or left >= 0 else "bytes too many")
                    self._send_chunk(b"" if sent_head else lead, chunk, size, chunked)
                    sent_head = True
                    turn += size
                    if turn >= TURN:
                        turn = 0
                        await asyncio.sleep(0)
                if left:
                    raise ShortStream(f"{left} bytes missing")
        except Exception as failure:
            if sent_head:
                if not self._transport.is_closing():
                    log.error("http.stream_broken request_id=%s", request.request_id, exc_info=failure)
                self._reset()
            else:
                self._answer(request, head, self._failed(request, failure))
            return failure
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        if self._state == CLOSED:
            return None
        tail = b"" if sent_head else lead
        if chunked:
            tail += b"0\r\n\r\n"
        if tail:
            self._written += len(tail)
            self._transport.write(tail)
        self._finish(keep)
        return None

    async def _wait_drained(self, chunk: ReadChunk) -> None:
        """Wait until the transport is empty; `chunk` is ours should we be cancelled."""
        self._drained = self._shared.loop.create_future()
        try:
            await self._drained
        except BaseException:
            chunk.release()
            raise
        finally:
            self._drained = None

    def _send_chunk(self, lead: bytes, chunk: ReadChunk, size: int, chunked: bool) -> None:
        transport = self._transport
        if not size and not lead:
            chunk.release()
            return
        self._in_flight = chunk.release
        if chunked and size:
            opening = b"%b%x\r\n" % (lead, size)
            self._written += len(opening) + size + 2
            transport.writelines((opening, chunk.data, b"\r\n"))
        elif lead:
            self._written += len(lead) + size
            transport.writelines((lead, chunk.data) if size else (lead,))
        else:
            self._written += size
            transport.write(chunk.data)
        if not self._write_paused and self._state != CLOSED:
            self._release_in_flight()

    def _release_in_flight(self) -> None:
        release, self._in_flight = self._in_flight, None
        if release is not None:
            release()

    # After the answer.

    def _keeps(self, head: Head, response: Response) -> bool:
        """Can another request follow this answer?"""
        if not head.keep_alive or response.close or self._shared.draining or self._eof:
            return False
        incoming = self._incoming
        if incoming is None:
            return True
        unread = incoming.unread()
        return unread is not None and unread <= self._shared.settings.discard_limit

    def _finish(self, keep: bool) -> None:
        incoming = self._incoming
        if not keep or self._eof:
            if (incoming is not None or self._pending) and not self._eof:
                self._linger()
            else:
                self._state = CLOSED
                self._transport.close()
            return
        if incoming is not None:
            incoming.discard()
            self._state = DISCARD
            self._resume_reading()
        else:
            self._next()
            if self._pending and self._task is not None:
                self._shared.loop.call_soon(self._parse_pending)

    def _next(self) -> None:
        """Ready for the next head."""
        self._state = HEAD
        self._age = 0.0
        self._scanned = 0
        if self._read_paused:
            self._resume_reading()

    def _refuse(self, refused: HeadRefused) -> None:
        """Answer what is no request, and close."""
        shared = self._shared
        shared.stats.refused_heads += 1
        request_id = shared.ids.next()
        response = refusal(refused.status, refused.code.value, refused.message, request_id, shared.host_id)
        framing = frame(response, head_only=False, old=False)
        lead = shared.heads.build(response, request_id, framing=framing, keep_alive=False, old=False)
        data = lead + response.body
        self._written += len(data)
        shared.stats.bytes_out += len(data)
        self._transport.write(data)
        if shared.access_log is not None:
            shared.access_log(None, refused.status, 0, len(data), 0.0, refused)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing follows and drop input for a while: closing at once would reset what is not yet read."""
        self._state = LINGER
        self._age = 0.0
        self._pending.clear()
        self._incoming = None
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _reset(self) -> None:
        """Break the connection so that the client notices."""
        if self._state == CLOSED:
            return
        self._shared.stats.aborted += 1
        self._state = CLOSED
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    # For the body (BodySource).

    def wait_for_body(self) -> asyncio.Future[int]:
        if self._read_paused:
            self._resume_reading()
        return self._shared.loop.create_future()

    def pause_body(self) -> None:
        self._pause_reading()

    def send_continue(self) -> None:
        if self._state == BUSY:
            self._written += len(_CONTINUE)
            self._transport.write(_CONTINUE)

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            if not self._eof:
                self._transport.resume_reading()

    # For the server.

    def sweep(self, elapsed: float) -> None:
        """Apply the timeouts; called every now and then."""
        settings = self._shared.settings
        state = self._state
        if self._progress is not None:
            taken = self._written - self._transport.get_write_buffer_size()
            if self._progress.too_slow(taken, elapsed, settings.download):
                self._time_out()
        elif state == HEAD or state == LINGER:
            self._age += elapsed
            if state == LINGER:
                if self._age > settings.linger_s:
                    self._transport.abort()
            elif self._pending:
                if self._age > settings.head_timeout_s:
                    self._shared.stats.timeouts += 1
                    self._refuse(HeadRefused(slow_body().message, ErrorCode.REQUEST_TIMEOUT))
            elif self._age > (settings.idle_timeout_s if self._written else settings.head_timeout_s):
                self._transport.close()
        elif self._incoming is not None:
            self._sweep_body(self._incoming, elapsed)

    def _sweep_body(self, incoming: IncomingBody, elapsed: float) -> None:
        if not incoming.waiting and self._state != DISCARD:
            incoming.progress.rest()
        elif incoming.progress.too_slow(incoming.received, elapsed, self._shared.settings.upload):
            if self._state == DISCARD:
                self._time_out()
            else:
                self._shared.stats.timeouts += 1
                incoming.fail(slow_body())

    def _time_out(self) -> None:
        self._shared.stats.timeouts += 1
        self._reset()

    def close_idle(self) -> None:
        """The server drains: end the connection unless a request is being answered."""
        if self._state == HEAD and not self._pending and not self._write_paused:
            self._transport.close()

    def abort(self) -> None:
        """The server's patience is over."""
        self._reset()

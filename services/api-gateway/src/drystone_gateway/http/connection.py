# SPDX-License-Identifier: Apache-2.0
"""One client connection: bytes in, requests to the handler in order, answers out.

Invariants
  P1  One request at a time; what a client pipelines behind it waits in `pending` (bounded: reading pauses).
  P2  Nothing is read into memory of our own while a handler receives: get_buffer() is the receiver's memory.
  P3  An answer that cannot be completed after its head went out ends in a reset, never in a silent short body.
  P4  Nothing is written while the transport still holds bytes of the answer before: no client makes answers pile up.
  P5  When the client goes away the handler is cancelled (or, when it reads the body, told IncompleteBody).

States           event                                                next
  HEAD           a head is complete (_begin)                          BUSY
                 a bad head, too slow (refuse)                       LINGER
  BUSY           answered, all of the body has arrived (_finish)      HEAD
                 answered, little of the body is left (_finish)       DISCARD
                 answered for the last time (_finish)                 LINGER when input is left over, else CLOSED
  DISCARD        the rest of the body has arrived                     HEAD
  LINGER         end of input, or linger_s passed                     CLOSED
  any            connection_lost                                      CLOSED

Who is too slow is judged from outside, by the public attributes (timeouts.py).
Concurrency  everything runs on the loop; handlers are stepped without a task until they first wait (see stepping.py).
"""

import asyncio
import logging
from typing import cast

from drystone_core.errors import ErrorCode
from drystone_gateway.http import stepping
from drystone_gateway.http.bodies import RING, IncomingBody, incomplete_body, open_body
from drystone_gateway.http.heads import Head, HeadRefused, parse_head, refuse_early
from drystone_gateway.http.messages import Request, Response
from drystone_gateway.http.outgoing import ClientGone, Outgoing
from drystone_gateway.http.responses import refusal
from drystone_gateway.http.shared import Shared

HEAD, BUSY, DISCARD, LINGER, CLOSED = range(5)
JOIN_LIMIT = 16 * 1024
"""Bodies up to this are copied behind their head and written as one piece."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection."""

    __slots__ = (
        "_direct",
        "_eof",
        "_head",
        "_read_paused",
        "_scanned",
        "_task",
        "_transport",
        "age",
        "incoming",
        "out",
        "peer",
        "pending",
        "secure",
        "shared",
        "state",
    )

    _transport: asyncio.Transport
    out: Outgoing

    def __init__(self, shared: Shared, *, secure: bool) -> None:
        self.shared = shared
        self.secure = secure
        self.peer = ""
        self.state = HEAD
        self.pending = bytearray()
        """Unparsed input: part of a head, or what was pipelined."""
        self._scanned = 0
        """Bytes of `pending` known to hold no end of a head."""
        self._direct = False
        """The kernel writes into the body's target."""
        self.incoming: IncomingBody | None = None
        """The body that is still arriving."""
        self._head: Head | None = None
        self._task: asyncio.Task[None] | None = None
        self._read_paused = False
        self._eof = False
        self.age = 0.0
        """Seconds in HEAD (since the first byte, if any) or LINGER."""

    # Transport callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.out = Outgoing(self._transport, self.shared.loop, secure=self.secure)
        self.out.bound()
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        shared = self.shared
        shared.stats.connections += 1
        shared.stats.connections_total += 1
        shared.connections[self] = None
        limit = shared.settings.max_connections
        if shared.stats.connections > limit or shared.draining:
            shared.stats.refused_connections += 1
            if shared.stats.connections > limit + limit // 8 + 16:
                transport.close()
            else:
                self.refuse(HeadRefused("Please reduce your request rate.", ErrorCode.SLOW_DOWN, 503))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.state = CLOSED
        self.shared.stats.connections -= 1
        self.shared.connections.pop(self, None)
        self.out.release()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self.incoming is not None:
            self.incoming.fail(incomplete_body())
            self.incoming = None

    def get_buffer(self, sizehint: int) -> memoryview:
        incoming = self.incoming
        if incoming is not None:
            space = incoming.space()
            if space is not None:
                self._direct = True
                return space
        self._direct = False
        return self.shared.view

    def buffer_updated(self, count: int) -> None:
        incoming = self.incoming
        if self._direct and incoming is not None:
            incoming.filled(count)
            if incoming.ended:
                self.incoming = None
            return
        state = self.state
        if state == HEAD:
            if self.pending:
                self.pending += self.shared.view[:count]
                self._parse_pending()
            else:
                used = self._parse(self.shared.buffer, 0, count)
                if used < count and self.state <= DISCARD:
                    self._keep(self.shared.view[used:count])
        elif state <= DISCARD:
            self._more(self.shared.view[:count])

    def eof_received(self) -> bool:
        self._eof = True
        if self.state != BUSY:
            return False
        if self.incoming is not None:
            self.incoming.fail(incomplete_body())
            return not self.secure
        if self._head is None:
            return not self.secure  # Being answered: let the client have it, should it only have stopped sending.
        return False  # The transport closes; connection_lost() cancels the handler, once.

    def pause_writing(self) -> None:
        self.out.pause()

    def resume_writing(self) -> None:
        self.out.resume()
        if self.state == HEAD and self.pending:
            self.shared.loop.call_soon(self._parse_pending)

    # Input.

    def _parse(self, buffer: bytearray, at: int, end: int) -> int:
        """Begin the requests whose heads are in buffer[at:end]; returns where what remains begins."""
        while at < end and self.state == HEAD and not self.out.paused:
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
                self.shared.stats.refused_heads += 1
                self.refuse(refused)
                return end
            at = self._begin(head, buffer, stop + 4, end)
        return at

    def _parse_pending(self) -> None:
        pending = self.pending
        if self.state == HEAD and pending:
            used = self._parse(pending, 0, len(pending))
            del pending[:used]
            self._watch_pending()

    def _keep(self, data: memoryview) -> None:
        """Hold what cannot be parsed yet."""
        if not self.pending:
            self.age = 0.0
        self.pending += data
        self._watch_pending()

    def _watch_pending(self) -> None:
        if self.state != HEAD or self.out.paused:
            if len(self.pending) > RING:
                self.pause_body()
        elif self._read_paused:
            self._resume_reading()

    def _more(self, data: memoryview) -> None:
        """Input while a request is being answered, or its body dropped."""
        incoming = self.incoming
        if incoming is not None:
            data = data[incoming.feed(data) :]
            if incoming.ended:
                self.incoming = None
                if self.state == DISCARD:
                    self._next()
            elif incoming.failed and self.state == DISCARD:
                self._transport.close()
            elif incoming.full and self.state == BUSY:
                self.pause_body()
        if data:
            self._keep(data)
            if self.state == HEAD:
                self._parse_pending()

    def _begin(self, head: Head, buffer: bytearray, body_at: int, end: int) -> int:
        """Start a request; returns where its body's arrived part ends."""
        shared = self.shared
        body, taken = open_body(self, head.length, head.expects_continue, buffer, body_at, end)
        if type(body) is IncomingBody and not body.ended:
            self.incoming = body
            if body.full:
                self.pause_body()
        self.state = BUSY
        self._head = head
        request = Request(
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
        return taken

    # A request and its answer.

    async def _exchange(self, request: Request, head: Head) -> None:
        shared = self.shared
        stats = shared.stats
        started = 0.0 if shared.access_log is None else shared.clock.monotonic()
        before = self.out.written
        status = 0
        error: BaseException | None = None
        try:
            try:
                if stats.in_flight > shared.settings.max_in_flight:
                    stats.slow_downs += 1
                    response = shared.refusal(request, 503, ErrorCode.SLOW_DOWN, "Please reduce your request rate.")
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
            self.reset()
            raise
        finally:
            stats.in_flight -= 1
            self._task = None
            body = request.body
            arrived = body.received if type(body) is IncomingBody else body.declared or 0
            stats.bytes_in += arrived
            stats.bytes_out += self.out.written - before
            if shared.access_log is not None:
                seconds = shared.clock.monotonic() - started
                shared.access_log(request, status, arrived, self.out.written - before, seconds, error)
            if type(body) is IncomingBody:
                body.discard()
            error = None  # its traceback holds this frame, and with it all that the request held

    def _failed(self, request: Request, failure: BaseException) -> Response:
        """The answer to what a handler raised; raises it again when we were cancelled."""
        if isinstance(failure, asyncio.CancelledError) and (
            self.state == CLOSED or self._eof or (self._task is not None and self._task.cancelling())
        ):
            raise failure
        return self.shared.render_failure(request, failure)

    def _answer(self, request: Request, head: Head, response: Response) -> None:
        """Answer with a body at hand."""
        if self.state == CLOSED:
            return
        keep = self._keeps(head, response)
        bodyless = request.method == "HEAD"
        lead = self.shared.heads.build(response, request.request_id, head_only=bodyless, keep_alive=keep, old=head.old)
        body, status = response.body, response.status
        if status >= 400:
            self.shared.stats.failed(status)
        if bodyless or not body or status == 204 or status == 304:
            self.out.write(lead)
        elif len(body) <= JOIN_LIMIT:
            self.out.write(lead + body)
        else:
            self.out.write_both(lead, body)
        self._finish(keep)

    async def _stream(self, request: Request, head: Head, response: Response) -> BaseException | None:
        """Answer with a stream; returns what broke it."""
        stream, length = response.stream, response.length
        assert stream is not None
        wanted = request.method != "HEAD" and response.status not in (204, 304)
        chunked = wanted and length is None and not head.old
        keep = self._keeps(head, response) and not (wanted and head.old and length is None)
        lead = self.shared.heads.build(
            response, request.request_id, head_only=not wanted, keep_alive=keep, old=head.old
        )
        before = self.out.written
        broken = await self.out.stream(lead, stream, length, wanted=wanted, chunked=chunked)
        if broken is None:
            if self.state != CLOSED:
                self._finish(keep)
        elif self.out.written == before:
            self._answer(request, head, self._failed(request, broken))
        else:
            if not isinstance(broken, ClientGone):
                log.error("http.stream_broken", extra={"request_id": request.request_id}, exc_info=broken)
            self.reset()
        return broken

    # After the answer.

    def _keeps(self, head: Head, response: Response) -> bool:
        """Can another request follow this answer?"""
        if not head.keep_alive or response.close or self.shared.draining or self._eof:
            return False
        incoming = self.incoming
        if incoming is None:
            return True
        unread = incoming.unread()
        return unread is not None and unread <= self.shared.settings.discard_limit

    def _finish(self, keep: bool) -> None:
        incoming = self.incoming
        if not keep or self._eof:
            if (incoming is not None or self.pending) and not self._eof:
                self._linger()
            else:
                self.state = CLOSED
                self._transport.close()
            return
        if incoming is not None:
            incoming.discard()
            self.state = DISCARD
            self._resume_reading()
        else:
            self._next()
            if self.pending and self._task is not None:
                self.shared.loop.call_soon(self._parse_pending)

    def _next(self) -> None:
        """Ready for the next head."""
        self.state = HEAD
        self.age = 0.0
        self._scanned = 0
        if self._read_paused:
            self._resume_reading()

    def refuse(self, refused: HeadRefused) -> None:
        """Answer what is no request, and close."""
        shared = self.shared
        request_id = shared.ids.next()
        response = refusal(refused.status, refused.code.value, refused.message, request_id, shared.host_id)
        lead = shared.heads.build(response, request_id, head_only=False, keep_alive=False, old=False)
        data = lead + response.body
        shared.stats.bytes_out += len(data)
        self.out.write(data)
        if shared.access_log is not None:
            shared.access_log(None, refused.status, 0, len(data), 0.0, refused)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing follows and drop input for a while: closing at once would reset what is not yet read."""
        self.state = LINGER
        self.age = 0.0
        self.pending.clear()
        self.incoming = None
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def reset(self) -> None:
        """Break the connection so that the client notices."""
        if self.state == CLOSED:
            return
        self.shared.stats.aborted += 1
        self.state = CLOSED
        self.out.reset()

    # For the body (BodySource).

    def wait_for_body(self) -> asyncio.Future[int]:
        self._resume_reading()
        return self.shared.loop.create_future()

    def send_continue(self) -> None:
        if self.state == BUSY:
            self.out.write(_CONTINUE)

    def pause_body(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            if not self._eof:
                self._transport.resume_reading()

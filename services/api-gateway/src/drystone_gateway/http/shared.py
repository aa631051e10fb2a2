# SPDX-License-Identifier: Apache-2.0
"""What all connections of one server share: settings, counters, the handler, request ids, one read buffer.

Invariants
  S1  Everything here is used on the server's loop only.
  S2  `buffer` holds nothing between two callbacks: what is read into it is parsed, copied or dropped before the next
      connection reads.
"""

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drystone_core.errors import DrystoneError, ErrorCode
from drystone_core.ports import Clock, Entropy
from drystone_gateway.http.messages import Handler, Request, Response
from drystone_gateway.http.pacing import Pace
from drystone_gateway.http.responses import ResponseHeads, refusal

if TYPE_CHECKING:
    from drystone_gateway.http.connection import Connection

log = logging.getLogger(__name__)

READ_BUFFER = 144 * 1024
"""Bytes read at once: a packed blob and its head. Shared, for reading and handling what was read do not interleave."""

RenderError = Callable[[Request, DrystoneError], Response]
"""The S3 layer's answer to a failure."""

AccessLog = Callable[[Request | None, int, int, int, float, BaseException | None], None]
"""Told once per request: (request or None for a refused head, status, bytes in, bytes out, seconds, error).

Status 0: the client went away before an answer began. With an error and a status of 2xx the answer was broken off.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Limits of the HTTP layer; every one is counted in HttpStats when it is hit."""

    max_connections: int = 10_000
    max_in_flight: int = 2_048
    """Requests being answered; beyond it 503 SlowDown."""
    head_timeout_s: float = 10.0
    """From a connection's start, or a head's first byte, to the end of the head."""
    idle_timeout_s: float = 75.0
    """Of a kept-alive connection between requests."""
    linger_s: float = 5.0
    """How long input is still dropped after the last answer, so that the client can read it."""
    discard_limit: int = 256 * 1024
    """Unread body bytes that are dropped to keep the connection; with more it is closed."""
    upload: Pace = field(default_factory=Pace)
    """What a client must send while a handler waits for its body."""
    crowded_upload: Pace = field(default_factory=lambda: Pace(idle_s=3.0, rate=16 * 1024, window_s=3.0))
    """The same while more than three quarters of `max_in_flight` are taken."""
    download: Pace = field(default_factory=Pace)
    """What a client must take of an answer."""
    sweep_s: float = 1.0
    """How often timeouts are checked."""
    backlog: int = 1024
    handshake_timeout_s: float = 10.0
    farewell_s: float = 0.5
    """How long an idle TLS client may take to answer the end of its connection."""
    certificate_check_s: float = 5.0


class HttpStats:
    """Counters of one process; plain attributes, only ever increased (but for the two gauges)."""

    __slots__ = (
        "aborted",
        "answers_4xx",
        "answers_5xx",
        "answers_503",
        "bytes_in",
        "bytes_out",
        "connections",
        "connections_total",
        "errors",
        "in_flight",
        "refused_connections",
        "refused_heads",
        "requests",
        "slow_downs",
        "timeouts",
    )

    def __init__(self) -> None:
        self.connections = 0
        """Gauge."""
        self.in_flight = 0
        """Gauge: requests being answered."""
        self.connections_total = 0
        self.requests = 0
        """Begun."""
        self.answers_4xx = 0
        self.answers_5xx = 0
        self.answers_503 = 0
        """Of `answers_5xx`: to be tried again, for a limit was hit or a service was not able to."""
        self.bytes_in = 0
        """Payloads of requests that ended, without transfer coding."""
        self.bytes_out = 0
        """Of answers that ended, with their heads."""
        self.errors = 0
        """Handlers that ended in an unexpected exception."""
        self.refused_heads = 0
        """Not HTTP, or too much of it."""
        self.refused_connections = 0
        """Beyond `max_connections`, or while draining."""
        self.slow_downs = 0
        """Requests beyond `max_in_flight`."""
        self.timeouts = 0
        """Clients that were too slow, in whatever state."""
        self.aborted = 0
        """Connections reset because an answer could not be completed."""

    def failed(self, status: int) -> None:
        """An answer of 400 or more was sent."""
        if status < 500:
            self.answers_4xx += 1
            return
        self.answers_5xx += 1
        if status == 503:
            self.answers_503 += 1


class RequestIds:
    """16 upper-case hex characters each, drawn many at a time."""

    __slots__ = ("_entropy", "_stock")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._stock: list[str] = []

    def next(self) -> str:
        stock = self._stock
        if not stock:
            text = self._entropy.token(8 * 128).hex().upper()
            stock.extend(text[at : at + 16] for at in range(0, len(text), 16))
        return stock.pop()


@dataclass(slots=True, eq=False, kw_only=True)
class Shared:
    """One per server."""

    handler: Handler
    render_error: RenderError
    settings: HttpSettings
    clock: Clock
    ids: RequestIds
    heads: ResponseHeads
    host_id: str
    loop: AbstractEventLoop
    access_log: AccessLog | None = None
    stats: HttpStats = field(default_factory=HttpStats)
    connections: "dict[Connection, None]" = field(default_factory=dict)
    """In order of arrival."""
    draining: bool = False
    buffer: bytearray = field(default_factory=lambda: bytearray(READ_BUFFER))
    view: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.view = memoryview(self.buffer)

    def upload_pace(self) -> Pace:
        """What a client must send just now."""
        settings = self.settings
        crowded = self.stats.in_flight * 4 > settings.max_in_flight * 3
        return settings.crowded_upload if crowded else settings.upload

    def render_failure(self, request: Request, failure: BaseException) -> Response:
        """The answer to what a handler raised."""
        if isinstance(failure, DrystoneError):
            expected = failure
        else:
            self.stats.errors += 1
            log.error("http.handler_failed", extra={"request_id": request.request_id}, exc_info=failure)
            expected = DrystoneError(ErrorCode.INTERNAL_ERROR)
        try:
            return self.render_error(request, expected)
        except Exception as unrendered:
            log.error("http.error_not_rendered", extra={"request_id": request.request_id}, exc_info=unrendered)
            return self.refusal(request, 500, ErrorCode.INTERNAL_ERROR, "We encountered an internal error.")

    def refusal(self, request: Request, status: int, code: ErrorCode, message: str) -> Response:
        """A small error of our own."""
        return refusal(status, code.value, message, request.request_id, self.host_id)

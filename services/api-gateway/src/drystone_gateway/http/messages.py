# SPDX-License-Identifier: Apache-2.0
"""What the HTTP layer hands to a handler and takes back.

A handler is `async def handle(request) -> Response`. It is started without a task: when it ends without suspending, the
response is written in the same call that received the request. So before its first real wait a handler must not use
anything that needs `asyncio.current_task()` (asyncio.timeout, TaskGroup).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from drystone_core.ports import Buffer
from drystone_core.services import ReadChunk


class Body(Protocol):
    """The request's body, unframed (chunked transfer coding removed), not yet S3-decoded.

    `100 Continue` is sent at the first receive()/read_all(), never before. A body the handler leaves unread is drained
    when little is left, otherwise the connection is closed after the response.
    """

    declared: int | None
    """Content-Length; None with chunked transfer coding."""

    def buffered(self) -> bytes | None:
        """The whole body when it has arrived in full (small bodies usually have), else None. Does not suspend."""
        ...

    async def arrived(self, count: int) -> int:
        """Wait until `count` bytes (at most 64 KiB) or the rest of the body wait here; returns how many do.

        Call it before borrowing a large buffer: a slow client then holds kilobytes, not a stripe. Raises as receive().
        """
        ...

    async def receive(self, target: memoryview) -> int:
        """Receive straight into `target` until it is full or the body ends; returns the count (short only at the end).

        Raises Refused(INCOMPLETE_BODY) when the client stops early, Refused(REQUEST_TIMEOUT) when it is too slow.
        """
        ...

    def interrupt(self) -> None:
        """End the receive under way, if any, with what has come: short although the body goes on."""
        ...

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body; Refused(MAX_MESSAGE_LENGTH_EXCEEDED) beyond `limit` bytes."""
        ...


class Request:
    """One request. Header names are lower-case; repeated headers are joined with `,` and named in `repeated`."""

    __slots__ = (
        "body",
        "headers",
        "host_id",
        "method",
        "path",
        "peer",
        "query",
        "repeated",
        "request_id",
        "secure",
        "target",
    )

    def __init__(
        self,
        *,
        method: str,
        target: str,
        headers: Mapping[str, str],
        repeated: frozenset[str],
        body: Body,
        peer: str,
        secure: bool,
        request_id: str,
        host_id: str = "",
    ) -> None:
        self.method = method
        self.target = target
        """The target exactly as received (latin-1), but for scheme and host of an absolute form; it begins with `/`."""
        path, _, query = target.partition("?")
        self.path = path
        """Raw path: undecoded, unnormalised."""
        self.query = query
        """Raw query."""
        self.headers = headers
        """Lower-case name → value (latin-1 text, outer blanks stripped)."""
        self.repeated = repeated
        self.body = body
        self.peer = peer
        """Client address."""
        self.secure = secure
        """TLS."""
        self.request_id = request_id
        """16 upper-case hex, made by the HTTP layer from its Entropy."""
        self.host_id = host_id
        """What x-amz-id-2 and <HostId> say."""


class Response:
    """An answer. The HTTP layer adds Date, Server, Content-Length, Connection and x-amz-request-id / x-amz-id-2."""

    __slots__ = ("body", "close", "head", "length", "status", "stream")

    def __init__(
        self,
        status: int,
        head: bytes = b"",
        body: Buffer = b"",
        *,
        stream: AsyncIterator[ReadChunk] | None = None,
        length: int | None = None,
        close: bool = False,
    ) -> None:
        self.status = status
        self.head = head
        """Further header lines, each `Name: value\\r\\n`; values were checked to hold no CR, LF or NUL."""
        self.body = body
        self.stream = stream
        """Instead of `body`: verified chunks. If it raises after the head went out, the connection is reset: never a
        silent short body. Ended early, its aclose() is called if it has one."""
        self.length = length
        """Content-Length when it is not len(body): of the stream (None = chunked), or of a HEAD answer."""
        self.close = close
        """Close the connection after this answer."""


Handler = Callable[[Request], Awaitable[Response]]

# SPDX-License-Identifier: Apache-2.0
"""Response heads, and the few answers the HTTP layer gives by itself.

Invariants
  A1  Every response carries Server, Date, x-amz-request-id and x-amz-id-2.
  A2  The length of every body is framed as RFC 9110 §8.6 and RFC 9112 §6 demand: none for 204 and 304;
      that of the GET for HEAD, omitted when unknown and for errors; Content-Length or chunked otherwise, or for a 1.0
      client the end of the connection.
"""

from email.utils import formatdate
from http import HTTPStatus
from xml.sax.saxutils import escape

from drystone_core.ports import Clock
from drystone_gateway.http.messages import Response

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CLOSE = b"Connection: close\r\n\r\n"
_KEEP_OLD = b"Connection: keep-alive\r\n\r\n"
_END = b"\r\n"


class ResponseHeads:
    """Builds heads; one per server, for the clock's second and the host's id."""

    __slots__ = ("_clock", "_common", "_id_2", "_second")

    def __init__(self, *, clock: Clock, host_id: str) -> None:
        self._clock = clock
        self._second = -1
        self._common = b""
        self._id_2 = f"\r\nx-amz-id-2: {host_id}\r\n".encode()

    def build(self, response: Response, request_id: str, *, head_only: bool, keep_alive: bool, old: bool) -> bytes:
        """The whole head; `head_only` = no body follows, `old` = the client speaks HTTP/1.0."""
        second = self._clock.wall_us() // 1_000_000
        if second != self._second:
            self._second = second
            self._common = f"Server: Drystone\r\nDate: {formatdate(second, usegmt=True)}\r\nx-amz-request-id: ".encode()
        return b"".join(
            (
                _STATUS_LINES.get(response.status) or f"HTTP/1.1 {response.status} Status\r\n".encode(),
                self._common,
                request_id.encode(),
                self._id_2,
                response.head,
                _framing(response, head_only=head_only, old=old),
                _CLOSE if not keep_alive else _KEEP_OLD if old else _END,
            )
        )


def _framing(response: Response, *, head_only: bool, old: bool) -> bytes:
    """The field that frames the body; empty when there is none to announce, or when it ends with the connection."""
    status = response.status
    if status == 204 or status == 304 or status < 200:
        return b""
    length = response.length
    if length is None:
        if response.stream is not None:
            return b"" if head_only or old else b"Transfer-Encoding: chunked\r\n"
        if head_only and status >= 300:
            return b""
        length = len(response.body)
    return b"Content-Length: %d\r\n" % length


def refusal(status: int, code: str, message: str, request_id: str, host_id: str, *, close: bool = False) -> Response:
    """A small S3 error, for what never reaches the S3 layer."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"<RequestId>{escape(request_id)}</RequestId><HostId>{escape(host_id)}</HostId></Error>"
    )
    return Response(status, b"Content-Type: application/xml\r\n", body.encode(), close=close)

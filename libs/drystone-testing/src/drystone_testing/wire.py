# SPDX-License-Identifier: Apache-2.0
"""S3 requests byte by byte: signed in every way S3 knows, altered at will, sent over a socket of one's own.

Independent of the gateway's code, so that a mistake there is not made here too.
"""

import base64
import hashlib
import hmac
import re
import socket
import zlib
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import quote

from drystone_testing.live import ACCESS_KEY, SECRET_KEY

MODES = (
    "header",
    "header-unsigned",
    "stream-signed",
    "stream-signed-trailer",
    "stream-unsigned-trailer",
    "query-v4",
    "query-v2",
    "anonymous",
)
EMPTY = hashlib.sha256(b"").hexdigest()
V2_SIGNED = frozenset(
    "accelerate acl analytics cors delete inventory lifecycle location logging metrics notification object-lock"
    " partNumber policy replication requestPayment tagging uploadId uploads versionId versioning versions"
    " website".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A request as it goes over the wire."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Lower-case names; `content-length` is added when sent unless it stands here."""
    body: bytes = b""
    cut: int | None = None
    """Send only so many bytes of the body, then end the stream."""

    def with_headers(self, **changed: str | None) -> Self:
        """Headers set (`_` for `-`), or removed with None."""
        headers = dict(self.headers)
        for name, value in changed.items():
            if value is None:
                headers.pop(name.replace("_", "-"), None)
            else:
                headers[name.replace("_", "-")] = value
        return replace(self, headers=headers)

    def encoded(self) -> bytes:
        """All bytes of it."""
        headers = dict(self.headers)
        if self.body or self.method in ("PUT", "POST"):
            headers.setdefault("content-length", str(len(self.body)))
        target = f"{self.path}?{self.query}" if self.query else self.path
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body[: self.cut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs as one credential at one time."""

    host: str
    seconds: int
    """Unix time of the signature."""
    stamp: str
    """The same as `YYYYMMDDTHHMMSSZ`."""
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    expires: int = 600

    @property
    def scope(self) -> str:
        return f"{self.stamp[:8]}/us-east-1/s3/aws4_request"

    def sign(self, request: Wire, mode: str) -> Wire:
        """`request` (whose body is the payload) signed and framed in `mode`."""
        request = request.with_headers(host=self.host)
        match mode:
            case "header":
                return self._header(request, hashlib.sha256(request.body).hexdigest())[0]
            case "header-unsigned":
                return self._header(request, "UNSIGNED-PAYLOAD")[0]
            case "query-v4":
                return self._query_v4(request)
            case "query-v2":
                return self._query_v2(request)
            case "anonymous":
                return request
        return self._streaming(request, mode)

    def _streaming(self, request: Wire, mode: str) -> Wire:
        payload, trailer, signed = request.body, mode.endswith("trailer"), mode.startswith("stream-signed")
        name = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if signed else "STREAMING-UNSIGNED-PAYLOAD"
        checksum = base64.b64encode(zlib.crc32(payload).to_bytes(4, "big")).decode()
        request = replace(request, body=b"").with_headers(
            x_amz_decoded_content_length=str(len(payload)),
            x_amz_trailer="x-amz-checksum-crc32" if trailer else None,
            content_encoding="aws-chunked",
        )
        request, previous = self._header(request, name + ("-TRAILER" if trailer else ""))
        half = max(1, len(payload) // 2)
        chunks = [payload[at : at + half] for at in range(0, len(payload), half)] + [b""]
        body = b""
        for chunk in chunks:
            head = f"{len(chunk):x}"
            if signed:
                hashes = f"{EMPTY}\n{hashlib.sha256(chunk).hexdigest()}"
                previous = self._chain("PAYLOAD", previous, hashes)
                head += f";chunk-signature={previous}"
            body += head.encode() + b"\r\n" + (chunk + b"\r\n" if chunk else b"")
        if trailer:
            body += f"x-amz-checksum-crc32:{checksum}\r\n".encode()
            if signed:
                digest = hashlib.sha256(f"x-amz-checksum-crc32:{checksum}\n".encode()).hexdigest()
                body += f"x-amz-trailer-signature:{self._chain('TRAILER', previous, digest)}\r\n".encode()
        return replace(request, body=body + b"\r\n")

    def _chain(self, kind: str, previous: str, hashes: str) -> str:
        text = f"AWS4-HMAC-SHA256-{kind}\n{self.stamp}\n{self.scope}\n{previous}\n{hashes}"
        return hmac.digest(self._key(), text.encode(), "sha256").hex()

    def _header(self, request: Wire, payload_hash: str) -> tuple[Wire, str]:
        request = request.with_headers(x_amz_date=self.stamp, x_amz_content_sha256=payload_hash)
        names = sorted(request.headers)
        signature = self._signature(request, names, payload_hash, request.query)
        return request.with_headers(
            authorization=f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope},"
            f"SignedHeaders={';'.join(names)},Signature={signature}"
        ), signature

    def _query_v4(self, request: Wire) -> Wire:
        names = sorted(request.headers)
        pieces = [request.query] if request.query else []
        pieces += [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            f"X-Amz-Credential={quote(f'{self.access_key}/{self.scope}', safe='')}",
            f"X-Amz-Date={self.stamp}",
            f"X-Amz-Expires={self.expires}",
            f"X-Amz-SignedHeaders={quote(';'.join(names), safe='')}",
        ]
        query = "&".join(pieces)
        signature = self._signature(request, names, "UNSIGNED-PAYLOAD", query)
        return replace(request, query=f"{query}&X-Amz-Signature={signature}")

    def _signature(self, request: Wire, names: list[str], payload_hash: str, query: str) -> str:
        pairs = sorted(tuple(piece.partition("=")[::2]) for piece in query.split("&")) if query else []
        lines = [request.method, request.path, "&".join(f"{name}={value}" for name, value in pairs)]
        lines += [f"{name}:{request.headers[name]}" for name in names] + ["", ";".join(names), payload_hash]
        digest = hashlib.sha256("\n".join(lines).encode("latin-1")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.stamp}\n{self.scope}\n{digest}"
        return hmac.digest(self._key(), text.encode(), "sha256").hex()

    def _key(self) -> bytes:
        key = b"AWS4" + self.secret_key.encode()
        for step in self.scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        return key

    def _query_v2(self, request: Wire) -> Wire:
        headers, expires = request.headers, self.seconds + self.expires
        lines = [request.method, headers.get("content-md5", ""), headers.get("content-type", ""), str(expires)]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-amz-")]
        signed = sorted(piece for piece in request.query.split("&") if piece.partition("=")[0] in V2_SIGNED)
        lines.append(request.path + ("?" + "&".join(signed) if signed else ""))
        digest = hmac.digest(self.secret_key.encode(), "\n".join(lines).encode("latin-1"), "sha1")
        pieces = [request.query] if request.query else []
        pieces += [f"AWSAccessKeyId={self.access_key}", f"Expires={expires}"]
        return replace(request, query="&".join([*pieces, f"Signature={quote(base64.b64encode(digest), safe='')}"]))


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """An answer; status 0 when the connection ended without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The S3 error code, empty without one."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found[1].decode() if found else ""


class WireClient:
    """Sends bytes to one port over a kept connection; not thread safe."""

    def __init__(self, port: int, *, timeout: float = 20.0) -> None:
        self._port, self._timeout = port, timeout
        self._socket: socket.socket | None = None
        self._buffer = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def send(self, request: Wire) -> WireAnswer:
        """One request, one answer."""
        ended = request.cut is not None
        return self.exchange(request.encoded(), head=request.method == "HEAD", shut=ended)

    def pipelined(self, data: bytes, count: int) -> list[WireAnswer]:
        """The answers to `count` requests (none of them HEAD) sent as one piece."""
        self._connected().sendall(data)
        return [self._answer(head=False) for _ in range(count)]

    def exchange(self, data: bytes, *, head: bool = False, shut: bool = False) -> WireAnswer:
        """Send bytes, read one answer; with `shut` the sending side is ended and the connection not used again."""
        try:
            sock = self._connected()
            try:
                sock.sendall(data)
                if shut:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # The server may have answered and stopped reading already.
            answer = self._answer(head=head)
        except (OSError, EOFError):
            self.close()
            return WireAnswer(0, {}, b"")
        if shut or answer.headers.get("connection") == "close" or answer.status == 0:
            self.close()
        return answer

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _more(self) -> None:
        piece = self._connected().recv(1 << 16)
        if not piece:
            raise EOFError
        self._buffer += piece

    def _answer(self, *, head: bool) -> WireAnswer:
        status = 100
        headers: dict[str, str] = {}
        while 100 <= status < 200:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                self._more()
            lines = self._buffer[:end].decode("latin-1").split("\r\n")
            self._buffer = self._buffer[end + 4 :]
            status = int(lines[0].split(" ")[1])
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if head or status in (204, 304):
            return WireAnswer(status, headers, b"")
        return WireAnswer(status, headers, self._body(headers))

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return self._chunks()
        length = int(headers.get("content-length", "0"))
        return self._take(length)

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                self._more()
            size = int(self._buffer[:end], 16)
            self._buffer = self._buffer[end + 2 :]
            body += self._take(size)
            self._take(2)
            if not size:
                return body

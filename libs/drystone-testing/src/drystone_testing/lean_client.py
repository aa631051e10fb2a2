# SPDX-License-Identifier: Apache-2.0
"""An S3 client for load: asyncio, one connection, bodies generated and checked block by block and never held whole.

Payloads are UNSIGNED-PAYLOAD, so that the client costs little; the server's ETag is compared with an MD5 of its own.
"""

import asyncio
import base64
import datetime
import hashlib
import hmac
import random
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from drystone_testing.live import ACCESS_KEY, SECRET_KEY

BLOCK = 1 << 18
Pieces = Iterator[bytes | bytearray | memoryview]


class Body:
    """`size` bytes that differ in every block and for every seed, made while they are sent or compared."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        self._block = random.Random(seed).randbytes(BLOCK)

    def block(self, index: int) -> bytearray:
        """Block `index`, cut at the end of the body."""
        made = bytearray(self._block)
        made[:16] = index.to_bytes(8, "big") + self.seed.to_bytes(8, "big")
        del made[max(0, self.size - index * BLOCK) :]
        return made

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Bytes [start, end)."""
        end = self.size if end is None else min(end, self.size)
        while start < end:
            index, low = divmod(start, BLOCK)
            piece = memoryview(self.block(index))[low : low + end - start]
            start += len(piece)
            yield piece

    def md5(self, start: int = 0, end: int | None = None) -> str:
        made = hashlib.md5()
        for piece in self.pieces(start, end):
            made.update(piece)
        return made.hexdigest()


@dataclass(slots=True)
class Reply:
    """An answer; `body` is empty when a sink took it."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)

    @property
    def code(self) -> str:
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found[1].decode() if found else ""


class Signer:
    """SigV4 heads; the signing key is derived once a day."""

    def __init__(self, port: int, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> None:
        self.host = f"127.0.0.1:{port}"
        self._access, self._secret = access_key, secret_key
        self._day, self._key = "", b""

    def head(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        length: int | None = None,
        payload: str = "UNSIGNED-PAYLOAD",
        extra: dict[str, str] | None = None,
    ) -> bytes:
        """The request head. `path` is unquoted; `query` is quoted and sorted."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        if now[:8] != self._day:
            key = f"AWS4{self._secret}".encode()
            for step in (now[:8], "us-east-1", "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._day, self._key = now[:8], key
        target = urllib.parse.quote(path, safe="/-_.~")
        headers = {"host": self.host, "x-amz-content-sha256": payload, "x-amz-date": now, **(extra or {})}
        names = sorted(headers)
        lines = "\n".join(f"{name}:{headers[name]}" for name in names)
        listed = ";".join(names)
        canonical = f"{method}\n{target}\n{query}\n{lines}\n\n{listed}\n{payload}"
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        shown = "".join(f"{name}: {headers[name]}\r\n" for name in names)
        if length is not None:
            shown += f"content-length: {length}\r\n"
        return (
            f"{method} {target}{'?' + query if query else ''} HTTP/1.1\r\n{shown}authorization: AWS4-HMAC-SHA256 "
            f"Credential={self._access}/{scope},SignedHeaders={listed},Signature={signature}\r\n\r\n"
        ).encode()


class LeanClient:
    """One keep-alive connection; reconnects when the last answer closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.signer = Signer(port)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
            self.reader = self.writer = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=BLOCK)
        return self.reader, self.writer

    async def call(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        pieces: Pieces | None = None,
        length: int | None = None,
        payload: str = "UNSIGNED-PAYLOAD",
        extra: dict[str, str] | None = None,
        sink: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """One request, one attempt; OSError or EOFError when the connection breaks."""
        reader, writer = await self.connect()
        if length is None and method in ("PUT", "POST"):
            length = 0
        head = self.signer.head(method, path, query, length=length, payload=payload, extra=extra)
        try:
            if pieces is None:
                writer.write(head)
            else:
                await self._send(writer, head, pieces)
            return await self._answer(reader, method, sink)
        except BaseException:
            self.close()
            raise

    async def _send(self, writer: asyncio.StreamWriter, head: bytes, pieces: Pieces) -> None:
        first = next(pieces, b"")
        writer.write(head + bytes(first) if len(first) <= 16384 else head)
        if len(first) > 16384:
            writer.write(first)
        try:
            for piece in pieces:
                await writer.drain()
                writer.write(piece)
            await writer.drain()
        except ConnectionError:
            return  # an early refusal waits to be read

    async def _answer(self, reader: asyncio.StreamReader, method: str, sink: Callable[[bytes], None] | None) -> Reply:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        left = 0 if method == "HEAD" or status in (204, 304) else int(headers.get("content-length", 0))
        if sink is None or status >= 300:
            body = await reader.readexactly(left)
        else:
            body = b""
            while left:
                data = await reader.read(min(left, BLOCK))
                if not data:
                    raise EOFError("the answer is short")
                left -= len(data)
                sink(data)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, headers, body)

    async def create_bucket(self, bucket: str) -> None:
        answer = await self.call("PUT", f"/{bucket}")
        if answer.status != 200:
            raise RuntimeError(f"create bucket: {answer.status} {answer.body[:200]!r}")

    async def put(self, path: str, body: Body, *, start: int = 0, end: int | None = None, query: str = "") -> Reply:
        """PUT bytes [start, end) of a generated body."""
        end = body.size if end is None else min(end, body.size)
        return await self.call("PUT", path, query, pieces=body.pieces(start, end), length=end - start)

    async def put_chunked(self, path: str, body: Body, *, chunk: int = 1 << 16) -> Reply:
        """The same in aws-chunked framing with an unsigned CRC32 trailer."""
        framed = sum(len(head) + size + 2 for head, size in _frames(body.size, chunk))
        framed += len("0\r\nx-amz-checksum-crc32:12345678\r\n\r\n")
        extra = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(body.size),
            "x-amz-trailer": "x-amz-checksum-crc32",
        }
        return await self.call(
            "PUT",
            path,
            pieces=_chunked(body, chunk),
            length=framed,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            extra=extra,
        )

    async def get_compared(self, path: str, body: Body, *, start: int = 0, end: int | None = None) -> Reply:
        """GET bytes [start, end), each compared with the generated body; ValueError at the first that differs."""
        last = body.size if end is None else end
        extra = {"range": f"bytes={start}-{last - 1}"} if start or end is not None else None
        check = Comparer(body, start, last)
        answer = await self.call("GET", path, extra=extra, sink=check.take)
        if answer.status < 300:
            check.finish()
        return answer

    async def list_v2(self, bucket: str, *, prefix: str = "", delimiter: str = "") -> tuple[list[str], list[str], int]:
        """All keys, all common prefixes (in the order given) and the number of pages."""
        keys: list[str] = []
        prefixes: list[str] = []
        pages, token = 0, ""
        while True:
            parts = [f"continuation-token={urllib.parse.quote(token, safe='')}"] if token else []
            parts += [f"delimiter={urllib.parse.quote(delimiter, safe='')}"] if delimiter else []
            parts += ["list-type=2", "max-keys=1000"]
            parts += [f"prefix={urllib.parse.quote(prefix, safe='')}"] if prefix else []
            answer = await self.call("GET", f"/{bucket}", "&".join(parts))
            if answer.status != 200:
                raise RuntimeError(f"list: {answer.status} {answer.body[:200]!r}")
            text = answer.body.decode()
            pages += 1
            keys += re.findall(r"<Key>([^<]*)</Key>", text)
            prefixes += re.findall(r"<CommonPrefixes><Prefix>([^<]*)</Prefix>", text)
            more = re.search(r"<NextContinuationToken>([^<]*)</NextContinuationToken>", text)
            if not more:
                return keys, prefixes, pages
            token = more[1]


class Comparer:
    """Takes bytes as they come and compares them with a generated body."""

    def __init__(self, body: Body, start: int, end: int) -> None:
        self._pieces = body.pieces(start, end)
        self._rest: memoryview = memoryview(b"")
        self._at, self._end = start, end

    def take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    raise ValueError("more bytes than asked for")
            count = min(len(view), len(self._rest))
            if view[:count] != self._rest[:count]:
                raise ValueError(f"wrong bytes in [{self._at}, {self._at + count})")
            view, self._rest, self._at = view[count:], self._rest[count:], self._at + count

    def finish(self) -> None:
        if self._at != self._end:
            raise ValueError(f"ended at {self._at}, not {self._end}")


def _frames(size: int, chunk: int) -> Iterator[tuple[bytes, int]]:
    for at in range(0, size, chunk):
        count = min(chunk, size - at)
        yield b"%x\r\n" % count, count


def _chunked(body: Body, chunk: int) -> Iterator[bytes]:
    crc = 0
    for start in range(0, body.size, chunk):
        data = b"".join(body.pieces(start, min(start + chunk, body.size)))
        crc = zlib.crc32(data, crc)
        yield b"%x\r\n%b\r\n" % (len(data), data)
    yield b"0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % base64.b64encode(crc.to_bytes(4, "big"))

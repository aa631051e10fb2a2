# SPDX-License-Identifier: Apache-2.0
"""A server with a toy handler, and a client that sees every byte."""

import asyncio
import ssl
from contextlib import asynccontextmanager

from drystone_gateway.http.messages import Response
from drystone_gateway.http.server import HttpServer
from drystone_gateway.http.shared import HttpSettings
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy

CRLF2 = b"\r\n\r\n"


def render_error(request, error):
    return Response(418, b"Content-Type: text/plain\r\n", error.code.value.encode())


@asynccontextmanager
async def serving(handler, *, settings=None, tls=None, access_log=None):
    """Serve on a free port of the loopback; when it ends nothing may be left in flight."""
    server = HttpServer(
        handler=handler,
        render_error=render_error,
        settings=settings or HttpSettings(sweep_s=0.05),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        access_log=access_log,
    )
    await server.start(host="127.0.0.1", tls=tls)
    try:
        yield server
    finally:
        await server.drain(asyncio.get_running_loop().time() + 2)
        assert server.stats.in_flight == 0
        assert server.stats.connections == 0


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, data):
        self.writer.write(data)

    async def head(self):
        """(status, lower-case headers)."""
        raw = await asyncio.wait_for(self.reader.readuntil(CRLF2), 10)
        lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return int(lines[0].split(" ")[1]), headers

    async def answer(self, *, head_only=False):
        """(status, headers, body)."""
        status, headers = await self.head()
        if head_only or status in (100, 204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                piece = await self.reader.readexactly(size + 2)
                assert piece[-2:] == b"\r\n"
                if not size:
                    return status, headers, body
                body += piece[:-2]
        if "content-length" in headers:
            return status, headers, await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 10)
        return status, headers, await asyncio.wait_for(self.reader.read(), 10)

    async def at_end(self):
        """Has the server closed (and sent nothing more)?"""
        try:
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        except ConnectionResetError:
            return True

    async def close(self):
        if self.writer.transport.get_write_buffer_size():
            self.writer.transport.abort()
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


@asynccontextmanager
async def connected(server, *, tls=None, limit=2**20):
    host, port = server.addresses[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=limit)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        await client.close()


async def until(condition, seconds=5.0):
    """Wait for a condition on this loop."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


def get(path="/", extra=b"", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + extra + b"\r\n"


async def echo(request):
    """Answers with the body, the target and what it was told."""
    body = await request.body.read_all(1 << 20)
    head = f"X-Target: {request.target}\r\nX-Method: {request.method}\r\n".encode("latin-1")
    return Response(200, head, body)

# SPDX-License-Identifier: Apache-2.0
"""Streamed answers: pooled chunks, back-pressure, and no silent short body."""

import asyncio
import socket

import pytest
from http_serving import connected, get, serving, until

from drystone_core.errors import Damaged
from drystone_core.services import ReadChunk
from drystone_gateway.http.messages import Response
from drystone_gateway.http.pacing import Pace
from drystone_gateway.http.shared import HttpSettings

CHUNK = 256 * 1024


class Pool:
    """A few buffers, overwritten as soon as they are released: who sends them later sends wrong bytes."""

    def __init__(self, count, size=CHUNK):
        self.size = size
        self.free = [bytearray(size) for _ in range(count)]
        self.waiting = asyncio.Event()
        self.taken = []
        self.released = []
        self.most = 0
        self.closed = 0

    async def stream(self, count, *, fail_at=None, suspend=False):
        """`count` chunks, each filled with its number."""
        try:
            for number in range(count):
                if number == fail_at:
                    raise Damaged("gone")
                while not self.free:
                    self.waiting.clear()
                    await self.waiting.wait()
                if suspend:
                    await asyncio.sleep(0)
                buffer = self.free.pop()
                buffer[:] = bytes([number % 250]) * self.size
                self.taken.append(number)
                self.most = max(self.most, len(self.taken) - len(self.released))
                yield ReadChunk(memoryview(buffer), self.releaser(len(self.taken) - 1, buffer))
        finally:
            self.closed += 1

    def releaser(self, number, buffer):
        def release():
            assert number not in self.released, "released twice"
            self.released.append(number)
            buffer[:] = b"\xff" * self.size
            self.free.append(buffer)
            self.waiting.set()

        return release


def expected(count, size=CHUNK):
    return b"".join(bytes([number % 250]) * size for number in range(count))


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
async def test_a_slow_reader_gets_intact_data_from_reused_buffers(known, suspend):
    """Two buffers carry 10 MiB; each is released only after it left, in order, and is overwritten at once."""
    count = 40

    async def handler(request):
        length = count * CHUNK if known else None
        return Response(200, stream=pool.stream(count, suspend=suspend), length=length)

    pool = Pool(2)
    async with serving(handler) as server:
        for _ in range(2):
            pool.taken.clear()
            pool.released.clear()
            async with connected(server, limit=16 * 1024) as client:
                client.send(get())
                await asyncio.sleep(0.1)
                # The kernel's buffers hold some; the rest waits in the stream, not in memory.
                assert len(pool.taken) < count
                status, headers, body = await client.answer()
                assert status == 200 and body == expected(count)
                assert ("transfer-encoding" in headers) != known
                client.send(get("/x", method="HEAD"))
                assert (await client.answer(head_only=True))[0] == 200
            assert pool.released == list(range(count))
            assert pool.most <= 2
        assert pool.closed == 2


async def test_many_slow_readers_share_a_small_pool():
    """Downloads that wait for one another's buffers all end, with their own bytes."""

    async def handler(request):
        return Response(200, stream=pool.stream(8), length=8 * CHUNK)

    pool = Pool(12)

    async def download(server):
        async with connected(server, limit=16 * 1024) as client:
            client.send(get())
            await asyncio.sleep(0.01)
            return (await client.answer())[2] == expected(8)

    pool.releaser = lambda number, buffer: (
        lambda: (
            buffer.__setitem__(slice(None), b"\xff" * CHUNK),
            pool.free.append(buffer),
            pool.waiting.set(),
        )
    )
    async with serving(handler) as server:
        assert all(await asyncio.gather(*(download(server) for _ in range(10))))
    assert len(pool.free) == 12


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
async def test_a_stream_that_breaks_resets_the_connection(known):
    """After the head nothing but a reset tells the truth; every buffer comes back."""
    told = []

    async def handler(request):
        return Response(200, stream=pool.stream(9, fail_at=5), length=9 * CHUNK if known else None)

    pool = Pool(3)
    async with serving(handler, access_log=lambda *record: told.append(record)) as server:
        async with connected(server) as client:
            client.send(get())
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as raised:
                await client.answer()
                await client.answer()
            await until(lambda: server.stats.connections == 0)
        assert raised.type is ConnectionResetError or len(raised.value.partial) < 9 * CHUNK
        assert server.stats.aborted == 1
        assert len(pool.free) == 3 and pool.closed == 1
        assert isinstance(told[0][5], Damaged)


async def test_the_reset_is_a_reset():
    """The client's system sees RST, not an orderly end."""

    async def handler(request):
        async def chunks():
            yield ReadChunk(memoryview(b"abc"), lambda: None)
            await asyncio.sleep(0.05)
            raise Damaged("gone")

        return Response(200, stream=chunks(), length=10)

    async with serving(handler) as server:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, server.addresses[0])
        await loop.sock_sendall(sock, get())
        with pytest.raises(ConnectionResetError):
            while await loop.sock_recv(sock, 65536):
                pass
        sock.close()


async def test_a_stream_that_breaks_before_its_first_byte_is_an_error_answer():
    """While the head has not gone out there is time for the truth in words."""

    async def handler(request):
        return Response(200, stream=pool.stream(9, fail_at=0), length=9 * CHUNK)

    pool = Pool(3)
    async with serving(handler) as server, connected(server) as client:
        for _ in range(2):
            client.send(get())
            status, _, body = await client.answer()
            assert (status, body) == (418, b"Damaged")
        assert pool.closed == 2 and server.stats.aborted == 0


@pytest.mark.parametrize("announced", [5 * CHUNK, 3 * CHUNK])
async def test_a_stream_of_another_length_is_broken_off(announced):
    """Neither fewer nor more bytes than announced pass as a whole body."""

    async def handler(request):
        return Response(200, stream=pool.stream(4), length=announced)

    pool = Pool(2)
    async with serving(handler) as server:
        async with connected(server) as client:
            client.send(get() + get("/next"))
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.answer()
                await client.answer()
        await until(lambda: server.stats.connections == 0)
        assert server.stats.aborted == 1 and len(pool.free) == 2 and server.stats.requests == 1


async def test_streams_without_bytes():
    """An empty stream, empty chunks, HEAD, and HTTP/1.0 are framed rightly, and streams closed."""

    async def handler(request):
        if request.path == "/empty":
            return Response(200, stream=pool.stream(0), length=0)
        if request.path == "/empty-chunked":
            return Response(200, stream=pool.stream(0))
        return Response(200, stream=pool.stream(3))

    pool = Pool(2)
    async with serving(handler) as server:
        async with connected(server) as client:
            client.send(get("/empty") + get("/empty-chunked") + get("/", method="HEAD") + get("/"))
            assert (await client.answer())[2] == b""
            assert (await client.answer())[2] == b""
            status, headers, _ = await client.answer(head_only=True)
            assert status == 200 and "transfer-encoding" not in headers
            assert (await client.answer())[2] == expected(3)
        async with connected(server) as client:
            client.send(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
            status, headers, body = await client.answer()
            assert body == expected(3) and headers["connection"] == "close"
    assert len(pool.free) == 2


async def test_clients_that_vanish_while_downloading_leave_nothing():
    """Handlers and streams end, and every buffer returns."""

    async def handler(request):
        return Response(200, stream=pool.stream(400), length=400 * CHUNK)

    pool = Pool(12)
    pool.releaser = lambda number, buffer: lambda: (pool.free.append(buffer), pool.waiting.set())
    async with serving(handler) as server:
        for number in range(24):
            _, writer = await asyncio.open_connection(*server.addresses[0], limit=1000)
            writer.write(get())
            await asyncio.sleep(0.005)
            if number % 2:
                writer.close()
            else:
                writer.transport.abort()
        await until(lambda: server.stats.connections == 0 and server.stats.in_flight == 0)
        assert server.stats.connections_total == 24
        assert server.stats.in_flight == 0 and server.stats.errors == 0
        assert len(pool.free) == 12 and pool.closed == server.stats.requests


async def test_a_reader_that_stops_is_cut_off():
    """Its buffer is not held for ever."""

    async def handler(request):
        return Response(200, stream=pool.stream(400), length=400 * CHUNK)

    pool = Pool(3)
    settings = HttpSettings(sweep_s=0.02, download=Pace(idle_s=0.1, rate=0))
    async with serving(handler, settings=settings) as server, connected(server, limit=1000) as client:
        client.send(get())
        await until(lambda: server.stats.timeouts == 1)
        await until(lambda: server.stats.connections == 0 and server.stats.in_flight == 0)
        assert len(pool.free) == 3


async def test_a_waiting_handler_is_cancelled_when_the_client_goes():
    """Also between the first wait and the task's own first step."""
    ended = []

    async def handler(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append(request.path)
            raise

    async with serving(handler) as server:
        for number in range(20):
            _, writer = await asyncio.open_connection(*server.addresses[0])
            writer.write(get(f"/{number}"))
            if number % 2:
                await asyncio.sleep(0.01)
                writer.close()
            else:
                writer.transport.abort() if number % 4 else writer.close()
        await until(lambda: server.stats.connections == 0 and server.stats.connections_total == 20)
        await until(lambda: len(ended) == server.stats.requests)
        assert server.stats.errors == 0


async def test_large_answers_do_not_starve_other_connections():
    """A download that never has to wait lets others through."""
    data = memoryview(bytes(1 << 20))

    async def handler(request):
        async def chunks():
            for _ in range(10_000):
                yield ReadChunk(data, lambda: None)

        return Response(200, stream=chunks(), length=10_000 << 20) if request.path == "/big" else Response(200)

    async with serving(handler) as server:
        _, writer = await asyncio.open_connection(*server.addresses[0])
        writer.write(get("/big"))
        async with connected(server) as client:
            client.send(get())
            assert (await client.answer())[0] == 200
        writer.transport.abort()

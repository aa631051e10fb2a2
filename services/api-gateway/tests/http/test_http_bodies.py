# SPDX-License-Identifier: Apache-2.0
"""Request bodies: received in place, bounded, on time, or refused."""

import asyncio
import hashlib
import resource

import pytest
from http_serving import connected, echo, get, serving, until

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.http.messages import Response
from drystone_gateway.http.pacing import Pace
from drystone_gateway.http.shared import HttpSettings

MIB = 1 << 20


def put(length, extra=b"", path="/"):
    return get(path, b"Content-Length: %d\r\n" % length + extra, "PUT")


async def test_a_small_body_needs_no_wait():
    """A body that came with its head is at hand, and can be received as well."""
    seen = []

    async def handler(request):
        whole = request.body.buffered()
        target = memoryview(bytearray(3))
        count = await request.body.receive(target)
        rest = await request.body.read_all(100)
        seen.append((request.body.declared, whole, count, bytes(target), rest, await request.body.receive(target)))
        return Response(200)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(5) + b"hello")
        await client.answer()
    assert seen == [(5, b"hello", 3, b"hel", b"lo", 0)]


@pytest.mark.parametrize("chunked", [False, True])
async def test_100_mib_arrive_intact_in_bounded_memory_and_in_place(chunked):
    """The kernel writes into the receiver's buffer: nothing passes through memory of the connection's own."""
    total, piece = 100 * MIB, memoryview(bytearray(range(256)) * 4096)
    buffers = [memoryview(bytearray(MIB)) for _ in range(2)]
    seen = {"bytes": 0, "ring": 0}

    async def handler(request):
        digest = hashlib.blake2b()
        turn = 0
        while True:
            target = buffers[turn]
            count = await request.body.receive(target)
            seen["ring"] = max(seen["ring"], len(getattr(request.body, "_ring", b"")))
            digest.update(target[:count])
            seen["bytes"] += count
            turn = 1 - turn
            if count < len(target):
                return Response(200, b"", digest.hexdigest().encode())

    async with serving(handler) as server, connected(server) as client:
        expected = hashlib.blake2b()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        extra = b"Transfer-Encoding: chunked\r\n"
        client.send(get("/", extra, "PUT") if chunked else put(total))
        for _ in range(total // MIB):
            if chunked:
                client.send(b"%x\r\n" % MIB)
            client.send(piece)
            if chunked:
                client.send(b"\r\n")
            expected.update(piece)
            await client.writer.drain()
        if chunked:
            client.send(b"0\r\n\r\n")
        status, _, body = await client.answer()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert (status, body, seen["bytes"]) == (200, expected.hexdigest().encode(), total)
        assert grown < 16 * 1024
        # The ring is filled only by what came with the head or between chunks.
        assert seen["ring"] <= 160 * 1024
        client.send(get("/again"))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 65_536, 100_000])
async def test_targets_of_any_size_get_every_byte_once(size):
    """Short only at the end, whatever the packets and the sizes are."""
    data = bytes(range(251)) * (1200 if size >= 1000 else 150 if size > 1 else 30)
    got = []

    async def handler(request):
        target = memoryview(bytearray(size))
        while True:
            count = await request.body.receive(target)
            got.append(bytes(target[:count]))
            if count < size:
                return Response(200)

    async with serving(handler) as server, connected(server) as client:
        for chunked in (False, True):
            got.clear()
            client.send(get("/", b"Transfer-Encoding: chunked\r\n", "PUT") if chunked else put(len(data)))
            for at in range(0, len(data), 3_011):
                part = data[at : at + 3_011]
                client.send(b"%X\r\n%b\r\n" % (len(part), part) if chunked else part)
                await asyncio.sleep(0)
            client.send(b"0\r\n\r\n" if chunked else b"")
            assert (await client.answer())[0] == 200
            assert b"".join(got) == data
            assert all(len(part) == size for part in got[:-1])


async def test_a_body_nobody_reads_is_not_read():
    """While the handler does other things the client is held back after some kilobytes."""
    gate = asyncio.Event()

    async def handler(request):
        await gate.wait()
        total = 0
        target = memoryview(bytearray(MIB))
        while count := await request.body.receive(target):
            total += count
        return Response(200, b"", b"%d" % total)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(40 * MIB))
        client.send(bytes(40 * MIB))
        await asyncio.sleep(0.2)
        connection = next(iter(server._shared.connections))
        assert connection.incoming.received < 256 * 1024
        assert client.writer.transport.get_write_buffer_size() > 20 * MIB
        gate.set()
        assert (await client.answer())[2] == b"%d" % (40 * MIB)


async def test_100_continue_comes_at_the_first_wait_and_before_the_answer():
    """Not before the handler wants the body; the answer follows on the same connection."""
    gate = asyncio.Event()

    async def handler(request):
        await gate.wait()
        assert request.body.buffered() is None
        return await echo(request)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(5, b"Expect: 100-continue\r\n"))
        await asyncio.sleep(0.05)
        assert not client.reader._buffer
        gate.set()
        assert (await client.answer())[0] == 100
        assert not client.reader._buffer
        client.send(b"hello" + put(2, b"Expect: 100-Continue\r\n"))
        assert (await client.answer())[2] == b"hello"
        assert (await client.answer())[0] == 100
        client.send(b"ok")
        assert (await client.answer())[2] == b"ok"


async def test_a_refusal_comes_instead_of_100_continue_and_closes():
    """The client that waits for leave is told no, without its body."""

    async def handler(request):
        raise Refused(ErrorCode.ACCESS_DENIED)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(5 * MIB, b"Expect: 100-continue\r\n"))
        status, headers, body = await client.answer()
        assert (status, body, headers["connection"]) == (418, b"AccessDenied", "close")
        assert await client.at_end()


async def test_a_client_that_does_not_wait_for_leave_gets_no_100():
    """Its body is here already."""
    async with serving(echo) as server, connected(server) as client:
        client.send(put(5, b"Expect: 100-continue\r\n") + b"hello")
        status, _, body = await client.answer()
        assert (status, body) == (200, b"hello")


@pytest.mark.parametrize("size", [1000, 200_000])
async def test_a_little_unread_body_is_dropped_and_the_connection_kept(size):
    """What is left is not taken for a request."""

    async def handler(request):
        return Response(200, b"", request.path.encode())

    async with serving(handler) as server, connected(server) as client:
        client.send(put(size))
        assert (await client.answer())[0] == 200
        client.send(get("/smuggled").ljust(size, b"x") + get("/next"))
        assert (await client.answer())[2] == b"/next"
        assert server.stats.requests == 2


async def test_a_large_unread_body_ends_the_connection_after_a_readable_answer():
    """The client that is still sending can read the refusal before the connection ends."""

    async def handler(request):
        raise Refused(ErrorCode.ENTITY_TOO_LARGE)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(60 * MIB) + bytes(20 * MIB))
        status, headers, body = await client.answer()
        assert (status, body, headers["connection"]) == (418, b"EntityTooLarge", "close")
        assert await client.at_end()


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("how", ["receive", "read_all", "arrived"])
async def test_a_body_that_ends_early_is_incomplete(framing, how):
    """The handler is told, and so is a client that has only stopped sending."""

    async def handler(request):
        if how == "receive":
            await request.body.receive(memoryview(bytearray(1000)))
        elif how == "arrived":
            await request.body.arrived(1000)
        else:
            await request.body.read_all(1000)
        return Response(200)

    async with serving(handler) as server, connected(server) as client:
        client.send(get("/", framing, "PUT") + b"3e8\r\nsome")
        await asyncio.sleep(0.02)
        client.writer.write_eof()
        status, headers, body = await client.answer()
        assert (status, body, headers["connection"]) == (418, b"IncompleteBody", "close")
        assert await client.at_end()


@pytest.mark.parametrize(
    "pace", [Pace(idle_s=0.1, rate=0, window_s=9), Pace(idle_s=9, rate=10_000, window_s=0.2)], ids=["idle", "trickle"]
)
async def test_a_body_that_comes_too_slowly_times_out(pace):
    """Without a byte for too long, or with too few over a window."""
    settings = HttpSettings(sweep_s=0.02, upload=pace)
    async with serving(echo, settings=settings) as server, connected(server) as client:
        client.send(put(1000))
        answer = asyncio.ensure_future(client.answer())
        while not answer.done():
            if pace.rate:
                client.send(b"x")
            await asyncio.sleep(0.02)
        status, headers, body = await answer
        assert (status, body, headers["connection"]) == (418, b"RequestTimeout", "close")
        assert server.stats.timeouts == 1


async def test_a_handler_that_is_slow_itself_is_no_slow_client():
    """Time counts only while a handler waits for the body."""

    async def handler(request):
        await asyncio.sleep(0.3)
        return await echo(request)

    settings = HttpSettings(sweep_s=0.02, upload=Pace(idle_s=0.1, rate=10_000, window_s=0.1))
    async with serving(handler, settings=settings) as server, connected(server) as client:
        client.send(put(1000))
        await asyncio.sleep(0.35)
        client.send(bytes(1000))
        assert (await client.answer())[0] == 200


async def test_read_all_keeps_to_its_limit():
    """By the declared length at once; by what arrives with chunks."""

    async def handler(request):
        return Response(200, b"", await request.body.read_all(10))

    async with serving(handler) as server:
        for raw in (
            put(11) + b"x" * 11,
            put(100),
            get("/", b"Transfer-Encoding: chunked\r\n", "PUT") + b"b\r\n" + b"x" * 11 + b"\r\n",
        ):
            async with connected(server) as client:
                client.send(raw)
                status, _, body = await client.answer()
                assert (status, body) == (418, b"MaxMessageLengthExceeded")


async def test_arrived_tells_when_a_buffer_is_worth_borrowing():
    """It waits for the bytes asked for, or the rest, and takes none."""
    seen = []

    async def handler(request):
        seen.append(await request.body.arrived(10_000))
        target = memoryview(bytearray(30_000))
        seen.append(await request.body.receive(target[:20_000]))
        seen.append(await request.body.arrived(65_536))
        seen.append(await request.body.receive(target))
        return Response(200)

    async with serving(handler) as server, connected(server) as client:
        client.send(put(25_000) + bytes(9_999))
        await asyncio.sleep(0.02)
        assert seen == []
        client.send(bytes(15_001))
        assert (await client.answer())[0] == 200
    assert 10_000 <= seen[0] <= 25_000
    assert seen[1:] == [20_000, 5_000, 5_000]


async def test_clients_that_vanish_while_uploading_leave_nothing():
    """Handlers end, by IncompleteBody or cancellation, and nothing stays in flight."""
    ended = []

    async def handler(request):
        try:
            await request.body.receive(memoryview(bytearray(MIB)))
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        return Response(200)

    async with serving(handler) as server:
        for number in range(60):
            _, writer = await asyncio.open_connection(*server.addresses[0])
            writer.write(put(MIB) + b"some")
            await asyncio.sleep(0)
            if number % 2:
                writer.close()
            else:
                writer.transport.abort()
        await until(lambda: server.stats.connections == 0 and server.stats.connections_total == 60)
        assert server.stats.in_flight == 0
        assert len(ended) == server.stats.requests
        assert set(ended) <= {"Refused", "CancelledError"}
        assert server.stats.errors == 0

# SPDX-License-Identifier: Apache-2.0
"""Requests and answers: framing, persistence, pipelining, failures of handlers."""

import asyncio
import contextvars
import re
import resource
from email.utils import parsedate_to_datetime

import pytest
from http_serving import connected, echo, get, serving

from drystone_core.errors import Busy, ErrorCode, Refused
from drystone_gateway.http.messages import Response
from drystone_gateway.http.shared import HttpSettings


async def test_an_answer_has_what_every_answer_has():
    """Server, Date, both request ids, length; the same id the handler saw."""
    seen = []

    async def handler(request):
        seen.append(request)
        return Response(200, b'ETag: "x"\r\n', b"hello")

    async with serving(handler) as server, connected(server) as client:
        client.send(get("/a%2Fb//../c?x=%20&y", b"X-A: 1\r\nX-Meta: b\r\nx-a:  2 \r\nx-B:\r\n"))
        status, headers, body = await client.answer()
        assert (status, body, headers["etag"], headers["server"]) == (200, b"hello", '"x"', "Drystone")
        assert headers["content-length"] == "5"
        assert "connection" not in headers
        assert re.fullmatch("[0-9A-F]{16}", headers["x-amz-request-id"])
        assert parsedate_to_datetime(headers["date"]).tzinfo is not None
        request = seen[0]
        assert request.request_id == headers["x-amz-request-id"]
        assert request.host_id == headers["x-amz-id-2"] == server.host_id
        assert (request.path, request.query) == ("/a%2Fb//../c", "x=%20&y")
        assert request.headers == {"host": "localhost", "x-a": "1,2", "x-meta": "b", "x-b": ""}
        assert request.repeated == {"x-a"}
        assert (request.peer, request.secure) == ("127.0.0.1", False)
        assert request.body.declared == 0 and request.body.buffered() == b""


async def test_a_head_and_a_body_split_at_every_byte():
    """Where packets end makes no difference."""
    for body in (
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n",
    ):
        raw = b"PUT /key%20a HTTP/1.1\r\nHost: h\r\n" + body
        async with serving(echo) as server, connected(server) as client:
            for cut in range(1, len(raw)):
                client.send(raw[:cut])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                client.send(raw[cut:])
                status, headers, got = await client.answer()
                assert (status, got, headers["x-target"]) == (200, b"hello", "/key%20a")
            for byte in raw:
                client.send(bytes([byte]))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"hello"
            assert server.stats.connections_total == 1
            assert server.stats.requests == len(raw)


@pytest.mark.parametrize("suspends", [False, True])
async def test_pipelined_requests_are_answered_in_order(suspends):
    """Many requests in one write, with and without bodies, whether handlers wait or not."""

    async def handler(request):
        if suspends:
            await asyncio.sleep(0)
        return await echo(request)

    async with serving(handler) as server, connected(server) as client:
        raw = b""
        for number in range(300):
            body = b"x" * (number % 7)
            raw += get(f"/{number}", b"Content-Length: %d\r\n" % len(body), "PUT") + body
        client.send(raw)
        for number in range(300):
            _, headers, body = await client.answer()
            assert (headers["x-target"], body) == (f"/{number}", b"x" * (number % 7))


async def test_pipelining_without_reading_does_not_fill_memory():
    """A client that sends requests and reads nothing is not served on until it reads."""
    body = bytes(100_000)

    async def handler(request):
        return Response(200, b"", body)

    async with serving(handler) as server, connected(server, limit=1000) as client:
        client.send(get() * 2000)
        await asyncio.sleep(0.2)
        assert server.stats.requests < 400
        for _ in range(2000):
            assert (await client.answer())[2] == body
        assert server.stats.requests == 2000


@pytest.mark.parametrize(
    ("request_bytes", "closes"),
    [
        (get(), False),
        (get(extra=b"Connection: close\r\n"), True),
        (get(extra=b"Connection: foo, Close\r\n"), True),
        (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
async def test_connections_persist_as_asked(request_bytes, closes):
    """HTTP/1.1 persists unless told not to, HTTP/1.0 only when asked."""
    async with serving(echo) as server, connected(server) as client:
        client.send(request_bytes)
        _, headers, _ = await client.answer()
        assert (headers.get("connection") == "close") == closes
        if closes:
            assert await client.at_end()
        else:
            client.send(get("/again"))
            assert (await client.answer())[1]["x-target"] == "/again"


async def test_answers_without_a_body_are_framed_as_such():
    """HEAD tells the length of the GET and sends nothing; 204 and 304 have neither; a HEAD error has no length."""
    answers = {
        "/head": Response(200, b"", length=12345),
        "/gone": Response(404, b"", b"<Error/>"),
        "/204": Response(204),
        "/304": Response(304, b'ETag: "x"\r\n'),
        "/empty": Response(200),
    }

    async def handler(request):
        return answers[request.path]

    async with serving(handler) as server, connected(server) as client:
        client.send(get("/head", method="HEAD") + get("/gone", method="HEAD"))
        assert (await client.answer(head_only=True))[1]["content-length"] == "12345"
        status, headers, _ = await client.answer(head_only=True)
        assert status == 404 and not {"content-length", "transfer-encoding"} & headers.keys()
        client.send(get("/204") + get("/304") + get("/empty"))
        for expected in (204, 304):
            status, headers, _ = await client.answer()
            assert status == expected and not {"content-length", "transfer-encoding"} & headers.keys()
        status, headers, body = await client.answer()
        assert (status, headers["content-length"], body) == (200, "0", b"")


async def test_failures_of_handlers_are_rendered(caplog):
    """Expected ones as they are; others as InternalError, logged with the request's id."""

    async def handler(request):
        if request.path == "/waits":
            await asyncio.sleep(0)
        if request.path == "/busy":
            raise Busy
        if request.path == "/refused":
            raise Refused(ErrorCode.NO_SUCH_KEY)
        raise ValueError("a secret")

    async with serving(handler) as server, connected(server) as client:
        for path, code in {
            "/refused": b"NoSuchKey",
            "/busy": b"SlowDown",
            "/bug": b"InternalError",
            "/waits": b"InternalError",
        }.items():
            client.send(get(path))
            status, headers, body = await client.answer()
            assert (status, body) == (418, code)
        assert headers["x-amz-request-id"] in [record.request_id for record in caplog.records]
        assert server.stats.errors == 2


async def test_a_handler_runs_in_one_context_of_its_own():
    """What it sets in a context variable before its first wait is there after it, and not in the next request."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def handler(request):
        before = variable.get()
        token = variable.set(request.path)
        await asyncio.sleep(0.001)
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        after = variable.get()
        variable.reset(token)
        return Response(200, b"", f"{before} {after}".encode())

    async with serving(handler) as server, connected(server) as client:
        for path in ("/a", "/b"):
            client.send(get(path))
            assert (await client.answer())[2] == f"unset {path}".encode()


async def test_too_many_requests_at_once_are_told_to_slow_down():
    """Beyond the cap 503 SlowDown at once, and the connection stays."""
    gate = asyncio.Event()

    async def handler(request):
        await gate.wait()
        return Response(200)

    async with serving(handler, settings=HttpSettings(max_in_flight=2)) as server:
        async with connected(server) as one, connected(server) as two, connected(server) as three:
            one.send(get())
            two.send(get())
            await asyncio.sleep(0.05)
            three.send(get())
            status, headers, body = await three.answer()
            assert status == 503 and b"<Code>SlowDown</Code>" in body and "connection" not in headers
            gate.set()
            assert [(await client.answer())[0] for client in (one, two)] == [200, 200]
            three.send(get())
            assert (await three.answer())[0] == 200
            assert server.stats.slow_downs == 1


async def test_too_many_connections_are_told_to_slow_down():
    """Beyond the cap a connection gets 503 and the end."""
    async with serving(echo, settings=HttpSettings(max_connections=2)) as server:
        async with connected(server) as one, connected(server) as two, connected(server) as three:
            status, _, body = await three.answer()
            assert status == 503 and b"SlowDown" in body and await three.at_end()
            for client in (one, two):
                client.send(get())
                assert (await client.answer())[0] == 200
            assert server.stats.refused_connections == 1


async def test_the_access_log_is_told_once_per_request():
    """Request, status, bytes, duration and error; also of a refused head."""
    told = []

    async def handler(request):
        if request.path == "/bad":
            raise Refused(ErrorCode.ACCESS_DENIED)
        return await echo(request)

    async with serving(handler, access_log=lambda *record: told.append(record)) as server:
        async with connected(server) as client:
            client.send(get("/a", b"Content-Length: 3\r\n", "PUT") + b"abc" + get("/bad") + b"nonsense\r\n\r\n")
            for _ in range(3):
                await client.answer()
    assert [(record[0] and record[0].path, record[1], record[2]) for record in told] == [
        ("/a", 200, 3),
        ("/bad", 418, 0),
        (None, 400, 0),
    ]
    assert told[0][5] is None and told[0][4] >= 0 and told[0][3] > 100
    assert isinstance(told[1][5], Refused)


async def test_idle_connections_cost_kilobytes():
    """Memory of a connection that waits, or trickles a head, is a few kilobytes on both sides together."""
    count = 150
    async with serving(echo) as server:
        clients = [await asyncio.open_connection(*server.addresses[0]) for _ in range(20)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clients += [await asyncio.open_connection(*server.addresses[0]) for _ in range(count)]
        for _, writer in clients:
            writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\nsome")
        await asyncio.sleep(0.1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert server.stats.connections == count + 20
        assert grown / count < 48, f"{grown / count} KiB a connection"
        for _, writer in clients:
            writer.close()

# SPDX-License-Identifier: Apache-2.0
"""What the server counts of itself: each figure says what it says, and nothing twice."""

from http_serving import connected, get, serving

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_gateway.http.messages import Response
from drystone_gateway.http.shared import HttpSettings

ANSWERS = {"/ok": 200, "/missing": 404, "/failing": 500, "/busy": 503}


async def handler(request):
    if request.path == "/stream":
        return Response(200, b"", stream=failing(), length=5)
    if request.path == "/raising":
        raise Refused(ErrorCode.NO_SUCH_KEY)
    return Response(ANSWERS[request.path], b"", b"body!")


async def failing():
    raise Unavailable("no disk")
    yield


async def test_answers_are_counted_by_what_they_say():
    """4xx, 5xx and 503; an answer replaced before its head went out counts as what was sent instead."""
    async with serving(handler) as server, connected(server) as client:
        for path in ("/ok", "/missing", "/failing", "/busy", "/raising", "/stream", "/ok"):
            client.send(get(path))
            await client.answer()
        stats = server.stats
        assert (stats.requests, stats.in_flight, stats.connections) == (7, 0, 1)
        assert (stats.answers_4xx, stats.answers_5xx, stats.answers_503) == (3, 2, 1)
        assert (stats.refused_heads, stats.refused_connections, stats.slow_downs, stats.timeouts) == (0, 0, 0, 0)


async def test_a_refused_connection_is_no_refused_head():
    """Each limit has a figure of its own."""
    async with serving(handler, settings=HttpSettings(max_connections=1)) as server, connected(server):
        async with connected(server) as second:
            assert (await second.head())[0] == 503
        assert (server.stats.refused_connections, server.stats.refused_heads, server.stats.requests) == (1, 0, 0)


async def test_a_slow_head_is_no_refused_head():
    """A client that was too slow is counted once, as such."""
    async with serving(handler, settings=HttpSettings(sweep_s=0.02, head_timeout_s=0.1)) as server:
        async with connected(server) as client:
            client.send(b"GET /ok HT")
            assert (await client.head())[0] == 400
        assert (server.stats.timeouts, server.stats.refused_heads) == (1, 0)
        async with connected(server) as client:
            client.send(b"nonsense\r\n\r\n")
            assert (await client.head())[0] == 400
        assert (server.stats.timeouts, server.stats.refused_heads) == (1, 1)

# SPDX-License-Identifier: Apache-2.0
"""What could be read in two ways, or cost too much, is refused and the connection closed."""

import asyncio

import pytest
from http_serving import connected, get, serving

from drystone_gateway.http.messages import Response

GOOD = b"GET / HTTP/1.1\r\nHost: h\r\n"


def head(*lines, start=b"GET / HTTP/1.1", host=b"Host: h"):
    return b"\r\n".join([start, *([host] if host is not None else []), *lines, b"", b""])


def post(*lines, body=b""):
    return head(*lines, start=b"POST /b HTTP/1.1") + body


CHUNKED = b"Transfer-Encoding: chunked"
HOSTILE = {
    # Two lengths.
    "both length and coding": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "both coding and length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths that differ": post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
    "two equal lengths": post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"),
    "two lengths in one field": post(b"Content-Length: 5, 5", body=b"12345"),
    "two lengths, other case": post(b"content-length: 5", b"CONTENT-LENGTH: 0", body=b"12345"),
    # Malformed lengths.
    "negative length": post(b"Content-Length: -1"),
    "signed length": post(b"Content-Length: +5", body=b"12345"),
    "hexadecimal length": post(b"Content-Length: 0x5", body=b"12345"),
    "empty length": post(b"Content-Length:"),
    "length with a blank inside": post(b"Content-Length: 1 2", body=b"123456789012"),
    "fraction as length": post(b"Content-Length: 5.0", body=b"12345"),
    "exponent as length": post(b"Content-Length: 1e1"),
    "underscored length": post(b"Content-Length: 1_0"),
    "superscript length": post(b"Content-Length: \xb2"),
    "length beyond 64 bits": post(b"Content-Length: 18446744073709551617"),
    "length of 100 digits": post(b"Content-Length: " + b"9" * 100),
    "length with a semicolon": post(b"Content-Length: 5;", body=b"12345"),
    # Transfer codings.
    "gzip coding": post(b"Transfer-Encoding: gzip"),
    "gzip then chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked twice in one field": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "identity coding": post(b"Transfer-Encoding: identity"),
    "xchunked": post(b"Transfer-Encoding: xchunked"),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"'),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1"),
    "empty coding": post(b"Transfer-Encoding:"),
    "chunked after a vertical tab": post(b"Transfer-Encoding: \x0bchunked"),
    "chunked before a form feed": post(b"Transfer-Encoding: chunked\x0c"),
    "chunked in HTTP/1.0": head(CHUNKED, start=b"POST / HTTP/1.0") + b"0\r\n\r\n",
    "blank before colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "tab before colon": post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "blank before the colon of length": post(b"Content-Length : 5", body=b"12345"),
    # Line ends and folding.
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: h\n\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: h\r\n\r\n",
    "bare LF between fields": GOOD + b"A: b\nC: d\r\n\r\n",
    "bare LF as last line end": GOOD + b"A: b\r\n\n",
    "bare CR in a value": GOOD + b"A: b\rContent-Length: 5\r\n\r\n",
    "bare CR in the target": b"GET /a\rb HTTP/1.1\r\nHost: h\r\n\r\n",
    "CR CR LF": GOOD + b"A: b\r\r\n\r\n",
    "LF CR pairs": GOOD + b"A: b\n\rC: d\r\n\r\n",
    "obs-fold with a blank": GOOD + b"A: b\r\n c\r\n\r\n",
    "obs-fold with a tab": GOOD + b"A: b\r\n\tc\r\n\r\n",
    "folded first field": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "folded coding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    # Names and values.
    "NUL in a value": GOOD + b"A: b\0c\r\n\r\n",
    "NUL in a name": GOOD + b"A\0B: c\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "DEL in a value": GOOD + b"A: \x7f\r\n\r\n",
    "escape in a value": GOOD + b"A: \x1b[31m\r\n\r\n",
    "no colon": GOOD + b"nonsense\r\n\r\n",
    "empty name": GOOD + b": value\r\n\r\n",
    "blank in a name": GOOD + b"A B: c\r\n\r\n",
    "high byte in a name": GOOD + b"A\xe9: c\r\n\r\n",
    "slash in a name": GOOD + b"A/B: c\r\n\r\n",
    "parenthesis in a name": GOOD + b"A(B): c\r\n\r\n",
    # Hosts.
    "no host": head(host=None),
    "no host in 1.0": head(host=None, start=b"GET / HTTP/1.0"),
    "two hosts": head(b"Host: other"),
    "two equal hosts": head(b"Host: h"),
    "empty host": head(host=b"Host:"),
    "host with a path": head(host=b"Host: h/x"),
    "host with credentials": head(host=b"Host: user@h"),
    "host with a blank": head(host=b"Host: h x"),
    "host list": head(host=b"Host: a,b"),
    "host with a strange port": head(host=b"Host: h:80x"),
    "host with a query": head(host=b"Host: h?x"),
    # Targets.
    "absolute-form of another host": head(start=b"GET http://other/ HTTP/1.1"),
    "absolute-form of another port": head(start=b"GET http://h:81/ HTTP/1.1"),
    "absolute-form with credentials": head(start=b"GET http://h@other/ HTTP/1.1"),
    "other scheme": head(start=b"GET ftp://h/ HTTP/1.1"),
    "authority-form": head(start=b"CONNECT h:443 HTTP/1.1"),
    "asterisk": head(start=b"OPTIONS * HTTP/1.1"),
    "relative target": head(start=b"GET index.html HTTP/1.1"),
    "fragment": head(start=b"GET /a#b HTTP/1.1"),
    "target of 9 KiB": head(start=b"GET /" + b"a" * 9 * 1024 + b" HTTP/1.1"),
    "endless target": b"GET /" + b"a" * 60_000,
    # Request lines.
    "no version": b"GET /\r\nHost: h\r\n\r\n",
    "two blanks": head(start=b"GET  / HTTP/1.1"),
    "blank in the target": head(start=b"GET /a b HTTP/1.1"),
    "tab as separator": head(start=b"GET\t/\tHTTP/1.1"),
    "blank after the version": head(start=b"GET / HTTP/1.1 "),
    "blank before the method": head(start=b" GET / HTTP/1.1"),
    "lower-case version": head(start=b"GET / http/1.1"),
    "HTTP/0.9": head(start=b"GET / HTTP/0.9"),
    "HTTP/1.2": head(start=b"GET / HTTP/1.2"),
    "HTTP/11": head(start=b"GET / HTTP/11"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": head(start=b" / HTTP/1.1"),
    "method with a colon": head(start=b"GE:T / HTTP/1.1"),
    "empty request line": b"\r\n\r\n\r\n: x\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "binary": bytes(range(256)),
    # Sizes.
    "201 fields": head(*[b"A%d: b" % i for i in range(201)]),
    "10,000 fields": head(*[b"A%d: b" % i for i in range(10_000)]),
    "10,000 equal fields": head(*[b"A: b"] * 10_000),
    "a value of 70 KiB": head(b"A: " + b"b" * 70 * 1024),
    "an endless head": GOOD + b"A: " + b"b" * 300_000,
    # Expectations.
    "unknown expectation": post(b"Expect: 200-ok", b"Content-Length: 5"),
    "two expectations": post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5"),
}


async def never(request):
    raise AssertionError("a hostile request reached the handler")


def test_the_corpus_is_large():
    """The table does not shrink unnoticed."""
    assert len(HOSTILE) >= 90


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_head_is_refused_and_the_connection_closed(name):
    """One 4xx answer with the S3 error and its ids, then the end; what is smuggled behind it is not served."""
    async with serving(never) as server, connected(server) as client:
        client.send(HOSTILE[name] + get("/smuggled"))
        status, headers, body = await client.answer()
        assert 400 <= status < 500
        assert headers["connection"] == "close"
        assert headers["content-type"] == "application/xml"
        assert len(headers["x-amz-request-id"]) == 16
        assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body
        assert f"<HostId>{headers['x-amz-id-2']}</HostId>".encode() in body
        assert b"<Code>" in body
        assert await client.at_end()
        assert server.stats.requests == 0
        assert server.stats.refused_heads == 1
        assert server.stats.errors == 0


BAD_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "prefixed size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "size with a blank": b"3 \r\nabc\r\n0\r\n\r\n",
    "blank before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "extension": b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "extension with a bare LF": b"3;\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 70_000,
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR after the size": b"3\rabc\r\n0\r\n\r\n",
    "bare LF after the chunk": b"3\r\nabc\n0\r\n\r\n",
    "chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk shorter than its size": b"4\r\nabc\r\n0\r\n\r\n",
    "bare LF at the end": b"3\r\nabc\r\n0\r\n\n",
    "malformed trailer": b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
    "trailer with NUL": b"3\r\nabc\r\n0\r\nA: \0\r\n\r\n",
    "trailers of 100 KiB": b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 17_000 + b"\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_malformed_chunks_fail_the_request_and_close(name):
    """The handler is told, its answer goes out, and nothing after the bad framing is taken for a request."""

    async def handler(request):
        return Response(200, b"", await request.body.read_all(1 << 20))

    async with serving(handler) as server, connected(server) as client:
        client.send(post(CHUNKED) + BAD_CHUNKS[name] + get("/smuggled"))
        status, headers, body = await client.answer()
        assert (status, body) == (418, b"InvalidRequest")
        assert headers["connection"] == "close"
        assert await client.at_end()
        assert server.stats.requests == 1


async def test_a_slow_head_is_refused_and_an_idle_connection_closed():
    """One byte now and then does not keep a connection."""
    from drystone_gateway.http.shared import HttpSettings

    settings = HttpSettings(sweep_s=0.02, head_timeout_s=0.15, idle_timeout_s=0.15)
    async with serving(never, settings=settings) as server:
        async with connected(server) as client:
            for byte in b"GET / HTTP":
                client.send(bytes([byte]))
                await asyncio.sleep(0.03)
            status, _, body = await client.answer()
            assert status == 400 and b"<Code>RequestTimeout</Code>" in body
            assert await client.at_end()
        async with connected(server) as client:
            assert await client.at_end()
        assert server.stats.timeouts == 1

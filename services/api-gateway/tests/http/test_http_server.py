# SPDX-License-Identifier: Apache-2.0
"""Listening, draining, TLS."""

import asyncio
import socket
import ssl
import subprocess

import pytest
from http_serving import connected, echo, get, serving, until

from drystone_core.services import ReadChunk
from drystone_gateway.http.messages import Response
from drystone_gateway.http.shared import HttpSettings
from drystone_gateway.http.tls import TlsFiles


def make_certificate(folder, name):
    """A self-signed pair in `folder`, overwritten."""
    subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split(),
            *(f"/CN={name}", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return TlsFiles(certificate=str(folder / "cert.pem"), key=str(folder / "key.pem"))


def trusting_client(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def test_drain_lets_requests_finish_and_closes_the_rest():
    """Idle connections close at once, busy ones after their answer, new ones are not taken."""
    gate = asyncio.Event()

    async def handler(request):
        await gate.wait()
        return Response(200, b"", b"done")

    async with serving(handler) as server, connected(server) as idle, connected(server) as busy:
        busy.send(get())
        await until(lambda: server.stats.in_flight == 1 and server.stats.connections == 2)
        address = server.addresses[0]
        drained = asyncio.ensure_future(server.drain(asyncio.get_running_loop().time() + 5))
        assert await idle.at_end()
        with pytest.raises(OSError):
            await asyncio.open_connection(*address)
        assert not drained.done()
        gate.set()
        _, headers, body = await busy.answer()
        assert (body, headers["connection"]) == (b"done", "close")
        assert await drained == 0


async def test_drain_does_not_wait_for_idle_tls_clients_to_say_goodbye(tmp_path):
    """A client that keeps its connection in a pool does not read, so it never answers the farewell of TLS."""
    async with serving(echo, tls=make_certificate(tmp_path, "a")) as server:
        plain = socket.create_connection(server.addresses[0])
        loop = asyncio.get_running_loop()
        pooled = await loop.run_in_executor(None, trusting_client().wrap_socket, plain)
        pooled.sendall(get())
        assert (await loop.run_in_executor(None, pooled.recv, 65536)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: server.stats.in_flight == 0)
        async with asyncio.timeout(10):
            assert await server.drain(loop.time() + 60) == 0
        assert await loop.run_in_executor(None, pooled.recv, 1) == b"", "a clean end of TLS came first"
        pooled.close()


async def test_drain_cuts_off_at_its_deadline():
    """What has not ended by then is cancelled and reset."""
    ended = []

    async def handler(request):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request.path)

    async with serving(handler) as server, connected(server) as client:
        client.send(get("/slow"))
        await until(lambda: server.stats.in_flight == 1)
        assert await server.drain(asyncio.get_running_loop().time() + 0.05) == 1
        assert await client.at_end()
        await until(lambda: ended == ["/slow"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_round_trip(tmp_path, version):
    """Large bodies both ways, streams, keep-alive, ALPN."""
    data = bytes(range(256)) * 8192
    released = []

    async def handler(request):
        assert request.secure
        body = await request.body.read_all(1 << 22)

        async def chunks():
            for at in range(0, len(body), 100_000):
                yield ReadChunk(memoryview(body)[at : at + 100_000], lambda: released.append(1))

        return Response(200, stream=chunks(), length=len(body))

    async with (
        serving(handler, tls=make_certificate(tmp_path, "a")) as server,
        connected(server, tls=trusting_client(version)) as client,
    ):
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        for framing in (b"Content-Length: %d\r\n" % len(data), b"Transfer-Encoding: chunked\r\n"):
            client.send(get("/", framing, "PUT"))
            client.send(data if b"Length" in framing else b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            status, _, body = await client.answer()
            assert status == 200 and body == data
        await until(lambda: len(released) == 2 * 21)


async def test_a_tls_connection_begins_without_an_error_in_the_log(tmp_path, caplog):
    """What the handshake leaves in the write buffer pauses the connection at its very beginning."""
    async with (
        serving(echo, tls=make_certificate(tmp_path, "a")) as server,
        connected(server, tls=trusting_client()) as client,
    ):
        client.send(get())
        assert (await client.answer())[0] == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_below_1_2_is_refused(tmp_path):
    """The handshake fails."""
    context = trusting_client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(echo, tls=make_certificate(tmp_path, "a")) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(server, tls=context):
                pass


async def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path):
    """New handshakes see it; a half-written pair changes nothing."""
    settings = HttpSettings(certificate_check_s=0.02)

    async def served(server):
        async with connected(server, tls=trusting_client()) as client:
            client.send(get())
            assert (await client.answer())[0] == 200
            return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async with serving(echo, tls=make_certificate(tmp_path, "a"), settings=settings) as server:
        first = await served(server)
        good = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(good[:50])
        await asyncio.sleep(0.1)
        assert await served(server) == first
        make_certificate(tmp_path, "b")
        await asyncio.sleep(0.1)
        assert await served(server) != first


async def test_given_sockets_and_unix_sockets_are_served(tmp_path):
    """Listeners may be handed over bound; one server has several."""
    import socket

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "http"))
    async with serving(echo) as server:
        await server.start(sockets=[listener])
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "http"))
        writer.write(get())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        async with connected(server) as client:
            client.send(get())
            assert (await client.answer())[0] == 200

# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: listeners, the sweep for timeouts, draining.

Invariants
  V1  drain() returns only when no connection is left: answered, closed while idle, or reset at the deadline.
  V2  Timeouts are found by one sweep over all connections, not by a timer for each request.
States  NEW --start()--> SERVING --drain()--> DRAINING -> STOPPED
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from socket import socket

from drystone_core.check import check
from drystone_core.ports import Clock, Entropy
from drystone_gateway.http.connection import Connection
from drystone_gateway.http.messages import Handler
from drystone_gateway.http.responses import ResponseHeads
from drystone_gateway.http.shared import AccessLog, HttpSettings, HttpStats, RenderError, RequestIds, Shared
from drystone_gateway.http.timeouts import close_idle, sweep
from drystone_gateway.http.tls import TlsFiles, TlsReloader

log = logging.getLogger(__name__)

Listener = socket
"""A listening socket."""


class HttpServer:
    """Serves `handler` on any number of listeners; construct it on the loop it shall run on."""

    def __init__(
        self,
        *,
        handler: Handler,
        render_error: RenderError,
        settings: HttpSettings,
        clock: Clock,
        entropy: Entropy,
        access_log: AccessLog | None = None,
        host_id: str = "",
    ) -> None:
        host_id = host_id or entropy.token(24).hex()
        self._clock = clock
        self._shared = Shared(
            handler=handler,
            render_error=render_error,
            settings=settings,
            clock=clock,
            ids=RequestIds(entropy),
            heads=ResponseHeads(clock=clock, host_id=host_id),
            host_id=host_id,
            loop=asyncio.get_running_loop(),
            access_log=access_log,
        )
        self._listeners: list[asyncio.Server] = []
        self._chores: list[asyncio.Task[None]] = []
        self._sweeps = False

    @property
    def stats(self) -> HttpStats:
        return self._shared.stats

    @property
    def host_id(self) -> str:
        """What x-amz-id-2 says."""
        return self._shared.host_id

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where TCP listeners listen."""
        names = [sock.getsockname() for listener in self._listeners for sock in listener.sockets]
        return [(name[0], name[1]) for name in names if isinstance(name, tuple)]

    async def start(
        self,
        *,
        host: str | None = None,
        port: int = 0,
        sockets: Sequence[socket] = (),
        tls: TlsFiles | ssl.SSLContext | None = None,
    ) -> None:
        """Listen on host and port, or on bound `sockets`; may be called again for further listeners."""
        check(not self._shared.draining, "the server drains")
        context: ssl.SSLContext | None
        if isinstance(tls, TlsFiles):
            reloader = TlsReloader(tls)
            context = reloader.context
            self._chores.append(self._shared.loop.create_task(self._watch_certificate(reloader)))
        else:
            context = tls
        secure = context is not None
        shared, settings = self._shared, self._shared.settings

        def connection() -> Connection:
            return Connection(shared, secure=secure)

        timeout = settings.handshake_timeout_s if secure else None
        if sockets:
            for sock in sockets:
                self._listeners.append(
                    await shared.loop.create_server(
                        connection, sock=sock, ssl=context, backlog=settings.backlog, ssl_handshake_timeout=timeout
                    )
                )
        else:
            self._listeners.append(
                await shared.loop.create_server(
                    connection, host, port, ssl=context, backlog=settings.backlog, ssl_handshake_timeout=timeout
                )
            )
        if not self._sweeps:
            self._sweeps = True
            self._chores.append(shared.loop.create_task(self._sweep()))

    async def drain(self, deadline: float) -> int:
        """Stop accepting, let requests finish until the monotonic `deadline`; returns how many were cut off."""
        shared = self._shared
        shared.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(shared.connections):
            close_idle(connection)
        while shared.connections and self._clock.monotonic() < deadline:
            await self._clock.sleep(min(0.005, max(0.0, deadline - self._clock.monotonic())))
        cut_off = shared.stats.in_flight
        for connection in list(shared.connections):
            connection.reset()
        while shared.connections:
            await self._clock.sleep(0.001)
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._chores.clear()
        return cut_off

    async def _sweep(self) -> None:
        clock, connections = self._clock, self._shared.connections
        interval = self._shared.settings.sweep_s
        last = clock.monotonic()
        while True:
            await clock.sleep(interval)
            now = clock.monotonic()
            # A loop that was held up (or a paused machine) is not the clients' fault.
            elapsed = min(now - last, 2 * interval)
            last = now
            for connection in list(connections):
                sweep(connection, elapsed)

    async def _watch_certificate(self, reloader: TlsReloader) -> None:
        while True:
            await self._clock.sleep(self._shared.settings.certificate_check_s)
            await self._shared.loop.run_in_executor(None, reloader.check)

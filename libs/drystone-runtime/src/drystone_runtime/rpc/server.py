# SPDX-License-Identifier: Apache-2.0
"""One way to serve gRPC: callers known and allowed, health, reflection, large frames, errors mapped once.

Invariants
  S1  A TCP port asks for and shows certificates; plaintext is for unix sockets (mode 0600 authorises), and for the loopback
      when a setting of tests says so. Any other wish is refused before the port is bound.
  S2  Every call passes the border (border.py): health for whoever completed the handshake, the rest by permissions.py.
  S3  Stopping: not ready first, while calls are still taken; then no new calls; calls in progress end by themselves.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from drystone_core.ports import Clock
from drystone_runtime.addresses import UNIX, is_loopback, split_host_port
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.border import Border, Door
from drystone_runtime.rpc.callers import OwnerDoor, TlsDoor
from drystone_runtime.rpc.channel import FRAME_OPTIONS, KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS
from drystone_runtime.rpc.counters import RpcCounters
from drystone_runtime.rpc.health import SERVICE as HEALTH
from drystone_runtime.rpc.health import Health
from drystone_runtime.rpc.tls import Certificates

CONNECTION_AGE_MS = 30 * 60 * 1000
"""TLS connections are renewed after about so long: new certificates are shown, names resolved, load spread anew."""
NOTICE_SECONDS = 0.5
"""Between saying not ready and refusing calls, when others balance over us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcService:
    """A servicer and how it is registered."""

    name: str
    """Full name, e.g. `drystone.metadata.v1.MetadataService`."""
    register: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcServerSettings:
    """How a server listens."""

    address: str
    """`unix:/path` or `HOST:PORT` (port 0 = a free one)."""
    reflection: bool = True
    concurrent: int = 4096
    """Calls in progress at once; beyond it RESOURCE_EXHAUSTED."""
    plaintext_loopback: bool = False
    """Serve the loopback without TLS, to everybody on this machine; for tests."""


def listening_problem(address: str, *, tls: bool, plaintext_loopback: bool) -> str:
    """Why nobody may listen there like that, in a sentence; empty = one may."""
    if tls or address.startswith(UNIX):
        return ""
    if not is_loopback(split_host_port(address)[0]):
        return f"{address}: others can reach it, so services must prove who they are: set rpc.tls_ca, rpc.tls_cert, rpc.tls_key"
    if plaintext_loopback:
        return ""
    return (
        f"{address}: without TLS everybody on this machine could call it: set rpc.tls_ca, rpc.tls_cert and rpc.tls_key, "
        "listen on unix:/path, or, for a test, set rpc.plaintext_loopback"
    )


class RpcServer:
    """A gRPC server of one or more services."""

    def __init__(
        self,
        *,
        services: Sequence[RpcService],
        settings: RpcServerSettings,
        tls: Certificates | None = None,
        health: Health | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`tls`: shown on TCP ports; ValueError when the address needs it and it is not there."""
        if said := listening_problem(
            settings.address, tls=tls is not None, plaintext_loopback=settings.plaintext_loopback
        ):
            raise ValueError(said)
        self._services, self._settings = services, settings
        self._path = settings.address.removeprefix(UNIX) if settings.address.startswith(UNIX) else None
        self._tls = tls if self._path is None else None
        self._clock = clock or SystemClock()
        self._server: grpc.aio.Server | None = None
        self.health = health or Health()
        self.counters = RpcCounters()
        """Of every call that reached this server."""
        self.port = 0
        """The TCP port bound, after `start()`."""

    async def start(self) -> None:
        """Bind and accept calls; health still says NOT_SERVING. OSError when the address cannot be bound."""
        server = grpc.aio.server(
            interceptors=[Border(door=self._door(), counters=self.counters)],
            options=self._options(),
            maximum_concurrent_rpcs=self._settings.concurrent,
        )
        self.health.cover([service.name for service in self._services])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        for service in self._services:
            service.register(server)
        if self._settings.reflection:
            names = [*(service.name for service in self._services), HEALTH, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)
        self._bind(server)
        await server.start()
        self._server = server

    async def serving(self, yes: bool) -> None:
        """Whether the services themselves work; health follows their dependencies too."""
        self.health.serve(yes)

    async def stop(self, grace: float, *, notice: float = 0.0) -> None:
        """Not ready at once, no new calls after `notice` seconds; those in progress have `grace` seconds to end."""
        self.health.drain()
        if self._server is None:
            return
        if notice:
            await asyncio.sleep(notice)
        self.health.close()
        await self._server.stop(grace)

    def _door(self) -> Door:
        return OwnerDoor() if self._tls is None else TlsDoor(cell=self._tls.identity.cell, clock=self._clock)

    def _options(self) -> list[tuple[str, int]]:
        options = [
            *FRAME_OPTIONS,
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        return options if self._tls is None else [*options, ("grpc.max_connection_age_ms", CONNECTION_AGE_MS)]

    def _bind(self, server: grpc.aio.Server) -> None:
        address, path = self._settings.address, self._path
        if path is not None:
            with suppress(FileNotFoundError):
                os.unlink(path)
        try:
            if self._tls is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, self._tls.server_credentials())
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        if path is not None:
            os.chmod(path, 0o600)

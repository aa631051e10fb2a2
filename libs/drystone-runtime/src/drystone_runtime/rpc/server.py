# SPDX-License-Identifier: Apache-2.0
"""One way to serve gRPC: health, reflection, large frames, errors mapped once, the request id carried along.

Health tells the truth: every service name is NOT_SERVING until `serving(True)`.
"""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from drystone_core.errors import DrystoneError, ErrorCode
from drystone_runtime.logs import REQUEST_ID
from drystone_runtime.rpc.channel import FRAME_OPTIONS, REQUEST_ID_KEY
from drystone_runtime.rpc.status import DETAIL_KEY, status_of, to_detail

log = logging.getLogger(__name__)


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
    credentials: grpc.ServerCredentials | None = None
    """None = plaintext; only for unix sockets and the loopback."""


class RpcServer:
    """A gRPC server of one or more services."""

    def __init__(self, *, services: Sequence[RpcService], settings: RpcServerSettings) -> None:
        self._services = services
        self._settings = settings
        self._server: grpc.aio.Server | None = None
        self._health: health.aio.HealthServicer | None = None
        self.port = 0
        """The TCP port bound, after `start()`."""

    async def start(self) -> None:
        """Bind and accept calls; health still says NOT_SERVING. OSError when the address cannot be bound."""
        settings = self._settings
        server = grpc.aio.server(
            interceptors=[_Border()],
            options=[*FRAME_OPTIONS, ("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=settings.concurrent,
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for service in self._services:
            service.register(server)
        if settings.reflection:
            names = [*(service.name for service in self._services), health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)
        path = settings.address.removeprefix("unix:") if settings.address.startswith("unix:") else None
        if path is not None:
            with suppress(FileNotFoundError):
                os.unlink(path)
        try:
            if settings.credentials is None:
                self.port = server.add_insecure_port(settings.address)
            else:
                self.port = server.add_secure_port(settings.address, settings.credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {settings.address}") from error
        if path is not None:
            os.chmod(path, 0o600)
        await self.serving(False)
        await server.start()
        self._server = server

    async def serving(self, yes: bool) -> None:
        """What health answers, for the server as a whole and for each service."""
        assert self._health is not None, "started"
        state = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, state)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those in progress `grace` seconds."""
        if self._server is not None and self._health is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace)


class _Border(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Maps errors once and takes the request id over; the outermost loop of every call."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/drystone."):
            return handler
        request_id = next(
            (str(value) for key, value in handler_call_details.invocation_metadata or () if key == REQUEST_ID_KEY), ""
        )
        if handler.unary_unary is not None:
            return handler._replace(unary_unary=_unary(handler.unary_unary, request_id))
        if handler.unary_stream is not None:
            return handler._replace(unary_stream=_stream(handler.unary_stream, request_id))
        return handler


def _unary(inner: Callable[[Any, Any], Awaitable[Any]], request_id: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def serve(request: Any, context: Any) -> Any:
        REQUEST_ID.set(request_id)
        try:
            return await inner(request, context)
        except DrystoneError as error:
            await _refuse(context, error)
        except Exception:  # the outermost loop: a bug becomes INTERNAL, never a stack trace on the wire
            log.exception("rpc.call_failed")
            await _refuse(context, DrystoneError(ErrorCode.INTERNAL_ERROR))

    return serve


def _stream(
    inner: Callable[[Any, Any], AsyncIterator[Any]], request_id: str
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        REQUEST_ID.set(request_id)
        try:
            async for answer in inner(request, context):
                yield answer
        except DrystoneError as error:
            await _refuse(context, error)
        except Exception:  # as above
            log.exception("rpc.call_failed")
            await _refuse(context, DrystoneError(ErrorCode.INTERNAL_ERROR))

    return serve


async def _refuse(context: Any, error: DrystoneError) -> None:
    detail = to_detail(error).SerializeToString()
    await context.abort(status_of(error.code), str(error), ((DETAIL_KEY, detail),))

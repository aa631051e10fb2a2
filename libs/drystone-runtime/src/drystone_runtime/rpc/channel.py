# SPDX-License-Identifier: Apache-2.0
"""The client's side of a gRPC connection: channel options, deadlines, errors translated back."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from drystone_runtime.logs import REQUEST_ID
from drystone_runtime.rpc.status import from_rpc_error

REQUEST_ID_KEY = "x-amz-request-id"
MESSAGE_LIMIT = 64 * 1024 * 1024
"""Bytes of one message: a full bulk call of small blobs with room to spare."""
FRAME_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.http2.max_frame_size", 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),
)


def open_channel(target: str, *, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A channel to `unix:/path` or `HOST:PORT`; connects when first used, reconnects with short pauses."""
    options: list[tuple[str, int | str]] = [
        *FRAME_OPTIONS,
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


async def unary(method: Any, request: Any, *, timeout: float) -> Any:
    """One call with a deadline `timeout` seconds from now; raises the server's own error."""
    try:
        return await method(request, timeout=timeout, metadata=_metadata())
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def stream(method: Any, request: Any, *, timeout: float) -> AsyncIterator[Any]:
    """The answers of one streaming call; raises the server's own error."""
    try:
        async for answer in method(request, timeout=timeout, metadata=_metadata()):
            yield answer
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def _metadata() -> tuple[tuple[str, str], ...] | None:
    request_id = REQUEST_ID.get()
    return ((REQUEST_ID_KEY, request_id),) if request_id else None

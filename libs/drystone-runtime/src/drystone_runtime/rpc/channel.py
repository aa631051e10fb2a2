# SPDX-License-Identifier: Apache-2.0
"""The client's side of a gRPC connection: channel options, deadlines, errors translated back.

Plaintext goes to unix sockets, whose mode authorises, and nowhere else unless a caller asks for it by name (links.py, for
tests on the loopback).
"""

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from drystone_core.errors import DrystoneError
from drystone_runtime.rpc.call_context import bounded, outgoing
from drystone_runtime.rpc.cancellation import raise_if_cancelled
from drystone_runtime.rpc.counters import OK, MethodCounter
from drystone_runtime.rpc.retry import Retries
from drystone_runtime.rpc.status import from_rpc_error

MESSAGE_LIMIT = 64 * 1024 * 1024
"""Bytes of one message: a full bulk call of small blobs with room to spare."""
FRAME_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.http2.max_frame_size", 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),
)
KEEPALIVE_MS = 10_000
"""A connection that is silent for so long is asked whether anybody is there."""
KEEPALIVE_TIMEOUT_MS = 5_000
CLIENT_OPTIONS = (
    *FRAME_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
)


def open_channel(target: str) -> grpc.aio.Channel:
    """A channel to `unix:/path`; connects when first used, reconnects with short pauses."""
    if not target.startswith("unix:"):
        raise ValueError(f"{target}: without TLS only unix sockets are called")
    return plaintext_channel(target)


def plaintext_channel(target: str) -> grpc.aio.Channel:
    """As above, wherever `target` is: the caller knows why."""
    options: list[tuple[str, int | str]] = [*CLIENT_OPTIONS]
    if target.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    return grpc.aio.insecure_channel(target, options=options)


def blocking_channel(target: str) -> grpc.Channel:
    """A channel for blocking calls from threads to `unix:/path`."""
    if not target.startswith("unix:"):
        raise ValueError(f"{target}: without TLS only unix sockets are called")
    return grpc.insecure_channel(target, options=[*CLIENT_OPTIONS, ("grpc.default_authority", "localhost")])


async def unary(method: Any, request: Any, *, timeout: float) -> Any:
    """One call with a deadline `timeout` seconds from now, or the caller's if that is sooner (call_context).

    Raises the server's own error. Cancelling the awaiting task cancels the call, there and beyond.
    """
    counter: MethodCounter = getattr(method, "counter", None) or MethodCounter()
    within, metadata = bounded(timeout), outgoing()
    began, code = time.perf_counter(), grpc.StatusCode.CANCELLED.name
    counter.begin()
    try:
        answer = await method(request, timeout=within, metadata=metadata)
        code = OK
        return answer
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        raise _meaning(method, error) from error
    finally:
        counter.end(code, time.perf_counter() - began)


async def unary_again(method: Any, request: Any, *, timeout: float, retries: Retries | None) -> Any:
    """As `unary`, repeated within `timeout` as `retries` allows; for calls that do no harm when carried out twice."""
    if retries is None:
        return await unary(method, request, timeout=timeout)
    return await retries.call(lambda left: unary(method, request, timeout=left), timeout=timeout, repeatable=True)


async def stream(method: Any, request: Any, *, timeout: float) -> AsyncIterator[Any]:
    """The answers of one streaming call; otherwise as `unary`. Closing it cancels the call."""
    counter: MethodCounter = getattr(method, "counter", None) or MethodCounter()
    within, metadata = bounded(timeout), outgoing()
    began, code = time.perf_counter(), grpc.StatusCode.CANCELLED.name
    counter.begin()
    call = method(request, timeout=within, metadata=metadata)
    try:
        async for answer in call:
            yield answer
        code = OK
    except grpc.aio.AioRpcError as error:
        raise_if_cancelled()
        code = error.code().name
        raise _meaning(method, error) from error
    finally:
        call.cancel()
        counter.end(code, time.perf_counter() - began)


def _meaning(method: Any, error: grpc.aio.AioRpcError) -> DrystoneError:
    failed = getattr(method, "failed", None)
    if failed is not None:
        failed(error)
    return from_rpc_error(error)

# SPDX-License-Identifier: Apache-2.0
"""A cancellation that meets a failing stream is never forgotten, though grpc.aio answers it with the failure."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import stream
from drystone_runtime.rpc.health import Health
from drystone_runtime.rpc.health_watch import follow


class FailingWhenCancelled:
    """A call as grpc.aio's is when the server goes at the moment of a cancellation."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()

    def __call__(self, request: Any, **_: Any) -> "FailingWhenCancelled":
        return self

    def cancel(self) -> bool:
        return False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            self.waits.set()
            await asyncio.sleep(60)
            yield None
        except asyncio.CancelledError:
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details="Socket closed") from None


class Channel:
    """What a stub asks for, with one call behind every method."""

    def __init__(self, call: FailingWhenCancelled) -> None:
        self._call = call

    def unary_unary(self, *_: Any, **__: Any) -> FailingWhenCancelled:
        return self._call

    unary_stream = unary_unary


async def cancelled_while_failing(work: Any, call: FailingWhenCancelled) -> None:
    """Cancel `work` once it reads; it must end as cancelled."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(10):
        await call.waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_reader_of_a_failing_stream_is_cancelled() -> None:
    """Not told that the other side is away, which he would try again."""
    call = FailingWhenCancelled()

    async def read() -> None:
        async for _ in stream(call, None, timeout=30):
            pass

    await cancelled_while_failing(read(), call)


async def test_a_cancelled_watch_of_failing_health_ends() -> None:
    """It used to begin the next watch, and a stopping process waited for it."""
    call = FailingWhenCancelled()
    channel: Any = Channel(call)
    await cancelled_while_failing(follow(channel, Health().depend("metadata"), clock=SystemClock()), call)

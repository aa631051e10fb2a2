# SPDX-License-Identifier: Apache-2.0
"""What a call hands on: its time, its end, its names; over live servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from drystone.storage.v1 import storage_pb2 as pb
from drystone.storage.v1 import storage_pb2_grpc
from drystone_core.errors import ErrorCode, Unavailable
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.logs import REQUEST_ID
from drystone_runtime.rpc.call_context import DEADLINE, REQUEST_ID_KEY, TRACE, TRACE_KEY, bounded
from drystone_runtime.rpc.channel import open_channel, stream, unary
from drystone_runtime.rpc.coalesce import Coalescer
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_testing.rpc_rig import Recorder, contract_methods

METHODS = [method for method in contract_methods() if method.service == "drystone.storage.v1.StorageService"]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@asynccontextmanager
async def serving(path: Path, before: Callable[[str, Any], Awaitable[None]]) -> AsyncIterator[grpc.aio.Channel]:
    """A server whose handlers begin with `before`, and a channel to it."""
    recorder = Recorder(before=before)
    server = RpcServer(services=recorder.services(METHODS), settings=RpcServerSettings(address=f"unix:{path}"))
    await server.start()
    async with open_channel(f"unix:{path}") as channel:
        yield channel
    await server.stop(0)


async def get_status(channel: grpc.aio.Channel, timeout: float) -> None:
    """One call."""
    await unary(storage_pb2_grpc.StorageServiceStub(channel).GetStatus, pb.GetStatusRequest(), timeout=timeout)


async def test_a_nested_call_has_no_more_time_than_its_caller_and_carries_its_names(tmp_path: Path) -> None:
    """Two servers in a row: the second sees the first caller's time, request id and trace; a third call sees nothing."""
    seen: list[tuple[float | None, dict[str, Any]]] = []

    async def inner(method: str, context: Any) -> None:
        seen.append((context.time_remaining(), dict(context.invocation_metadata())))

    async with serving(tmp_path / "inner.sock", inner) as second:

        async def outer(method: str, context: Any) -> None:
            await get_status(second, 30.0)

        async with serving(tmp_path / "outer.sock", outer) as first:
            REQUEST_ID.set("0123456789ABCDEF")
            TRACE.set(TRACEPARENT)
            await get_status(first, 5.0)
            REQUEST_ID.set("")
            TRACE.set("")
            await storage_pb2_grpc.StorageServiceStub(first).GetStatus(pb.GetStatusRequest())
    (limited, named), (free, bare) = seen
    assert limited is not None
    assert limited < 5.5  # gRPC rounds up what it sends; the caller's own timer is exact
    assert (named[REQUEST_ID_KEY], named[TRACE_KEY]) == ("0123456789ABCDEF", TRACEPARENT)
    assert free is not None
    assert 5.5 < free < 31.0
    assert not {REQUEST_ID_KEY, TRACE_KEY} & set(bare)


async def test_a_trace_that_is_none_is_not_handed_on(tmp_path: Path) -> None:
    """Metadata of a caller's making ends at the border."""
    seen: list[str] = []

    async def note(method: str, context: Any) -> None:
        seen.append(TRACE.get())

    async with serving(tmp_path / "s.sock", note) as channel:
        method = channel.unary_unary(METHODS[-1].path)
        for text in (TRACEPARENT, "00-zz", TRACEPARENT + "-x", ""):
            await method(b"", metadata=((TRACE_KEY, text),), timeout=10)
    assert seen == [TRACEPARENT, "", "", ""]


async def test_no_call_is_made_when_the_caller_waits_no_more(tmp_path: Path) -> None:
    """DeadlineExceeded at once, and nobody is bothered."""
    seen: list[str] = []

    async def note(method: str, context: Any) -> None:
        seen.append(method)

    async with serving(tmp_path / "s.sock", note) as channel:
        DEADLINE.set(SystemClock().monotonic() - 1.0)
        with pytest.raises(Unavailable) as caught:
            await get_status(channel, 30.0)
        DEADLINE.set(None)
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert seen == []
    assert bounded(3.0) == 3.0


@pytest.mark.parametrize("ends", ["cancelled", "late", "closed"])
async def test_the_end_of_a_call_is_the_end_of_the_calls_made_for_it(tmp_path: Path, ends: str) -> None:
    """The caller is cancelled, his time is over, or he closes a stream: the handlers down the line are cancelled."""
    reached, ended = asyncio.Event(), asyncio.Event()

    async def inner(method: str, context: Any) -> None:
        reached.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with serving(tmp_path / "inner.sock", inner) as second:

        async def outer(method: str, context: Any) -> None:
            await get_status(second, 50.0)

        async with serving(tmp_path / "outer.sock", outer) as first:
            if ends == "closed":
                read = storage_pb2_grpc.StorageServiceStub(first).Read
                answers = stream(read, pb.ReadRequest(), timeout=30.0)
                task: asyncio.Future[Any] = asyncio.ensure_future(anext(answers))
            else:
                task = asyncio.ensure_future(get_status(first, 1.0 if ends == "late" else 30.0))
            async with asyncio.timeout(10):
                await reached.wait()
                if ends != "late":
                    task.cancel()
                await ended.wait()
            with pytest.raises(Unavailable if ends == "late" else asyncio.CancelledError):
                await task


async def test_items_of_a_bulk_call_wait_no_longer_than_their_callers() -> None:
    """Each has its own time; the call has that of the most patient; what nobody waits for is not sent."""
    sent: list[tuple[list[str], float | None]] = []
    gate = asyncio.Event()

    async def send(items: Sequence[str]) -> list[str | BaseException]:
        deadline = DEADLINE.get()
        sent.append((list(items), None if deadline is None else deadline - SystemClock().monotonic()))
        await gate.wait()
        return list(items)

    background = Background(clock=SystemClock())
    bulk: Coalescer[str, str] = Coalescer(send=send, background=background, flights=1)
    now = SystemClock().monotonic()
    first = bulk.submit("first")
    await asyncio.sleep(0)
    DEADLINE.set(now + 0.05)
    hurried = bulk.submit("hurried")
    DEADLINE.set(now + 20.0)
    patient, abandoned = bulk.submit("patient"), bulk.submit("abandoned")
    abandoned.cancel()
    with pytest.raises(Unavailable) as caught:
        await hurried
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
    gate.set()
    assert (await first, await patient) == ("first", "patient")
    assert [items for items, _ in sent] == [["first"], ["patient"]]
    assert sent[0][1] is None
    assert sent[1][1] is not None
    assert 10.0 < sent[1][1] <= 20.0
    await background.stop()

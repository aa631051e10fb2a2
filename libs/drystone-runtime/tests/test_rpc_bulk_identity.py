# SPDX-License-Identifier: Apache-2.0
"""A bulk call tells on whose behalf it is made."""

import asyncio
from collections.abc import Sequence
from contextvars import copy_context

from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.logs import REQUEST_ID
from drystone_runtime.rpc.call_context import TRACE, outgoing
from drystone_runtime.rpc.coalesce import IDS, Coalescer

TRACEPARENT = f"00-{1:032x}-{2:016x}-01"


async def test_a_bulk_call_carries_the_ids_of_its_items_and_a_trace() -> None:
    """Each id once, the first of them by name, the others by number; the trace of the first item that has one."""
    background = Background(clock=SystemClock())
    sent: list[dict[str, str]] = []

    async def send(batch: Sequence[int]) -> list[int]:
        sent.append(dict(outgoing() or ()))
        return list(batch)

    bulk: Coalescer[int, int] = Coalescer(send=send, background=background, flights=1)

    def submit(number: int, request_id: str, trace: str = "") -> "asyncio.Future[int]":
        REQUEST_ID.set(request_id)
        TRACE.set(trace)
        return bulk.submit(number)

    def begin(*arguments: object) -> "asyncio.Future[int]":
        return copy_context().run(submit, *arguments)  # type: ignore[arg-type]

    await asyncio.gather(begin(0, "A"), begin(1, "A"), begin(2, "B", TRACEPARENT), begin(3, ""))
    assert sent.pop() == {"x-amz-request-id": "A,B", "traceparent": TRACEPARENT}
    await asyncio.gather(*(begin(number, f"R{number}") for number in range(IDS + 3)))
    assert sent.pop() == {"x-amz-request-id": ",".join(f"R{number}" for number in range(IDS)) + ",+3"}
    await begin(0, "")
    assert sent == [{}]
    await background.stop()

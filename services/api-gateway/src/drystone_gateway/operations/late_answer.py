# SPDX-License-Identifier: Apache-2.0
"""Answers that keep a client waiting: a copy of gigabytes takes minutes on slow disks, and clients give up earlier.

Invariants
  L1  What is done within `copy_patience_seconds` is answered as ever, with its own status.
  L2  Afterwards status 200 and the XML prolog go out, then a blank as often; the document follows when it is known. What
      fails then is an Error document inside the 200, which SDKs look for.
  L3  The work ends with its request: a client that goes away takes it along.
Source: S3 API reference, CopyObject ("an error can occur … while S3 is copying the files"); s3-surface §5 #43.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from drystone_core.errors import DrystoneError
from drystone_core.ports import Clock
from drystone_core.services import ReadChunk
from drystone_gateway.http.messages import Request, Response
from drystone_gateway.operations.answers import error_response
from drystone_gateway.operations.context import Call
from drystone_gateway.s3.xml_out import CONTENT_TYPE, PROLOG

_PROLOG = PROLOG.encode()


async def answered_late(call: Call, work: Coroutine[Any, Any, Response], head: bytes) -> Response:
    """The answer of `work`, an XML document; `head` are the lines that can be said before it is known."""
    clock, seconds = call.gateway.clock, call.gateway.settings.copy_patience_seconds
    task = asyncio.ensure_future(work)
    try:
        if await _ended(task, clock, seconds):
            return task.result()
    except BaseException:
        await _stop(task)
        raise
    return Response(200, head + CONTENT_TYPE, stream=_LateDocument(call.request, task, clock, seconds))


class _LateDocument:
    """Prolog, blanks, document."""

    __slots__ = ("_begun", "_clock", "_over", "_request", "_seconds", "_task")

    def __init__(self, request: Request, task: asyncio.Future[Response], clock: Clock, seconds: float) -> None:
        self._request = request
        self._task = task
        self._clock = clock
        self._seconds = seconds
        self._begun = self._over = False

    def __aiter__(self) -> "_LateDocument":
        return self

    async def __anext__(self) -> ReadChunk:
        if self._over:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            return _chunk(_PROLOG)
        if not await _ended(self._task, self._clock, self._seconds):
            return _chunk(b" ")
        self._over = True
        try:
            response = self._task.result()
        except DrystoneError as error:
            response = error_response(self._request, error)
        return _chunk(bytes(response.body).removeprefix(_PROLOG))

    async def aclose(self) -> None:
        """End the work, should it still go on."""
        self._over = True
        await _stop(self._task)


def _chunk(data: bytes) -> ReadChunk:
    return ReadChunk(memoryview(data), lambda: None)


async def _ended(task: asyncio.Future[Response], clock: Clock, seconds: float) -> bool:
    """Wait for the work, `seconds` at most."""
    tick = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, tick), return_when=asyncio.FIRST_COMPLETED)
    finally:
        tick.cancel()
    return task.done()


async def _stop(task: asyncio.Future[Response]) -> None:
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # seen: what it says no longer matters to anybody

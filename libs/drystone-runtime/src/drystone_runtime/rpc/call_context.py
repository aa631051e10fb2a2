# SPDX-License-Identifier: Apache-2.0
"""What one call hands to the calls made on its behalf: the request id, the time left, the trace.

Invariants
  K1  A nested call never has more time than the call it serves: `bounded` is the only way a timeout reaches gRPC.
  K2  Nothing is inherited across calls: the server sets all three for every call, also to nothing.
Source: W3C Trace Context §3.2 for `traceparent`, which is passed on as it came.
"""

import re
import time
from collections.abc import Iterable
from contextvars import Context, ContextVar, copy_context
from typing import Any

from drystone_core.errors import ErrorCode, Unavailable
from drystone_runtime.logs import REQUEST_ID

REQUEST_ID_KEY = "x-amz-request-id"
TRACE_KEY = "traceparent"
DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Monotonic time at which the caller stops waiting; None = no such time."""
TRACE: ContextVar[str] = ContextVar("traceparent", default="")
"""The caller's trace; empty = none."""
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def take_over(metadata: Iterable[tuple[str, Any]] | None, remaining: float | None) -> None:
    """Make what a call brought along this task's own. `remaining`: seconds the caller still waits; None = for ever."""
    request_id = trace = ""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY:
            request_id = str(value)
        elif key == TRACE_KEY and _TRACE.fullmatch(str(value)):
            trace = str(value)
    REQUEST_ID.set(request_id)
    TRACE.set(trace)
    DEADLINE.set(None if remaining is None else time.monotonic() + remaining)


def outliving() -> Context:
    """For a task that goes on when the call that began it ends: its request id and trace, no deadline."""
    context = copy_context()
    context.run(DEADLINE.set, None)
    return context


def outgoing() -> tuple[tuple[str, str], ...] | None:
    """Metadata of a call made now."""
    request_id, trace = REQUEST_ID.get(), TRACE.get()
    if not request_id and not trace:
        return None
    given = ((REQUEST_ID_KEY, request_id), (TRACE_KEY, trace))
    return tuple(pair for pair in given if pair[1])


def bounded(timeout: float) -> float:
    """`timeout` seconds, or less when the caller waits no longer; Unavailable (DeadlineExceeded) when it waits no more."""
    deadline = DEADLINE.get()
    if deadline is None:
        return timeout
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise Unavailable("the caller's time is over", ErrorCode.DEADLINE_EXCEEDED)
    return min(timeout, remaining)

# SPDX-License-Identifier: Apache-2.0
"""A cancellation that meets the end of a call: grpc.aio forgets it, these do not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def raise_if_cancelled() -> None:
    """grpc.aio answers a cancelled read or write of a stream with the stream's own failure when that comes at the same
    moment; whoever handles the failure must not forget the cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def cancellable() -> Iterator[None]:
    """Around an await on a call, unary or of a stream: a cancellation that comes while it just ends, well or badly, is given
    as the answer or the failure and the task runs on; here it is remembered. Cancellations from before, as in the cleaning
    up of a cancelled task, are left alone."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

# SPDX-License-Identifier: Apache-2.0
"""A cancellation that meets a failing stream."""

import asyncio


def raise_if_cancelled() -> None:
    """grpc.aio answers a cancelled read or write of a stream with the stream's own failure when that comes at the same
    moment; whoever handles the failure must not forget the cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

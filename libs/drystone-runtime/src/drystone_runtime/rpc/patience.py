# SPDX-License-Identifier: Apache-2.0
"""A bound on what is awaited from another process, also for callers whose first step is no task's (a gateway's requests)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drystone_core.errors import Unavailable


@asynccontextmanager
async def within(seconds: float, who: str) -> AsyncIterator[None]:
    """Unavailable when what is inside takes longer; it is cancelled."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)  # whoever steps us makes a task of what suspends, and only a task can be timed
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(f"{who} does not answer") from error

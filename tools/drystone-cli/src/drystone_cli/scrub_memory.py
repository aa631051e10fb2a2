# SPDX-License-Identifier: Apache-2.0
"""Where a standalone store remembers how far scrubbing is: a file of its state directory."""

import asyncio
from functools import partial

from drystone_core.ports import Disk
from drystone_replication.repair.scrub_pass import NAME
from drystone_runtime.documents import read_document, write_document


class StateScrubMemory:
    """A ScrubMemory. Its calls run in the loop's helper threads."""

    def __init__(self, state: Disk, owner: str) -> None:
        self._state = state
        self.owner = owner

    async def load(self) -> bytes | None:
        """None when there is nothing that can be read."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, partial(read_document, self._state, NAME))
        except OSError:
            return None

    async def save(self, data: bytes) -> None:
        """Durable on return; OSError."""
        await asyncio.get_running_loop().run_in_executor(None, partial(write_document, self._state, NAME, data))

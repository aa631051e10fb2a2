# SPDX-License-Identifier: Apache-2.0
"""The lifecycle service in a cell: reclaim on all storage nodes, by the process that leads.

Invariants
  L1  Who does not lead frees nothing, and says so when it is asked how far it is.
  L2  What is dead may be asked of any metadata process: each judges at one head, and dead stays dead (C1 of the reclaimer).
"""

import asyncio
from collections.abc import Callable, Sequence

from drystone_core.cell import ReclaimStatus
from drystone_core.errors import DrystoneError, Unavailable, Unreachable
from drystone_core.ports import Clock
from drystone_core.services import BlobName
from drystone_lifecycle.reclaim.reclaimer import DeadBlobs, Reclaimer, ReclaimSettings
from drystone_runtime.rpc.leading import Term


class AnyMetadata:
    """DeadBlobs of whichever metadata process answers."""

    def __init__(self, nodes: Callable[[], Sequence[DeadBlobs]]) -> None:
        self._nodes = nodes

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        """The first answer; the last one's error when none has one, Unreachable when there is nobody."""
        error: DrystoneError = Unreachable("no metadata process is registered")
        for node in self._nodes():
            try:
                return await node.dead_blobs(names)
            except DrystoneError as failed:
                error = failed
        raise error


class LifecycleTerms:
    """What the process does term by term, and what it answers in between."""

    def __init__(self, *, clock: Clock, metadata: DeadBlobs, settings: ReclaimSettings) -> None:
        self._clock, self._metadata, self._settings = clock, metadata, settings
        self._current: Reclaimer | None = None

    async def serve(self, term: Term) -> None:
        """One term; ends by being cancelled. Grace periods begin anew with it."""
        self._current = Reclaimer(
            node=term.upkeep,
            metadata=self._metadata,
            clock=self._clock,
            background=term.background,
            settings=self._settings,
        )
        self._current.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._current = None

    def status(self) -> ReclaimStatus:
        """Unavailable while this one does not lead."""
        if self._current is None:
            raise Unavailable("this lifecycle process does not lead: ask the one that does")
        return self._current.status()

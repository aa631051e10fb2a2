# SPDX-License-Identifier: Apache-2.0
"""The replication service in a cell: repair and scrubbing of all storage nodes, by the process that leads.

Invariants
  L1  Who does not lead repairs nothing, scrubs nothing, and says so when it is asked how far it is.
"""

import asyncio
from collections.abc import Callable

from drystone_core.cell import RepairStatus, ScrubPassStatus
from drystone_core.errors import Unavailable
from drystone_core.ports import Clock
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_runtime.rpc.leading import Term


class ReplicationTerms:
    """What the process does term by term, and what it answers in between."""

    def __init__(self, *, clock: Clock, repair: RepairSettings, scrub: ScrubSettings) -> None:
        self._clock, self._repair, self._scrub = clock, repair, scrub
        self._current: tuple[Repairer, Scrubber] | None = None
        self.repair = _RepairDesk(self._leading)
        self.scrub = _ScrubDesk(self._leading)

    async def serve(self, term: Term) -> None:
        """One term; ends by being cancelled."""
        repairer = Repairer(node=term.upkeep, clock=self._clock, background=term.background, settings=self._repair)
        scrubber = Scrubber(
            node=term.upkeep,
            clock=self._clock,
            background=term.background,
            found=repairer.poke,
            settings=self._scrub,
        )
        repairer.start()
        scrubber.start()
        self._current = repairer, scrubber
        try:
            await asyncio.Event().wait()
        finally:
            self._current = None

    def _leading(self) -> tuple[Repairer, Scrubber]:
        if self._current is None:
            raise Unavailable("this replication process does not lead: ask the one that does")
        return self._current


class _RepairDesk:
    def __init__(self, leading: Callable[[], tuple[Repairer, Scrubber]]) -> None:
        self._leading = leading

    def status(self) -> RepairStatus:
        """Unavailable while this one does not lead."""
        return self._leading()[0].status()


class _ScrubDesk:
    def __init__(self, leading: Callable[[], tuple[Repairer, Scrubber]]) -> None:
        self._leading = leading

    def status(self) -> ScrubPassStatus:
        """Unavailable while this one does not lead."""
        return self._leading()[1].status()

    async def start_pass(self, *, anew: bool = False) -> bool:
        """Unavailable while this one does not lead."""
        return await self._leading()[1].start_pass(anew=anew)

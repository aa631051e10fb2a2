# SPDX-License-Identifier: Apache-2.0
"""Has every closed volume read through once per period: damage nobody reads is found while it can be healed.

Invariants
  S1  One volume at a time, at a bounded rate; a volume that fails does not stop the others.
  S2  A pass begins at most once per `period`; volumes verified least often come first, so a pass that was cut short by a
      restart is not begun at the same volumes for ever.
  S3  What is found wakes repair at once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from drystone_core.errors import DrystoneError, Unreachable
from drystone_core.ids import volume_text
from drystone_core.ports import Clock
from drystone_core.upkeep import ScrubNode
from drystone_runtime.background import Background

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """How often and how fast."""

    period: float = 14 * 86_400.0
    """Seconds from the beginning of one pass to that of the next; 0 = never."""
    bytes_per_second: int = 32 << 20
    """Read by scrubbing."""
    first_after: float = 60.0
    """Seconds after the start, at most a tenth of the period."""


class Scrubber:
    """Scrubs the volumes of one node."""

    def __init__(
        self,
        *,
        node: ScrubNode,
        clock: Clock,
        background: Background,
        found: Callable[[], None],
        settings: ScrubSettings | None = None,
    ) -> None:
        self._node, self._clock, self._background, self._found = node, clock, background, found
        self._settings = settings or ScrubSettings()

    def start(self) -> None:
        """Pass after pass, for ever."""
        if self._settings.period > 0:
            self._background.keep("scrub", self._run)

    async def run_pass(self) -> int:
        """Every closed volume once; returns the damaged slots found."""
        damaged = 0
        for volume in await self._node.closed_volumes_to_scrub():
            try:
                report = await self._node.scrub(volume, bytes_per_second=self._settings.bytes_per_second)
            except Unreachable:  # the node is being replaced: begin again when it is back, not a period later
                raise
            except (DrystoneError, OSError, TimeoutError) as error:
                log.warning("scrub.volume_failed", extra={"volume": volume_text(volume), "error": repr(error)})
                continue
            if report.slots_damaged:
                damaged += report.slots_damaged
                self._found()
        return damaged

    async def _run(self) -> None:
        await self._clock.sleep(min(self._settings.first_after, self._settings.period / 10))
        while True:
            began = self._clock.monotonic()
            try:
                await self.run_pass()
            except Unreachable:
                raise
            except (DrystoneError, OSError, TimeoutError) as error:
                log.warning("scrub.pass_failed", extra={"error": repr(error)})
            await self._clock.sleep(max(0.2, began + self._settings.period - self._clock.monotonic()))

# SPDX-License-Identifier: Apache-2.0
"""Walks closed volumes, asks metadata which blobs are dead, has the storage node free what may be freed.

Invariants
  C1  Nothing is freed without `dead_blobs` having said True for every blob of the stripe in this very pass (once dead,
      always dead: R7, so nothing can become live between the answer and the punch).
  C2  One volume at a time; a volume that fails is left for the next pass and does not stop the others.
  C3  `freeze` stops freeing at once, between two stripes' batches.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drystone_core.cell import ReclaimStatus
from drystone_core.errors import DrystoneError, Unreachable
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ports import Clock
from drystone_core.services import BlobName
from drystone_core.upkeep import ReclaimNode, VolumeNames
from drystone_lifecycle.reclaim.judge import judge
from drystone_runtime.background import Background

log = logging.getLogger(__name__)


class DeadBlobs(Protocol):
    """What reclaim asks of metadata; a MetadataService is one."""

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimSettings:
    """When and how fast dead bytes are freed."""

    grace: float = 86_400.0
    """Seconds a blob stays after it was seen dead, and its least age."""
    every: float = 600.0
    """Seconds between passes."""
    bulk: int = 1000
    """Names in one question to metadata."""
    stripes_at_once: int = 256
    """Stripes named in one new generation of the free map."""
    pause: float = 0.05
    """Seconds between two volumes: reclaim is never in a hurry."""


@dataclass(slots=True, kw_only=True)
class ReclaimProgress:
    """Plain numbers for `drystone status`."""

    running: bool = False
    frozen: bool = False
    passes: int = 0
    volumes_freed: int = 0
    stripes_freed: int = 0
    stripes_waiting: int = 0
    """Dead, within their grace period."""
    bytes_freed: int = 0
    failures: int = 0


class Reclaimer:
    """Reclaims the volumes of one storage node."""

    def __init__(
        self,
        *,
        node: ReclaimNode,
        metadata: DeadBlobs,
        clock: Clock,
        background: Background,
        settings: ReclaimSettings | None = None,
    ) -> None:
        self._node, self._metadata, self._clock = node, metadata, clock
        self._background, self._settings = background, settings or ReclaimSettings()
        self.progress = ReclaimProgress()
        self._dead_since: dict[VolumeId, dict[int, int]] = {}
        self._looks: dict[VolumeId, tuple[float, float]] = {}
        """Volume → (when to look again, the pause before that)."""

    def start(self) -> None:
        """Pass after pass, for ever."""
        self._background.keep("reclaim", self._run)

    def freeze(self, frozen: bool) -> None:
        """The brake: while frozen nothing is freed (passes go on looking)."""
        self.progress.frozen = frozen

    def status(self) -> ReclaimStatus:
        """For the cell's status."""
        progress = self.progress
        return ReclaimStatus(
            running=progress.running,
            passes=progress.passes,
            volumes_freed=progress.volumes_freed,
            stripes_freed=progress.stripes_freed,
            stripes_waiting=progress.stripes_waiting,
            bytes_freed=progress.bytes_freed,
            failures=progress.failures,
        )

    async def run_pass(self, *, due_only: bool = False) -> None:
        """Look at every closed volume once, or at those whose time has come."""
        progress = self.progress
        progress.running = True
        try:
            volumes = await self._node.closed_volumes()
            kept = set(volumes)
            self._dead_since = {volume: since for volume, since in self._dead_since.items() if volume in kept}
            self._looks = {volume: look for volume, look in self._looks.items() if volume in kept}
            for volume in volumes:
                if due_only and self._looks.get(volume, (0.0, 0.0))[0] > self._clock.monotonic():
                    continue
                try:
                    await self._reclaim(volume)
                except Unreachable:  # node or metadata are being replaced: the pass begins again when they are back
                    raise
                except (DrystoneError, OSError, TimeoutError) as error:
                    progress.failures += 1
                    log.warning("reclaim.volume_failed", extra={"volume": volume_text(volume), "error": repr(error)})
                self._plan_next_look(volume)
                await self._clock.sleep(self._settings.pause)
            progress.passes += 1
        finally:
            progress.running = False
            progress.stripes_waiting = sum(map(len, self._dead_since.values()))

    async def _run(self) -> None:
        while True:
            await self.run_pass(due_only=True)
            await self._clock.sleep(self._every())

    def _every(self) -> float:
        """Passes keep up with a short grace period."""
        return min(self._settings.every, max(1.0, self._settings.grace / 4))

    def _plan_next_look(self, volume: VolumeId) -> None:
        """Soon where dead stripes wait; ever later (up to half the grace period) where all was alive."""
        every = self._every()
        before = self._looks.get(volume, (0.0, every / 2))[1]
        pause = every if self._dead_since.get(volume) else min(before * 2, max(every, self._settings.grace / 2))
        self._looks[volume] = (self._clock.monotonic() + pause, pause)

    async def _reclaim(self, volume: VolumeId) -> None:
        names = await self._node.volume_names(volume)
        dead = await self._dead(names)
        settings, progress = self._settings, self.progress
        verdict = judge(
            names,
            dead,
            dead_since=self._dead_since.get(volume, {}),
            now_us=self._clock.wall_us(),
            grace_us=int(settings.grace * 1e6),
            elapsed_us=int(self._clock.monotonic() * 1e6),
        )
        self._dead_since[volume] = dict(verdict.dead_since)
        if self._frozen():
            return
        if verdict.retire:
            progress.bytes_freed += await self._node.retire(volume)
            progress.volumes_freed += 1
            self._dead_since.pop(volume, None)
            log.info("reclaim.volume_retired", extra={"volume": volume_text(volume)})
            return
        for at in range(0, len(verdict.free), settings.stripes_at_once):
            if self._frozen():
                return
            records = verdict.free[at : at + settings.stripes_at_once]
            progress.bytes_freed += await self._node.free_stripes(volume, records)
            progress.stripes_freed += len(records)
            for record in records:
                self._dead_since[volume].pop(record, None)

    def _frozen(self) -> bool:
        return self.progress.frozen

    async def _dead(self, volume: VolumeNames) -> dict[BlobName, bool]:
        """Metadata's answers, asked in bulk; stripes already freed and those never freed are not asked about."""
        wanted = list(dict.fromkeys(name for s in volume.stripes if s.droppable and not s.freed for name in s.names))
        answers: dict[BlobName, bool] = {}
        for at in range(0, len(wanted), self._settings.bulk):
            some = wanted[at : at + self._settings.bulk]
            answers.update(zip(some, await self._metadata.dead_blobs(some), strict=True))
        return answers

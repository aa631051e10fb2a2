# SPDX-License-Identifier: Apache-2.0
"""Finds wounds and has them healed: bounded concurrency, bounded rate, progress for people.

Invariants
  P1  At most `concurrency` slots are rebuilt at a time, and their rates together stay within `bytes_per_second`.
  P2  The most endangered volume is taken first; the order is decided anew every `refresh` seconds.
  P3  A slot that could not be rebuilt is tried again only after a pause that doubles; one bad volume does not stop others.
"""

import asyncio
import logging
from dataclasses import dataclass

from drystone_core.cell import RepairStatus
from drystone_core.errors import DrystoneError, Unreachable
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ports import Clock
from drystone_core.upkeep import RepairNode, Wound
from drystone_replication.repair.plan import order
from drystone_runtime.background import Background

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSettings:
    """How hard repair works."""

    every: float = 5.0
    """Seconds between looks while nothing is wrong."""
    refresh: float = 10.0
    """Seconds after which the order is decided anew while there is work."""
    concurrency: int = 2
    """Slots rebuilt at a time."""
    bytes_per_second: int = 100 << 20
    """Written by all rebuilds together; reads are k times that."""
    first_pause: float = 30.0
    """Seconds before a failed rebuild is tried again, doubling."""
    most_pause: float = 3600.0


@dataclass(slots=True, kw_only=True)
class RepairProgress:
    """Where repair stands: plain numbers for `drystone status`."""

    running: int = 0
    slots_pending: int = 0
    slots_repaired: int = 0
    volumes_endangered: int = 0
    """Volumes that would lose bytes with the next loss."""
    hopeless: int = 0
    """Slots of volumes with fewer than k readable ones now."""
    waiting: int = 0
    """Slots that are missing or damaged and cannot be rebuilt now."""
    unasked: tuple[str, ...] = ()
    """Storage nodes that could not be asked for their wounds."""
    bytes_pending: int = 0
    bytes_repaired: int = 0
    failures: int = 0
    seconds_left: float | None = None
    """At the rate of the last minutes; None = unknown or nothing to do."""


class Repairer:
    """Repairs the volumes of one node (standalone), or of all nodes of a cell for as long as this process leads."""

    def __init__(
        self, *, node: RepairNode, clock: Clock, background: Background, settings: RepairSettings | None = None
    ) -> None:
        self._node, self._clock, self._background = node, clock, background
        self._settings = settings or RepairSettings()
        self.progress = RepairProgress()
        self._busy: dict[tuple[VolumeId, int], Wound] = {}
        self._later: dict[tuple[VolumeId, int], tuple[float, float]] = {}
        self._queue: list[Wound] = []
        self._queued_at = float("-inf")
        self._began = 0.0
        self._done_since = 0
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Look and heal for ever."""
        self._background.keep("repair", self._run)

    def poke(self) -> None:
        """Something was found broken: look now."""
        self._wake.set()

    def status(self) -> RepairStatus:
        """For the cell's status."""
        progress = self.progress
        return RepairStatus(
            running=progress.running > 0,
            slots_pending=progress.slots_pending,
            slots_repaired=progress.slots_repaired,
            bytes_pending=progress.bytes_pending,
            bytes_repaired=progress.bytes_repaired,
            failures=progress.failures,
            endangered=progress.volumes_endangered,
            hopeless=progress.hopeless,
            waiting=progress.waiting,
            unasked=progress.unasked,
            seconds_left=round(progress.seconds_left or 0),
        )

    async def run_once(self) -> int:
        """Heal until nothing more can be healed now; returns the slots healed."""
        before = self.progress.slots_repaired
        self._queue.clear()
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                for wound in await self._next():
                    if len(running) >= self._settings.concurrency:
                        break
                    self._busy[wound.volume, wound.slot] = wound
                    name = f"repair.{volume_text(wound.volume)}.{wound.slot}"
                    running.add(self._background.once(name, self._heal(wound)))
                if not running:
                    return self.progress.slots_repaired - before
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()

    async def _run(self) -> None:
        while True:
            await self.run_once()
            self._wake.clear()
            until = self._clock.monotonic() + self._settings.every
            while self._clock.monotonic() < until and not self._wake.is_set():
                await self._clock.sleep(min(0.5, self._settings.every))

    async def _next(self) -> list[Wound]:
        """What may begin now, the most urgent first; the node is asked when the queue is empty or old."""
        now = self._clock.monotonic()
        if not self._queue or now - self._queued_at > self._settings.refresh:
            self._queue = await self._look()
            self._queued_at = now
        room = self._settings.concurrency - len(self._busy)
        taken, self._queue = self._queue[:room], self._queue[room:]
        return taken

    async def _look(self) -> list[Wound]:
        """All that may begin now; brings the progress up to date."""
        found = await self._node.wounds()
        now = self._clock.monotonic()
        ready = order(found)
        waiting = [w for w in ready if (w.volume, w.slot) not in self._busy]
        self._later = {where: when for where, when in self._later.items() if when[0] > now - self._settings.most_pause}
        progress = self.progress
        progress.slots_pending = len(ready)
        progress.hopeless = len(found) - len(ready)
        progress.waiting, progress.unasked = found.waiting, found.unasked
        progress.bytes_pending = sum(wound.size for wound in ready)
        progress.volumes_endangered = len({wound.volume for wound in ready if wound.spare == 0})
        if not ready:
            self._began, self._done_since = 0.0, 0
        elif not self._began:
            self._began = now
        elapsed = now - self._began
        rate = self._done_since / elapsed if self._began and elapsed > 0 else 0.0
        progress.seconds_left = progress.bytes_pending / rate if rate > 0 and ready else None
        return [wound for wound in waiting if self._later.get((wound.volume, wound.slot), (0.0, 0.0))[0] <= now]

    async def _heal(self, wound: Wound) -> None:
        where = (wound.volume, wound.slot)
        fields = {"volume": volume_text(wound.volume), "slot": wound.slot, "reason": wound.reason}
        self.progress.running += 1
        try:
            rate = max(1, self._settings.bytes_per_second // self._settings.concurrency)
            written = await self._node.heal(wound, bytes_per_second=rate)
            # Not again at once, should the node still call it a wound.
            self._later[where] = (self._clock.monotonic() + self._settings.every, self._settings.first_pause / 2)
            self.progress.slots_repaired += 1
            self.progress.bytes_repaired += written
            self._done_since += written
            log.info("repair.healed", extra={**fields, "bytes": written})
        except Unreachable as error:  # the node is being replaced: no failure of ours
            self._later[where] = (self._clock.monotonic() + self._settings.every, self._settings.first_pause / 2)
            log.info("repair.interrupted", extra={**fields, "reason": error.message or error.code.value})
        except (DrystoneError, OSError, TimeoutError) as error:
            self.progress.failures += 1
            pause = min(self._later.get(where, (0.0, self._settings.first_pause / 2))[1] * 2, self._settings.most_pause)
            self._later[where] = (self._clock.monotonic() + pause, pause)
            log.warning("repair.failed", extra={**fields, "error": repr(error), "again_s": pause})
        finally:
            self.progress.running -= 1
            self._busy.pop(where, None)

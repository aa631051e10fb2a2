# SPDX-License-Identifier: Apache-2.0
"""Has every closed volume read through once per period: damage nobody reads is found while it can be healed.

Invariants
  S1  One volume at a time, at a bounded rate; a volume that fails does not stop the others.
  S2  A pass begins at most once per `period`, or when somebody asks for one. One that was cut short by a restart goes on
      with the volumes it had not read; volumes verified least often by the node come first.
  S3  What is found wakes repair at once.
  S4  Progress that is not remembered is made again, never assumed: it is saved after a volume was read, and what cannot be
      loaded, or be true, is a new pass.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drystone_core.cell import ScrubPassStatus
from drystone_core.errors import DrystoneError, Unreachable
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ports import Clock
from drystone_core.upkeep import ScrubNode, ScrubReport
from drystone_replication.repair.scrub_pass import ScrubPass, decode_pass, encode_pass
from drystone_runtime.background import Background

log = logging.getLogger(__name__)


class ScrubMemory(Protocol):
    """Where a pass is remembered."""

    @property
    def owner(self) -> str:
        """The cluster's id."""
        ...

    async def load(self) -> bytes | None:
        """What was saved last; None when there is nothing, or nobody can read it."""
        ...

    async def save(self, data: bytes) -> None:
        """Durable on return; OSError when it could not be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """How often and how fast."""

    period: float = 14 * 86_400.0
    """Seconds from the beginning of one pass to that of the next; 0 = only when asked."""
    bytes_per_second: int = 32 << 20
    """Read by scrubbing."""
    first_after: float = 60.0
    """Seconds after the start, at most a tenth of the period."""
    look_every: float = 0.5
    """Seconds until somebody who asks for a pass is heard."""
    save_every: float = 1.0
    """Seconds between two savings, but for the beginning and the end."""


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
        memory: ScrubMemory | None = None,
    ) -> None:
        """Without a memory every start begins anew."""
        self._node, self._clock, self._background, self._found = node, clock, background, found
        self._settings = settings or ScrubSettings()
        self._memory = memory
        self._pass: ScrubPass | None = None
        self._next = 0.0
        """Monotonic time at which the next pass is due."""
        self._asked = False
        """Somebody waits for a pass: it does not wait for anything but the node."""
        self._loaded = memory is None
        self._loading = asyncio.Lock()
        self._working = asyncio.Lock()
        self._saved = 0.0

    def start(self) -> None:
        """Pass after pass, for ever."""
        self._background.keep("scrub", self._run)

    async def start_pass(self, *, anew: bool = False) -> bool:
        """Begin a pass now; it is remembered when this returns. False: one is under way and goes on.

        `anew`: also then, and what it has read is read once more.
        """
        await self._load()
        self._asked = True
        if self._pass is not None and not self._pass.finished_us and not anew:
            return False
        self._begin()
        await self._save(always=True)
        return True

    async def run_pass(self) -> int:
        """Every closed volume once; returns the damaged slots found."""
        self._begin()
        return await self._work()

    def status(self) -> ScrubPassStatus:
        """For the cell's status."""
        one = self._pass
        if one is None:
            return ScrubPassStatus(next_begins=self._next_begins())
        return ScrubPassStatus(
            running=not one.finished_us,
            began=one.began_us // 1_000_000,
            finished=one.finished_us // 1_000_000,
            next_begins=self._next_begins() if one.finished_us else 0,
            volumes=one.volumes,
            done=one.done,
            unclean=len(one.unclean),
            bytes_read=one.bytes_read,
            slots_damaged=one.slots_damaged,
            seconds_left=one.seconds_left(),
        )

    def _next_begins(self) -> int:
        if not self._settings.period:
            return 0
        left = max(0.0, self._next - self._clock.monotonic())
        return int(self._clock.wall_us() / 1e6 + left)

    async def _run(self) -> None:
        await self._load()
        if self._pass is not None:
            # What was found in them may have been known to a process that is gone.
            self._pass.look_again()
        settings = self._settings
        first = settings.first_after if not settings.period else min(settings.first_after, settings.period / 10)
        begin_at = self._clock.monotonic() + first
        self._next = max(self._next, begin_at)
        await self._wait(begin_at)
        while True:
            now = self._clock.monotonic()
            if (self._pass is None or self._pass.finished_us) and settings.period and now >= self._next:
                self._begin()
                await self._save(always=True)
            if self._pass is not None and not self._pass.finished_us:
                try:
                    await self._work()
                except Unreachable:  # the node is being replaced: go on when it is back, not a period later
                    raise
                except (DrystoneError, OSError, TimeoutError) as error:
                    log.warning("scrub.pass_failed", extra={"error": repr(error)})
            self._asked = False
            unfinished = self._pass is not None and not self._pass.finished_us
            pause = first if unfinished or not settings.period else self._next - self._clock.monotonic()
            await self._wait(self._clock.monotonic() + max(0.2, pause))

    async def _wait(self, until: float) -> None:
        """Until that monotonic time, or somebody asks for a pass."""
        while not self._asked and (left := until - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(self._settings.look_every, left))

    def _begin(self) -> None:
        self._pass = ScrubPass(began_us=self._clock.wall_us())
        self._next = self._clock.monotonic() + self._settings.period

    async def _work(self) -> int:
        """Go on with the pass to its end; returns the damaged slots found."""
        damaged = 0
        async with self._working:
            covered: ScrubPass | None = None
            while (one := self._pass) is not None and not one.finished_us:
                if covered is not one:
                    one.cover(list(await self._node.closed_volumes_to_scrub()))
                    covered = one
                    continue
                if not one.todo:
                    one.finished_us = self._clock.wall_us()
                    log.info("scrub.pass_finished", extra={"volumes": one.volumes, "unclean": len(one.unclean)})
                    await self._save(always=True)
                    continue
                volume, began = one.todo[0], self._clock.monotonic()
                report = await self._scrub(volume)
                if report is not None and report.slots_damaged:
                    damaged += report.slots_damaged
                    self._found()
                if one is not self._pass:  # a new pass was asked for, and this volume is to be read for that one too
                    continue
                if report is None and volume not in await self._node.closed_volumes_to_scrub():
                    one.forget(volume)
                    continue
                one.note(volume, report, self._clock.monotonic() - began)
                await self._save()
        return damaged

    async def _scrub(self, volume: VolumeId) -> ScrubReport | None:
        """None = in vain."""
        try:
            return await self._node.scrub(volume, bytes_per_second=self._settings.bytes_per_second)
        except Unreachable:
            raise
        except (DrystoneError, OSError, TimeoutError) as error:
            log.warning("scrub.volume_failed", extra={"volume": volume_text(volume), "error": repr(error)})
            return None

    async def _load(self) -> None:
        """S4: the pass that was under way, or the last one."""
        async with self._loading:
            if self._loaded or self._memory is None:
                return
            data, now_us = await self._memory.load(), self._clock.wall_us()
            self._loaded = True
            if data is None:
                return
            try:
                self._pass = decode_pass(data, self._memory.owner, now_us)
            except ValueError as error:
                log.warning("scrub.pass_lost", extra={"reason": str(error)})
                return
            age = (now_us - self._pass.began_us) / 1e6
            self._next = self._clock.monotonic() + self._settings.period - age

    async def _save(self, *, always: bool = False) -> None:
        now = self._clock.monotonic()
        if self._memory is None or self._pass is None or (not always and now - self._saved < self._settings.save_every):
            return
        self._saved = now
        try:
            await self._memory.save(encode_pass(self._pass, self._memory.owner))
        except OSError as error:
            log.warning("scrub.pass_not_saved", extra={"error": repr(error)})

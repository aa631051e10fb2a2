# SPDX-License-Identifier: Apache-2.0
"""The volume now appended to, one for packs and one for pieces of a disk class: replaced when it breaks, fills up, loses a disk or waits
for one that is slow by habit.

Invariants
  P1  At most one opening at a time; whoever needs the volume meanwhile waits for that one.
  P2  A broken volume's failures are told to the watch before the next volume is placed (R3).
  P3  Closings for lateness or slowness beyond the cap make the next opening wait; closings for errors never do.
  P4  A slow disk is left only for others that are healthy: where too few are, its volume goes on.
States of a volume here  (none) --open--> current --broken|full|crowded|slow--> leaving --flags durable--> settled
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence

from drystone_core.errors import Unavailable
from drystone_core.ids import volume_text
from drystone_core.slowness import PeerTimes
from drystone_datapath.append import Appender
from drystone_datapath.faults import SlotClosed
from drystone_datapath.volume import DiskState, DiskUnit, Volume
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.settings import OpenSettings
from drystone_storage.volumes.claims import VolumeClaims
from drystone_storage.volumes.opening import VolumeOpener
from drystone_storage.volumes.registry import VolumeRegistry
from drystone_storage.world import World

log = logging.getLogger(__name__)
_MINUTE = 60.0


class LatenessCap:
    """Counts closings for lateness over all volumes of the cell (here: of the node)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._when: deque[float] = deque()

    def note(self, now: float) -> None:
        """One more."""
        self._when.append(now)

    def wait(self, now: float) -> float:
        """Seconds until another volume may be opened."""
        while self._when and now - self._when[0] > _MINUTE:
            self._when.popleft()
        if len(self._when) <= self._most:
            return 0.0
        return min(2.0, _MINUTE - (now - self._when[-self._most - 1]))


class OpenVolumes:
    """One chain of open volumes."""

    def __init__(
        self,
        *,
        name: str,
        disk_class: str,
        world: World,
        opener: VolumeOpener,
        registry: VolumeRegistry,
        watch: DiskWatch,
        cap: LatenessCap,
        claims: VolumeClaims,
        settings: OpenSettings,
        volume_limit: int,
    ) -> None:
        self._name, self._disk_class, self._world, self._opener = name, disk_class, world, opener
        self._registry, self._watch, self._cap, self._claims = registry, watch, cap, claims
        self._settings, self._limit = settings, volume_limit
        self.current: Appender | None = None
        self._spare: Volume | None = None
        self._opening: asyncio.Task[Appender | Unavailable] | None = None
        self._sparing = False
        self._stopped = False
        self._times: PeerTimes | None = None
        """Of the newest volume's disks."""
        self._accounted: tuple[Volume | None, int] = (None, 0)
        """The volume whose writes were last taken off the disks' free space, and its end then."""

    async def usable(self) -> Appender:
        """The appender to use now, of a new volume when the present one takes nothing more."""
        current = self.current
        if current is not None and current.usable:
            return current
        if self._stopped:
            raise Unavailable("the storage node is stopping")
        if self._opening is None:
            self._opening = self._world.background.once(f"{self._name}.open", self._open())
            self._opening.add_done_callback(self._opened)
        opened = await asyncio.shield(self._opening)
        if isinstance(opened, Unavailable):
            raise Unavailable(opened.message, opened.code, **opened.details)
        return opened

    def tick(self) -> None:
        """Now and then: leave a volume with a crowded, failed or slow disk, make the next one ready before this is full."""
        current = self.current
        if current is None or self._stopped:
            return
        volume = current.volume
        self._account(volume)
        if any(slot is None or self._unwelcome(slot.unit) for slot in volume.slots):
            self._leave()
        elif any(slot is not None and self._slows(slot.unit) for slot in volume.slots):
            self._cap.note(self._world.clock.monotonic())
            log.warning("volume.left_for_slowness", extra={"volume": volume_text(volume.volume_id)})
            self._leave()
        elif not current.usable:
            return
        elif self._spare is None and not self._sparing:
            if volume.end * volume.profile.k >= self._limit * self._settings.spare_at:
                self._sparing = True
                self._world.background.once(f"{self._name}.spare", self._make_spare())

    def _account(self, volume: Volume) -> None:
        """What was written since the last look at the disks is not free any more."""
        known, written = self._accounted
        if known is not volume:
            written = 0
        self._accounted = (volume, volume.end)
        if volume.end > written:
            for slot in volume.slots:
                if slot is not None:
                    self._watch.written(slot.unit, volume.end - written)

    async def stop(self) -> None:
        """Take nothing more; close what is open."""
        self._stopped = True
        if self._opening is not None:
            await asyncio.wait([self._opening])
        for appender in [self.current] if self.current is not None else []:
            await self._close(appender)
        self.current = None
        if self._spare is not None:
            await self._close(self._opener.appender(self._spare, self._ignore, self._ignore))
            self._spare = None

    async def leave(self, volume: Volume) -> None:
        """Close this volume when it is the present one; what waits goes to the next."""
        current = self.current
        if current is not None and current.volume is volume:
            self.current = None
            await self._close(current)

    def _unwelcome(self, unit: DiskUnit) -> bool:
        return unit.state is DiskState.FAILED or self._watch.crowded(unit)

    def _slows(self, unit: DiskUnit) -> bool:
        """Is it better to go on without this disk? (P4)"""
        return (
            unit.state is DiskState.SUSPECT
            and self._watch.is_slow(unit)
            and self._opener.can_do_without(unit, self._disk_class)
        )

    def _opened(self, task: "asyncio.Task[Appender | Unavailable]") -> None:
        self._opening = None

    async def _open(self) -> Appender | Unavailable:
        """The next appender; too few disks is an answer here, not a failed task."""
        try:
            return await self._next()
        except Unavailable as error:
            return error

    async def _next(self) -> Appender:
        pause = self._cap.wait(self._world.clock.monotonic())
        if pause > 0:
            log.warning("volume.opening_waits", extra={"kind": self._name, "pause_s": pause})
            await self._world.clock.sleep(pause)
        self._leave()
        volume, self._spare = self._spare, None
        if volume is None or any(slot is None or not self._welcome(slot.unit) for slot in volume.slots):
            if volume is not None:
                self._world.background.once(
                    f"{self._name}.close", self._close(self._opener.appender(volume, self._ignore, self._ignore))
                )
            volume = await self._opener.create(self._disk_class)
        self.current = self._opener.appender(volume, self._broke, self._slowed, self._times)
        self._times = self.current.times
        return self.current

    def _welcome(self, unit: DiskUnit) -> bool:
        return unit.state is DiskState.HEALTHY and not self._watch.crowded(unit)

    async def _make_spare(self) -> None:
        try:
            self._spare = await self._opener.create(self._disk_class)
        except Unavailable as error:
            log.warning("volume.no_spare", extra={"kind": self._name, "reason": str(error)})
        finally:
            self._sparing = False

    def _leave(self) -> None:
        """Put the present volume aside; it is closed behind our back."""
        current, self.current = self.current, None
        if current is not None:
            self._world.background.once(f"{self._name}.close", self._close(current))

    async def _close(self, appender: Appender) -> None:
        volume = appender.volume
        failed = await appender.close()
        if failed:
            log.warning(
                "volume.closed_partly",
                extra={"volume": volume_text(volume.volume_id), "slots": sorted(failed)},
            )
        self._registry.settle(volume)
        await self._claims.release(volume.volume_id)

    def _broke(self, volume: Volume, failures: Mapping[int, BaseException]) -> None:
        """The appender's word that the volume acknowledges nothing more."""
        late_only = all(isinstance(error, TimeoutError) for error in failures.values())
        if late_only:
            self._cap.note(self._world.clock.monotonic())
        # When most slots are late at once the machine stalled, not the disks.
        stall = late_only and len(failures) * 2 > len(volume.slots)
        for index, error in failures.items():
            slot = volume.slots[index]
            if slot is not None and not stall and not isinstance(error, SlotClosed):
                self._watch.failed(slot.unit, error)
        log.warning(
            "volume.broken",
            extra={
                "volume": volume_text(volume.volume_id),
                "failures": {index: repr(error) for index, error in failures.items()},
            },
        )
        if self.current is not None and self.current.volume is volume:
            self._leave()

    def _slowed(self, volume: Volume, slots: Sequence[int]) -> None:
        """The appender's word that slots are slow by habit: what they hold up is left, in this chain at once."""
        for index in slots:
            slot = volume.slots[index]
            if slot is not None:
                self._watch.slow(slot.unit)
        self.tick()

    def _ignore(self, volume: Volume, slots: object) -> None:
        """A spare that is only closed."""

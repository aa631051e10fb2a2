# SPDX-License-Identifier: Apache-2.0
"""What is thought of each disk: looked at once a second through its path, told of every failure.

States of a disk (DiskUnit.state)
  HEALTHY --error, lateness or slowness--> SUSPECT --backoff over and looked at--> HEALTHY
  any --identity unreadable, another disk, or a call that hangs--> FAILED --the same identity again--> SUSPECT or HEALTHY
Invariants
  W1  The look goes through the path: an unmounted or replaced directory is FAILED although open files go on working.
  W2  A hung lane is not given more looks: its queue does not grow.
  W3  The pause after errors doubles with each further one and starts over after a calm day.
  W4  Slowness counts once a pause, however often it is told: a disk that nothing can stand in for goes on being told of.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from drystone_core.formats.coordination import OWN_SIZE
from drystone_core.ids import DiskId
from drystone_core.placement import DiskChoice
from drystone_core.ports import Clock, Lanes
from drystone_core.storage_classes import ANY_DISK
from drystone_datapath.volume import DiskState, DiskUnit
from drystone_storage.disks.survey import look_at
from drystone_storage.settings import WatchSettings

log = logging.getLogger(__name__)
_DAY = 86_400.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True, eq=False)
class Watched:
    """One disk and what is known about it."""

    unit: DiskUnit
    free: int = 0
    total: int = 0
    errors: int = 0
    """Failures since the last calm day."""
    last_error: float = float("-inf")
    avoid_until: float = float("-inf")
    """Nothing is placed on it before (monotonic)."""
    slow_until: float = float("-inf")
    """Until then volumes do without it where they can: it was slow by habit (monotonic)."""
    only_late: bool = True
    """It was late or slow, never wrong: may be used when too few others are left."""
    reason: str = ""
    """Why it is not HEALTHY."""
    draining: bool = False
    """It takes nothing new."""
    weight: int = OWN_SIZE
    """Bytes it may hold, whatever they are, to take more; OWN_SIZE: no other limit than its size."""
    domain: str = ""
    """Failure domain placement spreads over; empty = the disk itself."""
    failed_at: float = float("-inf")
    """When it became FAILED (monotonic); at start: then."""
    empty_since: float | None = None
    """A FAILED disk's path shows a readable directory without this disk since then."""


class DiskWatch:
    """All disks of the node."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        clock: Clock,
        settings: WatchSettings,
        on_failed: Callable[[DiskUnit], None],
        on_returned: Callable[[DiskUnit], None],
        among_others: bool = False,
    ) -> None:
        """`among_others`: there are disks of other nodes, which may be away before this watch has ever heard of them."""
        self._lanes, self._clock, self._settings = lanes, clock, settings
        self._hears_since = clock.monotonic() if among_others else float("-inf")
        self._on_failed, self._on_returned = on_failed, on_returned
        self._disks: dict[DiskId, Watched] = {}

    @property
    def disks(self) -> list[Watched]:
        """In the order they were added."""
        return list(self._disks.values())

    def add(self, unit: DiskUnit) -> Watched:
        """Begin to watch a disk."""
        watched = self._disks[unit.disk_id] = Watched(unit)
        watched.failed_at = self._clock.monotonic()
        if unit.state is DiskState.SUSPECT:
            watched.avoid_until = self._clock.monotonic() + self._settings.error_backoff
        return watched

    def remove(self, unit: DiskUnit) -> None:
        """Its place was taken by another disk."""
        self._disks.pop(unit.disk_id, None)

    def get(self, disk_id: DiskId) -> Watched | None:
        return self._disks.get(disk_id)

    def failed(self, unit: DiskUnit, error: BaseException) -> None:
        """A call on the disk failed or was late."""
        watched = self._disks.get(unit.disk_id)
        if watched is None:
            return
        now, settings = self._clock.monotonic(), self._settings
        if isinstance(error, OSError) and error.errno in _FULL:
            watched.avoid_until = max(watched.avoid_until, now + settings.full_backoff)
            watched.reason = "full"
            return
        self._forget_if_calm(watched, now)
        away = isinstance(error, ConnectionError)
        late = isinstance(error, TimeoutError)
        watched.only_late = watched.only_late and (late or away)
        if watched.avoid_until > now and watched.last_error > now - 5.0:
            return  # one event, told by several volumes
        if away:  # its node is; nothing is said of the disk
            self._avoid(watched, now, settings.away_backoff, str(error))
        elif late:
            self._avoid(watched, now, settings.late_backoff, "late")
        else:
            self._avoid(watched, now, settings.error_backoff, repr(error))

    def slow(self, unit: DiskUnit) -> None:
        """Its durable writes are slow by habit beside those of other disks."""
        watched = self._disks.get(unit.disk_id)
        if watched is None:
            return
        now = self._clock.monotonic()
        if watched.avoid_until <= now:
            self._forget_if_calm(watched, now)
            self._avoid(watched, now, self._settings.late_backoff, "slow")
        watched.slow_until = watched.avoid_until

    def is_slow(self, unit: DiskUnit) -> bool:
        """It was slow by habit, and its pause is not over."""
        watched = self._disks.get(unit.disk_id)
        return watched is not None and watched.slow_until > self._clock.monotonic()

    def failed_for(self, unit: DiskUnit, now: float) -> float:
        """Seconds since the disk became FAILED; endless for one that is not watched any more."""
        watched = self._disks.get(unit.disk_id)
        return now - watched.failed_at if watched is not None else float("inf")

    def lost(self, unit: DiskUnit) -> bool:
        """Is it FAILED for so long that it is taken for lost?"""
        return (
            unit.state is DiskState.FAILED
            and self.failed_for(unit, self._clock.monotonic()) >= self._settings.lost_after
        )

    def away_for_less(self, seconds: float) -> bool:
        """Is some disk FAILED, or may one nobody told of yet be, but not for so long that it is taken for lost?"""
        now = self._clock.monotonic()
        if now - self._hears_since < seconds:
            return True
        return any(w.unit.state is DiskState.FAILED and now - w.failed_at < seconds for w in self._disks.values())

    def choices(
        self,
        need: int,
        *,
        leave_out: Sequence[DiskId] = (),
        late_too: bool = False,
        slow_too: bool = False,
        disk_class: str = ANY_DISK,
    ) -> list[DiskChoice]:
        """The disks of a class as placement sees them; usable ones have `need` bytes beyond the reserve."""
        now = self._clock.monotonic()
        found = []
        for disk_id, watched in self._disks.items():
            if disk_class not in (ANY_DISK, watched.unit.disk_class):
                continue
            free = watched.free - self._settings.reserve_of(watched.total)
            if watched.weight != OWN_SIZE:
                free = min(free, watched.weight - (watched.total - watched.free))
            sound = disk_id not in leave_out and self.placeable(watched, now, late_too=late_too, slow_too=slow_too)
            usable = sound and free >= need
            found.append(DiskChoice(disk_id=disk_id, free=max(free, 0), usable=usable, domain=watched.domain))
        return found

    def placeable(self, watched: Watched, now: float, *, late_too: bool = False, slow_too: bool = False) -> bool:
        """May new data go to the disk, space aside? `late_too`: if it was late or slow; `slow_too`: if it is slow."""
        state = watched.unit.state
        if watched.draining or state is DiskState.FAILED:
            return False
        pardoned = late_too or (slow_too and watched.slow_until > now)
        if pardoned and watched.only_late and self._moves(watched, now):
            return True
        return state is DiskState.HEALTHY and watched.avoid_until <= now

    def _moves(self, watched: Watched, now: float) -> bool:
        """Nothing hangs on it just now; a slow disk is nearly always in the middle of a call."""
        since = watched.unit.lane.busy_since()
        return since is None or (watched.slow_until > now and now - since < self._settings.every)

    def written(self, unit: DiskUnit, size: int) -> None:
        """So many bytes went to the disk; the next look tells exactly."""
        watched = self._disks.get(unit.disk_id)
        if watched is not None:
            watched.free = max(0, watched.free - size)

    def crowded(self, unit: DiskUnit) -> bool:
        """Below its reserve: nothing more is appended."""
        watched = self._disks.get(unit.disk_id)
        return watched is not None and watched.total > 0 and (watched.free < self._settings.reserve_of(watched.total))

    async def run(self) -> None:
        """Look at every disk, for ever."""
        while True:
            await self.look()
            await self._clock.sleep(self._settings.every)

    async def look(self) -> None:
        """One look at every disk whose lane is not stuck."""
        now = self._clock.monotonic()
        asked: list[Watched] = []
        for watched in self._disks.values():
            since = watched.unit.lane.busy_since()
            if since is not None and now - since > self._settings.hung:
                self._fail(watched, f"a call hangs for {now - since:.0f} s")
            elif since is None or now - since < self._settings.every:
                asked.append(watched)
        calls = [(w.unit.lane, partial(look_at, w.unit)) for w in asked]
        results = await self._lanes.scatter(calls, deadline=now + self._settings.patience)
        for watched, result in zip(asked, results, strict=True):
            if isinstance(result, TimeoutError):
                continue  # busy; the next look tells whether it hangs
            if isinstance(result, BaseException):
                gone = isinstance(result, FileNotFoundError)
                if watched.empty_since is None or not gone:
                    watched.empty_since = now if gone else None
                self._fail(watched, str(result))
            else:
                watched.free, watched.total = result
                watched.empty_since = None
                self._seen(watched)

    def _forget_if_calm(self, watched: Watched, now: float) -> None:
        if now - watched.last_error > _DAY:
            watched.errors, watched.only_late = 0, True

    def _avoid(self, watched: Watched, now: float, base: float, reason: str) -> None:
        """Place nothing on it for a while, the longer the more often this happens (W3)."""
        pause = min(base * 2.0 ** min(watched.errors, 16), self._settings.most_backoff)
        watched.errors += 1
        watched.last_error = now
        watched.avoid_until = max(watched.avoid_until, now + pause)
        watched.reason = reason
        if watched.unit.state is DiskState.HEALTHY:
            watched.unit.state = DiskState.SUSPECT
        log.warning("disk.suspect", extra={"disk": watched.unit.label, "reason": reason, "pause_s": pause})

    def _fail(self, watched: Watched, reason: str) -> None:
        if watched.unit.state is DiskState.FAILED:
            return
        watched.unit.state = DiskState.FAILED
        watched.failed_at = self._clock.monotonic()
        watched.reason = reason
        log.error("disk.failed", extra={"disk": watched.unit.label, "reason": reason})
        self._on_failed(watched.unit)

    def _seen(self, watched: Watched) -> None:
        unit, now = watched.unit, self._clock.monotonic()
        if unit.state is DiskState.FAILED:
            unit.state = DiskState.SUSPECT if watched.avoid_until > now else DiskState.HEALTHY
            log.warning("disk.returned", extra={"disk": unit.label})
            self._on_returned(unit)
        if unit.state is DiskState.SUSPECT and watched.avoid_until <= now:
            unit.state = DiskState.HEALTHY
        if unit.state is DiskState.HEALTHY:
            watched.reason = ""

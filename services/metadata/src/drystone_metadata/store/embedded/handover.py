# SPDX-License-Identifier: Apache-2.0
"""Leaving a member whose journal is slow by habit, the primary included, for a disk that is not (R5, R10).

Nothing has failed, so nothing may be risked: at every moment m+1 members hold everything, so that any m disks may go.
  H1  Only when every member's file, the slow one's too, is complete and trusted (rebuilding makes slow as well).
  H2  The spare's file is made while the slow member still is one, beside the commits, and brought to the head under the
      commit lock; only then a term begins with the one in the other's place. What fails on the way leaves all as it was.
  H3  Only for a spare that was not slow itself lately; it is given up when the commits would have to wait for it.
  H4  One at a time; after an attempt, whatever came of it, the member is left alone for `slow_backoff`, doubling.
Reads need nothing: from the beginning on other members are asked, whose files under the layers are the head (storage.py E2).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from drystone_core.errors import Unavailable
from drystone_core.ports import Clock, Lanes
from drystone_metadata.store.embedded.chain import Chain
from drystone_metadata.store.embedded.member import Member, Standing
from drystone_metadata.store.embedded.units import EmbeddedSettings, is_disk_fault
from drystone_runtime.background import Background

_DOUBLINGS = 10
_LOOK = 0.05
"""Seconds between two looks whether the spare's file is made."""


class FileKeeper(Protocol):
    """What the keeper does for a handover."""

    def say(self, name: str, **fields: object) -> None:
        """An event."""
        ...

    def begin_joining(self, spare: Member) -> None:
        """Begin to make its file; under the commit lock."""
        ...

    async def catch_up(self, spare: Member) -> bool:
        """Bring its file to the head, durably; under the commit lock."""
        ...

    def end_joining(self) -> None:
        """It joined, or will not."""
        ...


class Handover:
    """Listens to the chain's word on slow members."""

    def __init__(
        self,
        *,
        chain: Chain,
        keeper: FileKeeper,
        lock: asyncio.Lock,
        settle: Callable[[], Awaitable[None]],
        lanes: Lanes,
        clock: Clock,
        settings: EmbeddedSettings,
        background: Background,
    ) -> None:
        self._chain, self._keeper, self._lock, self._settle = chain, keeper, lock, settle
        self._lanes, self._clock, self._settings, self._background = lanes, clock, settings, background
        self._under_way = False
        chain.found_slow = self.consider

    def consider(self, member: Member) -> None:
        """A member is slow by habit: begin to replace it, if that can be."""
        now = self._clock.monotonic()
        if self._under_way or member.left_until > now or not self._may_leave(member):
            return
        spare = next((spare for spare in self._chain.spares() if spare.left_until <= now), None)
        if spare is None:
            return
        member.left_until = now + self._settings.slow_backoff * 2.0 ** min(member.left_times, _DOUBLINGS)
        member.left_times += 1
        member.slow_until = member.left_until
        self._under_way = True
        self._background.once("metadata-handover", self._hand_over(member, spare))

    def _may_leave(self, member: Member) -> bool:
        return member in self._chain.set and all(map(_sound, self._chain.set))

    async def _hand_over(self, member: Member, spare: Member) -> None:
        replaced = False
        try:
            if await self._make_ready(spare):
                async with self._lock:
                    if self._may_leave(member) and spare.standing is Standing.SPARE:
                        if await self._keeper.catch_up(spare):
                            replaced = await self._chain.replace(member, spare, "slow")
                            await self._settle()
        except Unavailable as error:
            self._keeper.say("metadata.handover_failed", disk=member.disk_id, reason=error.message)
        finally:
            self._under_way = False
            self._keeper.end_joining()
        self._keeper.say("metadata.handover_ended", disk=member.disk_id, to=spare.disk_id, replaced=replaced)

    async def _make_ready(self, spare: Member) -> bool:
        """The spare's journal segment first, then its file; True when the file is complete."""
        try:
            call = partial(spare.journal.prepare, self._chain.term + 1, 0)
            deadline = self._clock.monotonic() + self._settings.disk_deadline
            await self._lanes.run(spare.unit.background, call, deadline=deadline)
        except OSError as error:
            if is_disk_fault(error):
                self._chain.drop(spare, f"as a spare: {error!r}")
            return False
        async with self._lock:
            if spare.standing is not Standing.SPARE:
                return False
            self._keeper.begin_joining(spare)
        while spare.rebuilding:
            await self._clock.sleep(_LOOK)
        return spare.serves


def _sound(member: Member) -> bool:
    return member.standing is Standing.MEMBER and member.serves and not (member.distrusted or member.rebuilding)

# SPDX-License-Identifier: Apache-2.0
"""Steps of bucket changes, taken by whoever owns the tablet: here, or in another process, which is asked.

Invariants
  H1  A step that came from another process is decided here or refused (NotOwner); it is never handed on.
  H2  A step is true whenever it comes (carrying Y1, Y3, Y4): it may be lost, come twice, late, or to a later owner. So who hears
      nothing asks again, whoever should own the tablet by then.
  H3  A tablet is taken over for a step only when for a whole lease nobody who should own it has decided the step, by a process
      that is registered, and then not again for a lease: in less time the ring names another owner for one that is gone.
  H4  What is said about the matter itself (Refused, the tablet moved, Damaged, Busy) is passed on at once.
  H5  Who waits at a process that does not answer leaves it as soon as the ring names another owner.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drystone_core.errors import Unavailable
from drystone_core.ids import BucketId
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_metadata.tablets.owning import NotOwner

log = logging.getLogger(__name__)
PAUSES = (0.02, 0.5)
"""Seconds before a step that nobody decided is sent again: at first, and at most."""
LOOK_SECONDS = 0.1
"""Between two looks whether a process that was asked still is the owner."""
REDIRECTS = 4
"""Owners named one by another that are asked without a pause."""
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBegun:
    """All steps of a change that is begun, for the owner of the first tablet to see to."""

    bucket: str
    bucket_id: BucketId
    generation: int


Step = CarryBucket | BuryBucket | EndChange | EndBegun
Take = Callable[[TabletId, Step], Awaitable[None]]
"""Decided and durable when it returns; NotOwner when another process should decide it."""
Ask = Callable[[str, TabletId, Step], Awaitable[None]]
"""The same at the process of that name; Unavailable when it is not reached. Cancelling it gives up waiting."""


class Handing:
    """`step` and `end`, for BucketChanges."""

    def __init__(
        self,
        *,
        name: str,
        owns: Callable[[TabletId], bool],
        owner: Callable[[TabletId], str | None],
        registered: Callable[[], bool],
        here: Take,
        ask: Ask,
        take_over: Take,
        clock: Clock,
        entropy: Entropy,
        lease: float,
    ) -> None:
        """`owner(tablet)`: who should own it now; `here`: takes a step in a tablet of ours; `take_over`: takes one in any tablet,
        owning it for a moment. `lease`: seconds after which the others count a silent process as gone."""
        self._name, self._owns, self._owner, self._registered = name, owns, owner, registered
        self._here, self._ask, self._take_over = here, ask, take_over
        self._clock, self._entropy, self._lease = clock, entropy, lease
        self._taken: dict[TabletId, float] = {}
        """When a tablet was last taken over for a step (H3)."""
        self.handed = 0
        """Steps that other processes have decided for this one."""
        self.taken_over = 0
        """Tablets taken over for a step."""

    async def end(self, bucket: Bucket) -> None:
        """Have the first tablet's owner end a change as it was read; Unavailable when it does not within a lease."""
        begun = EndBegun(bucket=bucket.name, bucket_id=bucket.bucket_id, generation=bucket.generation)
        await self.step(CELL_TABLET, begun)

    async def step(self, tablet: TabletId, step: Step) -> None:
        """Decided and durable when it returns. Unavailable when nobody decides it; a burying that fails is not insisted on."""
        insist = 0.0 if isinstance(step, BuryBucket) else self._lease
        until = self._clock.monotonic() + insist
        told, redirects, (pause, most) = "", 0, PAUSES
        while True:
            if self._owns(tablet):
                return await self._here(tablet, step)
            try:
                return await self._elsewhere(told, tablet, step)
            except NotOwner as elsewhere:
                told = elsewhere.details.get("owner", "")
                if told and told != self._name and redirects < REDIRECTS:
                    redirects += 1
                    continue
                failure = Unavailable("the tablet is just changing its owner")
            except Unavailable as error:
                failure = error
            told, redirects = "", 0
            if self._clock.monotonic() >= until:
                return await self._instead(tablet, step, failure)
            await self._clock.sleep(self._entropy.uniform(pause / 2, pause))
            pause = min(pause * 2, most)

    async def _elsewhere(self, told: str, tablet: TabletId, step: Step) -> None:
        """One attempt at the process that was named (`told`), or that the ring names."""
        owner = self._owner(tablet)
        name = told or owner
        if not name or name == self._name:
            raise Unavailable("the tablet has no owner just now")
        until = self._clock.monotonic() + self._lease
        asking = asyncio.ensure_future(self._ask(name, tablet, step))
        try:
            while not asking.done():
                await asyncio.wait((asking,), timeout=LOOK_SECONDS)
                if self._owner(tablet) != owner or self._clock.monotonic() >= until:
                    break  # H5
            if not asking.done():
                raise Unavailable(f"the metadata process {name} does not answer")
            await asking
        finally:
            asking.cancel()
        self.handed += 1

    async def _instead(self, tablet: TabletId, step: Step, failure: Unavailable) -> None:
        """H3."""
        now = self._clock.monotonic()
        lately = self._taken.get(tablet)
        if not isinstance(step, CarryBucket) or not self._registered():
            raise failure
        if lately is not None and now - lately < self._lease:
            raise failure
        if len(self._taken) >= _REMEMBERED:
            self._taken = {one: at for one, at in self._taken.items() if now - at < self._lease}
        self._taken[tablet] = now
        self.taken_over += 1
        log.warning(
            "metadata.taken_over_for_a_step",
            extra={"tablet": tablet.hex(), "owner": self._owner(tablet) or "", "reason": failure.message},
        )
        await self._take_over(tablet, step)

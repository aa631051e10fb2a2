# SPDX-License-Identifier: Apache-2.0
"""Do the clocks of a cell's nodes agree? Asked through the coordinator, which has no time of its own.

Who wants to know writes a question; who is asked reads its clock after that, and writes it. So the other clock was read
between the moment before the question was written and the moment its answer was seen, both by our own monotonic clock: the
difference is known to within the time that took, however long messages lay about.

Invariants
  W1  Only the part of a difference that is certain counts: slow answers, pauses and retries accuse nobody.
  W2  A clock is wrong when it certainly differs by more than LIMIT from more than half of those that answered. Among two
      that differ nobody knows which is right: both are wrong.
  W3  Nobody to ask, or no answer in time, proves nothing: it is said, and asked again later.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from drystone_core.coordination import (
    Changes,
    Coordinator,
    Delete,
    Document,
    Put,
    Resync,
    Revision,
    Session,
    Watch,
    Written,
)
from drystone_core.errors import Busy, Damaged, DrystoneError, Stale, Unavailable
from drystone_core.formats.coordination import (
    CLOCK_QUESTIONS,
    CLOCKS,
    NODES,
    ClockDocument,
    ClockQuestion,
    clock_key,
    decode,
    encode,
    question_key,
)
from drystone_core.ports import Clock, Entropy

log = logging.getLogger(__name__)
D = TypeVar("D")
LIMIT = 5.0
"""Seconds by which clocks may differ."""
ASKED_MOST = 15
"""Nodes asked at once, of however many there are."""
WAIT = 3.0
"""Seconds an answer is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Another node's clock less ours lies between these, in seconds."""

    node: str
    """ROLE/NODE."""
    least: float
    most: float

    @property
    def certain(self) -> float:
        """W1: what of it there is in any case, with its sign."""
        return self.least if self.least > 0 else min(self.most, 0.0)

    @property
    def far(self) -> bool:
        """Certainly too much."""
        return abs(self.certain) > LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of a question."""

    asked: int
    differences: tuple[Difference, ...] = ()
    """Of those that answered."""

    @property
    def fault(self) -> str:
        """W2: a sentence about our clock; empty when nothing speaks against it."""
        far = [each for each in self.differences if each.far]
        if 2 * len(far) <= len(self.differences):
            return ""
        far.sort(key=lambda each: each.certain)
        middle = far[(len(far) - 1) // 2]
        way = "behind" if middle.certain > 0 else "ahead of"
        return (
            f"the clock here is {abs(middle.certain):.1f} s {way} that of {middle.node}, and more than {LIMIT:g} s from"
            f" {len(far)} of the {len(self.differences)} nodes that told theirs: set the clock that is wrong (NTP), then"
            " start this process again"
        )


async def compare(
    *, coordinator: Coordinator, session: Session, node: str, incarnation: str, clock: Clock, entropy: Entropy
) -> Comparison:
    """Ask some of the registered nodes; returns within about WAIT, at once when half of them are near. `node`: ROLE/NODE of who asks, `incarnation`: of this
    registration. Raises what the coordinator raises."""
    registered = [document.key for document in (await coordinator.snapshot(NODES)).documents]
    others = [key.removeprefix(NODES) for key in registered if key != NODES + node]
    if not others:
        return Comparison(asked=0)
    first = int.from_bytes(entropy.token(4)) % len(others)
    asked = (others[first:] + others[:first])[:ASKED_MOST]
    question = ClockQuestion(asked=tuple(CLOCKS + each for each in asked))
    key = question_key(incarnation)
    wall, began = clock.wall_us(), clock.monotonic()
    revision = await coordinator.commit(Put(key=key, value=encode(question), session=session.id))
    found: dict[str, Difference] = {}

    def enough(document: Document) -> bool:
        name, told = document.key.removeprefix(CLOCKS), _decoded(ClockDocument, document)
        if told is not None and name in asked and name not in found and told.heard >= revision:
            most = (told.wall_us - wall) / 1e6
            found[name] = Difference(node=name, least=most - (clock.monotonic() - began), most=most)
        near = [each for each in found.values() if not each.far]
        return len(found) == len(asked) or 2 * len(near) >= len(asked)

    watch = coordinator.watch(CLOCKS, after=revision)
    listening, late = asyncio.ensure_future(_listen(watch, enough)), asyncio.ensure_future(clock.sleep(WAIT))
    try:
        await asyncio.wait((listening, late), return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
    finally:
        for task in (listening, late):
            task.cancel()
        await asyncio.wait((listening, late))
        await watch.close()
        with suppress(DrystoneError):  # it vanishes with the session
            await coordinator.commit(Delete(key=key))
    return Comparison(asked=len(asked), differences=tuple(found.values()))


async def _listen(watch: Watch, enough: Callable[[Document], bool]) -> None:
    while True:
        for document in _written(await watch.next()):
            if enough(document):
                return


class Answerer:
    """Answers what others ask, and tells our own fault with it. `session` gives the present registration's."""

    def __init__(
        self, *, coordinator: Coordinator, role: str, node: str, session: Callable[[], Session], clock: Clock
    ) -> None:
        self._coordinator, self._session, self._clock = coordinator, session, clock
        self._key = clock_key(role, node)
        self._heard = Revision(0)
        self._fault = ""

    async def run(self, after: Revision) -> None:
        """Answer every question asked after that revision, for ever."""
        watch = self._coordinator.watch(CLOCK_QUESTIONS, after=after)
        try:
            while True:
                mine = [each.revision for each in _written(await watch.next()) if self._asks_us(each)]
                if mine:
                    self._heard = max(self._heard, *mine)
                    await self._answer()
        finally:
            await watch.close()

    async def tell(self, fault: str) -> None:
        """Let the others read that our clock is wrong, or (empty) is not any more."""
        self._fault = fault
        await self._write()

    def _asks_us(self, question: Document) -> bool:
        asks = _decoded(ClockQuestion, question)
        return asks is not None and self._key in asks.asked

    async def _answer(self) -> None:
        try:
            await self._write()
        except (Stale, Unavailable, Busy) as error:  # W3: they ask again
            log.info("clocks.not_answered", extra={"reason": error.message})

    async def _write(self) -> None:
        # The question was seen before the clock is read.
        document = ClockDocument(wall_us=self._clock.wall_us(), heard=self._heard, fault=self._fault)
        await self._coordinator.commit(Put(key=self._key, value=encode(document), session=self._session().id))


def _decoded(kind: type[D], document: Document) -> D | None:
    """None: damaged, or of a later format; it tells us nothing."""
    try:
        return decode(kind, document.value, key=document.key)
    except Damaged as error:
        log.warning("clocks.document_unreadable", extra={"reason": error.message})
        return None


def _written(change: Changes | Resync) -> list[Document]:
    if isinstance(change, Resync):
        return list(change.snapshot.documents)
    return [event.document for event in change.events if isinstance(event, Written)]

# SPDX-License-Identifier: Apache-2.0
"""An in-memory TabletStorage of many tablets, for tests and the simulator, with faults to order.

Invariants
  M1  Calls suspend only when a delay is set (or a fault asks for it), so the order of effects is the order of calls.
  M2  The state outlives the object: `MemoryTablets` is the "disk", `MemoryStorage` the process on it.
  M3  A batch is applied whole or not at all, whatever fault is ordered.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from drystone_core.check import check
from drystone_core.errors import Unavailable
from drystone_core.ports import Clock
from drystone_metadata.store.ports import (
    Batch,
    Committed,
    Expected,
    FeedRow,
    Fill,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    UnknownTablet,
)
from drystone_metadata.store.ranges import check_keys, check_span, holds


class Fault(StrEnum):
    """What happens to one call."""

    NONE = "none"
    STALE = "stale"
    """The commit is refused although nothing moved on."""
    UNKNOWN_BEFORE = "unknown_before"
    """The outcome is unknown; the batch did not go in."""
    UNKNOWN_AFTER = "unknown_after"
    """The outcome is unknown; the batch went in."""
    UNAVAILABLE = "unavailable"
    """The call raises Unavailable and changes nothing."""


FaultPlan = Callable[[str], Fault]
"""Asked at each call with its name: commit, state, read, scan, feed, take_over, create, drop, fill, reshape, clear."""
NO_TABLET = TabletId(b"")


@dataclass(slots=True, eq=False)
class MemoryTablet:
    """One tablet's statics, rows in order, and feed."""

    state: TabletState
    order: list[RowKey] = field(default_factory=list)
    rows: dict[RowKey, bytes] = field(default_factory=dict)
    feed: list[FeedRow] = field(default_factory=list)

    def apply(self, batch: Batch) -> None:
        """The effect of a commit."""
        for key in batch.deletes:
            if self.rows.pop(key, None) is not None:
                del self.order[bisect_left(self.order, key)]
        fresh = [key for key, _ in batch.puts if key not in self.rows]
        for row_key, value in batch.puts:
            self.rows[row_key] = value
        if len(fresh) > 64:
            self.order = sorted(self.rows)
        else:
            for key in dict.fromkeys(fresh):
                insort(self.order, key)
        check(batch.floor_us >= self.state.floor_us, "a tablet's floor never goes back")
        head = self.state.head + 1
        self.state = replace(
            self.state, head=head, batch_id=batch.batch_id, floor_us=batch.floor_us, generation=batch.generation
        )
        self.feed.append(FeedRow(head, batch.batch_id, batch.feed))

    def take(self, fill: Fill) -> None:
        """The effect of a fill."""
        for key in fill.deletes:
            self.rows.pop(key, None)
        self.rows.update(fill.puts)
        self.order = sorted(self.rows)
        known = {entry.seq: entry for entry in [*self.feed, *fill.feed]}
        self.feed = [known[sequence] for sequence in sorted(known)]
        self.state = replace(self.state, head=self.state.head + 1, batch_id=fill.batch_id)

    def clear(self) -> None:
        """Forget what is outside the range."""
        self.rows = {key: value for key, value in self.rows.items() if holds(self.state, key)}
        self.order = sorted(self.rows)


@dataclass(slots=True, eq=False)
class MemoryTablets:
    """The persistent part: hand it to a new MemoryStorage after a "crash"."""

    tablets: dict[TabletId, MemoryTablet] = field(default_factory=dict)


def _condition(state: TabletState) -> tuple[int, int, int, TabletPhase]:
    return state.head, state.epoch, state.generation, state.phase


def no_faults(_call: str) -> Fault:
    """The plan without faults."""
    return Fault.NONE


class MemoryStorage:
    """TabletStorage over `MemoryTablets`."""

    def __init__(
        self,
        tablets: MemoryTablets,
        *,
        faults: FaultPlan = no_faults,
        clock: Clock | None = None,
        delay: Callable[[], float] | None = None,
    ) -> None:
        """`delay` gives the seconds each commit takes on `clock`; without it no call suspends."""
        self._tablets = tablets.tablets
        self._faults = faults
        self._clock = clock
        self._delay = delay

    async def create(
        self,
        tablet: TabletId,
        *,
        low: bytes,
        high: bytes,
        generation: int,
        phase: TabletPhase = TabletPhase.OPEN,
        child: TabletId = NO_TABLET,
    ) -> None:
        self._may_fail("create")
        if tablet not in self._tablets:
            state = TabletState(generation=generation, low=low, high=high, phase=phase, child=child)
            self._tablets[tablet] = MemoryTablet(state)

    async def drop(self, tablet: TabletId) -> None:
        self._may_fail("drop")
        self._tablets.pop(tablet, None)

    async def state(self, tablet: TabletId) -> TabletState:
        self._may_fail("state")
        return self._find(tablet).state

    async def take_over(self, tablet: TabletId) -> TabletState:
        self._may_fail("take_over")
        found = self._find(tablet)
        found.state = replace(found.state, epoch=found.state.epoch + 1)
        return found.state

    async def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> Committed:
        found = self._find(tablet)
        fault = self._faults("commit")
        if fault is Fault.UNAVAILABLE:
            raise Unavailable("ordered by the test")
        if self._delay is not None and self._clock is not None:
            await self._clock.sleep(self._delay())
        state = found.state
        if state.epoch == expected.epoch:
            check_keys(state, batch.deletes)
            check_keys(state, [key for key, _ in batch.puts])
        seen = Expected(state.head, state.epoch, state.generation)
        if seen != expected or fault is Fault.STALE or state.phase is not TabletPhase.OPEN:
            return Committed.STALE
        if fault is Fault.UNKNOWN_BEFORE:
            return Committed.UNKNOWN
        found.apply(batch)
        return Committed.UNKNOWN if fault is Fault.UNKNOWN_AFTER else Committed.COMMITTED

    async def fill(self, tablet: TabletId, expected: TabletState, fill: Fill) -> Committed:
        found = self._find(tablet)
        return await self._change("fill", found, expected, lambda: found.take(fill))

    async def reshape(self, tablet: TabletId, expected: TabletState, to: TabletState) -> Committed:
        found = self._find(tablet)
        check(to.epoch == expected.epoch + 1, "a new shape is a new epoch")

        def become() -> None:
            found.state = to

        return await self._change("reshape", found, expected, become)

    async def clear(self, tablet: TabletId, expected: TabletState) -> Committed:
        found = self._find(tablet)
        seen = replace(expected, head=found.state.head, generation=found.state.generation)
        return await self._change("clear", found, seen, found.clear)

    async def _change(
        self, call: str, found: MemoryTablet, expected: TabletState, effect: Callable[[], None]
    ) -> Committed:
        fault = self._faults(call)
        if fault is Fault.UNAVAILABLE:
            raise Unavailable("ordered by the test")
        if self._delay is not None and self._clock is not None:
            await self._clock.sleep(self._delay())
        if fault is Fault.STALE or _condition(found.state) != _condition(expected):
            return Committed.STALE
        if fault is Fault.UNKNOWN_BEFORE:
            return Committed.UNKNOWN
        effect()
        return Committed.UNKNOWN if fault is Fault.UNKNOWN_AFTER else Committed.COMMITTED

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        self._may_fail("read")
        found = self._find(tablet)
        check_keys(found.state, keys)
        return [found.rows.get(key) for key in keys]

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        self._may_fail("scan")
        found = self._find(tablet)
        check_span(found.state, start, end)
        first = bisect_left(found.order, start)
        last = min(bisect_left(found.order, end, first), first + limit) if end > start else first
        return [(key, found.rows[key]) for key in found.order[first:last]]

    async def feed(self, tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        self._may_fail("feed")
        return [entry for entry in self._find(tablet).feed if entry.seq > after][:limit]

    async def trim_feed(self, tablet: TabletId, before: int) -> None:
        found = self._find(tablet)
        found.feed = [entry for entry in found.feed if entry.seq >= before]

    def _find(self, tablet: TabletId) -> MemoryTablet:
        found = self._tablets.get(tablet)
        if found is None:
            raise UnknownTablet
        return found

    def _may_fail(self, call: str) -> None:
        if self._faults(call) is Fault.UNAVAILABLE:
            raise Unavailable("ordered by the test")

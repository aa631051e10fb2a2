# SPDX-License-Identifier: Apache-2.0
"""Who is persistently slower than the others that do the same work beside it: samples in, verdict out, nothing else.

A round is one piece of work that all peers do at once (the fragments of a stripe, a record in every journal); it lasts as
long as the slowest of them. A peer that never errs and is never late can so slow all work down for ever ("fail-slow",
Gunawi et al., FAST'18); what tells it from a busy machine is its peers.

Invariants
  W1  Only a peer can be slow, never a machine: where half of the peers or more are as slow, nobody is (of two, one may).
  W2  One stall is no habit: a verdict needs `rounds` slow rounds, over at least `seconds`, all of that time with a
      smoothed figure above both limits (`floor`, and `factor` times the middle peer's).
  W3  A round in which nobody reaches the floor costs a comparison; it counts as no time at all for everybody.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from drystone_core.check import check


@dataclass(frozen=True, slots=True, kw_only=True)
class SlownessSettings:
    """When a peer counts as slow. Seconds."""

    factor: float = 8.0
    """Times the middle peer's time; 0 = nobody ever is."""
    floor: float = 0.05
    """Never below this."""
    rounds: int = 8
    seconds: float = 5.0
    memory: int = 16
    """Rounds over which times are smoothed."""

    def __post_init__(self) -> None:
        check(self.factor == 0 or self.factor > 1, "factor: 0 or above 1")
        check(self.rounds >= 1 and self.memory >= 1, "rounds and memory: at least 1")


@dataclass(slots=True)
class _Habit:
    """What is known of one peer."""

    smoothed: float = 0.0
    """Seconds a round; rounds below the floor count as 0."""
    since: float = 0.0
    """When `smoothed` passed both limits."""
    rounds: int = 0
    """Slow rounds since then."""
    above: bool = False


class PeerTimes:
    """Times of some peers; the same object as long as they stay the same."""

    __slots__ = ("_floor", "_habits", "_middle", "_quiet", "_settings")

    def __init__(
        self, peers: Sequence[Hashable], settings: SlownessSettings, *, before: "PeerTimes | None" = None
    ) -> None:
        """In the order in which times will be given. Of those that were among the peers `before`, it is remembered."""
        self._settings = settings
        self._floor = settings.floor if settings.factor else float("inf")
        self._middle = len(peers) // 2 if len(peers) > 2 else 0
        known = before.habits() if before is not None else {}
        self._habits = {peer: known.get(peer) or _Habit() for peer in peers}
        self._quiet = 0
        """Rounds since the last in which somebody reached the floor."""

    def observe(self, began: float, ended: Sequence[float]) -> tuple[int, ...]:
        """One round: when it began, when each peer had done its part. Positions of peers that are slow by habit."""
        if max(ended) - began < self._floor:
            self._quiet += 1
            return ()
        return self._judge(began, ended)

    def habits(self) -> dict[Hashable, _Habit]:
        """By peer; the quiet rounds since the last look are taken into account first."""
        fade = (1.0 - 1.0 / self._settings.memory) ** self._quiet
        self._quiet = 0
        for habit in self._habits.values():
            habit.smoothed *= fade
            habit.above = habit.above and habit.smoothed >= self._floor
        return self._habits

    def _judge(self, began: float, ended: Sequence[float]) -> tuple[int, ...]:
        settings, floor = self._settings, self._floor
        share, now = 1.0 / settings.memory, max(ended)
        habits = list(self.habits().values())
        times = [each - began for each in ended]
        for habit, time in zip(habits, times, strict=True):
            habit.smoothed += share * ((time if time >= floor else 0.0) - habit.smoothed)
        slow_round = max(floor, settings.factor * sorted(times)[self._middle])
        slow_habit = max(floor, settings.factor * sorted([habit.smoothed for habit in habits])[self._middle])
        found = []
        for position, (habit, time) in enumerate(zip(habits, times, strict=True)):
            if habit.smoothed < slow_habit:
                habit.above = False
                continue
            if not habit.above:
                habit.above, habit.since, habit.rounds = True, now, 0
            habit.rounds += time >= slow_round
            if habit.rounds >= settings.rounds and now - habit.since >= settings.seconds:
                found.append(position)
        return tuple(found)

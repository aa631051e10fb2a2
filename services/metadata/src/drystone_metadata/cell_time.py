# SPDX-License-Identifier: Apache-2.0
"""Cell time: the wall clock, followed no faster than time can have passed since the last commit (docs/adr/0402-cell-time.md).

Invariants
  T1  It never goes back and never passes the wall clock, unless it started beyond it.
  T2  While running it advances by no more than the monotonic clock does; what the wall clock was ahead at the start
      (the store was off, or the clock is wrong: nobody can tell) is made up at the same speed again, so at double speed.
  T3  It starts from what the store itself persisted: its floor plus the floor's age.
"""

from drystone_core.ports import Clock


class CellTime:
    """See the module's docstring."""

    __slots__ = ("_at", "_behind", "_clock", "_mono")

    def __init__(self, *, clock: Clock, persisted_us: int) -> None:
        """`persisted_us`: the cell time of the last commit, 0 in a new cell (which trusts its clock)."""
        self._clock = clock
        self._mono = clock.monotonic()
        wall = clock.wall_us()
        self._at = persisted_us or wall
        self._behind = max(0, wall - self._at)

    def now_us(self) -> int:
        """Unix microseconds."""
        mono = self._clock.monotonic()
        passed = int((mono - self._mono) * 1e6)
        reach = self._at + passed + min(passed, self._behind)
        now = max(self._at, min(self._clock.wall_us(), reach))
        # Time that passed and was not used (the wall clock stood back) may be made up later.
        self._behind = max(0, self._behind + passed - (now - self._at))
        self._at, self._mono = now, mono
        return now

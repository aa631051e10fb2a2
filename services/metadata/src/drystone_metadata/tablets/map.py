# SPDX-License-Identifier: Apache-2.0
"""Which tablet holds a key: a cache of what the tablets say themselves.

The tablets of a cell form a chain from the first one, each naming its right neighbour; the first is never closed. A walk along
it ends at the tablet that holds the address, whatever is being moved meanwhile.

Invariants
  P1  What stands here may be old, and then whoever uses it is refused by the tablet (R7); it is never trusted further.
  P2  Entries do not overlap: what a walk learns replaces whatever stood in that range.
  P3  A walk opens a child whose split is decided (notes N1), so a decided split needs nobody in particular to go on.
"""

from bisect import bisect_right
from typing import NamedTuple

from drystone_core.errors import Unavailable
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Committed,
    TabletId,
    TabletPhase,
    TabletState,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.tablets.notes import opened

_WALKS = 8


class Spot(NamedTuple):
    """A tablet and the addresses it holds."""

    low: bytes
    high: bytes
    """Empty = no end."""
    tablet: TabletId

    def holds(self, address: bytes) -> bool:
        """Whether the address is in its range."""
        return self.low <= address and (not self.high or address < self.high)


class TabletMap:
    """`find` answers from the cache, `look` from the tablets."""

    def __init__(self, storage: TabletStorage, first: TabletId = CELL_TABLET) -> None:
        self._storage = storage
        self._first = first
        self._spots: list[Spot] = []
        self.closed: set[TabletId] = set()
        """Tablets met closed: whoever should own one settles it (merging)."""
        self.walks = 0
        """Times the tablets were asked."""

    @property
    def spots(self) -> list[Spot]:
        """What is known, in order."""
        return list(self._spots)

    def known(self, address: bytes) -> Spot | None:
        """The tablet that held the address when it was last looked at."""
        at = bisect_right(self._spots, address, key=lambda spot: spot.low) - 1
        return self._spots[at] if at >= 0 and self._spots[at].holds(address) else None

    async def find(self, address: bytes) -> Spot:
        """The tablet of an address, from the cache if it stands there."""
        return self.known(address) or await self.look(address)

    async def look(self, address: bytes) -> Spot:
        """The tablet that holds the address now; Unavailable while its range is just being moved."""
        self.walks += 1
        at = bisect_right(self._spots, address, key=lambda spot: spot.low) - 1
        for walk in range(_WALKS):
            start = self._spots[at].tablet if 0 <= at < len(self._spots) and walk < 2 else self._first
            found = await self._walk(start, address)
            if found is not None:
                return found
            at -= 1
        raise Unavailable("the tablet of the key is just being moved")

    async def all(self) -> list[Spot]:
        """Every tablet there is, by looking."""
        spots: list[Spot] = []
        address = b""
        while True:
            spot = await self.look(address)
            spots.append(spot)
            if not spot.high:
                return spots
            address = spot.high

    async def _walk(self, tablet: TabletId, address: bytes) -> Spot | None:
        """From a tablet to the right; None when the way ends."""
        before: TabletState | None = None
        while tablet:
            try:
                state = await self._settled(before, tablet)
            except UnknownTablet:
                return None
            if state.phase is TabletPhase.CLOSED:
                self.closed.add(tablet)
            if state.phase is not TabletPhase.OPEN or address < state.low:
                return None
            spot = Spot(state.low, state.high, tablet)
            self._learn(spot)
            if spot.holds(address):
                return spot
            before, tablet = state, state.child
        return None

    async def _settled(self, before: TabletState | None, tablet: TabletId) -> TabletState:
        """How it stands; opened if that is all that is left to do."""
        state = await self._storage.state(tablet)
        to = opened(before, state) if before is not None else None
        if to is None or await self._storage.reshape(tablet, state, to) is Committed.COMMITTED:
            return to or state
        return await self._storage.state(tablet)

    def forget(self, tablet: TabletId) -> None:
        """There is no such tablet any more."""
        self.closed.discard(tablet)
        self._spots = [spot for spot in self._spots if spot.tablet != tablet]

    def _learn(self, spot: Spot) -> None:
        self.closed.discard(spot.tablet)
        kept = [
            one
            for one in self._spots
            if one.tablet != spot.tablet
            and ((one.high and one.high <= spot.low) or (spot.high and one.low >= spot.high))
        ]
        kept.append(spot)
        kept.sort()
        self._spots = kept

# SPDX-License-Identifier: Apache-2.0
"""Which member owns a tablet: a consistent-hash ring, a pure function of the members' names.

Invariants
  R1  The owner depends on the set of members alone: not on their order, nor on who asks.
  R2  A member that joins takes tablets over from others and moves none between them; one that leaves hands over its own only.
  R3  With POINTS points each, a member's share of the hash space lies between SHARE_LEAST and SHARE_MOST of the even one
      (seen over many sets of 2 to 64 members; the spread of a share is about 1/sqrt(POINTS), 8 %).
Ownership is for speed; correctness is the conditional commit. After Karger et al. 1997, with Dynamo's virtual nodes.
"""

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

POINTS = 150
"""Virtual nodes of a member."""
SHARE_LEAST, SHARE_MOST = 0.65, 1.4
SPACE = 1 << 64


class Ring:
    """Who owns what, for one set of members."""

    def __init__(self, members: Iterable[str], *, points: int = POINTS) -> None:
        self.members = tuple(sorted(set(members)))
        placed = sorted((_hash(b"%s#%d" % (name.encode(), i)), name) for name in self.members for i in range(points))
        self._places = [place for place, _ in placed]
        self._names = [name for _, name in placed]

    def owner(self, tablet: bytes) -> str | None:
        """The member whose point comes next after the tablet's; None when there are no members."""
        if not self._names:
            return None
        return self._names[bisect_left(self._places, _hash(tablet)) % len(self._names)]

    def shares(self) -> dict[str, float]:
        """Each member's part of the hash space; they sum to 1."""
        parts = dict.fromkeys(self.members, 0)
        for index, name in enumerate(self._names):
            before = self._places[index - 1] if index else self._places[-1] - SPACE
            parts[name] += self._places[index] - before
        return {name: part / SPACE for name, part in parts.items()}


def _hash(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")

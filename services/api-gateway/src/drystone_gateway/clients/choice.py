# SPDX-License-Identifier: Apache-2.0
"""Which of several equal processes is asked: few of them as long as they have room, so that calls travel together.

Invariants
  C1  Each gateway has an order of its own over the processes (rendezvous hashing), which the coming and going of others does
      not change. It asks the first that has fewer than `full` of its calls under way.
  C2  Who failed lately is asked last, whatever else speaks for it.
A bulk call costs each side about the same for one item as for thirty: spreading thinly costs the most.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from drystone_core.ports import Clock


@dataclass(slots=True, eq=False)
class Peer:
    """A process as a gateway sees it."""

    name: str
    near: bool = False
    """On this host or in this zone."""
    avoid_until: float = float("-inf")
    """It failed a call lately (monotonic)."""
    under_way: int = 0
    """Calls of this gateway, now."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One call."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


P = TypeVar("P", bound=Peer)


class Choice:
    """The order of one gateway."""

    def __init__(self, *, seed: bytes, clock: Clock, tries: int, full: int = 32, avoid: float = 2.0) -> None:
        """`seed`: random, of this gateway. `tries`: at most so many are named. `avoid`: seconds after a failure."""
        self._seed, self._clock = seed, clock
        self._tries, self._full, self._avoid = tries, full, avoid
        self._ranks: dict[str, bytes] = {}
        self._turn = 0

    def gathered(self, peers: Iterable[P], *, first: str | None = None, near: bool = False) -> list[P]:
        """`first`, near ones (when `near`), then by this gateway's order, those that are full later."""
        now, full = self._clock.monotonic(), self._full
        return sorted(
            peers,
            key=lambda one: (
                one.avoid_until > now,
                one.name != first,
                near and not one.near,
                one.under_way // full,
                self._rank(one.name),
            ),
        )[: self._tries]

    def in_turn(self, peers: Iterable[P], *, near: bool = False) -> list[P]:
        """One after the other, near ones first when `near`: for what is large enough to travel alone."""
        now, found = self._clock.monotonic(), list(peers)
        if not found:
            return found
        self._turn = (self._turn + 1) % len(found)
        turned = found[self._turn :] + found[: self._turn]
        turned.sort(key=lambda one: (one.avoid_until > now, near and not one.near))
        return turned[: self._tries]

    def failed(self, peer: Peer) -> None:
        """It is asked last for a while."""
        peer.avoid_until = self._clock.monotonic() + self._avoid

    def _rank(self, name: str) -> bytes:
        rank = self._ranks.get(name)
        if rank is None:
            rank = self._ranks[name] = blake2b(name.encode(), key=self._seed, digest_size=8).digest()
        return rank

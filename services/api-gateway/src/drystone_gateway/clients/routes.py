# SPDX-License-Identifier: Apache-2.0
"""Which tablet decides about a key, as far as metadata processes have said so.

A process that is asked for a key of another's tablet names the tablet and the keys of the bucket that it holds
(drystone_metadata.owned). What is not known is asked of the first tablet's owner, which knows.

Invariants
  R1  What stands here is a guess: who decides refuses what is not its own, and then it is corrected.
  R2  Ranges of a bucket do not overlap: what is learnt replaces whatever stood there.
"""

from collections.abc import Mapping
from typing import NamedTuple

from drystone_core.mutations import CreateBucket, DeleteBucket, Mutation

FIRST_TABLET = b"cell"
"""The tablet that decides about buckets (drystone_metadata.store.ports.CELL_TABLET)."""


class _Range(NamedTuple):
    low: bytes
    high: bytes
    """Empty = no end."""
    tablet: bytes

    def holds(self, key: bytes) -> bool:
        return self.low <= key and (not self.high or key < self.high)


class Routes:
    """Bounded; forgets all at once when it is full."""

    def __init__(self, *, buckets: int = 4096, ranges: int = 4096) -> None:
        self._most_buckets, self._most_ranges = buckets, ranges
        self._ranges: dict[str, list[_Range]] = {}

    def tablet(self, mutation: Mutation) -> bytes:
        """Where to send it."""
        if isinstance(mutation, CreateBucket | DeleteBucket):
            return FIRST_TABLET
        for one in self._ranges.get(mutation.bucket, ()):
            if one.holds(mutation.key):
                return one.tablet
        return FIRST_TABLET

    def learn(self, mutation: Mutation, details: Mapping[str, str]) -> bool:
        """From the details of a refusal; whether it should now be sent elsewhere."""
        before = self.tablet(mutation)
        try:
            tablet = bytes.fromhex(details.get("tablet", ""))
            low, high = bytes.fromhex(details.get("low", "")), bytes.fromhex(details.get("high", ""))
        except ValueError:
            return False
        if not tablet or isinstance(mutation, CreateBucket | DeleteBucket):
            return False
        if len(self._ranges) >= self._most_buckets:
            self._ranges.clear()
        known = self._ranges.get(mutation.bucket, [])
        kept = [one for one in known if (one.high and one.high <= low) or (high and one.low >= high)]
        if len(kept) >= self._most_ranges:
            kept = []
        self._ranges[mutation.bucket] = [*kept, _Range(low, high, tablet)]
        return self.tablet(mutation) != before

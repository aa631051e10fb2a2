# SPDX-License-Identifier: Apache-2.0
"""When tablets are split and joined (R8): how large one is, and where its middle lies.

A tablet is counted row by row, in pieces, soon after it was taken over and then whenever as much was changed as could make the
answer another one. What goes by rows and bytes goes by what was counted, not by what was written since.

Invariants
  Z1  A split leaves at least a quarter of the rows on each side, or is not made: one key's rows are never parted.
  Z2  Two neighbours are joined only when both together are far from being split again.
"""

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import RowKey
from drystone_metadata.tablets.running import RunningTablet
from drystone_metadata.tablets.splitting import KINDS

_SAMPLES = 2048


class Size(NamedTuple):
    """What a tablet holds."""

    rows: int
    size: int
    """Bytes."""
    middle: bytes
    """Where a split would cut it; empty = nowhere (Z1)."""

    def large(self, settings: MetadataSettings) -> bool:
        """Whether it should be split."""
        return bool(self.middle) and (self.rows > settings.split_rows or self.size > settings.split_bytes)

    def small_with(self, other: "Size", settings: MetadataSettings) -> bool:
        """Z2."""
        most_rows, most_bytes = settings.split_rows // 4, settings.split_bytes // 4
        return self.rows + other.rows <= most_rows and self.size + other.size <= most_bytes


class Sizing:
    """Counts one tablet, piece by piece: keep taking `steps()` to their end, then look at `size`."""

    def __init__(self, running: RunningTablet, settings: MetadataSettings) -> None:
        self._running = running
        self._settings = settings
        self._counted_at = -1
        self.size: Size | None = None
        """As last counted."""

    @property
    def due(self) -> bool:
        """Whether so much was changed since that it should be counted again."""
        changed = self._running.committer.mutations - self._counted_at
        return self.size is None or changed > self._settings.split_rows // 16

    async def steps(self) -> AsyncIterator[None]:
        """One count; yields after each bounded piece."""
        at = self._running.committer.mutations
        rows = size = 0
        stride = max(1, self._settings.split_rows // _SAMPLES)
        seen: Counter[bytes] = Counter()
        for kind in KINDS:
            start = RowKey(kind, b"")
            while True:
                page = await self._running.rows.scan(
                    self._running.tablet, start, RowKey(kind + 1, b""), self._settings.sweep_rows
                )
                for row, value in page:
                    rows += 1
                    size += len(row.key) + len(row.seq) + len(value)
                    if rows % stride == 0:
                        seen[row.key] += 1
                if len(page) < self._settings.sweep_rows:
                    break
                last = page[-1][0]
                start = RowKey(kind, last.key, last.seq + b"\0")
                yield
        self._counted_at = at
        self.size = Size(rows, size, middle_of(seen))


def middle_of(seen: "Counter[bytes]") -> bytes:
    """The address with about half of what was seen below it; empty when none has a quarter on each side."""
    total, below = sum(seen.values()), 0
    best, distance = b"", total
    for address in sorted(seen):
        if min(below, total - below) * 4 >= total and abs(total - 2 * below) < distance:
            best, distance = address, abs(total - 2 * below)
        below += seen[address]
    return best

# SPDX-License-Identifier: Apache-2.0
"""Finding rows nobody can reach (logic/housekeeping.py) and having them removed in ordinary, bounded commits.

A pass looks at one row per bucket and kind to find dead buckets, and at every NAMED row of live ones, in pages; it can be
stopped anywhere and holds nothing but its place.

Invariants
  S1  At most `sweep_rows` rows are read or removed between two pauses, and at most `_AT_ONCE` removed by one commit.
  S2  What is found here is only suspected: the decision judges again at its own head (housekeeping H3).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from drystone_core.formats.row_keys import BUCKET_NAME, NAMED
from drystone_core.ids import make_write_id
from drystone_core.mutations import Outcome
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.housekeeping import OF_BUCKETS, SweepRows, reads_for, unreachable
from drystone_metadata.logic.view import NeedRows, View
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import RowKey, RowReader, TabletId
from drystone_metadata.store.reading import fetch

_AT_ONCE = 64


class Sweeper:
    """`steps()` yields after each bounded piece of a pass: pause there."""

    def __init__(
        self,
        *,
        rows: RowReader,
        tablet: TabletId,
        mutate: Callable[[SweepRows], Awaitable[Outcome]],
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        self._rows = rows
        self._tablet = tablet
        self._mutate = mutate
        self._clock = clock
        self._entropy = entropy
        self._limit = settings.sweep_rows
        self.removed = 0
        """Rows handed over for removal since the start."""

    async def steps(self) -> AsyncIterator[None]:
        """One pass over everything."""
        for kind in OF_BUCKETS:
            bucket8 = b""
            while (row := await self._first(kind, bucket8)) is not None:
                bucket8 = row.key[:8]
                (name,) = await self._rows.read(self._tablet, [RowKey(BUCKET_NAME, bucket8)])
                if name is None:
                    async for _ in self._all_of(kind, bucket8, dead=True):
                        yield
                elif kind == NAMED:
                    async for _ in self._all_of(kind, bucket8, dead=False):
                        yield
                bucket8 = (int.from_bytes(bucket8, "big") + 1).to_bytes(8, "big")
                yield

    async def _first(self, kind: int, bucket8: bytes) -> RowKey | None:
        rows = await self._rows.scan(self._tablet, RowKey(kind, bucket8), RowKey(kind + 1, b""), 1)
        return rows[0][0] if rows else None

    async def _all_of(self, kind: int, bucket8: bytes, *, dead: bool) -> AsyncIterator[None]:
        """All rows of a kind in a bucket, page by page."""
        start = RowKey(kind, bucket8)
        end = RowKey(kind, (int.from_bytes(bucket8, "big") + 1).to_bytes(8, "big"))
        while True:
            page = await self._rows.scan(self._tablet, start, end, self._limit)
            rows = [row for row, _ in page]
            await self._remove(rows if dead else await self._suspects(page))
            if len(page) < self._limit:
                return
            start = RowKey(kind, rows[-1].key, rows[-1].seq + b"\0")
            yield

    async def _suspects(self, page: Sequence[tuple[RowKey, bytes]]) -> list[RowKey]:
        """NAMED rows that seem to lead nowhere."""
        view = View({}, rows=dict(page))
        wanted = [key for row, _ in page for key in reads_for(row) if key not in view.rows]
        if wanted:
            keys = list(dict.fromkeys(wanted))
            view.rows.update(zip(keys, await self._rows.read(self._tablet, keys), strict=True))
        found = []
        for row, _ in page:
            while True:
                try:
                    if unreachable(view, row):
                        found.append(row)
                    break
                except NeedRows as asked:
                    need = asked
                await fetch(self._rows, self._tablet, view, need)
        return found

    async def _remove(self, rows: Sequence[RowKey]) -> None:
        for at in range(0, len(rows), _AT_ONCE):
            some = tuple(rows[at : at + _AT_ONCE])
            write_id = make_write_id(self._clock.wall_us(), self._entropy.token(16))
            await self._mutate(SweepRows(write_id=write_id, rows=some))
            self.removed += len(some)

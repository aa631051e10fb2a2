# SPDX-License-Identifier: Apache-2.0
"""Reading a tablet for those above it: what a view asks for, and runs of rows that can be sought in.

Invariants
  G1  A run yields each row of its range once, in order; after `seek(key)` none below `key`.
  G2  Chunks begin small and grow while they are used up, so that a seek wastes little and a long run costs few scans.
"""

from drystone_metadata.logic.view import NeedRows, View
from drystone_metadata.store.ports import RowKey, RowReader, TabletId
from drystone_metadata.store.ranges import within

Row = tuple[RowKey, bytes]


async def fetch(storage: RowReader, tablet: TabletId, view: View, need: NeedRows) -> None:
    """Give the view the rows it asked for."""
    if need.rows:
        found = await storage.read(tablet, need.rows)
        view.learn_rows(dict(zip(need.rows, found, strict=True)))
    if need.span is not None:
        start, end = within(view.state, *need.span.bounds)
        view.learn_span(need.span, await storage.scan(tablet, start, end, need.limit), need.limit)


def successor(text: bytes) -> bytes | None:
    """The least bytes above everything that begins with `text`; None when there is none."""
    stripped = text.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None


class RowRun:
    """Rows of a range in order, read in chunks."""

    __slots__ = ("_at", "_chunk", "_done", "_end", "_most", "_rows", "_start", "_storage", "_tablet")

    def __init__(
        self, storage: RowReader, tablet: TabletId, start: RowKey, end: RowKey, *, first: int, most: int
    ) -> None:
        self._storage = storage
        self._tablet = tablet
        self._start = start
        self._end = end
        self._chunk = min(first, most)
        self._most = most
        self._rows: list[Row] = []
        self._at = 0
        self._done = False

    async def peek(self) -> Row | None:
        """The next row, None at the end."""
        if self._at < len(self._rows):
            return self._rows[self._at]
        if self._done or self._start >= self._end:
            return None
        chunk = self._chunk
        self._rows = await self._storage.scan(self._tablet, self._start, self._end, chunk)
        self._at = 0
        self._done = len(self._rows) < chunk
        self._chunk = min(4 * chunk, self._most)
        if not self._rows:
            return None
        kind, key, seq = self._rows[-1][0]
        self._start = RowKey(kind, key, seq + b"\0")
        return self._rows[0]

    def advance(self) -> None:
        """Past the row that peek() gave."""
        self._at += 1

    def seek(self, key: RowKey) -> None:
        """Skip rows below `key`."""
        rows, at = self._rows, self._at
        while at < len(rows) and rows[at][0] < key:
            at += 1
        self._at = at
        if at == len(rows) and key > self._start:
            self._start = key
            self._chunk = 1  # most likely the next row's only use is to be sought past as well

# SPDX-License-Identifier: Apache-2.0
"""Copying rows of one tablet into another that does not serve them yet.

Invariants
  J1  Fills go in one after another, each at the head the one before left: one that comes late changes nothing.
  J2  A fill of unknown outcome is settled, or sent again under the same id, before the next.
"""

from collections.abc import Sequence
from dataclasses import replace

from drystone_core.errors import Stale, Unavailable
from drystone_core.ports import Entropy
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import Committed, FeedRow, Fill, RowKey, TabletId, TabletState, TabletStorage

_ATTEMPTS = 4
Row = tuple[RowKey, bytes]


class Filler:
    """Fills one tablet, from the state it has as its owner left it."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        state: TabletState,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        self._storage = storage
        self._tablet = tablet
        self._entropy = entropy
        self._settings = settings
        self.state = state
        """The tablet as the last fill left it."""

    async def rows(self, puts: Sequence[Row], deletes: Sequence[RowKey] = ()) -> None:
        """Put and delete rows."""
        most = self._settings.fill_rows
        for at in range(0, len(deletes), most):
            await self._send(deletes=deletes[at : at + most])
        part: list[Row] = []
        size = 0
        for row in puts:
            part.append(row)
            size += len(row[0].key) + len(row[1])
            if len(part) >= most or size >= self._settings.fill_bytes:
                await self._send(puts=part)
                part, size = [], 0
        if part:
            await self._send(puts=part)

    async def feed(self, records: Sequence[FeedRow]) -> None:
        """Put records of the feed."""
        part: list[FeedRow] = []
        size = 0
        for record in records:
            part.append(record)
            size += len(record.record)
            if len(part) >= self._settings.fill_rows or size >= self._settings.fill_bytes:
                await self._send(feed=part)
                part, size = [], 0
        if part:
            await self._send(feed=part)

    async def _send(
        self, *, puts: Sequence[Row] = (), deletes: Sequence[RowKey] = (), feed: Sequence[FeedRow] = ()
    ) -> None:
        """One fill, surely; Stale when the tablet is not ours to fill any more."""
        fill = Fill(batch_id=self._entropy.token(16), puts=puts, deletes=deletes, feed=feed)
        after = replace(self.state, head=self.state.head + 1, batch_id=fill.batch_id)
        for _ in range(_ATTEMPTS):
            result = await self._storage.fill(self._tablet, self.state, fill)
            if result is Committed.UNKNOWN and await self._storage.state(self._tablet) == self.state:
                continue
            if result is Committed.STALE and await self._storage.state(self._tablet) == self.state:
                continue
            if result is Committed.COMMITTED or await self._storage.state(self._tablet) == after:
                self.state = after
                return
            raise Stale("the tablet that is being filled is not as it was left")
        raise Unavailable("a tablet cannot be filled now")

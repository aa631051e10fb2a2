# SPDX-License-Identifier: Apache-2.0
"""The change feed's bound in bytes and days, and reading it from a cursor.

The feed is accounted for in segments of consecutive sequences; whole segments go, oldest first, by one range delete.

Invariants
  F1  Nothing is trimmed that the memory of write ids may still ask for (WriteMemory W4): the feed is as long as its
      bounds allow or as those 15 minutes need, whichever is more.
  F2  Commits wait for no more than the one record that notes a trim; the rows go with the storage's background writes.
  F3  A cursor is followed only when nothing after it was trimmed and its record is still the one it names; otherwise
      the consumer is told to resync (Stale).
Sizes of what was there at the start are estimated from samples; what is committed since is counted.
"""

from collections import deque
from typing import NamedTuple

from drystone_core.errors import Stale
from drystone_core.formats.feed import record_time_ms
from drystone_metadata.committer import Committer
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import FeedRow, TabletId, TabletStorage

ROW_OVERHEAD = 40
"""Bytes a record costs beside its own, about."""
_SPANS = 128
_SAMPLE = 16
_TRIM_MOST = 16 << 20


class FeedCursor(NamedTuple):
    """The last record a consumer has done with. A restored store may repeat sequences, hence the batch id."""

    sequence: int = 0
    batch_id: bytes = b""


class _Segment(NamedTuple):
    last: int
    """Its last sequence."""
    size: int
    """Bytes."""
    ended_us: int
    """Cell time of its last record."""


async def read_feed(storage: TabletStorage, tablet: TabletId, cursor: FeedCursor, limit: int) -> list[FeedRow]:
    """Records after the cursor, in order; Stale when the consumer must resync by a scan (F3)."""
    state = await storage.state(tablet)
    sequence = cursor.sequence
    if sequence == state.head and (not sequence or cursor.batch_id == state.batch_id):
        return []
    if sequence >= state.head:
        raise Stale("the feed does not go so far: resync by a scan", head=str(state.head))
    rows = await storage.feed(tablet, max(0, sequence - 1), limit + 1)
    if sequence:
        if not rows or rows[0].seq != sequence or rows[0].batch_id != cursor.batch_id:
            raise Stale("the feed does not reach back so far: resync by a scan", head=str(state.head))
        return rows[1:]
    if not rows or rows[0].seq != 1:
        raise Stale("the feed does not reach back so far: resync by a scan", head=str(state.head))
    return rows[:limit]


class FeedRetention:
    """Keeps the feed within its bounds. `measure()` once, then `note()` often and `step()` every few seconds."""

    def __init__(
        self, *, storage: TabletStorage, tablet: TabletId, committer: Committer, settings: MetadataSettings
    ) -> None:
        self._storage = storage
        self._tablet = tablet
        self._committer = committer
        self._settings = settings
        self._segments: deque[_Segment] = deque()
        self._seen_bytes = 0
        self._seen_head = 0
        self.trimmed = 0
        """Sequences up to here are gone."""

    @property
    def size(self) -> int:
        """Bytes of the feed, about."""
        return sum(segment.size for segment in self._segments)

    async def measure(self) -> None:
        """Estimate what is there."""
        state = self._committer.state
        self._seen_bytes, self._seen_head = self._committer.feed_bytes, state.head
        self._segments.clear()
        first = await self._storage.feed(self._tablet, 0, 1)
        if not first or first[0].seq > state.head:
            return
        self.trimmed = after = first[0].seq - 1
        span = max(_SAMPLE, -(-(state.head - after) // _SPANS))
        while after < state.head:
            last = min(after + span, state.head)
            rows = await self._storage.feed(self._tablet, after, min(_SAMPLE, last - after))
            ended = await self._storage.feed(self._tablet, last - 1, 1)
            if not rows or not ended:
                return
            mean = sum(len(row.record) + ROW_OVERHEAD for row in rows) // len(rows)
            self._segments.append(_Segment(last, mean * (last - after), record_time_ms(ended[0].record) * 1000))
            after = last

    async def step(self) -> bool:
        """Trim what is beyond the bounds, at most `_TRIM_MOST` bytes of it.

        True when something was trimmed: there may be more.
        """
        settings, now_us = self._settings, self._committer.cell_us()
        if not self._committer.loaded:
            return False
        needed = self._committer.writes.oldest or self._committer.state.head + 1
        oldest_us, over = now_us - int(settings.feed_age * 1e6), self.size - settings.feed_bytes
        count = going = 0
        for segment in self._segments:
            if segment.last >= needed or not (segment.ended_us < oldest_us or over > going) or going > _TRIM_MOST:
                break
            going += segment.size
            count += 1
        if not count:
            return False
        last = self._segments[count - 1].last
        await self._storage.trim_feed(self._tablet, last + 1)
        for _ in range(count):
            self._segments.popleft()
        self.trimmed = last
        return True

    def note(self) -> None:
        """What was committed since the last segment becomes one when it is due, by size or by time."""
        head, settings, now_us = self._committer.state.head, self._settings, self._committer.cell_us()
        count = head - self._seen_head
        size = self._committer.feed_bytes - self._seen_bytes + ROW_OVERHEAD * count
        opened_us = self._segments[-1].ended_us if self._segments else 0
        if count > 0 and (size >= settings.feed_bytes // 64 or now_us - opened_us >= int(settings.feed_age * 1e6 / 64)):
            self._segments.append(_Segment(head, size, now_us))
            self._seen_bytes, self._seen_head = self._committer.feed_bytes, head

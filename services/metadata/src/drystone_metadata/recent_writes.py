# SPDX-License-Identifier: Apache-2.0
"""Learning the recent write ids from the feed (R1), at a take-over."""

import logging

from drystone_core.errors import Damaged
from drystone_core.formats.feed import write_identities
from drystone_core.ports import Clock
from drystone_metadata.memory_of_writes import WriteMemory
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import TabletId, TabletStorage

log = logging.getLogger(__name__)


async def remember(
    storage: TabletStorage,
    tablet: TabletId,
    head: int,
    writes: WriteMemory,
    *,
    clock: Clock,
    settings: MetadataSettings,
) -> None:
    """Learn the write ids of the feed's last `window` seconds, newest first.

    How old a record is follows from the steps between the records' times, each counted as no more than a minute: a
    wall clock that leapt costs a minute of the window, and a quiet hour the reading of a few old records.
    """
    page, mono, window_ms = settings.feed_page, clock.monotonic(), settings.window * 1000
    until, count, age_ms = head, 0, 0
    later_ms: int | None = None
    while until > 0 and age_ms < window_ms and count < settings.remembered:
        after = max(0, until - page)
        rows = await storage.feed(tablet, after, until - after)
        if not rows or rows[0].seq > until:
            break
        for row in reversed(rows):
            try:
                time_ms, identities = write_identities(row.record)
            except Damaged:
                log.error("metadata.feed_record_damaged", extra={"sequence": row.seq})
                continue
            age_ms += min(max(0, (later_ms or time_ms) - time_ms), 60_000)
            if age_ms >= window_ms:
                break
            later_ms = time_ms
            writes.load(mono, row.seq, identities)
            count += len(identities)
        until = after

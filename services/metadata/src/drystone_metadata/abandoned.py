# SPDX-License-Identifier: Apache-2.0
"""Finding internal uploads whose writer is gone, and having them ended (logic/expiry.py).

The writers are gateways, in this process or in others; when one dies in the middle of a long PUT nobody else knows of the
upload that names its blobs. Living ones renew theirs every few minutes (`renew_seconds` of the gateway), so one that
stands unchanged for `upload_silence` under our eyes has no writer. Nothing else is trusted: neither the times in the rows
(wall clocks, of whichever process committed them) nor an owner's epoch (gateways outlive owners of the tablet).

Invariants
  A1  Silence is counted by the monotonic clock in steps between two looks, each counted as `_STEP` intervals at most: an
      owner that was stopped for hours does not end at once what could not be renewed meanwhile.
  A2  Every start begins to count anew. A wrong count only ever keeps an upload longer.
  A3  At most `_WATCHED` uploads are watched at once (the first by address; others when those are gone), and at most
      `sweep_rows` rows or `_AT_ONCE` internal uploads are looked at between two pauses.
  A4  What is found here is only suspected: a change committed before the decision keeps the upload (expiry X1).
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from drystone_core.errors import Damaged
from drystone_core.formats.row_keys import UPLOAD
from drystone_core.formats.row_parts import decode_upload
from drystone_core.ids import make_write_id
from drystone_core.mutations import Outcome
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.expiry import ExpireUpload, parts_span, upload_mark
from drystone_metadata.logic.registered import MOST_PARTS
from drystone_metadata.logic.view import View
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import RowKey, RowReader, TabletId

log = logging.getLogger(__name__)
_AT_ONCE = 16
_STEP = 2
_WATCHED = 10_000


class _Seen(NamedTuple):
    """An internal upload at the last look."""

    mark: bytes
    quiet: float
    """Seconds it stood unchanged (A1)."""
    at: float
    """Monotonic time of the look."""


class AbandonedUploads:
    """`steps()` yields after each bounded piece of a look at all of them: pause there."""

    def __init__(
        self,
        *,
        rows: RowReader,
        tablet: TabletId,
        mutate: Callable[[ExpireUpload], Awaitable[Outcome]],
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        self._rows = rows
        self._tablet = tablet
        self._mutate = mutate
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._seen: dict[RowKey, _Seen] = {}
        self.ended = 0
        """Uploads handed over to be ended since the start."""

    @property
    def watched(self) -> int:
        """Internal uploads there were at the last look."""
        return len(self._seen)

    async def steps(self) -> AsyncIterator[None]:
        """One look at every internal upload."""
        limit = self._settings.sweep_rows
        start, end = RowKey(UPLOAD, b""), RowKey(UPLOAD + 1, b"")
        seen: dict[RowKey, _Seen] = {}
        looks = 0
        while True:
            page = await self._rows.scan(self._tablet, start, end, limit)
            for row, value in page:
                if not _internal(row, value) or len(seen) >= _WATCHED:
                    continue
                now = await self._look(row, value)
                if now is not None:
                    seen[row] = now
                looks += 1
                if looks % _AT_ONCE == 0:
                    yield
            if len(page) < limit:
                break
            start = RowKey(UPLOAD, page[-1][0].key, page[-1][0].seq + b"\0")
            yield
        self._seen = seen

    async def _look(self, row: RowKey, value: bytes) -> _Seen | None:
        """How it stands; None when it was ended."""
        view = View({})
        span = parts_span(row)
        view.learn_span(span, await self._rows.scan(self._tablet, *span.bounds, MOST_PARTS), MOST_PARTS)
        mark, now = upload_mark(view, row, value), self._clock.monotonic()
        before = self._seen.get(row)
        if before is None or before.mark != mark:
            return _Seen(mark, 0.0, now)
        settings = self._settings
        quiet = before.quiet + min(now - before.at, _STEP * settings.upload_looks)
        if quiet < settings.upload_silence:
            return _Seen(mark, quiet, now)
        write_id = make_write_id(self._clock.wall_us(), self._entropy.token(16))
        await self._mutate(ExpireUpload(write_id=write_id, row=row, mark=mark))
        self.ended += 1
        log.info("metadata.upload_abandoned", extra={"bucket_id": row.key[:8].hex(), "upload": row.seq.hex()})
        return None


def _internal(row: RowKey, value: bytes) -> bool:
    """Whether it is a long PUT's; a damaged row is left to those who repair."""
    try:
        return decode_upload(row.key, row.seq, value).internal
    except Damaged:
        return False

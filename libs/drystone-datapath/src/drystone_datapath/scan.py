# SPDX-License-Identifier: Apache-2.0
"""What a shard file holds, from itself: the chain of record heads, found again after any damage.

Invariants
  N1  Only heads whose keyed checksum verifies for this volume, slot and offset are records (R2).
  N2  Where no head verifies the scan goes on in 4 KiB steps, so one torn record hides none behind it.
Calls on the lane are bounded by `records` and `probes`; the file is read once, front to back.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from drystone_core.errors import Damaged
from drystone_core.extents import RECORD_ALIGN
from drystone_core.formats.blob_table import BlobEntry, decode_table
from drystone_core.formats.record import MAGIC, RecordHead, decode_head, table_digest
from drystone_core.formats.shard import RECORDS_AT
from drystone_core.ports import Clock, DiskFile, Lanes
from drystone_datapath.volume import Slot, Volume

_FIRST = 8192
"""Read at a record's start: enough for most heads and tables."""
_PROBE = 256 * 1024


class ScannedRecord(NamedTuple):
    """A record whose head verified."""

    head: RecordHead
    entries: list[BlobEntry] | None
    """The blob table; None when it was not asked for, or its digest does not verify (`table_damaged`)."""
    table_damaged: bool


class ScanStep(NamedTuple):
    """What one bounded call found."""

    records: list[ScannedRecord]
    next_at: int
    """Where to go on; >= the file's size at its end."""
    size: int
    probed: int
    """4 KiB steps in which no head verified."""


async def scan_slot(
    volume: Volume,
    slot: Slot,
    *,
    lanes: Lanes,
    clock: Clock,
    start: int = RECORDS_AT,
    tables: bool = True,
    records: int = 256,
    deadline: float = 30.0,
) -> AsyncIterator[ScanStep]:
    """The records of one slot from `start` on, in steps; resumable at any `next_at`. Raises OSError, TimeoutError."""
    at = start
    while True:
        call = partial(scan_some, slot.file, volume, slot.index, at, tables, records)
        step = await lanes.run(slot.unit.lane, call, deadline=clock.monotonic() + deadline)
        yield step
        at = step.next_at
        if at >= step.size:
            return


def scan_some(
    file: DiskFile, volume: Volume, slot: int, at: int, tables: bool, records: int = 256, probes: int = 16384
) -> ScanStep:
    """On the lane: up to `records` records, or `probes` steps without one."""
    size = file.size()
    found: list[ScannedRecord] = []
    probed = 0
    buffer = memoryview(bytearray(_FIRST))
    while at < size and len(found) < records and probed < probes:
        got = file.preadv((buffer,), at)
        head = decode_head(buffer[:got], nonce=volume.nonce, volume=volume.volume_id, slot=slot, offset=at)
        if head is None:
            step = probe_forward(file, at + RECORD_ALIGN, min(size, at + RECORD_ALIGN * (probes - probed)))
            probed += (step - at) // RECORD_ALIGN
            at = step
            continue
        found.append(_with_table(file, volume, head, buffer[:got]) if tables else ScannedRecord(head, None, False))
        at += head.span
    return ScanStep(found, at, size, probed)


def probe_forward(file: DiskFile, at: int, end: int) -> int:
    """The next 4 KiB boundary in [at, end) that begins like a record, or `end`; only its head's checksum decides."""
    window = memoryview(bytearray(_PROBE))
    while at < end:
        got = file.preadv((window[: min(_PROBE, end - at)],), at)
        if not got:
            return end
        for low in range(0, got, RECORD_ALIGN):
            if window[low : low + len(MAGIC)] == MAGIC:
                return at + low
        at += (got + RECORD_ALIGN - 1) & -RECORD_ALIGN
    return end


def read_table(file: DiskFile, volume: Volume, head: RecordHead, known: memoryview | None = None) -> bytes | None:
    """The verified table bytes of a record, None when they do not verify."""
    low, high = head.table_at, head.table_at + head.table_length
    if known is not None and high <= len(known):
        raw = bytes(known[low:high])
    else:
        space = bytearray(head.table_length)
        file.preadv((memoryview(space),), head.offset + low)
        raw = bytes(space)
    return raw if table_digest(raw, volume.nonce) == head.table_digest else None


def _with_table(file: DiskFile, volume: Volume, head: RecordHead, known: memoryview) -> ScannedRecord:
    raw = read_table(file, volume, head, known)
    if raw is None:
        return ScannedRecord(head, None, True)
    try:
        return ScannedRecord(head, decode_table(raw, head.entries), False)
    except Damaged:
        return ScannedRecord(head, None, True)

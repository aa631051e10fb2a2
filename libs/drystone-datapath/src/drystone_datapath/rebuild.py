# SPDX-License-Identifier: Apache-2.0
"""A lost slot again: one sequential pass over k others into a new file, and the proof that it is right.

Invariants
  Q1  Every stripe with >= k valid fragments is rebuilt; one with fewer is reported, never invented (data-plane: close).
  Q2  Freed stripes get their head and table back and stay holes (R8).
  Q3  Memory is one column: at most codec.SLICE data bytes and as much again, whatever the volume's size.
  Q4  The new file is written under a temporary name, synced, read back and verified before it gets its own.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from drystone_core.check import check
from drystone_core.crc import block_crcs
from drystone_core.errors import Damaged, Unavailable
from drystone_core.extents import BLOB_ALIGN, BLOCK
from drystone_core.formats.close_flag import CloseFlag, encode_close_flag
from drystone_core.formats.record import HeadEncoder, RecordHead
from drystone_core.formats.shard import RECORDS_AT, ShardHeader, encode_shard_header, shard_name
from drystone_core.ports import Buffer, Clock, Disk, DiskFile, Lanes
from drystone_core.stripes import Geometry, align
from drystone_datapath.codec import SLICE
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.fragments import Fragments, StripeAt, read_verified
from drystone_datapath.scan import read_table, scan_some
from drystone_datapath.verify import verify_opening
from drystone_datapath.volume import DiskState, DiskUnit, Slot, Volume, VolumeState

T = TypeVar("T")
_SYNC_EVERY = 64 << 20
_STRIPES_A_STEP = 64


@dataclass(slots=True)
class RebuildProgress:
    """How far a rebuild is; the same object is yielded again and again."""

    end: int
    """Bytes of the largest survivor: what `at` runs to."""
    at: int = RECORDS_AT
    stripes: int = 0
    bytes_written: int = 0
    incomplete: list[int] = field(default_factory=list)
    """Records with fewer than k valid fragments."""
    verified: bool = False
    """The new file was read back and stands under its own name."""


def temporary_name(shard: str, by: str = "") -> str:
    """Where a rebuild writes; swept by the disk's own node when it starts. `by`: a word of whoever rebuilds, so that two
    nodes that rebuild one slot never write one file."""
    return f"{shard}.{by}.new" if by else f"{shard}.new"


class SlotRebuild:
    """Rebuilds slot `missing` of a closed volume onto `unit`. One use."""

    def __init__(
        self, *, volume: Volume, missing: int, unit: DiskUnit, fragments: Fragments, lanes: Lanes, clock: Clock,
        deadline: float = 30.0, by: str = "",
    ) -> None:  # fmt: skip
        check(volume.state is VolumeState.CLOSED, "only a closed volume's slots are rebuilt")
        self._volume, self._missing, self._unit = volume, missing, unit
        self._fragments, self._lanes, self._clock, self._deadline = fragments, lanes, clock, deadline
        self._by = by
        self._file: DiskFile | None = None
        self._unsynced = 0
        step = SLICE // volume.profile.k & -BLOCK
        self._step = step or BLOCK

    async def run(self) -> AsyncIterator[RebuildProgress]:
        """Do it, yielding progress now and then. Raises Damaged when k survivors are not there, OSError of the
        target."""
        volume = self._volume
        cursors = [
            _Cursor(slot) for slot in volume.slots
            if slot is not None and slot.index != self._missing and slot.unit.state is not DiskState.FAILED
        ]  # fmt: skip
        if len(cursors) < volume.profile.k:
            raise Damaged("fewer than k slots to rebuild from")
        name = shard_name(volume.volume_id, self._missing)
        temporary = temporary_name(name, self._by)
        self._file = await self._on_target(partial(_begin, self._unit.disk, temporary, self._opening()))
        progress = RebuildProgress(end=0)
        while await self._refill(cursors, progress):
            await self._next_stripe(cursors, progress)
            if progress.stripes % _STRIPES_A_STEP == 0:
                yield progress
        await self._on_target(self._file.sync)
        await self._verify(progress.stripes)
        await self._on_target(partial(self._unit.disk.rename, temporary, name))
        progress.verified = True
        yield progress

    @property
    def file(self) -> DiskFile:
        """The new shard file, open."""
        check(self._file is not None, "the rebuild has not begun")
        assert self._file is not None
        return self._file

    async def _refill(self, cursors: "list[_Cursor]", progress: RebuildProgress) -> bool:
        """Every cursor holds its next head or has ended; False when all have."""
        while True:
            empty = [cursor for cursor in cursors if not cursor.heads and not cursor.ended]
            if not empty:
                break
            steps = await self._lanes.scatter(
                [
                    (
                        cursor.slot.unit.lane,
                        partial(scan_some, cursor.slot.file, self._volume, cursor.slot.index, cursor.at, False),
                    )
                    for cursor in empty
                ],
                deadline=self._clock.monotonic() + self._deadline,
            )
            for cursor, step in zip(empty, steps, strict=True):
                if isinstance(step, BaseException):
                    cursors.remove(cursor)
                    if len(cursors) < self._volume.profile.k:
                        raise Unavailable("fewer than k slots can be scanned") from step
                    continue
                cursor.heads.extend(record.head for record in step.records)
                cursor.at, cursor.ended = step.next_at, step.next_at >= step.size
                progress.end = max(progress.end, step.size)
        return any(cursor.heads for cursor in cursors)

    async def _next_stripe(self, cursors: "list[_Cursor]", progress: RebuildProgress) -> None:
        offset = min(cursor.heads[0].offset for cursor in cursors if cursor.heads)
        group: dict[tuple[int, bytes], list[tuple[Slot, RecordHead]]] = {}
        for cursor in cursors:
            if cursor.heads and cursor.heads[0].offset == offset:
                head = cursor.heads.popleft()
                group.setdefault((head.sequence, head.table_digest), []).append((cursor.slot, head))
        held = max(group.values(), key=len)
        progress.at = offset
        if len(held) < self._volume.profile.k:
            progress.incomplete.append(offset)
            return
        try:
            progress.bytes_written += await self._rebuild_stripe(held)
            progress.stripes += 1
        except Damaged:
            progress.incomplete.append(offset)

    async def _rebuild_stripe(self, held: list[tuple[Slot, RecordHead]]) -> int:
        head = held[0][1]
        table = await self._table(held)
        at = StripeAt(head.offset, head.payload_at, head.fragment_length)
        stored, crcs = 0, []
        if head.offset not in self._volume.freed:
            for low in range(0, head.fragment_length, self._step):
                high = min(low + self._step, head.fragment_length)
                column = await self._fragments.rebuild(self._volume, at, self._missing, low, high)
                used = len(column.rstrip(b"\0"))
                if used:
                    stored = low + used
                    await self._write([column], head.offset + head.payload_at + low)
                crcs += block_crcs(column)
            stored = min(align(stored, BLOB_ALIGN), head.fragment_length)
            crcs = crcs[: (stored + BLOCK - 1) // BLOCK]
            if stored % BLOCK:
                crcs[-1] = await self._last_sum(head, stored)
        await self._write([self._encode(head, table, stored, crcs), table], head.offset)
        return stored

    async def _last_sum(self, head: RecordHead, stored: int) -> int:
        """CRC of the last block as far as it is stored; read back, it was written a moment ago."""
        low = stored // BLOCK * BLOCK
        space = bytearray(stored - low)
        await self._on_target(partial(self.file.preadv, (memoryview(space),), head.offset + head.payload_at + low))
        return block_crcs(space)[0]

    def _encode(self, head: RecordHead, table: bytes, stored: int, crcs: list[int]) -> bytes:
        volume = self._volume
        blocks = (head.fragment_length + BLOCK - 1) // BLOCK
        encoder = HeadEncoder(
            volume=volume.volume_id, k=volume.profile.k, m=volume.profile.m, nonce=volume.nonce, offset=head.offset,
            sequence=head.sequence, table_length=head.table_length, entries=head.entries, digest=head.table_digest,
            shape=Geometry(head.fragment_length, blocks, head.table_at, head.payload_at, head.span), piece=head.piece,
        )  # fmt: skip
        return encoder.encode(self._missing, stored, crcs)

    async def _table(self, held: list[tuple[Slot, RecordHead]]) -> bytes:
        for slot, head in held:
            try:
                table = await self._lanes.run(
                    slot.unit.lane, partial(read_table, slot.file, self._volume, head), deadline=self._late()
                )
            except OSError:
                continue
            if table is not None:
                return table
        raise Damaged("no blob table of the stripe verifies", record=str(held[0][1].offset))

    async def _write(self, buffers: list[Buffer], offset: int) -> None:
        file = self.file
        await self._on_target(partial(file.pwritev, buffers, offset, durable=False))
        self._unsynced += sum(map(len, buffers))
        if self._unsynced > _SYNC_EVERY:
            self._unsynced = 0
            await self._on_target(file.sync)

    async def _verify(self, written: int) -> None:
        """Read the new file back: its header, every record, every block; and as many records as were written (Q4)."""
        await self._on_target(partial(verify_opening, self.file, self._volume, self._missing))
        at, size, found = RECORDS_AT, RECORDS_AT + 1, 0
        while at < size:
            call = partial(_verify_some, self.file, self._volume, self._missing, at)
            at, size, records = await self._on_target(call)
            found += records
        if found != written:
            raise DamagedFragment(f"{written} stripes were rebuilt, {found} can be read back")

    async def _on_target(self, call: Callable[[], T]) -> T:
        return await self._lanes.run(self._unit.lane, call, deadline=self._late())

    def _late(self) -> float:
        return self._clock.monotonic() + self._deadline

    def _opening(self) -> bytes:
        volume, slot = self._volume, self._missing
        header = ShardHeader(volume=volume.volume_id, slot=slot, profile=volume.profile, nonce=volume.nonce)
        flag = CloseFlag(volume=volume.volume_id, slot=slot, stamp_us=self._clock.wall_us(), end=volume.end)
        return encode_shard_header(header) + encode_close_flag(flag, volume.nonce)


class _Cursor:
    """One survivor's heads, in order."""

    __slots__ = ("at", "ended", "heads", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.at = RECORDS_AT
        self.ended = False
        self.heads: deque[RecordHead] = deque()


def _begin(disk: Disk, name: str, opening: bytes) -> DiskFile:
    file = disk.open(name, create=True)
    if file.size():
        file.close()
        disk.unlink(name)
        file = disk.open(name, create=True, exclusive=True)
    file.pwritev([opening], 0, durable=False)
    return file


def _verify_some(file: DiskFile, volume: Volume, slot: int, at: int) -> tuple[int, int, int]:
    step = scan_some(file, volume, slot, at, True, 8)
    space = memoryview(bytearray(SLICE))
    for record in step.records:
        head = record.head
        if record.table_damaged:
            raise DamagedFragment(f"rebuilt table at {head.offset} does not verify")
        place = StripeAt(head.offset, head.payload_at, head.fragment_length)
        for low in range(0, head.stored_length, SLICE):
            high = min(low + SLICE, head.fragment_length)
            read_verified(file, volume, place, slot, low, high, space[: high - low], head, False)
    return step.next_at, step.size, len(step.records)

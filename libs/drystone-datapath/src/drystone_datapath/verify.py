# SPDX-License-Identifier: Apache-2.0
"""Scrub: are all fragments of a closed volume what they should be? Walks all slots side by side, in windows of offsets.

Invariants
  Y1  A fragment is good when its head, its table and every stored block verify; of a freed stripe head and table (R8).
  Y2  A slot is bad when it was read without an error and lacks a good fragment of a stripe that k slots have: damage that
      hides a head altogether is found by what the others hold.
  Y3  A stripe that fewer than k of all slots read have is counted as incomplete: torn by a crash, or lost.
  Y4  A call on a lane reads about WINDOW bytes and RECORDS records, and memory is one slice: what waits behind it waits
      briefly.
Nothing is written here; `trim` gives back only space that reads as zeros.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.extents import BLOCK, RECORD_ALIGN
from drystone_core.formats.close_flag import decode_close_flag, is_closed
from drystone_core.formats.record import decode_head
from drystone_core.formats.shard import CLOSE_FLAG_AT, RECORDS_AT, SECTOR, decode_shard_header
from drystone_core.ports import Clock, DiskFile, Lanes
from drystone_datapath.faults import DamagedFragment
from drystone_datapath.scan import probe_forward, read_table
from drystone_datapath.volume import DiskState, Slot, Volume, VolumeState

WINDOW = 4 << 20
RECORDS = 128
_SLICE = 1 << 20
_FIRST = 8192


class Seen(NamedTuple):
    """What one call found in one slot's window."""

    good: dict[int, int]
    """Record → span, of good fragments."""
    bad: dict[int, str]
    """Record → what is wrong with it, where the head verifies."""
    next_at: int
    size: int
    read: int
    """Bytes read."""


@dataclass(slots=True)
class Findings:
    """Of a volume so far; the same object is yielded again and again."""

    read: int = 0
    fragments: int = 0
    """Good ones."""
    bad: dict[int, str] = field(default_factory=dict)
    """Slot → the first thing wrong with it."""
    unread: dict[int, BaseException] = field(default_factory=dict)
    """Slots that could not be read to the end, or are away."""
    incomplete: list[int] = field(default_factory=list)
    """Records (at most INCOMPLETE_KEPT) with fewer than k good fragments."""
    end: int = RECORDS_AT
    """Behind the last good fragment of any slot."""
    whole: bool = False
    """The walk came to the end."""


INCOMPLETE_KEPT = 1000


def verify_opening(file: DiskFile, volume: Volume, slot: int) -> bool:
    """On the lane: header and close flag; False when the slot is not flagged yet. DamagedFragment when either is wrong."""
    raw = bytearray(CLOSE_FLAG_AT + SECTOR)
    if file.preadv((memoryview(raw),), 0) < len(raw):
        raise DamagedFragment("the shard file ends inside its header")
    try:
        header = decode_shard_header(raw)
    except Damaged as error:
        raise DamagedFragment(error.message) from error
    if (header.volume, header.slot, header.profile, header.nonce) != (
        volume.volume_id, slot, volume.profile, volume.nonce,
    ):  # fmt: skip
        raise DamagedFragment("the shard file's header is another's")
    sector = memoryview(raw)[CLOSE_FLAG_AT:]
    if not is_closed(sector):
        return False
    if decode_close_flag(sector, volume.nonce) is None:
        raise DamagedFragment("the close flag does not verify")
    return True


def verify_window(file: DiskFile, volume: Volume, slot: int, at: int, end: int) -> Seen:
    """On the lane: every fragment that begins in [at, end)."""
    size = file.size()
    good: dict[int, int] = {}
    bad: dict[int, str] = {}
    read = 0
    first = memoryview(bytearray(_FIRST))
    space: memoryview | None = None
    while at < min(end, size) and len(good) + len(bad) < RECORDS:
        got = file.preadv((first,), at)
        read += got
        raw = first[:got]
        head = decode_head(raw, nonce=volume.nonce, volume=volume.volume_id, slot=slot, offset=at)
        if head is None:
            step = probe_forward(file, at + RECORD_ALIGN, min(end, size))
            read += max(0, step - at - RECORD_ALIGN)
            at = max(step, at + RECORD_ALIGN)
            continue
        if read_table(file, volume, head, raw) is None:
            bad[at] = f"the blob table at {at} does not verify"
        elif at not in volume.freed:
            space = space if space is not None else memoryview(bytearray(_SLICE))
            for low in range(0, head.stored_length, _SLICE):
                high = min(low + _SLICE, head.stored_length)
                part = space[: high - low]
                filled = file.preadv((part,), at + head.payload_at + low)
                part[filled:] = bytes(len(part) - filled)
                read += filled
                for block in range(low, high, BLOCK):
                    if crc32c(part[block - low : min(block + BLOCK, high) - low]) != head.crcs[block // BLOCK]:
                        bad[at] = f"block {block // BLOCK} of the fragment at {at} does not verify"
                        break
        if at not in bad:
            good[at] = head.span
        at += head.span
    return Seen(good, bad, at, size, read)


class VolumeScrub:
    """One walk over one closed volume. One use."""

    def __init__(self, *, volume: Volume, lanes: Lanes, clock: Clock, deadline: float = 30.0) -> None:
        self._volume, self._lanes, self._clock, self._deadline = volume, lanes, clock, deadline
        self.found = Findings()
        self.unflagged = False
        """Some slot of the closed volume lacks its close flag (its disk was away then): write it."""
        self._slots: list[Slot] = []
        self._at: dict[int, int] = {}

    async def run(self) -> AsyncIterator[Findings]:
        """Do it, yielding after each window, so that the caller sets the pace."""
        volume, found = self._volume, self.found
        for index, slot in enumerate(volume.slots):
            if slot is None or slot.unit.state is DiskState.FAILED:
                found.unread[index] = FileNotFoundError("the slot is away")
            else:
                self._slots.append(slot)
        opened = await self._on_all(
            [partial(verify_opening, s.file, volume, s.index) for s in self._slots], self._slots
        )
        for slot, result in zip(list(self._slots), opened, strict=True):
            if isinstance(result, DamagedFragment):
                found.bad.setdefault(slot.index, str(result))
            elif isinstance(result, BaseException):
                self._give_up(slot, result)
            elif not result:
                self.unflagged = True
        self._at = {slot.index: RECORDS_AT for slot in self._slots}
        at, size = RECORDS_AT, RECORDS_AT + 1
        while at < size and self._slots:
            size = await self._window(at, at + WINDOW)
            # Behind a known end lies reserved space at most; an unknown one (0, after a crash) is looked for.
            size = min(size, volume.end or size)
            at += WINDOW
            yield found
            if volume.state is not VolumeState.CLOSED:
                return
        found.whole = bool(self._slots)
        yield found

    async def _window(self, at: int, end: int) -> int:
        volume, found = self._volume, self.found
        seen: dict[int, Seen] = {}
        asked = list(self._slots)
        while asked:
            results = await self._on_all(
                [partial(verify_window, s.file, volume, s.index, max(at, self._at[s.index]), end) for s in asked], asked
            )
            lagging = []
            for slot, result in zip(asked, results, strict=True):
                if isinstance(result, BaseException):
                    self._give_up(slot, result)
                    seen.pop(slot.index, None)
                    continue
                self._at[slot.index] = result.next_at
                found.read += result.read
                found.fragments += len(result.good)
                before = seen.get(slot.index)
                if before is not None:
                    result.good.update(before.good)
                    result.bad.update(before.bad)
                seen[slot.index] = result
                if result.next_at < min(end, result.size):
                    lagging.append(slot)
            asked = lagging
        self._judge(seen)
        return max((each.size for each in seen.values()), default=0)

    def _judge(self, seen: dict[int, Seen]) -> None:
        """Y2 and Y3 for the records of one window."""
        volume, found = self._volume, self.found
        holders: dict[int, int] = {}
        for each in seen.values():
            for record, span in each.good.items():
                holders[record] = holders.get(record, 0) + 1
                found.end = max(found.end, record + span)
            for record in each.bad:
                holders.setdefault(record, 0)
        for record, count in sorted(holders.items()):
            if count < volume.profile.k:
                if record not in volume.freed and len(found.incomplete) < INCOMPLETE_KEPT and not found.unread:
                    found.incomplete.append(record)
                continue
            for index, each in seen.items():
                # Freed while it was read: only head and table count now.
                if record not in each.good and not (record in volume.freed and record in each.bad):
                    why = each.bad.get(record, f"the record at {record} is missing")
                    found.bad.setdefault(index, why)

    def _give_up(self, slot: Slot, error: BaseException) -> None:
        self.found.unread[slot.index] = error
        self._slots = [each for each in self._slots if each is not slot]

    async def _on_all(self, calls: Sequence[Callable[[], Any]], slots: Sequence[Slot]) -> list[Any]:
        pairs = [(slot.unit.lane, call) for slot, call in zip(slots, calls, strict=True)]
        return list(await self._lanes.scatter(pairs, deadline=self._clock.monotonic() + self._deadline))


async def trim(volume: Volume, end: int, *, lanes: Lanes, clock: Clock, deadline: float = 30.0) -> int:
    """Give back what was reserved behind `end` (0 = unknown) and never written; bytes it was at most.

    A crash leaves such a reserve behind. Only zeros are punched: whatever they were, they read the same afterwards.
    """
    if volume.state is not VolumeState.CLOSED:
        return 0
    slots = [slot for slot in volume.slots if slot is not None and slot.unit.state is not DiskState.FAILED]
    calls = [(slot.unit.lane, partial(_trim_slot, slot.file, end)) for slot in slots]
    results = await lanes.scatter(calls, deadline=clock.monotonic() + deadline)
    return sum(result for result in results if isinstance(result, int))


def _trim_slot(file: DiskFile, end: int) -> int:
    """Punch the zeros at the file's end, found by reading backwards: it costs no more than what is given back."""
    size = file.size()
    least = max(RECORDS_AT, (end + RECORD_ALIGN - 1) & -RECORD_ALIGN)
    space = memoryview(bytearray(_SLICE))
    zeros = bytes(_SLICE)
    last = (size + RECORD_ALIGN - 1) & -RECORD_ALIGN
    while last > least:
        at = max(least, last - _SLICE)
        got = file.preadv((space[: last - at],), at)
        if space[:got] != zeros[:got]:
            used = len(bytes(space[:got]).rstrip(b"\0"))
            last = at + ((used + RECORD_ALIGN - 1) & -RECORD_ALIGN)
            break
        last = at
    if max(last, least) < size:
        file.punch(max(last, least), size - max(last, least))
    return max(0, size - max(last, least))

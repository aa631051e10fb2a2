# SPDX-License-Identifier: Apache-2.0
"""Verified ranges of fragments: read from their own slot, or rebuilt from any k others.

Invariants
  G1  No byte leaves unverified: each touched block against the CRC in a head whose keyed checksum was checked
      (invariant 3).
  G2  A buffer a late call may still fill is never used again.
  G3  Damage is blamed on a disk only when the free map does not explain it (R8), and never on a file that took the place
      of the one that was read.
  G4  At most `rebuilds` ranges are rebuilt at a time; the cache of verified heads is bounded.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged, Unavailable
from drystone_core.extents import BLOCK, RECORD_ALIGN
from drystone_core.formats.record import RecordHead, decode_head, head_length
from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer, Clock, DiskFile, Lanes
from drystone_datapath.codec import Codecs
from drystone_datapath.faults import BlobGone, DamagedFragment
from drystone_datapath.volume import DiskState, Slot, SlotFailure, Volume, VolumeState

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Limits of reading."""

    deadline: float = 10.0
    """Seconds a disk read may take when nothing can stand in for it."""
    hedge_least: float = 0.02
    hedge_most: float = 1.0
    """Bounds of how long a read is waited for before the range is rebuilt from others."""
    heads: int = 4096
    """Verified heads kept (about 300 bytes each)."""
    rebuilds: int = 8
    prefetch: int = 4
    """Chunks under way at once per reader."""


class StripeAt(NamedTuple):
    """A stripe as an extent names it."""

    record: int
    payload_at: int
    fragment_length: int


def read_verified(
    file: DiskFile,
    volume: Volume,
    at: StripeAt,
    slot: int,
    low: int,
    high: int,
    target: memoryview,
    head: RecordHead | None,
    nowait: bool,
) -> RecordHead:
    """Fill `target` with bytes [low, high) of a fragment and check them; returns the verified head.

    `low` and `high` are multiples of BLOCK, or the fragment's end. DamagedFragment when anything does not verify.
    """
    if head is None:
        head = read_head(file, volume, at, slot, nowait)
    count = min(high, max(low, head.stored_length)) - low
    if count:
        got = file.preadv((target[:count],), at.record + at.payload_at + low, nowait=nowait)
        if got < count:
            # A rebuilt file ends where its last byte that is not zero does; the checksums tell it from a cut one.
            target[got:count] = bytes(count - got)
    if count < high - low:
        target[count : high - low] = bytes(high - low - count)
    index, crcs = low // BLOCK, head.crcs
    for start in range(0, count, BLOCK):
        if crc32c(target[start : min(start + BLOCK, count)]) != crcs[index]:
            raise DamagedFragment(f"block {index} of the fragment at {at.record} does not verify")
        index += 1
    return head


def read_head(file: DiskFile, volume: Volume, at: StripeAt, slot: int, nowait: bool) -> RecordHead:
    """The verified head of one slot's record."""
    raw = bytearray(head_length(at.fragment_length))
    file.preadv((memoryview(raw),), at.record, nowait=nowait)
    head = decode_head(raw, nonce=volume.nonce, volume=volume.volume_id, slot=slot, offset=at.record)
    if head is None or head.payload_at != at.payload_at or head.fragment_length != at.fragment_length:
        raise DamagedFragment(f"head of the record at {at.record} does not verify")
    return head


def read_raw(file: DiskFile, offset: int, length: int) -> bytearray:
    """`length` bytes, zeros beyond the end of the file; the caller verifies what it makes of them."""
    raw = bytearray(length)
    file.preadv((memoryview(raw),), offset)
    return raw


def read_checked(file: DiskFile, offset: int, length: int, crc: int) -> Buffer:
    """A packed blob's bytes, checked against its own CRC32C."""
    raw = read_raw(file, offset, length)
    if crc32c(raw) != crc:
        raise DamagedFragment(f"the blob at {offset} does not verify")
    return raw


class Fragments:
    """Reads ranges of fragments of any volume."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        clock: Clock,
        codecs: Codecs,
        on_failure: SlotFailure,
        settings: ReadSettings,
    ) -> None:
        self._lanes, self._clock, self._codecs = lanes, clock, codecs
        self._on_failure, self._settings = on_failure, settings
        self._heads: OrderedDict[tuple[VolumeId, int, int], RecordHead] = OrderedDict()
        self._rebuilding = asyncio.Semaphore(settings.rebuilds)
        self._typical = settings.hedge_least / 4

    def fill_now(self, volume: Volume, at: StripeAt, slot: int, low: int, high: int, target: memoryview) -> bool:
        """Fill `target` without blocking; False when that cannot be done (nothing is blamed: read again to find
        out)."""
        held = volume.slots[slot]
        if held is None or held.unit.state is DiskState.FAILED:
            return False
        key = (volume.volume_id, at.record, slot)
        head = self._heads.get(key)
        try:
            found = read_verified(held.file, volume, at, slot, low, high, target, head, True)
        except (OSError, DamagedFragment):
            return False
        if head is None:
            self._keep(key, found)
        return True

    async def read(
        self, volume: Volume, at: StripeAt, slot: int, low: int, high: int, target: memoryview
    ) -> bytes | None:
        """Bytes [low, high) of a fragment: None when they are in `target`, else the rebuilt bytes.

        `target` may then yet be written to by a late call (G2). Raises Damaged, BlobGone.
        """
        held = volume.slots[slot]
        if held is None or held.unit.state is DiskState.FAILED:
            return await self.rebuild(volume, at, slot, low, high)
        key = (volume.volume_id, at.record, slot)
        head = self._heads.get(key)
        call = partial(read_verified, held.file, volume, at, slot, low, high, target, head, False)
        error, found, late = await self._hedged(volume, held, call)
        if found is not None:
            if head is None:
                self._keep(key, found)
            return None
        self._blame(volume, at.record, held, error or TimeoutError("late read"))
        rebuilding = self.rebuild(volume, at, slot, low, high)
        if late is None:
            return await rebuilding
        result = await _either(rebuilding, late)
        return result if isinstance(result, bytes) else None

    async def read_blob(self, volume: Volume, slot: int, record: int, offset: int, length: int, crc: int) -> Buffer:
        """A packed blob's bytes: `length` at `offset` of the slot's file, checked against `crc`."""
        held = volume.slots[slot]
        if held is None or held.unit.state is DiskState.FAILED:
            return await self._rebuild_blob(volume, slot, record, offset, length, crc)
        call: Callable[[], Buffer] = partial(read_checked, held.file, offset, length, crc)
        error, found, late = await self._hedged(volume, held, call)
        if found is not None:
            return found
        self._blame(volume, record, held, error or TimeoutError("late read"))
        rebuilding = self._rebuild_blob(volume, slot, record, offset, length, crc)
        return await (rebuilding if late is None else _either(rebuilding, late))

    async def rebuild(self, volume: Volume, at: StripeAt, slot: int, low: int, high: int) -> bytes:
        """Bytes [low, high) (block bounds) of one slot's fragment from k verified others. Raises Damaged, BlobGone."""
        async with self._rebuilding:
            good = await self._collect(volume, slot, at.record, partial(_read_other, volume, at, low, high))
            return self._codecs.get(volume.profile).rebuild([slot], good)[0]

    async def _rebuild_blob(self, volume: Volume, slot: int, record: int, offset: int, length: int, crc: int) -> Buffer:
        """First just the blob's bytes of k others, judged by the blob's own CRC; if that fails, from verified
        blocks."""
        codec = self._codecs.get(volume.profile)
        async with self._rebuilding:
            good = await self._collect(volume, slot, record, partial(_read_plain, offset, length))
            found = codec.rebuild([slot], good)[0]
        if crc32c(found) == crc:
            return found
        head = await self._any_head(volume, slot, record)
        at = StripeAt(record, head.payload_at, head.fragment_length)
        start = offset - record - head.payload_at
        low, high = start // BLOCK * BLOCK, min(head.fragment_length, -(-(start + length) // BLOCK) * BLOCK)
        verified = await self.rebuild(volume, at, slot, low, high)
        exact = verified[start - low : start - low + length]
        if crc32c(exact) != crc:
            raise Damaged("a blob's rebuilt bytes do not match its checksum", record=str(record))
        return exact

    async def _any_head(self, volume: Volume, missing: int, record: int) -> RecordHead:
        """A verified head of the stripe: slots are asked until k gave one (a bad one does not count)."""
        heads = await self._collect(volume, missing, record, partial(_read_any_head, volume, record))
        slot, raw = next(iter(heads.items()))
        head = decode_head(raw, nonce=volume.nonce, volume=volume.volume_id, slot=slot, offset=record)
        if head is None:
            raise Damaged("no head of the stripe verifies", record=str(record))
        return head

    async def _collect(
        self, volume: Volume, missing: int, record: int, reader: "Callable[[Slot], Buffer]"
    ) -> dict[int, Buffer]:
        """k results of `reader` over the other slots; late ones are replaced by others, and waited for at last.

        Unavailable while slots that are away could still bring the k together, Damaged when they could not: then no slot is
        blamed for its damage.
        """
        k = volume.profile.k
        waiting = sorted(
            (
                slot
                for slot in volume.slots
                if slot is not None and slot.index != missing and slot.unit.state is not DiskState.FAILED
            ),
            key=lambda slot: (slot.unit.state is not DiskState.HEALTHY, slot.index),
        )
        good: dict[int, Buffer] = {}
        late: list[Slot] = []
        damaged: list[tuple[Slot, DamagedFragment]] = []
        away = volume.profile.slots - 1 - len(waiting)
        patient = False
        while len(good) < k:
            if not waiting:
                if not late or patient:
                    break
                waiting, late, patient = late, [], True
            wave, waiting = waiting[: k - len(good)], waiting[k - len(good) :]
            patience = self._settings.deadline if patient or not waiting else self._hedge_after()
            results = await self._lanes.scatter(
                [(slot.unit.lane, partial(reader, slot)) for slot in wave], deadline=self._clock.monotonic() + patience
            )
            for slot, result in zip(wave, results, strict=True):
                if not isinstance(result, BaseException):
                    good[slot.index] = result
                    continue
                if isinstance(result, TimeoutError):
                    late.append(slot)
                away += isinstance(result, ConnectionError)
                if isinstance(result, DamagedFragment):
                    _check_there(volume, record)
                    damaged.append((slot, result))
                else:
                    self._blame(volume, record, slot, result)
        if len(good) >= k or late or len(good) + away >= k:
            for slot, error in damaged:
                self._blame(volume, record, slot, error)
        # Else nothing can heal the stripe: rebuilding its slots one after the other would find each other's damage for ever.
        if len(good) < k and late:
            raise Unavailable("too many disks answer late", record=str(record))
        if len(good) < k <= len(good) + away:
            raise Unavailable("too many disks are away", record=str(record))
        if len(good) < k:
            raise Damaged("fewer than k fragments of a stripe can be read", record=str(record), found=str(len(good)))
        return good

    async def _hedged(
        self, volume: Volume, slot: Slot, call: "Callable[[], _T]"
    ) -> "tuple[BaseException | None, _T | None, asyncio.Future[_T] | None]":
        """(error, result, still running): one read of one slot, waited for as long as others could not do it sooner."""
        started = self._clock.monotonic()
        alone = volume.profile.m == 0
        deadline = started + self._settings.deadline
        flight = asyncio.ensure_future(self._lanes.run(slot.unit.lane, call, deadline=deadline))
        try:
            await asyncio.wait((flight,), timeout=None if alone else self._hedge_after())
        except asyncio.CancelledError:
            flight.cancel()
            raise
        if not flight.done():
            return None, None, flight
        error = flight.exception()
        if error is not None:
            return error, None, None
        self._typical += (min(self._clock.monotonic() - started, 1.0) - self._typical) * 0.05
        return None, flight.result(), None

    def _hedge_after(self) -> float:
        settings = self._settings
        return min(max(4 * self._typical, settings.hedge_least), settings.hedge_most)

    def _blame(self, volume: Volume, record: int, slot: Slot, error: BaseException) -> None:
        if not isinstance(error, OSError) or isinstance(error, TimeoutError):
            _check_there(volume, record)
        elif volume.state is VolumeState.RETIRED:
            raise BlobGone(volume.volume_id, record)
        if volume.slots[slot.index] is slot:  # else it was rebuilt meanwhile: the old file is nobody's
            self._on_failure(volume, slot.index, error)

    def _keep(self, key: tuple[VolumeId, int, int], head: RecordHead) -> None:
        self._heads[key] = head
        if len(self._heads) > self._settings.heads:
            self._heads.popitem(last=False)


def _check_there(volume: Volume, record: int) -> None:
    """BlobGone when what does not verify was freed meanwhile."""
    if volume.state is VolumeState.RETIRED or record in volume.freed:
        raise BlobGone(volume.volume_id, record)


def _read_other(volume: Volume, at: StripeAt, low: int, high: int, slot: Slot) -> Buffer:
    part = bytearray(high - low)
    read_verified(slot.file, volume, at, slot.index, low, high, memoryview(part), None, False)
    return part


def _read_plain(offset: int, length: int, slot: Slot) -> Buffer:
    return read_raw(slot.file, offset, length)


def _read_any_head(volume: Volume, record: int, slot: Slot) -> Buffer:
    raw = read_raw(slot.file, record, RECORD_ALIGN)
    if decode_head(raw, nonce=volume.nonce, volume=volume.volume_id, slot=slot.index, offset=record) is None:
        raise DamagedFragment(f"head of the record at {record} does not verify")
    return raw


async def _either(rebuilding: Coroutine[Any, Any, _R], late: "asyncio.Future[_T]") -> _R | _T:
    """Whichever comes first: what others stand in with, or what the late read brings after all."""
    late.add_done_callback(_drop)
    rebuilt = asyncio.ensure_future(rebuilding)
    try:
        await asyncio.wait((rebuilt, late), return_when=asyncio.FIRST_COMPLETED)
        if not rebuilt.done() and late.exception() is None:
            rebuilt.cancel()
            return late.result()
        return await rebuilt
    except asyncio.CancelledError:
        rebuilt.cancel()
        raise
    except (Damaged, Unavailable):
        try:
            return await late
        except TimeoutError as exc:
            raise Unavailable("too many disks answer late") from exc
        except (OSError, DamagedFragment) as exc:
            raise Damaged("a late read failed and nothing can stand in for it") from exc


def _drop(flight: "asyncio.Future[Any]") -> None:
    """A late call ended: its result is not wanted any more."""
    if not flight.cancelled():
        flight.exception()

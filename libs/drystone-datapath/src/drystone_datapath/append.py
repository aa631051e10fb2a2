# SPDX-License-Identifier: Apache-2.0
"""The appender of one open volume: what waits while a flush is in flight becomes the next stripe.

Invariants
  A1  A waiter is completed only after its record is durable on all k+m slots AND every slot was seen without its
      close flag after that write (R3, invariant 6): whoever closes a slot first finds every acknowledged record by
      scanning after.
  A2  Each offset is written at most once; the next record begins at the previous span's end (R1).
  A3  After the first failure or lateness nothing is acknowledged any more, not even stripes that all slots wrote.
  A4  Memory: packs of at most PIECE_LIMIT bytes, `pieces_in_flight` pieces, as many parity buffers.
  A5  `volume.end` passes a stripe before its first byte is submitted: no write of this volume, however late it lands,
      reaches beyond it. Only what lies there is ever given back, and only once no further stripe can begin.
  A6  A slot that is slow by habit beside the others is told of, after the stripe that showed it was acknowledged like any
      other: whether the volume is left for it is not decided here.
States  usable --error|lateness--> broken; usable --volume_limit--> full; any --close()--> closed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from drystone_core.check import check
from drystone_core.errors import Busy
from drystone_core.extents import BLOB_ALIGN, PACK_LIMIT, PIECE_LIMIT, RECORD_ALIGN, BlobRef, StripedExtent
from drystone_core.formats.blob_table import ENTRY_BYTES
from drystone_core.formats.close_flag import PROBE
from drystone_core.formats.shard import CLOSE_FLAG_AT
from drystone_core.formats.trailer import LIMIT as TRAILER_LIMIT
from drystone_core.ids import BlobId, make_blob_id
from drystone_core.ports import Buffer, Clock, DiskFile, Entropy, Lanes
from drystone_core.services import SmallBlob
from drystone_core.slowness import PeerTimes, SlownessSettings
from drystone_core.stripes import align, piece_fragment_length
from drystone_datapath.buffers import BufferPool, PooledBuffer
from drystone_datapath.codec import Codec
from drystone_datapath.faults import SlotClosed, VolumeBroken, VolumeUnusable
from drystone_datapath.pack import Piece, Stripe, StripePlace, build_pack, build_piece
from drystone_datapath.volume import Slot, Volume, VolumeState
from drystone_datapath.volume_files import write_close_flags

OnFailure = Callable[[Volume, Mapping[int, BaseException]], None]
"""Told once, when a volume breaks: slot → why."""
OnSlow = Callable[[Volume, Sequence[int]], None]
"""Told of slots that are slow by habit beside the others (A6), with every slow stripe again."""

_OPEN = bytes(PROBE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendSettings:
    """Limits of an appender."""

    volume_limit: int = 8 << 30
    """Payload bytes after which the volume counts as full."""
    deadline: float = 2.0
    """Seconds a flush may take; later = broken (R3)."""
    close_deadline: float = 10.0
    allocate_step: int = 64 << 20
    """Bytes reserved in each shard file at a time; 0 = never."""
    pieces_in_flight: int = 3
    pack_bytes: int = PIECE_LIMIT
    pack_blobs: int = 4096
    waiting_bytes: int = 64 << 20
    """Payload bytes that may wait for a flush; more is refused with Busy."""
    pack_table: int = 1 << 20
    """Blob table bytes of one pack."""
    slow: SlownessSettings = field(default_factory=SlownessSettings)
    """Of a slot's durable writes, from submission to end, beside those of the same stripes' other slots."""


class Appender:
    """Appends to one volume; all methods on the loop."""

    def __init__(
        self,
        *,
        volume: Volume,
        codec: Codec,
        lanes: Lanes,
        clock: Clock,
        entropy: Entropy,
        on_failure: OnFailure,
        on_slow: OnSlow,
        before: PeerTimes | None = None,
        settings: AppendSettings | None = None,
    ) -> None:
        """`before`: the `times` of the volume this one follows, so that habits outlive volumes that fill up quickly."""
        check(volume.state is VolumeState.OPEN, "only an open volume is appended to")
        check(volume.profile == codec.profile, "the codec is of another profile")
        slots = [slot for slot in volume.slots if slot is not None]
        check(len(slots) == volume.profile.slots, "an open volume has all its slots")
        self.volume = volume
        self._slots: list[Slot] = slots
        self._codec, self._lanes, self._clock, self._entropy = codec, lanes, clock, entropy
        self._on_failure, self._on_slow = on_failure, on_slow
        self._settings = settings or AppendSettings()
        self.times = PeerTimes([slot.unit.disk_id for slot in slots], self._settings.slow, before=before)
        self._limit = self._settings.volume_limit // volume.profile.k
        self._allocated = volume.end
        self._waiting: deque[tuple[SmallBlob, asyncio.Future[BlobRef]]] = deque()
        self._waiting_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._pieces = asyncio.Semaphore(self._settings.pieces_in_flight)
        self._parity = ParityBuffers(codec, self._settings)
        self._probes = [memoryview(bytearray(PROBE)) for _ in slots]
        self._broken: Mapping[int, BaseException] | None = None
        self._closing = False
        self._allocate_ahead()

    @property
    def broken(self) -> bool:
        """Nothing is acknowledged any more."""
        return self._broken is not None

    @property
    def full(self) -> bool:
        """The volume reached its limit: open another; what waits is still written."""
        return self.volume.end >= self._limit

    @property
    def usable(self) -> bool:
        """New blobs are taken."""
        return self._broken is None and not self._closing and not self.full and self.volume.state is VolumeState.OPEN

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes that wait for a flush: what to balance on."""
        return self._waiting_bytes

    def append(self, blob: SmallBlob) -> "asyncio.Future[BlobRef]":
        """Durable on all slots when the future completes. Fails with VolumeBroken: append again elsewhere.

        Raises VolumeUnusable at once when the volume takes nothing more, Busy when too much waits.
        `blob.payload` must stay unchanged until then.
        """
        if not self.usable:
            raise self._refusal()
        fits = len(blob.payload) <= PACK_LIMIT and len(blob.trailer) <= TRAILER_LIMIT
        check(fits, "a blob of that size is not packed")
        if self._waiting_bytes > self._settings.waiting_bytes:
            raise Busy("too much waits to be written")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[BlobRef] = loop.create_future()
        self._waiting.append((blob, future))
        self._waiting_bytes += len(blob.payload)
        if self._flusher is None:
            # It serves whoever comes next as well: not in the context (the request id) of the one who began it.
            self._flusher = loop.create_task(self._flush_all(), context=Context())
        return future

    async def append_piece(self, piece: Piece) -> StripedExtent:
        """One stripe, durable on all slots. The piece's buffer belongs to the appender until this returns or raises.

        After VolumeBroken look at `piece.tainted` before the buffer is used for anything else (the same bytes may be
        appended elsewhere from it). Run it in a task of its own: cancelling it leaves disk calls that read the buffer.
        """
        async with self._pieces:
            if not self.usable:
                raise self._refusal()
            with self._parity.take() as parity:
                place = self._reserve_place()
                stripe, extent = build_piece(piece, place, self._codec, parity.views, parity.heads)
                try:
                    await self._write(stripe, place)
                except BaseException:
                    parity.tainted = piece.tainted = True
                    raise
                return extent

    async def close(self) -> dict[int, BaseException]:
        """End the volume: wait for what is in flight, then a durable close flag on every reachable slot.

        Returns the slots that could not be flagged. Appends that wait are refused with VolumeUnusable.
        """
        self._closing = True
        self._refuse_waiting()
        await self._idle.wait()
        self._give_back()
        self.volume.state = VolumeState.CLOSED
        return await write_close_flags(
            self.volume, lanes=self._lanes, clock=self._clock, deadline=self._settings.close_deadline
        )

    async def _flush_all(self) -> None:
        try:
            while self._waiting and self._broken is None:
                batch = self._next_batch()
                try:
                    await self._flush(batch)
                except VolumeBroken:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(self._refusal())
                except Exception as exc:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(exc)
        finally:
            self._flusher = None
            if self._broken is not None:
                self._refuse_waiting()

    async def _flush(self, batch: Sequence[tuple[SmallBlob, "asyncio.Future[BlobRef]"]]) -> None:
        with self._parity.take() as parity:
            ids = self._blob_ids(len(batch))
            place = self._reserve_place()
            stripe, extents = build_pack([blob for blob, _ in batch], ids, place, self._codec, parity.views)
            try:
                await self._write(stripe, place)
            except BaseException:
                parity.tainted = True
                raise
        for (_, future), blob_id, extent in zip(batch, ids, extents, strict=True):
            if not future.done():
                future.set_result(BlobRef(blob_id, extent.length, (extent,)))

    async def _write(self, stripe: Stripe, place: StripePlace) -> None:
        """Make the stripe durable on all slots or break the volume."""
        self.volume.end = place.offset + stripe.shape.span
        self.volume.sequence += 1
        calls = [
            (slot.unit.lane, partial(write_fenced, slot.file, buffers, place.offset, probe, self._clock.monotonic))
            for slot, buffers, probe in zip(self._slots, stripe.buffers, self._probes, strict=True)
        ]
        self._in_flight += 1
        self._idle.clear()
        began = self._clock.monotonic()
        try:
            results: list[Any] = await self._lanes.scatter(calls, deadline=began + self._settings.deadline)
        except BaseException as exc:
            self._break({}, exc)
            raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        for result in results:
            if isinstance(result, BaseException):
                failures = {slot: each for slot, each in enumerate(results) if isinstance(each, BaseException)}
                self._break(failures)
                break
        if self._broken is not None or self.volume.state is not VolumeState.OPEN:
            raise VolumeBroken(self.volume.volume_id, self._broken or {})
        if slow := self.times.observe(began, results):
            self._on_slow(self.volume, slow)
        if self.volume.end + self._settings.allocate_step // 2 > self._allocated:
            self._allocate_ahead()

    def _break(self, failures: Mapping[int, BaseException], cause: BaseException | None = None) -> None:
        if self._broken is not None:
            return
        self._broken = failures
        if cause is None:
            self._on_failure(self.volume, failures)

    def _refusal(self) -> VolumeBroken | VolumeUnusable:
        if self._broken is not None:
            return VolumeBroken(self.volume.volume_id, self._broken)
        if self.full and not self._closing:
            return VolumeUnusable(self.volume.volume_id, "full")
        return VolumeUnusable(self.volume.volume_id, "closed")

    def _refuse_waiting(self) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._refusal())
        self._waiting_bytes = 0

    def _next_batch(self) -> list[tuple[SmallBlob, "asyncio.Future[BlobRef]"]]:
        settings, waiting = self._settings, self._waiting
        batch: list[tuple[SmallBlob, asyncio.Future[BlobRef]]] = []
        size = table = 0
        while waiting and len(batch) < settings.pack_blobs:
            blob = waiting[0][0]
            length = len(blob.payload)
            size += length + len(blob.trailer)
            table += ENTRY_BYTES + len(blob.header.key)
            if batch and (size > settings.pack_bytes or table > settings.pack_table):
                break
            batch.append(waiting.popleft())
            self._waiting_bytes -= length
        return batch

    def _reserve_place(self) -> StripePlace:
        volume = self.volume
        return StripePlace(volume.volume_id, volume.nonce, volume.end, volume.sequence)

    def _blob_ids(self, count: int) -> list[BlobId]:
        stamp, random = self._clock.wall_us(), self._entropy.token(8 * count)
        return [make_blob_id(stamp, random[at : at + 8]) for at in range(0, 8 * count, 8)]

    def _allocate_ahead(self) -> None:
        """Reserve the next step in all shard files, off the critical path; a refusal shows in the write itself."""
        step = self._settings.allocate_step
        if not step:
            return
        start, self._allocated = self._allocated, max(self._allocated, self.volume.end) + step
        for slot in self._slots:
            slot.unit.lane.submit(partial(_quietly, slot.file.allocate, start, self._allocated - start))

    def _give_back(self) -> None:
        """Free what was reserved and cannot be reached any more (A5); the slots whose disk hangs do it when they wake up.

        Lanes keep their order (L1), so every reservation is made before it is given back. While the volume counts as
        open nobody else replaces its files: what is punched is what was written here, not a rebuilt slot.
        """
        end, reserved = self.volume.end, self._allocated
        if reserved > end:
            self._allocated = end
            for slot in self._slots:
                slot.unit.lane.submit(partial(_quietly, slot.file.punch, end, reserved - end))


def write_fenced(
    file: DiskFile, buffers: Sequence[Buffer], offset: int, probe: memoryview, monotonic: Callable[[], float]
) -> float:
    """On the lane: write durably, then look whether the slot was closed meanwhile (A1); when that was done."""
    if file.write_then_read(buffers, offset, probe, CLOSE_FLAG_AT) != PROBE:
        raise OSError("the shard file ends before its close flag")
    if probe != _OPEN:
        raise SlotClosed("the slot carries the close flag")
    return monotonic()


def _quietly(call: Callable[[int, int], None], offset: int, length: int) -> None:
    try:
        call(offset, length)
    except OSError:
        return


def longest_fragment(k: int, settings: AppendSettings) -> int:
    """Bytes no fragment of a stripe on k slots exceeds, in whole pages.

    A pack's blobs go to the least filled fragment: none gets further above the mean than by one blob.
    """
    blob = align(PACK_LIMIT + TRAILER_LIMIT, BLOB_ALIGN)
    mean = (settings.pack_bytes + settings.pack_blobs * BLOB_ALIGN) // k
    return max(piece_fragment_length(PIECE_LIMIT + TRAILER_LIMIT, k), align(mean + blob, RECORD_ALIGN))


class ParityLease:
    """Page-aligned memory of one stripe in flight: m parity views, a head page for each slot; never reused if tainted."""

    __slots__ = ("_buffer", "heads", "tainted", "views")

    def __init__(self, buffer: PooledBuffer, views: list[memoryview], heads: list[memoryview]) -> None:
        self._buffer = buffer
        self.views = views
        self.heads = heads
        self.tainted = False

    def __enter__(self) -> "ParityLease":
        return self

    def __exit__(self, *_: object) -> None:
        if self.tainted:
            self._buffer.discard()
        else:
            self._buffer.release()


class ParityBuffers:
    """As many as stripes may be in flight: taking one never waits."""

    __slots__ = ("_each", "_m", "_pool", "_slots")

    def __init__(self, codec: Codec, settings: AppendSettings) -> None:
        self._m, self._slots = codec.m, codec.k + codec.m
        self._each = longest_fragment(codec.k, settings)
        size = self._each * codec.m + RECORD_ALIGN * self._slots
        self._pool = BufferPool(size=size, count=settings.pieces_in_flight + 1, hot=2)

    def take(self) -> ParityLease:
        """m views, each as long as any fragment of the profile, and k+m pages."""
        buffer = self._pool.try_acquire()
        check(buffer is not None, "more stripes in flight than parity buffers")
        assert buffer is not None
        each, view, first = self._each, buffer.view, self._each * self._m
        heads = [view[first + slot * RECORD_ALIGN : first + (slot + 1) * RECORD_ALIGN] for slot in range(self._slots)]
        return ParityLease(buffer, [view[at : at + each] for at in range(0, first, each)], heads)

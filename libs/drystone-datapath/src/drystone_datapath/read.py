# SPDX-License-Identifier: Apache-2.0
"""Blobs back from volumes: at once when they are small and cached, else as a stream of verified chunks.

Invariants
  E1  Every byte handed out was verified (fragments.G1, or the packed extent's own CRC).
  E2  A stream holds at most `prefetch` chunks of READ_BYTES; beyond half the pool nothing is prefetched, and while
      buffers run short a chunk is one block in memory of its own: readers that take their time hold up nobody else.
  E3  The number of bytes asked for is yielded exactly, or an error is raised.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from drystone_core.check import check
from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.extents import BLOCK, BlobRef, PackedExtent
from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer, Clock, Lanes
from drystone_core.services import ReadChunk
from drystone_datapath.buffers import READ_BYTES, BufferPool, PooledBuffer
from drystone_datapath.codec import Codecs
from drystone_datapath.faults import BlobGone
from drystone_datapath.fragments import Fragments, ReadSettings, StripeAt
from drystone_datapath.volume import DiskState, SlotFailure, Volume, VolumeMap

NOW_LIMIT = 256 * 1024
"""`read_now` answers requests of at most this many bytes."""
_NOW_SPANS = 4
_PLAIN_LIMIT = 128 * 1024
"""Chunks up to this size use memory of their own rather than a pooled buffer."""


class PackedSpan(NamedTuple):
    """Bytes [low, high) of a packed blob."""

    extent: PackedExtent
    low: int
    high: int


class StripedSpan(NamedTuple):
    """Bytes [low, high) of one fragment of one stripe; the blocks that cover them are at most READ_BYTES."""

    volume: VolumeId
    at: StripeAt
    fragment: int
    low: int
    high: int


Span = PackedSpan | StripedSpan


class Reader:
    """Reads blobs of the volumes in a map."""

    def __init__(
        self,
        *,
        volumes: VolumeMap,
        lanes: Lanes,
        clock: Clock,
        codecs: Codecs,
        buffers: BufferPool,
        on_failure: SlotFailure,
        settings: ReadSettings | None = None,
        patience: float = 10.0,
    ) -> None:
        check(buffers.size >= READ_BYTES, "read buffers hold READ_BYTES")
        self._volumes, self._buffers, self._patience = volumes, buffers, patience
        self._settings = settings or ReadSettings()
        self.fragments = Fragments(
            lanes=lanes, clock=clock, codecs=codecs, on_failure=on_failure, settings=self._settings
        )

    def read_now(self, blobs: Sequence[BlobRef], start: int, length: int) -> Buffer | None:
        """Verified bytes without blocking, or None: then `read` them."""
        if length > NOW_LIMIT:
            return None
        if len(blobs) == 1:
            extents = blobs[0].extents
            if len(extents) == 1 and type(only := extents[0]) is PackedExtent and start + length <= only.length:
                whole = self._blob_now(only)
                if whole is None or length == only.length:
                    return whole
                return memoryview(whole)[start : start + length]
        parts: list[Buffer] = []
        for span in plan(blobs, start, length):
            part = self._span_now(span) if len(parts) < _NOW_SPANS else None
            if part is None:
                return None
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Verified chunks of at most 1 MiB, in order. Raises Damaged, BlobGone (read the row again), Busy."""
        spans = plan(blobs, start, length)
        rest: Span | None = None
        window: deque[ReadChunk | asyncio.Task[ReadChunk]] = deque()
        loop = asyncio.get_running_loop()
        try:
            while True:
                while len(window) < self._settings.prefetch and not (window and isinstance(window[-1], ReadChunk)):
                    if window and self._buffers.used * 2 > self._buffers.count:
                        break
                    span, rest = (rest or next(spans, None)), None
                    if span is None:
                        break
                    if self._buffers.contended:
                        span, rest = _narrowed(span)
                    window.append(self._chunk_now(span) or loop.create_task(self._chunk(span)))
                if not window:
                    return
                item = window.popleft()
                yield item if isinstance(item, ReadChunk) else await item
        finally:
            for item in window:
                if isinstance(item, ReadChunk):
                    item.release()
                else:
                    item.cancel()
                    item.add_done_callback(_give_back)

    def _blob_now(self, extent: PackedExtent) -> bytearray | None:
        volume = self._volumes.get(extent.volume)
        if volume is None:
            return None
        slot = volume.slots[extent.fragment]
        if slot is None or slot.unit.state is DiskState.FAILED:
            return None
        whole = bytearray(extent.length)
        try:
            slot.file.preadv((memoryview(whole),), extent.record + extent.payload_at + extent.position, nowait=True)
        except OSError:
            return None
        return whole if crc32c(whole) == extent.crc else None

    def _span_now(self, span: Span) -> Buffer | None:
        if isinstance(span, PackedSpan):
            whole = self._blob_now(span.extent)
            return None if whole is None else memoryview(whole)[span.low : span.high]
        volume = self._volumes.get(span.volume)
        if volume is None:
            return None
        low, high = _blocks(span)
        target = memoryview(bytearray(high - low))
        if not self.fragments.fill_now(volume, span.at, span.fragment, low, high, target):
            return None
        return target[span.low - low : span.high - low]

    def _chunk_now(self, span: Span) -> ReadChunk | None:
        if isinstance(span, PackedSpan) or span.high - span.low <= _PLAIN_LIMIT:
            part = self._span_now(span)
            return None if part is None else ReadChunk(memoryview(part), _keep)
        volume = self._volumes.get(span.volume)
        buffer = self._buffers.try_acquire() if volume is not None else None
        if volume is None or buffer is None:
            return None
        low, high = _blocks(span)
        if not self.fragments.fill_now(volume, span.at, span.fragment, low, high, buffer.view[: high - low]):
            buffer.release()
            return None
        return ReadChunk(buffer.view[span.low - low : span.high - low], buffer.release)

    async def _chunk(self, span: Span) -> ReadChunk:
        if isinstance(span, PackedSpan):
            extent = span.extent
            volume = self._volume(extent.volume, extent.record)
            whole = await self.fragments.read_blob(
                volume, extent.fragment, extent.record, extent.record + extent.payload_at + extent.position,
                extent.length, extent.crc,
            )  # fmt: skip
            return ReadChunk(memoryview(whole)[span.low : span.high], _keep)
        volume = self._volume(span.volume, span.at.record)
        low, high = _blocks(span)
        buffer = await self._buffers.acquire(self._patience) if high - low > _PLAIN_LIMIT else None
        target = buffer.view[: high - low] if buffer is not None else memoryview(bytearray(high - low))
        rebuilt = await self._fill(volume, span, low, high, target, buffer)
        view = target if rebuilt is None else memoryview(rebuilt)
        release = buffer.release if buffer is not None and rebuilt is None else _keep
        return ReadChunk(view[span.low - low : span.high - low], release)

    async def _fill(
        self, volume: Volume, span: StripedSpan, low: int, high: int, target: memoryview, buffer: PooledBuffer | None
    ) -> bytes | None:
        filled = False
        try:
            rebuilt = await self.fragments.read(volume, span.at, span.fragment, low, high, target)
            filled = rebuilt is None
            return rebuilt
        finally:
            if buffer is not None and not filled:
                buffer.discard()

    def _volume(self, volume_id: VolumeId, record: int) -> Volume:
        volume = self._volumes.get(volume_id)
        if volume is None:
            raise BlobGone(volume_id, record)
        return volume


def plan(blobs: Sequence[BlobRef], start: int, length: int) -> Iterator[Span]:
    """The spans that make up bytes [start, start + length) of the concatenated blobs, in order, lazily."""
    end = start + length
    at = 0
    for blob in blobs:
        if at >= end:
            return
        if at + blob.length > start:
            yield from _plan_blob(blob, max(0, start - at), min(blob.length, end - at))
        at += blob.length
    if at < end:
        raise Damaged("the blobs are shorter than the bytes asked for")


def _plan_blob(blob: BlobRef, start: int, end: int) -> Iterator[Span]:
    at = 0
    for extent in blob.extents:
        if at >= end:
            return
        size = extent.length
        low, high = max(0, start - at), min(size, end - at)
        at += size
        if low >= high:
            continue
        if isinstance(extent, PackedExtent):
            yield PackedSpan(extent, low, high)
            continue
        for index in range(low // extent.piece, (high - 1) // extent.piece + 1):
            base = index * extent.piece
            stripe = StripeAt(extent.record + index * extent.stride, extent.payload_at, extent.fragment_length)
            yield from _plan_piece(extent.volume, stripe, max(low - base, 0), min(high - base, extent.piece))
    if at < end:
        raise Damaged("a blob's extents are shorter than the blob")


def _plan_piece(volume: VolumeId, at: StripeAt, start: int, end: int) -> Iterator[Span]:
    while start < end:
        fragment, low = divmod(start, at.fragment_length)
        high = min(at.fragment_length, low + end - start, low // READ_BYTES * READ_BYTES + READ_BYTES)
        yield StripedSpan(volume, at, fragment, low, high)
        start += high - low


def _narrowed(span: Span) -> tuple[Span, Span | None]:
    """The part of a span in its first block, and what is left of it."""
    if isinstance(span, PackedSpan):
        return span, None
    border = (span.low // BLOCK + 1) * BLOCK
    if span.high <= border:
        return span, None
    return span._replace(high=border), span._replace(low=border)


def _blocks(span: StripedSpan) -> tuple[int, int]:
    """The block bounds around a span."""
    return span.low // BLOCK * BLOCK, min(span.at.fragment_length, (span.high + BLOCK - 1) // BLOCK * BLOCK)


def _keep() -> None:
    """Nothing to give back."""


def _give_back(task: "asyncio.Task[ReadChunk]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().release()

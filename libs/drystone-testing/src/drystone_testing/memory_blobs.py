# SPDX-License-Identifier: Apache-2.0
"""An in-memory `StorageService` that honours the contract of drystone_core.services, for tests and the simulator.

Invariants
  M1  A blob is readable only after its append returned or its writer finished; an aborted writer leaves nothing.
  M2  `outstanding` counts chunks yielded and not yet released; releasing twice is an error.
  M3  `lent` counts piece buffers handed out by unfinished writers; it is 0 when no writer is open.
Extents are synthetic but well formed: they survive every codec and say the right lengths.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from drystone_core.check import check
from drystone_core.crc import crc32c
from drystone_core.errors import Busy, Damaged, Stale
from drystone_core.extents import PACK_LIMIT, PIECE_LIMIT, RECORD_ALIGN, BlobRef, Extent, PackedExtent, StripedExtent
from drystone_core.ids import BlobId, VolumeId, make_blob_id
from drystone_core.ports import Buffer, Clock, Entropy
from drystone_core.services import BlobHeader, BlobWriter, ReadChunk, SmallBlob

_CHUNK: Final = 1024 * 1024
_PACKS: Final = VolumeId(1)
_STRIPES: Final = VolumeId(2)


@dataclass(slots=True)
class StoredBlob:
    """What a test may look at."""

    header: BlobHeader
    payload: bytes
    trailer: bytes


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong from now on; tests set the fields."""

    append: Exception | None = None
    """Raised by append() and by a writer's write()."""
    read: Exception | None = None
    """Raised by read()."""
    read_after: int | None = None
    """Bytes after which read() raises Stale, once: the volume is gone."""
    suspend_reads: bool = False
    """read_now() answers None, so that read() is used for small ranges too."""
    damaged: set[BlobId] = field(default_factory=set)


class MemoryBlobs:
    """Blobs in a dict."""

    def __init__(self, *, clock: Clock, entropy: Entropy, pieces: int = 64, piece_bytes: int = PIECE_LIMIT) -> None:
        self._clock = clock
        self._entropy = entropy
        self._pieces = pieces
        self._piece_bytes = piece_bytes
        self._record = RECORD_ALIGN
        self.blobs: dict[BlobId, StoredBlob] = {}
        self.faults = Faults()
        self.lent = 0
        self.contended = False
        """What writers answer when asked whether buffers run short."""
        self.let_go = 0
        """How often a writer was told not to wait for its trailer."""
        self.outstanding = 0
        self.appends = 0

    async def append(self, blob: SmallBlob) -> BlobRef:
        """Durable at once."""
        if self.faults.append is not None:
            raise self.faults.append
        payload = bytes(blob.payload)
        check(len(payload) <= PACK_LIMIT, "a small blob holds at most PACK_LIMIT bytes")
        self.appends += 1
        extent = PackedExtent(_PACKS, self.take_record(1), 4096, 0, 0, len(payload), crc32c(payload))
        return self.keep(blob.header, payload, blob.trailer, (extent,) if payload else ())

    def writer(self, header: BlobHeader, *, expected: int) -> BlobWriter:
        """A writer whose pieces are as long as the pool's (or as `expected`, when that is less)."""
        piece = min(self._piece_bytes, expected) if expected else self._piece_bytes
        return MemoryWriter(self, header, piece)

    def read_now(self, blobs: Sequence[BlobRef], start: int, length: int) -> Buffer | None:
        """Answers ranges of up to PACK_LIMIT bytes that lie in one blob."""
        if length > PACK_LIMIT or self.faults.suspend_reads or self.faults.read is not None:
            return None
        for blob in blobs:
            if start < blob.length:
                if start + length > blob.length:
                    return None
                payload = self.payload(blob)
                return payload if length == len(payload) else payload[start : start + length]
            start -= blob.length
        return None

    async def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Chunks of at most 1 MiB, each counted until it is released."""
        if self.faults.read is not None:
            raise self.faults.read
        check(start >= 0 and start + length <= sum(blob.length for blob in blobs), "a read stays inside its blobs")
        sent = 0
        for blob in blobs:
            if start >= blob.length:
                start -= blob.length
                continue
            payload = memoryview(self.payload(blob))
            while length and start < blob.length:
                if self.faults.read_after is not None and sent >= self.faults.read_after:
                    self.faults.read_after = None
                    raise Stale("volume is gone")
                step = min(_CHUNK, blob.length - start, length)
                yield self._chunk(payload[start : start + step])
                start, length, sent = start + step, length - step, sent + step
            start = 0

    def payload(self, blob: BlobRef) -> bytes:
        """The bytes of a blob; Damaged when it is not there or a test said so."""
        stored = self.blobs.get(blob.blob_id)
        if stored is None or blob.blob_id in self.faults.damaged:
            raise Damaged("blob is not readable")
        check(len(stored.payload) == blob.length, "a reference says the blob's length")
        return stored.payload

    def keep(self, header: BlobHeader, payload: bytes, trailer: bytes, extents: tuple[Extent, ...]) -> BlobRef:
        """Store a blob under a new id."""
        blob_id = make_blob_id(self._clock.wall_us(), self._entropy.token(8))
        self.blobs[blob_id] = StoredBlob(header, payload, trailer)
        return BlobRef(blob_id, len(payload), extents)

    def take_record(self, count: int) -> int:
        """The offset of `count` records of one page each."""
        record = self._record
        self._record += RECORD_ALIGN * count
        return record

    def lend(self, size: int) -> bytearray:
        """A piece buffer; Busy when all are lent."""
        if self.lent >= self._pieces:
            raise Busy("all piece buffers are lent")
        self.lent += 1
        return bytearray(size)

    def _chunk(self, data: memoryview) -> ReadChunk:
        self.outstanding += 1
        released = False

        def release() -> None:
            nonlocal released
            check(not released, "a chunk is released once")
            released = True
            self.outstanding -= 1

        return ReadChunk(data, release)


class MemoryWriter:
    """One large blob; see `BlobWriter`."""

    def __init__(self, store: MemoryBlobs, header: BlobHeader, piece: int) -> None:
        self._store = store
        self._header = header
        self._piece = piece
        self._buffer: bytearray | None = None
        self._payload = bytearray()
        self._counts: list[int] = []
        self._ended = False

    async def space(self) -> memoryview:
        check(not self._ended and self._buffer is None, "one piece at a time, before the end")
        self._buffer = self._store.lend(self._piece)
        return memoryview(self._buffer)

    async def write(self, length: int) -> None:
        check(self._buffer is not None, "write() follows space()")
        buffer = self._buffer
        assert buffer is not None
        check(0 < length <= len(buffer), "a piece has bytes, and no more than its buffer")
        if self._store.faults.append is not None:
            raise self._store.faults.append
        self._payload += memoryview(buffer)[:length]
        self._counts.append(length)
        buffer[:] = b"\xdd" * len(buffer)
        self._give_back()

    def contended(self) -> bool:
        return self._store.contended

    def let_go(self) -> None:
        self._store.let_go += 1

    async def finish(self, trailer: bytes) -> BlobRef:
        check(not self._ended, "a writer ends once")
        check(bool(self._counts), "a large blob has bytes")
        self._give_back()
        self._ended = True
        extents: list[Extent] = [self._run(piece, len(list(run))) for piece, run in groupby(self._counts)]
        return self._store.keep(self._header, bytes(self._payload), trailer, tuple(extents))

    def abort(self) -> None:
        self._give_back()
        self._ended = True
        self._payload.clear()

    def _run(self, piece: int, count: int) -> StripedExtent:
        fragment = -(-piece // 4 // 64) * 64
        return StripedExtent(_STRIPES, self._store.take_record(count), RECORD_ALIGN, count, 4096, fragment, piece)

    def _give_back(self) -> None:
        if self._buffer is not None:
            self._buffer = None
            self._store.lent -= 1

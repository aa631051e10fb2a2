# SPDX-License-Identifier: Apache-2.0
"""Streams one large blob: while one piece is coded and flushed the next is received.

Invariants
  W1  At most MAX_IN_FLIGHT pieces are being flushed and one received: three buffers a writer (invariant 7).
  W2  The last piece waits for the trailer and carries it; when the end was not known, or the trailer did not come in
      time, a small stripe of its own does.
  W3  A buffer goes back to the pool only when no disk call can still read it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from drystone_core.check import check
from drystone_core.extents import PIECE_LIMIT, BlobRef, Extent, StripedExtent
from drystone_core.formats.trailer import LIMIT as TRAILER_LIMIT
from drystone_core.ids import BlobId
from drystone_core.services import BlobHeader
from drystone_datapath.buffers import BufferPool, PooledBuffer
from drystone_datapath.pack import Piece

MAX_IN_FLIGHT = 2

PieceSink = Callable[[Piece], Awaitable[StripedExtent]]
"""Appends a piece to some volume, to another one when that breaks; returns when it is durable on all its slots."""


class StripedWriter:
    """The BlobWriter over a piece sink."""

    def __init__(
        self,
        *,
        header: BlobHeader,
        blob_id: BlobId,
        expected: int,
        sink: PieceSink,
        pool: BufferPool,
        patience: float = 10.0,
    ) -> None:
        self._header, self._blob_id, self._expected = header, blob_id, expected
        self._sink, self._pool, self._patience = sink, pool, patience
        self._buffer: PooledBuffer | None = None
        self._held: tuple[PooledBuffer, int] | None = None
        self._offset = 0
        self._flights: list[asyncio.Task[StripedExtent]] = []
        self._running: set[asyncio.Task[StripedExtent]] = set()
        self._ended = False

    async def space(self) -> memoryview:
        """A writable piece buffer; Busy when none comes free in time."""
        check(not self._ended, "the writer has ended")
        if self._buffer is None:
            self._buffer = await self._pool.acquire(self._patience)
        return self._buffer.view[: self._piece_bytes()]

    async def write(self, length: int) -> None:
        """Hand over the first `length` bytes of the last space(); returns when the next may be received."""
        buffer, self._buffer = self._buffer, None
        check(buffer is not None and self._held is None, "write() after a short or final piece, or without space()")
        assert buffer is not None
        full = length == self._piece_bytes()
        self._offset += length
        if self._offset == self._expected or not (full or self._expected):
            self._held = (buffer, length)
            return
        self._launch(buffer, self._offset - length, length, b"", last=False)
        while len(self._running) >= MAX_IN_FLIGHT:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for flight in self._flights:
            if flight.done():
                flight.result()

    def contended(self) -> bool:
        """Buffers run short."""
        return self._pool.contended

    def let_go(self) -> None:
        """Write a last piece before its trailer is known (W2)."""
        held, self._held = self._held, None
        if held is not None:
            buffer, length = held
            self._launch(buffer, self._offset - length, length, b"", last=False)

    async def finish(self, trailer: bytes) -> BlobRef:
        """All pieces and the trailer durable on all slots; raises what the first failing piece raised."""
        check(not self._ended, "the writer has ended")
        check(len(trailer) <= TRAILER_LIMIT, "trailer too long")
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None
        buffer, length = self._held or (await self._pool.acquire(self._patience), 0)
        self._ended, self._held = True, None
        self._launch(buffer, self._offset - length, length, trailer, last=True)
        if len(self._flights) == 1:
            extents = [await asyncio.shield(self._flights[0])]
        else:
            extents = list(await asyncio.gather(*(asyncio.shield(flight) for flight in self._flights)))
        return BlobRef(self._blob_id, self._offset, merge_runs([each for each in extents if each.piece]))

    def abort(self) -> None:
        """Give up: nothing is named; pieces in flight end by themselves and then give back their buffers."""
        self._ended = True
        for buffer in (self._buffer, self._held[0] if self._held else None):
            if buffer is not None:
                buffer.release()
        self._buffer = self._held = None

    def _piece_bytes(self) -> int:
        left = self._expected - self._offset
        return left if 0 < left < PIECE_LIMIT else PIECE_LIMIT

    def _launch(self, buffer: PooledBuffer, offset: int, length: int, trailer: bytes, *, last: bool) -> None:
        piece = Piece(
            header=self._header, blob_id=self._blob_id, offset=offset, view=buffer.view, length=length,
            trailer=trailer, last=last,
        )  # fmt: skip
        flight = asyncio.get_running_loop().create_task(self._fly(piece, buffer))
        self._flights.append(flight)
        self._running.add(flight)
        flight.add_done_callback(self._landed)

    async def _fly(self, piece: Piece, buffer: PooledBuffer) -> StripedExtent:
        try:
            return await self._sink(piece)
        except asyncio.CancelledError:
            piece.tainted = True
            raise
        finally:
            if piece.tainted:
                buffer.discard()
            else:
                buffer.release()

    def _landed(self, flight: "asyncio.Task[StripedExtent]") -> None:
        self._running.discard(flight)
        if not flight.cancelled():
            flight.exception()


def merge_runs(extents: list[StripedExtent]) -> tuple[Extent, ...]:
    """Consecutive pieces of equal shape and equal spacing become one run."""
    runs: list[StripedExtent] = []
    for extent in extents:
        if runs:
            joined = _join(runs[-1], extent)
            if joined is not None:
                runs[-1] = joined
                continue
        runs.append(extent)
    return tuple(runs)


def _join(run: StripedExtent, one: StripedExtent) -> StripedExtent | None:
    same = (run.volume, run.payload_at, run.fragment_length, run.piece)
    if same != (one.volume, one.payload_at, one.fragment_length, one.piece):
        return None
    stride = one.record - run.record if run.count == 1 else run.stride
    if stride <= 0 or one.record != run.record + run.count * stride:
        return None
    return StripedExtent(run.volume, run.record, stride, run.count + 1, run.payload_at, run.fragment_length, run.piece)

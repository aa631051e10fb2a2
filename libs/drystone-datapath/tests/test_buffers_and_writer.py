# SPDX-License-Identifier: Apache-2.0
"""Bounded buffers, and the writer's conduct when pieces fail."""

import asyncio

import pytest

from drystone_core.errors import Busy
from drystone_core.extents import PIECE_LIMIT, StripedExtent
from drystone_core.ids import BucketId, Key, Uid, VolumeId
from drystone_core.services import BlobHeader
from drystone_datapath.buffers import PIECE_BYTES, BufferPool
from drystone_datapath.pack import Piece
from drystone_datapath.write import StripedWriter, merge_runs
from drystone_testing.volume_rig import Rig

HEADER = BlobHeader(bucket_id=BucketId(1), key=Key(b"k"), uid=Uid(bytes(16)))


async def test_who_waits_too_long_is_told_busy_and_the_count_holds() -> None:
    """B1."""
    pool = BufferPool(size=4096, count=2)
    first, second = await pool.acquire(1), await pool.acquire(1)
    with pytest.raises(Busy):
        await pool.acquire(0.01)
    waiting = asyncio.ensure_future(pool.acquire(1))
    await asyncio.sleep(0)
    first.release()
    first.release()
    third = await waiting
    assert pool.used == 2 and third.view is first.view
    second.discard()
    fourth = await pool.acquire(1)
    assert fourth.view is not second.view
    third.release()
    fourth.release()
    assert pool.used == 0


async def test_cancelled_waiter_does_not_lose_a_buffer() -> None:
    """Cancelled before or just after its turn came."""
    pool = BufferPool(size=64, count=1)
    held = await pool.acquire(1)
    early, late = (asyncio.ensure_future(pool.acquire(1)) for _ in range(2))
    await asyncio.sleep(0)
    early.cancel()
    held.release()
    late.cancel()
    await asyncio.gather(early, late, return_exceptions=True)
    assert pool.used == 0


async def test_writer_holds_at_most_three_buffers_and_gives_all_back() -> None:
    """W1, also when the sink is slow and the writer is aborted midway."""
    rig = Rig()
    gate = asyncio.Event()
    seen: list[Piece] = []

    async def sink(piece: Piece) -> StripedExtent:
        seen.append(piece)
        await gate.wait()
        return StripedExtent(VolumeId(1), len(seen) * 4096, 4096, 1, 4096, 64, piece.length)

    pool = BufferPool(size=PIECE_BYTES, count=8)
    writer = StripedWriter(header=HEADER, blob_id=rig.blob_id(), expected=0, sink=sink, pool=pool)
    await writer.space()
    await writer.write(PIECE_LIMIT)
    await writer.space()
    stuck = asyncio.ensure_future(writer.write(PIECE_LIMIT))
    await asyncio.sleep(0.01)
    assert not stuck.done() and pool.used == 2
    gate.set()
    await stuck
    await writer.space()
    writer.abort()
    await asyncio.sleep(0.01)
    assert pool.used == 0 and len(seen) == 2


async def test_writer_retries_nothing_itself_and_raises_the_pieces_error() -> None:
    """The sink decides where to append again; what it raises ends the blob. A tainted buffer never returns to the
    pool."""
    rig = Rig()

    async def sink(piece: Piece) -> StripedExtent:
        piece.tainted = True
        raise OSError("no volume takes it")

    pool = BufferPool(size=PIECE_BYTES, count=3)
    writer = StripedWriter(header=HEADER, blob_id=rig.blob_id(), expected=200_000, sink=sink, pool=pool)
    view = await writer.space()
    assert len(view) == 200_000
    await writer.write(200_000)
    with pytest.raises(OSError, match="no volume"):
        await writer.finish(b"")
    await asyncio.sleep(0)
    assert pool.used == 0


async def test_piece_lands_on_another_volume_when_the_first_breaks() -> None:
    """What a storage node's sink does: the same piece, appended again elsewhere, reads back across both volumes."""
    rig = Rig()
    first, second = await rig.open(1), await rig.open(2)
    rig.disk(0).fail("pwritev", name="0000000000000001.0", nth=3)

    class Either:
        volume = first.volume

        async def append_piece(self, piece: Piece) -> StripedExtent:
            try:
                return await first.append_piece(piece)
            except Exception:
                return await second.append_piece(piece)

    ref = await rig.put_large(Either(), 30 << 20)  # type: ignore[arg-type]
    assert {extent.volume for extent in ref.extents} == {1, 2}
    await rig.agree()


def test_runs_join_only_equal_spacing() -> None:
    """Another writer's stripe between two pieces changes the spacing: a new run begins."""

    def one(record: int, piece: int = 100) -> StripedExtent:
        return StripedExtent(VolumeId(1), record, 8192, 1, 4096, 64, piece)

    runs = merge_runs([one(8192), one(16384), one(24576), one(40960), one(57344), one(65536, piece=50)])
    assert [(run.record, run.stride, run.count) for run in runs] == [  # type: ignore[union-attr]
        (8192, 8192, 3),
        (40960, 16384, 2),
        (65536, 8192, 1),
    ]

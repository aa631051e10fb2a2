# SPDX-License-Identifier: Apache-2.0
"""Blobs of pieces that were handed over before they were full, and reads while buffers run short."""

from drystone_core.extents import StripedExtent
from drystone_datapath.pack import Piece
from drystone_datapath.write import StripedWriter
from drystone_testing.volume_rig import Rig


async def write_in(rig: Rig, sizes: list[int], *, let_go: bool) -> bytes:
    """One blob handed over in pieces of these sizes, added to the rig's model."""
    appender = await rig.open()
    body = rig.entropy.token(sum(sizes))

    async def sink(piece: Piece) -> StripedExtent:
        return await appender.append_piece(piece)

    writer = StripedWriter(
        header=rig.blob(1).header, blob_id=rig.blob_id(), expected=len(body), sink=sink, pool=rig.pieces
    )
    at = 0
    for size in sizes:
        space = await writer.space()
        space[:size] = body[at : at + size]
        await writer.write(size)
        at += size
    if let_go:
        writer.let_go()
        writer.let_go()
    ref = await writer.finish(b"trailer")
    assert ref.length == len(body)
    rig.model.append((ref, body))
    await rig.agree()
    assert rig.pieces.used == 0
    return body


async def test_a_blob_of_short_pieces_reads_back() -> None:
    """Whole and in ranges (what `agree` reads); the last piece carries the trailer or was let go before it."""
    for let_go in (False, True):
        await write_in(Rig(), [70_000, 65_536, 1, 300_000, 65_536], let_go=let_go)


async def test_reads_go_on_while_somebody_holds_all_read_buffers() -> None:
    """Readers that take their time hold up nobody else (E2)."""
    rig = Rig()
    body = await write_in(rig, [3_000_000], let_go=False)
    pool = rig.reader._buffers
    held = [pool.try_acquire() for _ in range(pool.count)]
    (ref, _) = rig.model[-1]
    assert await rig.read([ref], 0, len(body)) == body
    assert await rig.read([ref], 123_456, 1_000_001) == body[123_456 : 123_456 + 1_000_001]
    for buffer in held:
        assert buffer is not None
        buffer.release()

# SPDX-License-Identifier: Apache-2.0
"""Registrations of long PUTs: renewed while the operation lives, no longer, and honest when they ended."""

import asyncio
import gc

import pytest

from drystone_core.errors import Unavailable
from drystone_core.formats.row_keys import PART, UPLOAD
from drystone_core.formats.row_parts import decode_part
from drystone_core.ids import UploadId
from drystone_core.mutations import AbortUpload, PutPart
from drystone_metadata.store.ports import RowKey
from drystone_testing.http_calls import StallingBody

PIECE = 200_000
DATA = b"n" * (5 * PIECE)


async def rows(cell, kind: int) -> list[tuple[RowKey, bytes]]:
    return await cell.metadata._storage.scan(cell.metadata._tablet, RowKey(kind, b""), RowKey(kind + 1, b""), 100)


def living(cell) -> int:
    gc.collect()
    return len(cell.app.renewals._living)


async def test_registration_is_renewed_while_no_bytes_come(make_cell):
    """Whatever the client does, the rows say that the writer lives; the object is whole in the end."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=PIECE)
    seen = []

    async def stalled(at: int) -> None:
        if at < 3 * PIECE:
            return
        (_, before), *_ = await rows(cell, PART)
        await asyncio.sleep(0.01)
        await cell.app.renewals.renew_all()
        (key, after), *others = await rows(cell, PART)
        seen.append(decode_part(key.key, key.seq, after).modified_ms)
        assert after != before and len(others) == at // PIECE - 1

    body = StallingBody(DATA, every=PIECE, stalled=stalled)
    assert (await cell.caller.send("PUT", "/bkt/k", body)).status == 200
    assert len(seen) == 2 and seen[0] < seen[1]
    assert (await cell.caller.send("GET", "/bkt/k")).body == DATA
    assert await rows(cell, UPLOAD) == [] and living(cell) == 0


@pytest.mark.parametrize("how", ["failed", "refused", "cancelled"])
async def test_registration_of_an_operation_that_ended_is_renewed_no_more(make_cell, how):
    """No path out of a PUT leaves a registration alive: also when it could not be dropped."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=PIECE)
    stop, mutate = asyncio.Event(), cell.metadata.mutate

    async def no_aborts(mutation):
        if isinstance(mutation, AbortUpload):
            raise Unavailable("just now")
        return await mutate(mutation)

    cell.metadata.mutate = no_aborts

    async def stalled(at: int) -> None:
        if at == 4 * PIECE:
            stop.set()
            if how == "failed":
                raise Unavailable("a disk")
            if how == "cancelled":
                await asyncio.Event().wait()

    headers = {"if-match": '"00"', "amz-sdk-invocation-id": "x", "amz-sdk-request": "attempt=2"}
    body = StallingBody(DATA, every=PIECE, stalled=stalled)
    put = asyncio.ensure_future(cell.caller.send("PUT", "/bkt/k", body, headers=headers if how == "refused" else None))
    await stop.wait()
    if how == "cancelled":
        assert living(cell) == 1
        put.cancel()
    await asyncio.wait([put])
    del put
    assert len(await rows(cell, UPLOAD)) == 1
    assert living(cell) == 0


async def test_put_whose_registration_ended_is_told_to_try_again(make_cell):
    """503 at the next blob, and nothing is named."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=PIECE)
    mutate = cell.metadata.mutate

    async def lost(mutation):
        if isinstance(mutation, PutPart) and mutation.part.number == 2:
            address, upload = (await rows(cell, UPLOAD))[0][0][1:]
            abort = AbortUpload(
                write_id=cell.app.renewals.write_id(),
                bucket="bkt",
                key=mutation.key,
                upload_id=UploadId(upload.hex()),
            )
            assert address.endswith(b"k")
            await mutate(abort)
        return await mutate(mutation)

    cell.metadata.mutate = lost
    answer = await cell.caller.send("PUT", "/bkt/k", StallingBody(DATA, every=PIECE, stalled=nothing))
    assert answer.status == 503
    assert (await cell.caller.send("GET", "/bkt/k")).status == 404
    assert await rows(cell, UPLOAD) == [] and await rows(cell, PART) == []


async def test_renewal_of_one_that_is_gone_does_not_keep_the_others_from_theirs(make_cell):
    """A refusal ends that one's renewals only."""
    cell = await make_cell(long_put_seconds=0.0, piece_bytes=PIECE)
    renewals = cell.app.renewals

    async def stalled(at: int) -> None:
        if at != 3 * PIECE:
            return
        (one,) = renewals._living
        await one.drop()
        await renewals.renew_all()
        assert living(cell) == 0

    answer = await cell.caller.send("PUT", "/bkt/k", StallingBody(DATA, every=PIECE, stalled=stalled))
    assert answer.status == 503


async def nothing(_at: int) -> None:
    """No stall."""

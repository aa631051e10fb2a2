# SPDX-License-Identifier: Apache-2.0
"""Long PUTs, over a whole store on real directories: killed in the middle, alive for long, racing a DeleteBucket."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from drystone_testing.hasty_cell import FLOOR_AGE, LONG, MIB, HastyCell
from drystone_testing.http_calls import StallingBody
from drystone_testing.ledger import Record

BODY = bytes(range(256)) * (LONG // 256)


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[HastyCell]:
    made = HastyCell(tmp_path)
    await made.start()
    assert (await made.caller.send("PUT", "/bkt")).status == 200
    yield made
    await made.stop()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a state, with a generous bound."""
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.05)


async def test_process_killed_in_a_long_put_leaves_nothing_for_ever(tmp_path: Path, record: Record) -> None:
    """The hidden upload is there after kill -9, nobody sees it, it ends after its bound, and its bytes are freed."""
    command = (sys.executable, "-m", "drystone_testing.hasty_cell", str(tmp_path))
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"registered\n"
    finally:
        child.kill()
        await child.wait()
    cell = HastyCell(tmp_path)
    await cell.start()
    try:
        assert len(await cell.upload_rows()) >= 3, "upload, part, name"
        assert (await cell.metadata.list_uploads("bkt")).uploads == []
        answer = await cell.caller.send("GET", "/bkt", query="uploads")
        assert b"<Upload>" not in answer.body
        stored = cell.stored_bytes()
        assert stored >= LONG // 3

        async def ended() -> bool:
            return not await cell.upload_rows()

        await until(ended)
        reclaimer = cell.reclaimer()

        async def freed() -> bool:
            await cell.caller.send("PUT", "/bkt/moves-the-floor", b"x")
            await reclaimer.run_pass()
            return reclaimer.progress.bytes_freed >= LONG // 3 and cell.stored_bytes() < stored - LONG // 3

        await until(freed)
        assert (await cell.caller.send("GET", "/bkt/long")).status == 404
        record(killed=1, freed=reclaimer.progress.bytes_freed, rows_left=0)
    finally:
        await cell.stop()


async def test_long_put_that_lives_is_whole_however_long_it_takes(cell: HastyCell) -> None:
    """Its blobs grow older than the floor and its upload far older than the bound; passes of reclaim free none of them."""
    reclaimer = cell.reclaimer()

    async def stalled(_at: int) -> None:
        await asyncio.sleep(0.3)
        assert (await cell.caller.send("PUT", "/bkt/moves-the-floor", b"x")).status == 200
        await reclaimer.run_pass()

    began = cell.world.clock.monotonic()
    assert (await cell.caller.send("PUT", "/bkt/long", StallingBody(BODY, every=MIB, stalled=stalled))).status == 200
    assert cell.world.clock.monotonic() - began > FLOOR_AGE
    assert await cell.upload_rows() == []
    await reclaimer.run_pass()
    assert (await cell.caller.send("GET", "/bkt/long")).body == BODY


async def test_client_that_leaves_a_long_put_leaves_no_upload(cell: HastyCell) -> None:
    """The cancelled operation drops its registration, or stops renewing it."""
    stalled = asyncio.Event()

    async def wait(at: int) -> None:
        if at > LONG // 2:
            stalled.set()
            await asyncio.Event().wait()

    put = asyncio.ensure_future(cell.caller.send("PUT", "/bkt/long", StallingBody(BODY, every=MIB, stalled=wait)))
    await stalled.wait()
    put.cancel()
    await asyncio.wait([put])

    async def ended() -> bool:
        return not await cell.upload_rows()

    await until(ended)

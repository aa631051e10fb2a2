# SPDX-License-Identifier: Apache-2.0
"""Attacks on changes of buckets that stand in several tablets (R2): what is acknowledged holds in all of them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET_NAME
from drystone_core.ids import Key, make_write_id
from drystone_core.mutations import ConfigureBucket, CreateBucket, DeleteBucket, DeleteObject
from drystone_core.objects import Bucket, Versioning
from drystone_metadata.logic.view import NotCarried
from drystone_metadata.owned import OwnedMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.memory import MemoryStorage
from drystone_metadata.store.ports import CELL_TABLET, RowKey, TabletId
from drystone_testing.contracts.tablets_machine import OneProcess
from drystone_testing.sim_world import RunningClock
from drystone_testing.tablets_cell import Cell, split


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


async def nobody(name: str, tablet: TabletId, step: object) -> None:
    raise Unavailable("there is no other process")


def at_first_carry(process: OneProcess, meanwhile: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """When a bucket is first carried to a tablet, something else begins and gets as far as it can."""
    carry, begun = process.service.changes.carry, []

    async def slow(given: Bucket, tablet: TabletId) -> None:
        if tablet != CELL_TABLET and not begun:
            begun.append(asyncio.ensure_future(meanwhile))
            await asyncio.sleep(0.02)
        await carry(given, tablet)

    process.service.changes.carry = slow  # type: ignore[method-assign]
    return begun


async def versions_after_two_puts(cell: Cell, process: OneProcess) -> int:
    """How many versions a key in the last tablet has then."""
    for _ in range(2):
        await process.service.mutate(cell.put(b"y"))
    page = await process.service.list_versions("b")
    return sum(one.key == Key(b"y") for one in page.versions)


async def test_configuration_overtaken_by_another_is_carried_before_it_is_acknowledged(cell: Cell) -> None:
    """Versioning is being carried when a document is set by somebody slow: acknowledged, every tablet keeps versions."""
    process = await cell.process()
    bucket = await cell.filled(process, b"x")
    await split(process, bucket, b"c")
    await split(process, bucket, b"m")

    at_first_carry(process, process.submit(CELL_TABLET, ConfigureBucket(**cell.common(), documents={"policy": b"{}"})))
    await process.service.mutate(ConfigureBucket(**cell.common(), versioning=Versioning.ENABLED))
    assert await versions_after_two_puts(cell, process) == 2
    assert (await process.service.bucket("b")).pending == b""


async def test_deletion_undone_leaves_no_configuration_uncarried(cell: Cell) -> None:
    """A deletion comes while versioning is being carried, and is refused: acknowledged, every tablet keeps versions."""
    process = await cell.process()
    bucket = await cell.filled(process, b"x")
    await split(process, bucket, b"c")
    await split(process, bucket, b"m")
    service = process.service
    deleting = at_first_carry(process, service._of_bucket(DeleteBucket(**cell.common())))
    await service.mutate(ConfigureBucket(**cell.common(), versioning=Versioning.ENABLED))
    assert await versions_after_two_puts(cell, process) == 2
    with pytest.raises(Refused) as refused:
        await deleting[0]
    assert refused.value.code is ErrorCode.BUCKET_NOT_EMPTY


async def test_configuration_left_half_done_is_ended_by_a_deletion(cell: Cell) -> None:
    """Nobody carries it any more: who deletes the bucket carries it first, and the bucket goes."""
    process = await cell.process()
    bucket = await cell.filled(process, b"")
    await split(process, bucket, b"m")
    await process.submit(CELL_TABLET, ConfigureBucket(**cell.common(), documents={"policy": b"{}"}))
    await process.service.mutate(DeleteBucket(**cell.common()))
    with pytest.raises(Refused):
        await process.service.bucket("b")


async def test_deletion_is_answered_while_what_it_left_is_still_being_buried(cell: Cell) -> None:
    """Another tablet takes its time to forget the bucket: who deleted it hears before, and it is forgotten all the same."""
    process = await cell.process()
    bucket = await cell.filled(process, b"")
    child = await split(process, bucket, b"m")
    changes, held = process.service.changes, asyncio.Event()
    bury, name = changes._bury, RowKey(BUCKET_NAME, bucket.bucket_id.to_bytes(8, "big"))

    async def slow(*arguments: Any) -> None:
        await held.wait()
        await bury(*arguments)

    changes._bury = slow  # type: ignore[method-assign]
    async with asyncio.timeout(2.0):
        await process.service.mutate(DeleteBucket(**cell.common()))
    assert await changes.bucket("b") is None and name in cell.tablets.tablets[child].rows
    held.set()
    async with asyncio.timeout(2.0):
        while name in cell.tablets.tablets[child].rows:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("at", ["commit", "carry"])
async def test_change_goes_on_when_its_caller_gives_up(cell: Cell, at: str) -> None:
    """The gateway loses patience while the change is decided, or carried: it is ended all the same, by nobody's asking."""
    process = await cell.process()
    bucket = await cell.filled(process, b"x")
    await split(process, bucket, b"m")
    held, met = asyncio.Event(), asyncio.Event()
    changes, storage = process.service.changes, process.storage
    call = storage.commit if at == "commit" else changes.carry

    async def slow(*arguments: Any) -> Any:
        met.set()
        await held.wait()
        return await call(*arguments)  # type: ignore[operator]

    setattr(storage if at == "commit" else changes, at, slow)
    change = ConfigureBucket(**cell.common(), versioning=Versioning.ENABLED)
    asking = asyncio.ensure_future(process.service.mutate(change))
    await met.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    held.set()
    await asyncio.sleep(0.02)
    found = await changes.bucket("b")
    assert found is not None and found.versioning is Versioning.ENABLED and not found.pending


async def test_change_that_cannot_be_ended_is_tried_again(cell: Cell) -> None:
    """Its tablets cannot be reached for a while: the next attempts end it, without anybody asking."""
    process = await cell.process()
    bucket = await cell.filled(process, b"x")
    child = await split(process, bucket, b"m")
    changes, carry = process.service.changes, process.service.changes.carry

    async def unreachable(_bucket: Bucket, _tablet: TabletId) -> None:
        raise Unavailable("ordered by the test")

    changes.carry = unreachable  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await process.service.mutate(ConfigureBucket(**cell.common(), versioning=Versioning.ENABLED))
    await changes.again()
    found = await changes.bucket("b")
    assert found is not None and found.pending
    changes.carry = carry  # type: ignore[method-assign]
    await changes.again()
    found = await changes.bucket("b")
    assert found is not None and not found.pending
    copy = process.running[child].committer.buckets["b"]
    assert copy.versioning is Versioning.ENABLED


async def test_running_process_ends_what_it_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration fails at another tablet: the process that owns the first one ends it by itself."""
    monkeypatch.setattr("drystone_metadata.tablets.changes.AGAIN_SECONDS", 0.05)
    cell, clock = Cell(), RunningClock()
    storage = MemoryStorage(cell.tablets)
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    node = OwnedMetadata(
        storage=storage,
        name="m",
        owner=lambda _: "m",
        ask=nobody,
        registered=lambda: True,
        lease=1.0,
        clock=clock,
        entropy=cell.entropy,
        settings=MetadataSettings(),
    )
    running = asyncio.ensure_future(node.run())

    def common() -> dict[str, Any]:
        return {"write_id": make_write_id(clock.wall_us(), cell.entropy.token(16)), "bucket": "b"}

    while CELL_TABLET not in node.tablets.running:
        await asyncio.sleep(0.01)
    await node.mutate(CreateBucket(**common(), owner="1" * 12, region="r"))
    address = (await node.bucket("b")).bucket_id.to_bytes(8, "big") + b"m"
    child = await node.tablets.running[CELL_TABLET].splitter.split(address)
    await node.map.look(address)
    while child not in node.tablets.running:
        await asyncio.sleep(0.01)
    carry = node.changes.carry

    async def unreachable(_bucket: Bucket, _tablet: TabletId) -> None:
        node.changes.carry = carry  # type: ignore[method-assign]
        raise Unavailable("ordered by the test")

    node.changes.carry = unreachable  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await node.mutate(ConfigureBucket(**common(), versioning=Versioning.ENABLED))
    while (found := await node.changes.bucket("b")) is not None and found.pending:
        await asyncio.sleep(0.01)
    assert found is not None and found.versioning is Versioning.ENABLED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_tablet_with_the_copy_of_a_former_bucket_says_nothing_of_the_present_one(cell: Cell) -> None:
    """It gave all keys of the former one away, so that one's deletion did not come by; an old map leads a put there."""
    process = await cell.process()
    bucket = await cell.filled(process)
    old = await split(process, bucket, b"c")
    await process.service.mutate(CreateBucket(**cell.common("c"), owner="1" * 12, region="r"))
    await process.service.mutate(cell.put(b"k", "c"))
    await split(process, await process.service.bucket("c"), b"")
    await process.service.mutate(DeleteObject(**cell.common("c"), key=Key(b"k")))
    await process.service.mutate(DeleteBucket(**cell.common("c")))
    await process.service.mutate(CreateBucket(**cell.common("c"), owner="1" * 12, region="r"))
    now = await process.service.bucket("c")
    with pytest.raises(NotCarried):
        await process.submit(old, replace(cell.put(b"k", "c"), bucket_id=now.bucket_id))
    await process.service.mutate(replace(cell.put(b"k", "c"), bucket_id=now.bucket_id))

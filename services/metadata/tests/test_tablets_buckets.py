# SPDX-License-Identifier: Apache-2.0
"""Attacks on changes of buckets that stand in several tablets (R2): what is acknowledged holds in all of them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import Key
from drystone_core.mutations import ConfigureBucket, DeleteBucket
from drystone_core.objects import Bucket, Versioning
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_testing.contracts.tablets_machine import OneProcess
from drystone_testing.tablets_cell import Cell, split


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


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

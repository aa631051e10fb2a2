# SPDX-License-Identifier: Apache-2.0
"""Many objects read in one call from several tablets: what one of them meets is its own affair."""

from typing import Any

import pytest

from drystone_core.errors import Damaged, DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET, CURRENT
from drystone_core.ids import Key
from drystone_core.mutations import CreateBucket
from drystone_core.objects import ObjectVersion
from drystone_core.services import ObjectName
from drystone_metadata.store.ports import CELL_TABLET, RowKey, TabletId
from drystone_testing.contracts.tablets_machine import OneProcess
from drystone_testing.tablets_cell import MINUTE_US, Cell, join, split


@pytest.fixture
async def cell() -> Any:
    made = Cell()
    yield made
    await made.end()


def fail(process: OneProcess, wrong: RowKey | TabletId, error: DrystoneError) -> list[int]:
    """Every read with that row, or in that tablet, fails; the sizes of all reads."""
    read, sizes = process.storage.read, []

    async def failing(tablet: TabletId, keys: Any) -> list[bytes | None]:
        sizes.append(len(keys))
        if wrong in (tablet, *keys):
            raise error
        return await read(tablet, keys)

    process.storage.read = failing  # type: ignore[method-assign]
    return sizes


async def test_damaged_row_fails_only_its_own_read(cell: Cell) -> None:
    """The others of the call are answered; without damage all are read at once."""
    process = await cell.process()
    bucket = await cell.filled(process)
    names = [ObjectName("b", Key(bytes((letter,)))) for letter in b"abcdefghz"]
    sizes = fail(process, RowKey(CURRENT, bucket.bucket_id.to_bytes(8, "big") + b"c"), Damaged("ordered by the test"))
    whole = await process.service.objects([names[0], *names[3:]])
    assert len(sizes) <= 2 and all(isinstance(one, ObjectVersion) for one in whole[:-1])
    answers = await process.service.objects(names)
    assert [type(one) for one in answers] == [*[ObjectVersion] * 2, Damaged, *[ObjectVersion] * 5, Refused]


async def test_damaged_bucket_fails_only_reads_of_its_objects(cell: Cell) -> None:
    """Also when no bucket was seen before."""
    process = await cell.process()
    await cell.filled(process, b"a")
    await process.service.mutate(CreateBucket(**cell.common("c"), owner="1" * 12, region="r"))
    await process.service.mutate(cell.put(b"a", "c"))
    fail(process, RowKey(BUCKET, b"c"), Damaged("ordered by the test"))
    names = [ObjectName("b", Key(b"a")), ObjectName("c", Key(b"a")), ObjectName("d", Key(b"a"))]
    good, damaged, none = await process.service.objects(names)
    assert isinstance(good, ObjectVersion) and isinstance(damaged, Damaged)
    assert isinstance(none, Refused) and none.code is ErrorCode.NO_SUCH_BUCKET


async def test_tablet_that_cannot_be_read_fails_only_reads_of_its_objects(cell: Cell) -> None:
    """More names than are read at once, in two tablets."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    fail(process, child, Unavailable("ordered by the test"))
    answers = await process.service.objects([ObjectName("b", Key(bytes((letter,)))) for letter in b"abcdefgh" * 9])
    assert [type(one) for one in answers] == ([ObjectVersion] * 4 + [Unavailable] * 4) * 9
    with pytest.raises(Unavailable):
        await process.service.object("b", Key(b"e"))


@pytest.mark.parametrize("versions", [False, True])
async def test_listing_shows_nothing_twice_when_its_tablets_are_joined_meanwhile(cell: Cell, versions: bool) -> None:
    """The page has read the left tablet when that takes over the right one, which it wants to read next."""
    process = await cell.process()
    bucket = await cell.filled(process)
    child = await split(process, bucket, b"e")
    cell.clock.now_us += 20 * MINUTE_US
    find, joined = process.map.find, []

    async def late(address: bytes) -> Any:
        if address >= bucket.bucket_id.to_bytes(8, "big") + b"e" and not joined:
            joined.append(child)
            await join(process, CELL_TABLET, child)
        return await find(address)

    process.map.find = late  # type: ignore[method-assign]
    if versions:
        keys = [bytes(one.key) for one in (await process.service.list_versions("b")).versions]
    else:
        keys = [bytes(one.key) for one in (await process.service.list_objects("b")).objects]
    assert joined and keys == [bytes((letter,)) for letter in b"abcdefgh"]

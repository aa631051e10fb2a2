# SPDX-License-Identifier: Apache-2.0
"""Who is not registered keeps what it owns and takes nothing, not even back."""

import asyncio

import pytest

from drystone_core.errors import DrystoneError, Unreachable
from drystone_core.ids import make_write_id
from drystone_core.mutations import CreateBucket
from drystone_metadata.owned import OwnedMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.standing import Standing
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy


async def _nobody(name: str, tablet: TabletId, step: object) -> None:
    raise Unreachable("there is no other process")


class Process:
    """A metadata process over shared storage whose picture of the ring is its own."""

    def __init__(self, tablets: MemoryTablets, name: str) -> None:
        self.registered, self.says = True, name
        self.metadata: OwnedMetadata
        owner = Standing(
            name=name,
            ring=lambda tablet: self.says,
            registered=lambda: self.registered,
            owns=self.owns,
        )
        self.metadata = OwnedMetadata(
            storage=MemoryStorage(tablets), name=name, owner=owner, ask=_nobody,
            registered=lambda: self.registered, lease=1.0, clock=SystemClock(), entropy=SystemEntropy(),
            settings=MetadataSettings(),
        )  # fmt: skip

    def owns(self, tablet: TabletId) -> bool:
        return self.metadata.tablets.owns(tablet)

    async def owns_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not self.metadata.tablets.owns(CELL_TABLET):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True


async def test_an_owner_cut_off_from_the_coordinator_keeps_its_tablet_and_does_not_take_it_back() -> None:
    """Its own picture of the ring goes on naming it; once another has taken over it waits until it is registered again."""
    tablets = MemoryTablets()
    await MemoryStorage(tablets).create(CELL_TABLET, low=b"", high=b"", generation=1)
    first, second = Process(tablets, "first"), Process(tablets, "second")
    second.says = "first"
    running = [asyncio.ensure_future(one.metadata.run()) for one in (first, second)]
    try:
        assert await first.owns_within(5)
        first.registered = False
        await asyncio.sleep(0.2)
        assert first.metadata.tablets.owns(CELL_TABLET), "the coordinator may be away for everybody"
        second.says = "second"
        assert await second.owns_within(5)
        write_id = make_write_id(SystemClock().wall_us(), SystemEntropy().token(16))
        with pytest.raises(DrystoneError):
            await first.metadata.mutate(CreateBucket(write_id=write_id, bucket="b", owner="o", region="us-east-1"))
        taken = second.metadata.tablets.take_overs
        assert not await first.owns_within(1.0)
        assert second.metadata.tablets.take_overs == taken
        second.says = "first"
        first.registered = True
        assert await first.owns_within(5)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def test_the_ring_is_believed_about_others() -> None:
    """Registered or not."""
    standing = Standing(name="one", ring=lambda tablet: "two", registered=lambda: False, owns=lambda tablet: False)
    assert standing(TabletId(b"t")) == "two"

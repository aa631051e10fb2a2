# SPDX-License-Identifier: Apache-2.0
"""The metadata service over the in-memory storage with a manual clock, faults to order, and mutations short to write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from drystone_core.errors import Refused
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.formats.feed import decode_record
from drystone_core.ids import Key, Uid, VolumeId, WriteId, make_blob_id, make_write_id
from drystone_core.mutations import CreateBucket, PutObject
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.memory import Fault, MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET
from drystone_testing.sim_world import CountingEntropy, SteppedClock

DAY_US = 86_400_000_000


class Rig:
    """A service over memory, its clock, and faults by call name."""

    def __init__(
        self, tablets: MemoryTablets | None = None, clock: SteppedClock | None = None, **settings: Any
    ) -> None:
        self.clock = clock or SteppedClock()
        self.entropy = CountingEntropy()
        self.entropy.count = 1000 if tablets else 0
        self.tablets = tablets or MemoryTablets()
        self.faults: dict[str, list[Fault]] = {}
        self.commits = 0
        self.storage = MemoryStorage(self.tablets, faults=self._fault)
        self.service = LocalMetadata(
            storage=self.storage,
            tablet=CELL_TABLET,
            clock=self.clock,
            entropy=self.entropy,
            settings=MetadataSettings(**{"queue_count": 100, **settings}),
        )

    def _fault(self, call: str) -> Fault:
        self.commits += call == "commit"
        planned = self.faults.get(call)
        return planned.pop(0) if planned else Fault.NONE

    def id(self) -> WriteId:
        return make_write_id(self.clock.now_us, self.entropy.token(16))

    def uid(self) -> Uid:
        return Uid(self.entropy.token(16))

    def blob(self, age_us: int = 0) -> BlobRef:
        blob = make_blob_id(self.clock.now_us - age_us, self.entropy.token(8))
        return BlobRef(blob, 10, (PackedExtent(VolumeId(1), 4096, 640, 0, 0, 10, 7),))

    def put(self, key: bytes = b"k", *, age_us: int = 0, **more: Any) -> PutObject:
        uid = self.uid()
        fields: dict[str, Any] = {"write_id": self.id(), "blobs": (self.blob(age_us),), "uid": uid, **more}
        return PutObject(
            bucket="bkt", key=Key(key), size=10, etag=fields["uid"].hex(), headers={}, metadata={}, **fields
        )

    async def bucket_id(self) -> Any:
        return (await self.service.bucket("bkt")).bucket_id

    async def feed(self) -> list[Any]:
        rows = await self.storage.feed(CELL_TABLET, 0, 10_000)
        return [entry for row in rows for entry in decode_record(row.record).entries]


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[LocalMetadata]:
    """The service, started, with bucket `bkt`."""
    await rig.service.start()
    task = asyncio.create_task(rig.service.run())
    with suppress(Refused):
        await rig.service.mutate(CreateBucket(write_id=rig.id(), bucket="bkt", owner="1" * 12, region="r"))
    try:
        yield rig.service
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

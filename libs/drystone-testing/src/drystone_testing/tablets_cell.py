# SPDX-License-Identifier: Apache-2.0
"""A cell of tablets in memory for attacks: processes come and go at will, and calls meet what the test orders."""

from typing import Any

from drystone_core.ids import Key, Uid, UploadId, make_write_id
from drystone_core.mutations import CreateBucket, CreateUpload, PutObject, PutPart
from drystone_core.objects import Bucket, Part
from drystone_metadata.store.memory import Fault, MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_testing.contracts.tablets_machine import OneProcess
from drystone_testing.sim_world import CountingEntropy, SteppedClock

MINUTE_US = 60_000_000


class Cell:
    """Tablets in memory and processes on them; `faults`: call → what happens to it next."""

    def __init__(self) -> None:
        self.tablets = MemoryTablets()
        self.clock, self.entropy = SteppedClock(), CountingEntropy()
        self.faults: dict[str, list[Fault | type[BaseException]]] = {}
        self.processes: list[OneProcess] = []

    async def process(self) -> OneProcess:
        """One more process, which takes everything over."""
        storage = MemoryStorage(self.tablets, faults=self._fault)
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        made = OneProcess(storage, self.clock, self.entropy)
        self.processes.append(made)
        await made.own()
        return made

    async def end(self) -> None:
        for process in self.processes:
            await process.end()

    def _fault(self, call: str) -> Fault:
        planned = self.faults.get(call)
        fault = planned.pop(0) if planned else Fault.NONE
        if isinstance(fault, Fault):
            return fault
        raise fault

    def common(self, bucket: str = "b") -> dict[str, Any]:
        self.clock.now_us += 1000
        return {"write_id": make_write_id(self.clock.now_us, self.entropy.token(16)), "bucket": bucket}

    def put(self, key: bytes, bucket: str = "b") -> PutObject:
        uid = Uid(self.entropy.token(16))
        return PutObject(
            **self.common(bucket), key=Key(key), uid=uid, size=0, etag=uid.hex(), headers={}, metadata={}, blobs=()
        )

    async def filled(self, process: OneProcess, keys: bytes = b"abcdefgh") -> Bucket:
        """A bucket with keys of one letter."""
        await process.service.mutate(CreateBucket(**self.common(), owner="1" * 12, region="r"))
        for letter in keys:
            await process.service.mutate(self.put(bytes((letter,))))
        return await process.service.bucket("b")


async def split(process: OneProcess, bucket: Bucket, key: bytes) -> TabletId:
    """The tablet of the key begins with it."""
    address = bucket.bucket_id.to_bytes(8, "big") + key
    spot = await process.map.look(address)
    child = await process.running[spot.tablet].splitter.split(address)
    await process.own()
    return child


async def keys_of(process: OneProcess, bucket: str = "b") -> list[bytes]:
    page = await process.service.list_objects(bucket)
    return [bytes(row.key) for row in page.objects]


async def join(process: OneProcess, left: TabletId, right: TabletId) -> None:
    await process.merger.join(process.running[left], process.running[right])


async def upload(process: OneProcess, cell: Cell, key: bytes, bucket: str) -> UploadId:
    """An upload with one part; sweeps remove its rows when nobody knows its bucket."""
    made = await process.service.mutate(
        CreateUpload(**cell.common(bucket), key=Key(key), owner="1" * 12, headers={}, metadata={})
    )
    assert made.upload_id is not None
    uid = Uid(cell.entropy.token(16))
    part = Part(number=1, size=0, etag=uid.hex(), modified_ms=0, uid=uid)
    await process.service.mutate(PutPart(**cell.common(bucket), key=Key(key), upload_id=made.upload_id, part=part))
    return made.upload_id


async def sweep(process: OneProcess) -> None:
    for one in process.running.values():
        for _ in range(40):
            await one.upkeep.turn()

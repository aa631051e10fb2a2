# SPDX-License-Identifier: Apache-2.0
"""A load of mutations on a metadata service by clients that repeat what was not answered, compared with a plain dict.

Each client has keys of its own, so what it was told last is what must be there. A repeat is the same mutation under the
same write id, as the gateway sends it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from drystone_core.errors import Busy, Unavailable
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.ids import Key, Uid, VolumeId, WriteId, make_blob_id, make_write_id
from drystone_core.mutations import CreateBucket, DeleteObject, PutObject
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.decide import Change
from drystone_metadata.service import LocalMetadata

T = TypeVar("T")
BUCKET = "load"
PATIENCE = 90.0
"""Seconds after which a call that is still not answered has failed."""


@dataclass
class MetadataLoad:
    """Some clients on one service. `start`, `until` as often as needed, `finish`; `compare` afterwards."""

    metadata: LocalMetadata
    clock: Clock
    entropy: Entropy
    clients: int = 8
    keys_each: int = 12
    model: dict[bytes, str] = field(default_factory=dict)
    """Key → ETag, of what was acknowledged."""
    acknowledged: int = 0
    repeats: int = 0
    """Calls sent again because the answer said nothing about the outcome."""
    slowest: float = 0.0
    """Seconds until the call that waited longest was answered."""
    _ending: bool = False
    _running: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._run())

    async def until(self, more: int) -> None:
        """Until so many further calls are acknowledged. AssertionError when a read showed anything but what was
        acknowledged last, TimeoutError when a call was not answered."""
        assert self._running is not None
        goal = self.acknowledged + more
        while self.acknowledged < goal:
            if self._running.done():
                await self._running
            await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """Let every call end; raises as `until`."""
        assert self._running is not None
        self._ending = True
        await self._running

    async def abandon(self) -> None:
        """End without regard to what is under way."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._running

    async def _run(self) -> None:
        bucket = CreateBucket(write_id=self._write_id(), bucket=BUCKET, owner="1" * 12, region="r")
        await self._answered(bucket)
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(number))

    async def compare(self, metadata: LocalMetadata) -> None:
        """What a service shows is the model, listed and read one by one."""
        page = await metadata.list_objects(BUCKET, limit=1000)
        assert {entry.key: entry.etag for entry in page.objects} == self.model
        for key, etag in self.model.items():
            assert (await metadata.object(BUCKET, Key(key))).etag == etag

    async def _client(self, number: int) -> None:
        chance, step = random.Random(number), 0
        while not self._ending:
            step += 1
            key = b"c%d/k%02d" % (number, chance.randrange(self.keys_each))
            if chance.random() < 0.25:
                await self._answered(DeleteObject(write_id=self._write_id(), bucket=BUCKET, key=Key(key)))
                self.model.pop(key, None)
            else:
                put = self._put(key)
                await self._answered(put)
                self.model[key] = put.etag
            if step % 5 == 0:
                own = b"c%d/" % number
                page = await self._patiently(partial(self.metadata.list_objects, BUCKET, prefix=own))
                known = {at: etag for at, etag in self.model.items() if at.startswith(own)}
                assert {entry.key: entry.etag for entry in page.objects} == known

    async def _answered(self, mutation: Change) -> None:
        await self._patiently(lambda: self.metadata.mutate(mutation))
        self.acknowledged += 1

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await call()
                except (Unavailable, Busy):
                    self.repeats += 1
                    await asyncio.sleep(0.05)
                    continue
                self.slowest = max(self.slowest, time.monotonic() - began)
                return answer

    def _write_id(self) -> WriteId:
        return make_write_id(self.clock.wall_us(), self.entropy.token(16))

    def _put(self, key: bytes) -> PutObject:
        uid = Uid(self.entropy.token(16))
        blob = make_blob_id(self.clock.wall_us(), self.entropy.token(8))
        extents = (PackedExtent(VolumeId(1), 4096, 640, 0, 0, 10, 7),)
        return PutObject(
            write_id=self._write_id(),
            bucket=BUCKET,
            key=Key(key),
            uid=uid,
            size=10,
            etag=uid.hex(),
            headers={},
            metadata={},
            blobs=(BlobRef(blob, 10, extents),),
        )

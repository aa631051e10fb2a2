# SPDX-License-Identifier: Apache-2.0
"""A gateway over three storage nodes of a cell: real gRPC, real disks; nodes go away while it writes and reads."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.extents import BlobRef
from drystone_core.ids import BucketId, Key, Uid
from drystone_core.profiles import Profile
from drystone_core.services import BlobHeader, SmallBlob
from drystone_datapath.volume import DiskState
from drystone_gateway.clients.storage import CellNode, CellStorage
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cell_of_nodes import CellOfNodes


class Gateway:
    """CellStorage over the nodes of a cell, and what it wrote."""

    def __init__(self, cell: CellOfNodes) -> None:
        clock = SystemClock()
        self.cell, self.background = cell, Background(clock=clock)
        self.nodes = [CellNode(name=name, client=cell.client(name, self.background)) for name in cell.nodes]
        self.storage = CellStorage(nodes=lambda: self.nodes, clock=clock, entropy=SystemEntropy())
        self.rng = random.Random(4)
        self.model: list[tuple[BlobRef, bytes]] = []

    def header(self) -> BlobHeader:
        return BlobHeader(bucket_id=BucketId(1), key=Key(b"k"), uid=Uid(self.rng.randbytes(16)))

    async def put(self, size: int) -> None:
        """Small or large, as the gateway would."""
        body = self.rng.randbytes(size)
        if size <= 128 * 1024:
            ref = await self.storage.append(SmallBlob(header=self.header(), payload=body, trailer=b"t"))
        else:
            writer = self.storage.writer(self.header(), expected=size)
            at = 0
            while at < size:
                space = await writer.space()
                count = min(len(space), size - at)
                space[:count] = body[at : at + count]
                at += count
                await writer.write(count)
            ref = await writer.finish(b"trailer")
        self.model.append((ref, body))

    async def get(self, ref: BlobRef, start: int, length: int) -> bytes:
        found = bytearray()
        async for chunk in self.storage.read([ref], start, length):
            found += chunk.data
            chunk.release()
        return bytes(found)

    async def agree(self) -> None:
        """Everything acknowledged, whole and in part."""
        for ref, body in self.model:
            assert await self.get(ref, 0, len(body)) == body
            low = self.rng.randrange(len(body))
            high = self.rng.randrange(low, len(body)) + 1
            assert await self.get(ref, low, high - low) == body[low:high]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    cell = CellOfNodes(tmp_path, profile=Profile(2, 1), disks_each=1)
    await cell.open(3)
    async with asyncio.timeout(120):
        while not all(
            sum(w.unit.state is DiskState.HEALTHY for w in each.member.node.watch.disks) == 3
            for each in cell.nodes.values()
        ):
            await asyncio.sleep(0.05)
    found = Gateway(cell)
    yield found
    await found.background.stop()
    await cell.close()


async def test_blobs_of_any_size_come_back_through_any_node(gateway: Gateway) -> None:
    """One byte, a packed blob, the border, several pieces; ranges of each."""
    for size in (1, 4096, 128 * 1024, 128 * 1024 + 1, 3_000_000, 9_000_000):
        await gateway.put(size)
    await gateway.agree()
    volumes = {extent.volume for ref, _ in gateway.model for extent in ref.extents}
    assert len(volumes) > 1, "appends went in turn to several nodes, each with volumes of its own"


async def test_many_small_ones_at_once_share_calls(gateway: Gateway) -> None:
    """A hundred appends and a hundred reads at the same time."""
    await asyncio.gather(*(gateway.put(3000 + index) for index in range(100)))
    read = await asyncio.gather(*(gateway.get(ref, 0, len(body)) for ref, body in gateway.model))
    assert read == [body for _, body in gateway.model]


async def test_a_node_that_goes_away_costs_no_request(gateway: Gateway) -> None:
    """One of three stops: appends and reads go on at the others; with all gone, Unavailable."""
    await gateway.put(5000)
    await gateway.put(2_000_000)
    await gateway.cell.stop("n1")
    for _ in range(4):
        await gateway.put(5000)
    await gateway.put(1_000_000)
    await gateway.agree()
    for name in ("n0", "n2"):
        await gateway.cell.stop(name)
    with pytest.raises(DrystoneError) as none_left:
        await gateway.put(10)
    assert isinstance(none_left.value, Unavailable)


async def test_a_long_read_is_not_broken_off_by_a_reader_that_stops_at_its_last_byte(gateway: Gateway) -> None:
    """As a response with a length does: the call to the node has ended by then, and counts as a good one."""
    await gateway.put(1_000_000)
    ended = []

    async def to_its_end(read: Any, *asked: Any) -> AsyncIterator[Any]:
        async for chunk in read(*asked):
            yield chunk
        ended.append(True)

    for node in gateway.nodes:
        node.client.read = partial(to_its_end, node.client.read)  # type: ignore[method-assign]
    ((ref, body),) = gateway.model
    chunks, found = gateway.storage.read([ref], 0, len(body)), bytearray()
    while len(found) < len(body):
        found += (await anext(chunks)).data
    await chunks.aclose()  # type: ignore[attr-defined]
    assert found == body and ended == [True]


async def test_a_class_that_is_short_of_disks_makes_no_node_suspect(gateway: Gateway) -> None:
    """Refused by name, small and large; every node is asked for other blobs in the same order as before."""
    cold = replace(gateway.header(), disk_class="hdd")
    with pytest.raises(Unavailable, match="no disk of class hdd is known"):
        await gateway.storage.append(SmallBlob(header=cold, payload=b"x", trailer=b"t"))
    writer = gateway.storage.writer(cold, expected=200_000)
    (await writer.space())[:] = bytes(200_000)
    await writer.write(200_000)
    with pytest.raises(Unavailable, match="no disk of class hdd is known"):
        await writer.finish(b"trailer")
    assert {node.avoid_until for node in gateway.nodes} == {float("-inf")}
    await gateway.put(4000)
    await gateway.agree()

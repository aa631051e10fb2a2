# SPDX-License-Identifier: Apache-2.0
"""A storage node over gRPC on a unix socket: appends, reads, status and upkeep answer as in the process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.errors import DrystoneError, ErrorCode
from drystone_core.extents import PACK_LIMIT
from drystone_core.ids import BucketId, Key, Uid, VolumeId
from drystone_core.services import BlobHeader, SmallBlob
from drystone_core.upkeep import Wound
from drystone_runtime.background import Background
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_runtime.rpc.storage_client import RpcStorage
from drystone_runtime.rpc.upkeep_client import RpcUpkeep
from drystone_storage.node import build
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service
from drystone_storage.settings import StorageSettings
from drystone_storage.world import World, real_world


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[tuple[RpcStorage, RpcUpkeep]]:
    """Of a served node on three disks."""
    world: World = real_world()
    node = build(StorageSettings(paths=tuple(str(tmp_path / f"d{index}") for index in range(3))), world)
    await node.start()
    server = RpcServer(
        services=(storage_service(node, node.status), upkeep_service(node.healer, node.freer, node.scrubs)),
        settings=RpcServerSettings(address=f"unix:{tmp_path}/s.sock"),
    )
    await server.start()
    background = Background(clock=world.clock)
    async with open_channel(f"unix:{tmp_path}/s.sock") as channel:
        yield RpcStorage(channel=channel, background=background, timeout=10.0), RpcUpkeep(channel)
    await server.stop(0.1)
    await background.stop()
    await node.stop()


def small(payload: bytes) -> SmallBlob:
    """A blob of object `k`."""
    header = BlobHeader(bucket_id=BucketId(7), key=Key(b"k"), uid=Uid(bytes(16)))
    return SmallBlob(header=header, payload=payload, trailer=b"trailer")


async def test_appended_blobs_read_back_across_their_borders(clients: tuple[RpcStorage, RpcUpkeep]) -> None:
    """Sixty-four appends share calls; one read runs over all of them."""
    storage, _ = clients
    payloads = [bytes([index]) * (1000 + index) for index in range(64)]
    blobs = await asyncio.gather(*(storage.append(small(payload)) for payload in payloads))
    whole = b"".join(payloads)
    read = b"".join([bytes(chunk.data) async for chunk in storage.read(blobs, 500, len(whole) - 900)])
    assert read == whole[500 : len(whole) - 400]


async def test_status_names_disks_and_profile(clients: tuple[RpcStorage, RpcUpkeep]) -> None:
    """As the node itself says it."""
    status = await clients[0].status()
    assert (status.profile, [disk.state for disk in status.disks]) == ("rs-2-1", ["healthy"] * 3)
    assert all(len(disk.disk_id) == 32 and disk.total_bytes > 0 for disk in status.disks)


async def test_refusals_of_items_and_calls_keep_their_codes(clients: tuple[RpcStorage, RpcUpkeep]) -> None:
    """A blob too large for one message, a heal without a rate."""
    storage, upkeep = clients
    good, large = storage.append(small(b"good")), storage.append(small(bytes(PACK_LIMIT + 1)))
    with pytest.raises(DrystoneError) as refused:
        await large
    assert refused.value.code is ErrorCode.ENTITY_TOO_LARGE
    assert (await good).length == 4, "a refused item does not hurt its neighbours"
    wound = Wound(volume=VolumeId(1), slot=0, spare=0, size=0, reason="test")
    with pytest.raises(DrystoneError) as still:
        await upkeep.heal(wound, bytes_per_second=0)
    assert still.value.code is ErrorCode.INVALID_ARGUMENT


async def test_a_node_that_is_well_has_no_wounds(clients: tuple[RpcStorage, RpcUpkeep]) -> None:
    """Upkeep answers over the same socket."""
    assert list(await clients[1].wounds()) == []
    assert list(await clients[1].closed_volumes()) == []

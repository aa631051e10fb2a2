# SPDX-License-Identifier: Apache-2.0
"""MetadataService over gRPC on a unix socket: the same answers and the same refusals as in the process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from drystone_core.cell import TabletCounts
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.ids import BlobId, BucketId, Key, Uid, make_write_id
from drystone_core.mutations import CreateBucket, DeleteObject, Preconditions, PutObject
from drystone_core.services import BlobName
from drystone_metadata.rpc.server import SERVICE, metadata_service
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.metadata_client import RpcMetadata
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings

CLOCK, ENTROPY = SystemClock(), SystemEntropy()


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """To a served metadata service over memory."""
    background = Background(clock=CLOCK)
    metadata = LocalMetadata(storage=MemoryStorage(MemoryTablets()), tablet=CELL_TABLET, clock=CLOCK, entropy=ENTROPY)
    await metadata.start()
    background.keep("commit", metadata.run)
    server = RpcServer(
        services=(metadata_service(metadata),), settings=RpcServerSettings(address=f"unix:{tmp_path}/m.sock")
    )
    await server.start()
    await server.serving(True)
    async with open_channel(f"unix:{tmp_path}/m.sock") as opened:
        yield opened
    await server.stop(0.1)
    await background.stop()


@pytest.fixture
async def metadata(channel: grpc.aio.Channel) -> AsyncIterator[RpcMetadata]:
    """The client."""
    background = Background(clock=CLOCK)
    yield RpcMetadata(channel=channel, background=background, timeout=10.0)
    await background.stop()


def put(key: bytes, bucket_id: BucketId | None = None, **conditions: bool) -> PutObject:
    """A PUT of an empty object."""
    return PutObject(
        write_id=make_write_id(CLOCK.wall_us(), ENTROPY.token(16)),
        bucket="b",
        key=Key(key),
        uid=Uid(ENTROPY.token(16)),
        size=0,
        etag="d41d8cd98f00b204e9800998ecf8427e",
        headers={"content-type": "text/plain"},
        metadata={"who": "ü"},
        blobs=(),
        bucket_id=bucket_id,
        conditions=Preconditions(**conditions),
    )


def create() -> CreateBucket:
    """The bucket `b`."""
    write_id = make_write_id(CLOCK.wall_us(), ENTROPY.token(16))
    return CreateBucket(write_id=write_id, bucket="b", owner="000000000001", region="us-east-1")


async def test_mutations_and_reads_answer_over_the_wire(metadata: RpcMetadata) -> None:
    """Bucket, object, listings, delete, dead blobs."""
    await metadata.mutate(create())
    assert (await metadata.bucket("b")).owner == "000000000001"
    assert [bucket.name for bucket in await metadata.buckets("000000000001")] == ["b"]
    outcomes = await asyncio.gather(*(metadata.mutate(put(b"k%03d" % index)) for index in range(300)))
    assert all(outcome.etag or outcome.modified_ms for outcome in outcomes)
    version = await metadata.object("b", Key(b"k007"))
    assert (version.headers, version.metadata) == ({"content-type": "text/plain"}, {"who": "ü"})
    page = await metadata.list_objects("b", limit=10)
    assert ([row.key for row in page.objects], page.truncated) == ([b"k%03d" % index for index in range(10)], True)
    assert len((await metadata.list_versions("b", limit=5)).versions) == 5
    assert (await metadata.list_uploads("b")).uploads == []
    await metadata.mutate(
        DeleteObject(
            write_id=make_write_id(CLOCK.wall_us(), ENTROPY.token(16)), bucket="b", key=Key(b"k000"), version_id=None
        )
    )
    name = BlobName(
        BlobId(CLOCK.wall_us().to_bytes(8, "big") + bytes(8)), (await metadata.bucket("b")).bucket_id,
        Key(b"k000"), Uid(bytes(16)), 0, 0,
    )  # fmt: skip
    assert await metadata.dead_blobs([name]) == [False], "younger than the floor"
    assert await metadata.counts() == TabletCounts(1)


async def test_refusals_arrive_as_the_errors_they_were(metadata: RpcMetadata) -> None:
    """Of whole calls and of single items in a bulk call, code and class."""
    with pytest.raises(Refused) as missing:
        await metadata.bucket("nowhere")
    assert missing.value.code is ErrorCode.NO_SUCH_BUCKET
    await metadata.mutate(create())
    other = BucketId((await metadata.bucket("b")).bucket_id + 1)
    with pytest.raises(Refused) as another:
        await metadata.mutate(put(b"k", other))
    assert another.value.code is ErrorCode.NO_SUCH_BUCKET
    results = await asyncio.gather(
        metadata.mutate(put(b"k", if_none_match=True)),
        metadata.mutate(put(b"k", if_none_match=True)),
        metadata.object("b", Key(b"absent")),
        return_exceptions=True,
    )
    codes = [result.code for result in results if isinstance(result, DrystoneError)]
    assert codes == [ErrorCode.PRECONDITION_FAILED, ErrorCode.NO_SUCH_KEY]


async def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    """Not a gRPC exception."""
    background = Background(clock=CLOCK)
    async with open_channel(f"unix:{tmp_path}/nobody.sock") as channel:
        with pytest.raises(Unavailable):
            await RpcMetadata(channel=channel, background=background, timeout=2.0).bucket("b")
    await background.stop()


async def test_health_and_reflection_are_served(channel: grpc.aio.Channel) -> None:
    """As grpcurl and Kubernetes ask."""
    health = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await call.read()
    await call.done_writing()
    assert SERVICE in [service.name for service in listed.list_services_response.service]

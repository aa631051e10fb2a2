# SPDX-License-Identifier: Apache-2.0
"""Bulk messages are the contract's protobuf messages, in both directions, whatever the order of their fields."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from drystone.storage.v1 import disks_pb2 as pb
from drystone.storage.v1 import disks_pb2_grpc
from drystone_runtime.rpc.bulk import Bulk, BulkField, BulkMethods
from drystone_runtime.rpc.channel import open_channel, unary
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings, RpcService

WRITE = BulkField(pb.WriteRequest, "bytes")
READ = BulkField(pb.ReadAtResponse, "bytes")
messages = st.builds(
    pb.WriteRequest, handle=st.integers(0, 2**64 - 1), offset=st.integers(0, 2**64 - 1), durable=st.booleans()
)


def whole(value: Bulk[Any]) -> bytes:
    return b"".join(value.payload)


@given(messages, st.lists(st.binary(max_size=400), max_size=4))
def test_what_is_encoded_is_the_message(message: pb.WriteRequest, parts: list[bytes]) -> None:
    """Of any buffers; a decoder of protobuf finds every field."""
    parsed = pb.WriteRequest.FromString(WRITE.encode(Bulk(message, [memoryview(part) for part in parts])))
    expected = pb.WriteRequest()
    expected.CopyFrom(message)
    expected.bytes = b"".join(parts)
    assert parsed == expected


@given(messages, st.lists(st.binary(max_size=400), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_order_of_fields_is_understood_and_the_last_of_several_counts(
    message: pb.WriteRequest, payloads: list[bytes], rng: Any
) -> None:
    """As protobuf's own decoder takes it."""
    fields = [
        message.SerializeToString(),
        *(pb.WriteRequest(bytes=payload).SerializeToString() for payload in payloads),
    ]
    rng.shuffle(fields)
    raw = b"".join(fields)
    expected, found = pb.WriteRequest.FromString(raw), WRITE.decode(raw)
    assert whole(found) == expected.bytes
    expected.ClearField("bytes")
    assert found.message == expected


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\x0a\x03abc\x7a\x02\x08\x05" + tail))
def test_any_bytes_are_refused_or_mean_what_they_mean_to_protobuf(raw: bytes) -> None:
    """Never something else."""
    try:
        found = READ.decode(raw)
    except DecodeError:
        return
    expected = pb.ReadAtResponse.FromString(raw)
    assert whole(found) == expected.bytes
    expected.ClearField("bytes")
    assert found.message == expected


@pytest.mark.parametrize(
    "raw", [b"\x0a", b"\x0a\x05abc", b"\x0a" + b"\xff" * 11, b"\x08\x01", b"\x0b", b"\x80", b"\x7a\x01\x08"]
)
def test_damaged_messages_are_refused(raw: bytes) -> None:
    """Cut off, too long a number, a number where bytes belong, a group."""
    with pytest.raises(DecodeError):
        READ.decode(raw)


class _Disks(disks_pb2_grpc.DiskServiceServicer):
    """Answers a write with what it was told."""

    async def Write(self, asked: Any, context: Any) -> pb.WriteResponse:
        return pb.WriteResponse(bytes=whole(asked) + str(asked.message.offset).encode())


async def test_a_caller_without_bulk_is_understood(tmp_path: Path) -> None:
    """One made from the contract alone, by generated code; a message that cannot be read is the caller's fault."""
    bulk = BulkMethods(pb.DESCRIPTOR.services_by_name["DiskService"], requests={"Write": "bytes"})
    service = RpcService(
        name="drystone.storage.v1.DiskService",
        register=lambda server: disks_pb2_grpc.add_DiskServiceServicer_to_server(_Disks(), bulk.at_server(server)),
    )
    server = RpcServer(services=(service,), settings=RpcServerSettings(address=f"unix:{tmp_path}/s"))
    await server.start()
    async with open_channel(f"unix:{tmp_path}/s") as channel:
        plain = disks_pb2_grpc.DiskServiceStub(channel)
        answer = await unary(plain.Write, pb.WriteRequest(offset=7, bytes=b"abc"), timeout=10.0)
        assert answer.bytes == b"abc7"
        ours = bulk.at_client(disks_pb2_grpc.DiskServiceStub(channel), channel)
        answer = await unary(ours.Write, Bulk(pb.WriteRequest(offset=8), (b"x", memoryview(b"yz"))), timeout=10.0)
        assert answer.bytes == b"xyz8"
        raw = channel.unary_unary("/drystone.storage.v1.DiskService/Write")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(b"\x32\x05abc", timeout=10.0)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await server.stop(0.0)

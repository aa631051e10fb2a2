# SPDX-License-Identifier: Apache-2.0
"""Every service starts as a process of its own, says the truth about its health, and ends at SIGTERM."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

SERVICES = {
    "metadata": (
        "drystone.metadata.v1.MetadataService",
        ("--cluster-id", "0" * 31 + "1", "--create", "{dir}/m0", "{dir}/m1"),
    ),
    "storage": ("drystone.storage.v1.StorageService", ("{dir}/d0", "{dir}/d1", "{dir}/d2")),
    "replication": ("drystone.replication.v1.ReplicationService", ("--storage-node", "unix:{dir}/nobody.sock")),
    "lifecycle": (
        "drystone.lifecycle.v1.LifecycleService",
        ("--storage-node", "unix:{dir}/nobody.sock", "--metadata", "unix:{dir}/nobody.sock"),
    ),
}
ALONE = {"metadata", "storage"}
"""Services that need nobody else to be ready."""


METHODS = {"metadata": "ListBuckets", "storage": "GetStatus", "replication": "GetStatus", "lifecycle": "GetStatus"}


def call_by_reflection(channel: grpc.Channel, service: str, method: str) -> Any:
    """Call a method with an empty request, knowing nothing but what reflection tells, as grpcurl does."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    pool, wanted = (
        descriptor_pool.DescriptorPool(),
        [reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)],
    )
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    while wanted:
        answer = next(iter(stub.ServerReflectionInfo(iter((wanted.pop(),)), timeout=10)))
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            if file.name not in files:
                files[file.name] = file
                wanted += [reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in file.dependency]
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

    for name in files:
        add(name)
    found = pool.FindServiceByName(service).FindMethodByName(method)
    request, answer = (message_factory.GetMessageClass(kind) for kind in (found.input_type, found.output_type))
    call = channel.unary_unary if not found.server_streaming else channel.unary_stream
    said = call(
        f"/{service}/{method}", request_serializer=request.SerializeToString, response_deserializer=answer.FromString
    )(request(), timeout=10)
    return list(said) if found.server_streaming else said


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_serves_health_and_reflection_and_drains(name: str, tmp_path: Path) -> None:
    """On a unix socket that only its owner may open."""
    full_name, arguments = SERVICES[name]
    socket = tmp_path / "s.sock"
    command = [sys.executable, "-m", f"drystone_{name}", "--listen", f"unix:{socket}"]
    command += [argument.format(dir=tmp_path) for argument in arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"ready unix:{socket}\n"
        assert socket.stat().st_mode & 0o077 == 0
        with grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service, ready in ((full_name, name in ALONE), ("", name in ALONE), ("liveness", True)):
                answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
                expected = (
                    health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                assert answer.status == expected, service
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=full_name)
            described = next(iter(stub.ServerReflectionInfo(iter((request,)), timeout=10)))
            assert described.file_descriptor_response.file_descriptor_proto
            assert call_by_reflection(channel, full_name, METHODS[name]) is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_gateway_without_a_cell_and_a_credential_says_what_it_lacks() -> None:
    """Both at once."""
    environment = {"DRYSTONE_RPC_PLAINTEXT_LOOPBACK": "true", "DRYSTONE_RPC_LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "drystone_gateway"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 1
    assert "set coordinator.endpoints" in done.stderr
    assert "DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""A whole cell over a ring of three Cassandra nodes, one of which dies, hangs and returns: SDK clients see no error."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import pytest

from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.cassandra_ring import CassandraRing
from drystone_testing.cell_load import loaded, progress
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.ledger import Record, rounds
from drystone_testing.live import ACCESS_KEY, SECRET_KEY
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import Answer, S3Client, Unknown

HANG = 20.0
"""Seconds a node stands still: longer than any call waits."""


@pytest.fixture(scope="module")
def whole() -> Iterator[Cluster]:
    """Two gateways, two metadata processes, six storage nodes, three Cassandra nodes with every row on each."""
    with running_cell(Shape(ring=True, etcd=1)) as cluster:
        yield cluster


@pytest.fixture
def cell(whole: Cluster) -> Iterator[Cluster]:
    """Everything runs and the ring is whole, before and after."""
    ring(whole).mend()
    whole.heal()
    yield whole
    ring(whole).mend()
    whole.heal()


def ring(cell: Cluster) -> CassandraRing:
    assert cell.ring is not None
    return cell.ring


class SdkClient(S3Client):
    """boto3 as it comes, with its default retries, where the load calls objects; everything else as in S3Client."""

    def __init__(self, port: int, **options: Any) -> None:
        super().__init__(port, **options)
        self.retries = 0
        self._s3: Any = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )  # fmt: skip

    def call(
        self, method: str, path: str, *, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        bucket, _, key = path.lstrip("/").partition("/")
        if query or not key:
            return super().call(method, path, query=query, body=body, headers=headers)
        calls: dict[str, Callable[[], Any]] = {
            "PUT": lambda: self._s3.put_object(Bucket=bucket, Key=key, Body=body),
            "GET": lambda: self._s3.get_object(Bucket=bucket, Key=key),
            "DELETE": lambda: self._s3.delete_object(Bucket=bucket, Key=key),
        }
        try:
            answer = calls[method]()
            data = answer["Body"].read() if method == "GET" else b""
        except botocore.exceptions.ClientError as error:
            answer = error.response
            data = f"<Code>{answer['Error']['Code']}</Code>".encode()
        except botocore.exceptions.BotoCoreError as broken:
            raise Unknown(repr(broken)) from broken
        told = answer["ResponseMetadata"]
        self.retries += told["RetryAttempts"]
        return Answer(told["HTTPStatusCode"], told["HTTPHeaders"], data)


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_a_cassandra_node_goes_and_sdk_clients_see_no_error(cell: Cluster, record: Record, how: str) -> None:
    """Each node in turn, the one that gets the statements too: writes, reads and listings are answered through both gateways,
    by the SDK's retries at most, and nothing is lost."""
    listed = 0
    with loaded(cell, f"ring-{how}", seed=51, multipart=0.0, client=SdkClient) as load:
        for member in ring(cell).members[: max(3, rounds(3))]:
            hurt(member, how)
            until = time.monotonic() + HANG
            while time.monotonic() < until:
                progress(load, within=60)
                for port in cell.s3_ports:
                    S3Client(port, timeout=60).list_keys(f"ring-{how}")
                    listed += 1
            if how == "killed":
                member.start()
            else:
                member.resume()
            ring(cell).await_whole()
            progress(load)
    retries = sum(one.retries for writer in load.writers for one in (writer.client, writer.reader))  # type: ignore[attr-defined]
    record(
        acknowledged=load.acknowledged, unknown=load.unknown, retries=retries, listings=listed, gap=load.longest_gap,
        failed_reads=len(load.failed_reads),
    )  # fmt: skip
    assert load.failed_reads == []
    assert load.unknown == 0


def hurt(member: CassandraNode, how: str) -> None:
    if how == "killed":
        member.kill()
    else:
        member.pause()

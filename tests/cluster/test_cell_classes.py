# SPDX-License-Identifier: Apache-2.0
"""Storage classes over a whole cell: gateways that map them, nodes with a disk of each class, the words looked for on the disks."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from drystone_core.formats.shard import parse_shard_name
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.live import drystone_command
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import S3Client

IA = {"x-amz-storage-class": "STANDARD_IA"}
MIB = 1 << 20
SHAPE = Shape(
    nodes=4, disks_each=2, metadata=1, etcd=1, profile="rs-2-1",
    disk_classes={"*/disk-2": "hdd"}, classes={"STANDARD_IA": "hdd"},
)  # fmt: skip


@pytest.fixture(scope="module")
def cell() -> Iterator[Cluster]:
    """Four nodes, each with a disk of class `standard` and one of class `hdd`; of the rest the least."""
    with running_cell(SHAPE) as cluster:
        yield cluster


def holds(cell: Cluster, disk: str, words: bytes) -> int:
    """Nodes whose disk of that name has the words in a shard file."""
    found = 0
    for volumes in cell.root.glob(f"*/{disk}/volumes"):
        files = [file for file in volumes.iterdir() if parse_shard_name(file.name) is not None]
        found += any(words in file.read_bytes() for file in files)
    return found


def words_of(name: str, times: int) -> bytes:
    return f"<{name} lies here>".encode() * times


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def layout(cell: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*drystone_command(), "layout", *arguments, "--state-dir", str(cell.root / "gateway-1" / "state")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def lies(cell: Cluster, name: str) -> tuple[bool, bool]:
    """(on disks of class standard, on disks of class hdd)"""
    return holds(cell, "disk-1", words_of(name, 3)) > 0, holds(cell, "disk-2", words_of(name, 3)) > 0


def test_bytes_lie_on_the_disks_their_class_is_mapped_to(cell: Cluster) -> None:
    """Small, large, an upload's parts, a copy; written at one gateway, read with its class at the other."""
    one, other = (S3Client(port) for port in cell.s3_ports)
    one.create_bucket("classes")
    assert {disk["disk_class"] for disk in cell.status()["disks"]} == {"standard", "hdd"}
    for size in (40, MIB // 4):
        assert one.call("PUT", f"/classes/warm-{size}", body=words_of(f"warm-{size}", size)).status == 200
        assert one.call("PUT", f"/classes/cold-{size}", body=words_of(f"cold-{size}", size), headers=IA).status == 200
        assert lies(cell, f"warm-{size}") == (True, False)
        assert lies(cell, f"cold-{size}") == (False, True)
        found = other.call("GET", f"/classes/cold-{size}")
        assert (found.body, found.headers["x-amz-storage-class"]) == (words_of(f"cold-{size}", size), "STANDARD_IA")
    upload = re.findall(rb"<UploadId>([^<]*)<", one.call("POST", "/classes/parts", query="uploads", headers=IA).body)[
        0
    ].decode()
    part = other.call("PUT", "/classes/parts", query=f"partNumber=1&uploadId={upload}", body=words_of("part", 20_000))
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    assert one.call("POST", "/classes/parts", query=f"uploadId={upload}", body=document.encode()).status == 200
    assert lies(cell, "part") == (False, True)
    assert one.call("PUT", "/classes/moves", body=words_of("moves", 50)).status == 200
    assert one.call("PUT", "/classes/moves", headers={"x-amz-copy-source": "/classes/moves", **IA}).status == 200
    assert lies(cell, "moves") == (True, True), "the bytes of before wait for their grace period"
    assert other.call("HEAD", "/classes/moves").headers["x-amz-storage-class"] == "STANDARD_IA"
    assert (
        one.call("PUT", "/classes/no", body=b"x", headers={"x-amz-storage-class": "GLACIER_IR"}).code
        == "NotImplemented"
    )


def test_a_class_that_is_short_is_named_and_refused_and_comes_back(cell: Cluster) -> None:
    """Its disks drained, which the operator is warned off and does one by one; the other class does not stand in."""
    client = S3Client(cell.s3_ports[0])
    cold = [disk["disk_id"] for disk in cell.status()["disks"] if disk["disk_class"] == "hdd"]
    refused = layout(cell, "plan", *(part for disk in cold[:2] for part in ("--drain", disk)))
    assert refused.returncode == 1 and "of class hdd that take new data" in refused.stderr, refused.stderr
    moved = [cell.root / f"node-{index}" / "disk-2" for index in (1, 2, 3)]
    for path in moved:
        path.rename(path.with_name("away"))
    until(lambda: sum(disk["state"] == "failed" for disk in cell.status()["disks"]) == 3)
    answer = client.call("PUT", "/classes/refused", body=words_of("refused", 50), headers=IA)
    assert (answer.status, answer.code) == (503, "ServiceUnavailable"), answer.body
    assert lies(cell, "refused") == (False, False)
    short = [reason["summary"] for reason in cell.status()["reasons"] if reason["code"] == "CLASS_SHORT"]
    assert short == ["1 disk of class hdd can be written, 2 are needed: writes of STANDARD_IA are refused"]
    assert client.call("PUT", "/classes/warm", body=words_of("goes-on", 50)).status == 200
    assert lies(cell, "goes-on") == (True, False)
    for path in moved:
        path.with_name("away").rename(path)
    until(lambda: client.call("PUT", "/classes/again", body=words_of("again", 50), headers=IA).status == 200)
    assert lies(cell, "again") == (False, True)


def test_a_node_that_is_told_another_class_than_its_disk_has_does_not_start(cell: Cluster) -> None:
    """Exit code 1 and what to do; with the right word it is back."""
    node = cell.of("storage-node")[3]
    node.stop()
    done = subprocess.run(
        [*node.command, "--disk-classes", "*/disk-2=ssd"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (
        done.returncode == 1
        and "disk-2 is a disk of class hdd, storage.disk_classes says ssd: say hdd there" in done.stderr
    )
    node.start()
    node.wait()

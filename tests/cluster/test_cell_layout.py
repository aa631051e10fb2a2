# SPDX-License-Identifier: Apache-2.0
"""`drystone layout` over a whole cell: planned at one gateway, published at the other, obeyed by processes that restart."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drystone_core.formats.shard import parse_shard_name
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.live import drystone_command
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import S3Client

MIB = 1 << 20


@pytest.fixture(scope="module")
def cell() -> Iterator[Cluster]:
    """Six nodes of two disks, so that some can be done without; of the rest the least."""
    with running_cell(Shape(disks_each=2, metadata=1, etcd=1)) as cluster:
        yield cluster


def layout(cell: Cluster, *arguments: str, gateway: int = 0) -> "subprocess.CompletedProcess[str]":
    """A verb, asked of that gateway."""
    state = cell.root / cell.of("gateway")[gateway].name / "state"
    command = [*drystone_command(), "layout", *arguments, "--state-dir", str(state)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def said(cell: Cluster, *arguments: str, gateway: int = 0) -> dict[str, Any]:
    """Its JSON."""
    done = layout(cell, *arguments, "--json", gateway=gateway)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def slots(cell: Cluster, disk: str) -> set[str]:
    """Names of the shard files on that disk."""
    (identity,) = [
        file
        for file in cell.root.glob("*/disk-*/drystone-disk.json")
        if json.loads(file.read_text())["disk_id"] == disk
    ]
    files = (identity.parent / "volumes").iterdir()
    return {file.name for file in files if parse_shard_name(file.name) is not None}


def write(cell: Cluster, client: S3Client, prefix: str) -> None:
    """Objects, small and large, through all storage nodes."""
    for index in range(12):
        body = bytes([index]) * (2 * MIB if index % 3 == 0 else 5000)
        assert client.call("PUT", f"/layout/{prefix}-{index}", body=body).status == 200


def begin_anew(cell: Cluster) -> None:
    """Every storage node is killed and started: what it writes next needs new volumes."""
    for node in cell.of("storage-node"):
        node.kill()
        node.start()
    for node in cell.of("storage-node"):
        node.wait()


def test_a_change_that_leaves_no_place_or_is_of_nothing_changes_nothing(cell: Cluster) -> None:
    """Exit code 1 with a sentence."""
    everything = [part for node in cell.of("storage-node") for part in ("--drain", f"node:{node.name}")]
    for arguments, why in (
        (("plan", *everything), "a new volume of rs-4-2 needs 6 disks"),
        (("plan", "--drain", "node:nobody"), "no disk is in service at a storage node 'nobody'"),
        (("plan", "--undrain", "node:node-1"), "nothing to change"),
        (("apply",), "nothing is staged"),
        (("revert",), "nothing is staged"),
    ):
        done = layout(cell, *arguments)
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
    assert said(cell, "show")["staged_version"] == 0


def test_a_drained_node_takes_nothing_new_until_it_is_undrained(cell: Cluster) -> None:
    """Staged at one gateway, published at the other; processes that start find it, what was written before is read."""
    client = S3Client(cell.s3_ports[0])
    client.create_bucket("layout")
    write(cell, client, "before")
    first = said(cell, "show")
    assert {disk["state"] for disk in first["disks"]} == {"healthy"}
    gone = [disk["disk"] for disk in first["disks"] if disk["node"] == "node-2"]
    planned = said(cell, "plan", "--drain", "node:node-2", "--disk", first["disks"][0]["disk"][:12], "--weight", "4TiB")
    assert (planned["version"], planned["staged_version"], planned["bytes_to_move"] > 0) == (0, 1, True)
    shown = layout(cell, "show", gateway=1).stdout
    assert "they stay there, and readable" in shown and "weight 4.0 TiB" in shown, shown
    assert said(cell, "apply", gateway=1)["version"] == 1

    def states() -> set[str]:
        return {disk["state"] for disk in cell.status()["disks"] if disk["disk_id"] in gone}

    until(lambda: states() == {"draining"})
    begin_anew(cell)
    held = [slots(cell, disk) for disk in gone]
    others = {disk["disk"]: slots(cell, disk["disk"]) for disk in first["disks"] if disk["disk"] not in gone}
    write(cell, client, "drained")
    assert [slots(cell, disk) for disk in gone] == held
    assert any(slots(cell, disk) - before for disk, before in others.items())
    assert client.call("GET", "/layout/before-0").body == bytes(2 * MIB)

    said(cell, "plan", "--undrain", "node:node-2")
    assert said(cell, "apply")["version"] == 2
    until(lambda: states() == {"healthy"})
    for turn in range(6):  # a volume or two may well lie elsewhere
        begin_anew(cell)
        write(cell, client, f"after-{turn}")
        if any(slots(cell, disk) - before for disk, before in zip(gone, held, strict=True)):
            return
    pytest.fail("a node that is not drained any more is not used again")


def test_without_the_coordinator_nothing_is_claimed_of_the_layout(cell: Cluster) -> None:
    """What a gateway remembers is not shown for what is in effect: exit code 3, and the reason."""
    (member,) = cell.etcd.members
    member.signal(signal.SIGSTOP)
    try:
        done = layout(cell, "show")
        assert (done.returncode, "the cell is not able to now" in done.stderr) == (3, True), done.stderr
    finally:
        member.signal(signal.SIGCONT)

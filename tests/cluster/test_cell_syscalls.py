# SPDX-License-Identifier: Apache-2.0
"""A storage node dies at exact system calls of one PUT (strace injection): the one that appends, and one that holds a slot."""

import os
import time
from pathlib import Path

import pytest

from drystone_testing.cell_load import await_true
from drystone_testing.cluster import Cluster
from drystone_testing.ledger import Record, rounds
from drystone_testing.s3_client import S3Client, Unknown
from drystone_testing.service_process import Service
from drystone_testing.traced_threads import WRITE_LIKE, Attached, needs_strace, threads

KEY = "/deaths/k"


@needs_strace
@pytest.mark.parametrize("part", ["appends", "holds a slot"])
def test_a_storage_node_dies_at_each_system_call_of_a_put(
    cell: Cluster, tmp_path: Path, record: Record, part: str
) -> None:
    """SIGKILL at the n-th write-like call of each thread: through both gateways the new object is seen, or the old one when the
    PUT was not acknowledged; never a mix. The cell goes on."""
    clients = [S3Client(port, timeout=60) for port in cell.s3_ports]
    clients[0].create_bucket("deaths")
    current = b"first" * 1000
    assert clients[0].call("PUT", KEY, body=current).status == 200
    node = appending(cell, clients[0])
    if part != "appends":
        node = next(one for one in cell.of("storage-node") if one is not node)
    ordinal, nth, points, acknowledged = 0, 1, 0, 0
    while ordinal < len(threads(node.pid)):
        new = os.urandom(9000)
        tracer = Attached(threads(node.pid)[ordinal], f"{WRITE_LIKE}:signal=SIGKILL:when={nth}", tmp_path / "strace")
        done = put(clients[0], new)
        tracer.detach()  # before that nobody learns of a traced process's death
        died = not node.alive
        for client in clients:
            answer = client.call("GET", KEY)
            assert answer.status == 200, (part, ordinal, nth, answer)
            assert answer.body == new or (answer.body == current and not done), (part, ordinal, nth, done)
            current = answer.body
        points, acknowledged = points + died, acknowledged + (died and done)
        ordinal, nth = (ordinal, nth + 1) if died and nth < 3 * rounds(1) else (ordinal + 1, 1)
        if died:
            revive(cell, node, clients[0], current)
    cell.await_whole()
    record(part=part, crash_points=points, acknowledged=acknowledged, lost=0)
    # How many of its threads a PUT makes write depends on where the gateway sends it: 1 to 8 were seen.
    assert points >= 1, "no call of the PUT was met"


def appending(cell: Cluster, client: S3Client) -> Service:
    """The storage node that takes this gateway's short appends: whose disk thread is not the only one that works. It is the one
    whose process says that it opened a volume last."""
    opened: dict[str, int] = {}
    for one in cell.of("storage-node"):
        opened[one.name] = one.log.read_text(errors="replace").count('"volume.opened"')
        one.kill()
        one.start()
    for one in cell.of("storage-node"):
        one.wait()
    cell.await_whole()
    assert client.call("PUT", KEY + "-warm", body=b"opens a volume").status == 200
    return next(
        one
        for one in cell.of("storage-node")
        if one.log.read_text(errors="replace").count('"volume.opened"') > opened[one.name]
    )


def put(client: S3Client, body: bytes) -> bool:
    """Whether it was acknowledged."""
    try:
        return client.call("PUT", KEY, body=body).status == 200
    except Unknown:
        return False


def revive(cell: Cluster, node: Service, client: S3Client, current: bytes) -> None:
    """It runs again and, with its first volumes opened, is asked again: opening them is not the call under test."""
    node.kill()
    node.start()
    node.wait()
    cell.await_whole()
    time.sleep(2.0)  # the gateway asks a node that failed last for so long
    await_true(lambda: put(client, current), cell.status)

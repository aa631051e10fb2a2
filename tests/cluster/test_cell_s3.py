# SPDX-License-Identifier: Apache-2.0
"""S3 against a whole cell, each request through another gateway than the one before."""

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drystone_testing.cluster import Cluster
from drystone_testing.ledger import Record, rounds
from drystone_testing.s3_client import S3Client, Unknown

ROOT = Path(__file__).parents[2]
SUITE = "services/api-gateway/tests/operations"


def test_the_boto3_suite_of_the_standalone_store_passes(cell: Cluster) -> None:
    """Every test of it, run as it is, with requests going to the two gateways in turn."""
    environment = {
        **os.environ,
        "S3_ENDPOINT": ",".join(cell.endpoints),
        "S3_ACCESS_KEY": cell.access_key,
        "S3_SECRET_KEY": cell.secret_key,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "4", "-k", "boto", "-p", "no:cacheprovider", SUITE]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-6000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None and int(passed[1]) > 200, ran.stdout[-500:]


def fill(cell: Cluster, bucket: str, count: int) -> None:
    """So many small objects, more than one tablet of the test cell holds."""

    def put(number: int) -> int:
        client = S3Client(cell.s3_ports[number % 2])
        try:
            return client.call("PUT", f"/{bucket}/fill/{number:05d}", body=b"x").status
        finally:
            client.close()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(put, range(count))) == {200}


def test_one_of_many_creates_an_object_that_must_not_exist(cell: Cluster, record: Record) -> None:
    """If-None-Match: * by clients at both gateways at once: in every round exactly one wins, and its body is there."""
    clients, times = 16, rounds(15)
    S3Client(cell.s3_ports[0]).create_bucket("race")
    own = threading.local()

    def attempt(number: int, key: str) -> int:
        if not hasattr(own, "clients"):
            own.clients = [S3Client(port) for port in cell.s3_ports]
        client = own.clients[number % len(own.clients)]
        return client.call("PUT", f"/race/{key}", body=b"%d" % number, headers={"If-None-Match": "*"}).status

    with ThreadPoolExecutor(clients) as pool:
        for each in range(times):
            key = f"k{each:05d}"
            statuses = list(pool.map(attempt, range(clients), [key] * clients))
            winners = [number for number, status in enumerate(statuses) if status == 200]
            assert len(winners) == 1, statuses
            assert all(status in (200, 409, 412) for status in statuses), statuses
            for port in cell.s3_ports:
                assert S3Client(port).call("GET", f"/race/{key}").body == b"%d" % winners[0]
    record(clients=clients, rounds=times)


def test_what_one_gateway_acknowledged_the_other_lists_at_once_while_owners_change_and_tablets_split(
    cell: Cluster, record: Record
) -> None:
    """PUT and DELETE at one, LIST at the other right after, with metadata processes stopped and started in turn."""
    S3Client(cell.s3_ports[0]).create_bucket("listed")
    splits = cell.said("metadata", "metadata.split")
    ending, failures, counts = threading.Event(), list[str](), dict[int, int]()

    def work(number: int) -> None:
        here, there = (S3Client(cell.s3_ports[(number + step) % 2]) for step in (0, 1))
        prefix, present, counter = f"w{number}/", set[str](), 0
        while not ending.is_set():
            counter += 1
            key = f"{prefix}{counter * 7 % 100:03d}"
            gone = key in present
            try:
                answer = here.call("DELETE" if gone else "PUT", f"/listed/{key}", body=b"" if gone else b"x")
                if answer.status not in (200, 204):
                    raise Unknown(str(answer.status))
                (present.discard if gone else present.add)(key)
                listed = there.list_keys("listed", prefix=prefix)
            except Unknown as error:
                failures.append(f"{key}: {error}")
                return
            if listed != sorted(present):
                failures.append(f"missing {sorted(present - set(listed))}, phantom {sorted(set(listed) - present)}")
                return
            counts[number] = counter

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for worker in workers:
        worker.start()
    fill(cell, "listed", 600)
    for one in [*cell.of("metadata")] * rounds(1):
        time.sleep(2.0)
        one.stop()
        time.sleep(1.0)
        one.start()
        one.wait()
        cell.await_whole()
    time.sleep(1.0)
    ending.set()
    for worker in workers:
        worker.join(60)
    splits = cell.said("metadata", "metadata.split") - splits
    record(steps=sum(counts.values()), splits=splits)
    assert failures == []
    assert splits > 0
    assert len(counts) == len(workers)

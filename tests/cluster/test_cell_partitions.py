# SPDX-License-Identifier: Apache-2.0
"""A cell whose metadata processes and storage nodes are hosts of their own, cut off from everybody under load."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.cassandra_node import missing as missing_cassandra
from drystone_testing.cluster import Cluster, Shape, missing_etcd
from drystone_testing.ledger import Record, rounds
from drystone_testing.live import ACCESS_KEY, SECRET_KEY
from drystone_testing.load import Load
from drystone_testing.network import missing as missing_network

LEASE = 4.0


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """Skips visibly where namespaces cannot be made."""
    if (reason := missing_network() or missing_etcd() or missing_cassandra()) is not None:
        pytest.skip(reason)
    shape = Shape(namespaces=True, etcd=1)
    with tempfile.TemporaryDirectory(prefix="drystone-hosts-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), shape, credential=(ACCESS_KEY, SECRET_KEY))
        try:
            yield cluster.start()
        finally:
            cluster.stop()


def test_cut_off_processes_acknowledge_nothing_and_return(hosts: Cluster, record: Record) -> None:
    """The owner of the names, then two storage nodes, go past their leases: reads go on, nothing acknowledged is lost."""
    assert hosts.network is not None
    load = Load(hosts.s3_ports, "cut-off", writers=4, seed=31)
    load.start()
    try:
        time.sleep(1.0)
        for _ in range(rounds(1)):
            for names in ([hosts.owner().name], ["node-1"], ["node-2", "node-5"]):
                for name in names:
                    hosts.network.cut(name)
                time.sleep(LEASE + 6.0)
                before = load.acknowledged
                for name in names:
                    hosts.network.join(name)
                hosts.await_whole()
                until = time.monotonic() + 30
                while load.acknowledged < before + len(load.writers):
                    assert time.monotonic() < until, "nothing was acknowledged after the hosts were joined"
                    time.sleep(0.1)
    finally:
        load.finish()
    hosts.heal()
    for port in hosts.s3_ports:
        load.verify(port)
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []

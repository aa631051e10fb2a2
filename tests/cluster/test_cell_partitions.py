# SPDX-License-Identifier: Apache-2.0
"""A cell whose metadata processes and storage nodes are hosts of their own, cut off from everybody under load."""

import time
from collections.abc import Iterator

import pytest

from drystone_testing.cell_load import LEASE, loaded, progress
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.ledger import Record, rounds
from drystone_testing.running_cell import running_cell


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """Skips visibly where namespaces cannot be made."""
    shape = Shape(namespaces=True, etcd=1)
    with running_cell(shape) as cluster:
        yield cluster


def test_cut_off_processes_acknowledge_nothing_and_return(hosts: Cluster, record: Record) -> None:
    """The owner of the names, then two storage nodes, go past their leases: reads go on, nothing acknowledged is lost."""
    assert hosts.network is not None
    with loaded(hosts, "cut-off", seed=31) as load:
        for _ in range(rounds(1)):
            for names in ([hosts.owner().name], ["node-1"], ["node-2", "node-5"]):
                for name in names:
                    hosts.network.cut(name)
                time.sleep(LEASE + 6.0)
                for name in names:
                    hosts.network.join(name)
                hosts.await_whole()
                progress(load)
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_an_owner_cut_off_from_the_coordinator_alone_is_replaced(hosts: Cluster, record: Record) -> None:
    """It reaches Cassandra and is reached; the others choose another owner, and nothing acknowledged is lost."""
    assert hosts.network is not None
    with loaded(hosts, "no-coordinator", seed=32) as load:
        owner = hosts.owner()
        hosts.network.cut_from(owner.name, hosts.network.other)
        time.sleep(LEASE + 2.0)
        for _ in range(5):
            progress(load)
            time.sleep(1.0)
        hosts.network.join(owner.name)
        hosts.await_whole()
        progress(load)
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []

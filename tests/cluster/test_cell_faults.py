# SPDX-License-Identifier: Apache-2.0
"""A whole cell under load through both gateways while its processes die and stand still; compared with a model at the end."""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from drystone_testing.cluster import Cluster, Service
from drystone_testing.ledger import Record, rounds
from drystone_testing.load import Load

LEASE = 4.0
"""Seconds after which a silent process counts as gone (Shape.session)."""


@contextmanager
def loaded(cell: Cluster, bucket: str, **options: object) -> Iterator[Load]:
    """Writers at every gateway; afterwards both gateways must show what the model says."""
    load = Load(cell.s3_ports, bucket, writers=4, **options)
    load.start()
    time.sleep(1.0)
    try:
        yield load
    finally:
        load.finish()
    cell.heal()
    for port in cell.s3_ports:
        load.verify(port)


def progress(load: Load, *, within: float) -> None:
    """Somebody's write is acknowledged from now on, before `within` seconds are over."""
    before, until = load.acknowledged, time.monotonic() + within
    while load.acknowledged <= before + len(load.writers):
        assert time.monotonic() < until, f"no write was acknowledged for {within:g} s"
        time.sleep(0.05)


def test_any_two_storage_nodes_die_under_load(cell: Cluster, record: Record) -> None:
    """Killed in pairs: every read is answered all the time, nothing acknowledged is lost."""
    pairs = list(itertools.combinations(cell.of("storage-node"), 2))
    chosen = pairs[:: max(1, len(pairs) // min(rounds(3), len(pairs)))]
    with loaded(cell, "node-pairs", seed=21) as load:
        for pair in chosen:
            for one in pair:
                one.kill()
            time.sleep(3.0 + LEASE)
            for one in pair:
                one.start()
            for one in pair:
                one.wait()
            cell.await_whole()
            progress(load, within=30)
    record(pairs=len(chosen), acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_the_owner_of_the_names_is_paused_past_its_lease_and_resumed(cell: Cluster, record: Record) -> None:
    """Another takes over while it stands still; what it still wanted to commit is refused."""
    with loaded(cell, "paused-owner", seed=22) as load:
        for _ in range(rounds(2)):
            owner = cell.owner()
            _pause(owner, LEASE + 3.0)
            progress(load, within=30)
            cell.await_whole()
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_the_owner_of_the_names_is_killed(cell: Cluster, record: Record) -> None:
    """Another takes over when its session is over; mutations wait for that, and are answered."""
    with loaded(cell, "killed-owner", seed=23) as load:
        for _ in range(rounds(2)):
            owner = cell.owner()
            owner.kill()
            progress(load, within=30)
            owner.start()
            owner.wait()
            cell.await_whole()
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_storage_nodes_are_paused_past_their_leases_and_resumed(cell: Cluster, record: Record) -> None:
    """Others close what they had open; what they still wanted to append is not acknowledged."""
    with loaded(cell, "paused-nodes", seed=24) as load:
        for node in cell.of("storage-node")[: rounds(2)]:
            _pause(node, LEASE + 6.0)
            progress(load, within=30)
            cell.await_whole()
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_reads_and_writes_go_on_while_etcd_is_away(cell: Cluster, record: Record) -> None:
    """All three members are killed: volumes that are open take appends, the owner goes on owning."""
    with loaded(cell, "no-etcd", seed=25) as load:
        before = load.unknown
        for member in cell.etcd.members:
            member.kill()
        until = time.monotonic() + 10.0 * rounds(1)
        while time.monotonic() < until:
            progress(load, within=10)
        refused = load.unknown - before
        for member in cell.etcd.members:
            member.start()
        for member in cell.etcd.members:
            cell.etcd.wait(member)
        progress(load, within=30)
    record(acknowledged=load.acknowledged, refused=refused, gap=load.longest_gap)
    assert refused == 0
    assert load.failed_reads == []


def test_a_gateway_dies_and_the_other_serves(cell: Cluster, record: Record) -> None:
    """What was acknowledged through one is there through the other."""
    first = cell.of("gateway")[0]
    with loaded(cell, "dead-gateway", seed=26) as load:
        first.kill()
        progress(load, within=30)
        first.start()
        first.wait()
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)


def _pause(one: Service, seconds: float) -> None:
    one.signal(signal.SIGSTOP)
    time.sleep(seconds)
    one.signal(signal.SIGCONT)

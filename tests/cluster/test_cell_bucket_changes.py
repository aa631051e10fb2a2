# SPDX-License-Identifier: Apache-2.0
"""Metadata processes that each believe to own a tablet, over real etcd and Cassandra, while buckets come and go through both
gateways: nothing acknowledged is lost, ownership comes to rest, and every change of a bucket is ended.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME
from drystone_core.formats.row_parts import decode_bucket
from drystone_metadata.store.cassandra import open_cell
from drystone_metadata.store.cassandra.settings import CassandraSettings
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_metadata.tablets.map import Spot, TabletMap
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.bucket_load import BucketLoad
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.ledger import Record, rounds
from drystone_testing.load import Load
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import S3Client

LEASE = 4.0
"""Seconds after which a silent process counts as gone (Shape.session)."""
MOVES = 2
"""Epochs that one loss and return of a process may cost for each tablet there is: half of them are taken and taken back, each
perhaps twice."""
STALE_PICTURE = "the bucket was deleted and made anew meanwhile: try again"
"""A gateway's picture of a bucket is up to a second old."""
EVENTS = (
    "metadata.tablet_lost",
    "metadata.taken_over_for_a_step",
    "registration.renewed",
    "metadata.split_given_up",
)
"""What metadata processes log: a commit refused by epoch; a step's take-over; a session lost (also on a machine that is too busy)
and a new one begun; a split undone."""
RESHAPES = 8
"""Epochs of the tablets of one split, the new owner's of one included; 7 were seen."""


class Tablets(NamedTuple):
    """What Cassandra holds."""

    count: int
    epochs: int
    """Sum of all tablets'."""
    changing: list[str]
    """Buckets with a change that is not ended."""
    unburied: list[str]
    """Closed copies of buckets that are gone, with their id still known, in tablets with addresses of theirs (one that has given
    those away in a split forgets the id in its own time: there is nothing to be swept)."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """Two gateways, two metadata processes on hosts of their own, many small tablets; skips visibly where it cannot be."""
    shape = Shape(namespaces=True, etcd=1, tablet_rows=100, lifecycle=0, replication=0)
    with running_cell(shape) as cluster:
        fill(cluster)
        yield cluster


def fill(cell: Cluster) -> None:
    """A bucket that lies in many tablets, before anything is measured."""
    S3Client(cell.s3_ports[0]).create_bucket("filled")

    def put(number: int) -> int:
        client = S3Client(cell.s3_ports[number % 2])
        try:
            return client.call("PUT", f"/filled/{number:05d}", body=b"x").status
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(600))) == {200}
    until = time.monotonic() + 60
    while look(cell).count < 6:
        assert time.monotonic() < until, "the tablets are not split"
        time.sleep(0.5)


def look(cell: Cluster) -> Tablets:
    """At all tablets."""

    async def read() -> Tablets:
        node = cell.cassandra
        settings = CassandraSettings(contact_points=(node.address,), port=node.port)
        store = await open_cell(settings, clock=SystemClock(), entropy=SystemEntropy())
        epochs, changing, unburied = 0, [], []
        try:
            spots = await TabletMap(store.storage).all()
            for spot in spots:
                epochs += (await store.storage.state(spot.tablet)).epoch
                rows = await store.storage.scan(spot.tablet, RowKey(BUCKET, b""), RowKey(BUCKET + 1, b""), 10_000)
                buckets = [decode_bucket(row.key, value) for row, value in rows]
                if spot.tablet == CELL_TABLET:
                    changing += [one.name for one in buckets if one.pending or one.closed]
                    continue
                closed = [one for one in buckets if one.closed and has_addresses(spot, one.bucket_id)]
                names = [RowKey(BUCKET_NAME, one.bucket_id.to_bytes(8, "big")) for one in closed]
                known = await store.storage.read(spot.tablet, names) if names else []
                unburied += [one.name for one, row in zip(closed, known, strict=True) if row is not None]
        finally:
            await store.close()
        return Tablets(len(spots), epochs, changing, unburied)

    return asyncio.run(read())


def has_addresses(spot: Spot, bucket_id: int) -> bool:
    """Whether a tablet's range has any of the bucket's."""
    after = (bucket_id + 1).to_bytes(8, "big")
    return spot.low < after and (not spot.high or bucket_id.to_bytes(8, "big") < spot.high)


@contextmanager
def duelling(cell: Cluster, seed: int, record: Record, *, losses: int) -> Iterator[tuple[Load, BucketLoad]]:
    """Keys and buckets change at both gateways; afterwards both show what the models say, and the tablets are at rest."""
    cell.heal()
    before, said = look(cell), {event: cell.said("metadata", event) for event in EVENTS}
    load = Load(cell.s3_ports, f"steady-{seed}", writers=2, seed=seed, multipart=0.0)
    buckets = BucketLoad(cell.s3_ports, f"duel-{seed}", changers=4, seed=seed)
    load.start()
    buckets.start()
    time.sleep(2.0)
    try:
        yield load, buckets
    finally:
        load.finish()
        buckets.finish()
    cell.heal()
    for port in cell.s3_ports:
        load.verify(port)
        buckets.verify(port)
    after = at_rest(cell)
    raises = after.epochs - before.epochs
    refused, taken, returns, given_up = (cell.said("metadata", event) - said[event] for event in EVENTS)
    record(
        acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap, created=buckets.created,
        deleted=buckets.deleted, buckets_unknown=buckets.unknown, said=dict(buckets.reasons), tablets=after.count, epoch_raises=raises,
        refused_owners=refused, taken_over=taken, returns=returns,
    )  # fmt: skip
    counted = [one["tablets"] for one in cell.status()["cell"] if one["role"] == "metadata"]
    assert sum(one["tablets"] for one in counted) == after.count and not any(one["changes"] for one in counted)
    assert returns >= losses
    splits = after.count - before.count + given_up
    assert raises <= returns * MOVES * after.count + RESHAPES * splits, "tablets went to and fro"


def at_rest(cell: Cluster) -> Tablets:
    """Once every change is ended and buried, and no epoch rises any more."""
    until = time.monotonic() + 60
    seen = look(cell)
    while True:
        time.sleep(3.0)
        before, seen = seen, look(cell)
        if not seen.changing and not seen.unburied and seen.epochs == before.epochs:
            return seen
        assert time.monotonic() < until, f"the tablets do not come to rest: {seen}"


def progress(load: Load, buckets: BucketLoad) -> None:
    """Keys are written and buckets deleted from now on."""
    keys, gone, until = load.acknowledged + 4, buckets.deleted + 4, time.monotonic() + 60
    while load.acknowledged < keys or buckets.deleted < gone:
        assert time.monotonic() < until, f"nothing goes on: {load.acknowledged} of {keys}, {buckets.deleted} of {gone}"
        time.sleep(0.1)


def test_changes_of_buckets_move_no_tablet(hosts: Cluster, record: Record) -> None:
    """Nobody is stopped: buckets come and go in tablets of both processes, and no owner loses one."""
    with duelling(hosts, 41, record, losses=0) as (load, buckets):
        for _ in range(rounds(1)):
            progress(load, buckets)
            time.sleep(5.0)
    assert buckets.deleted >= 4
    assert set(buckets.reasons) <= {STALE_PICTURE}


def test_either_owner_stands_still_past_its_lease_and_goes_on(hosts: Cluster, record: Record) -> None:
    """First that of the first tablet, then the other one: resumed it believes to own, and what it commits is refused."""
    lost, times = hosts.said("metadata", "metadata.tablet_lost"), rounds(1)
    with duelling(hosts, 42, record, losses=2 * times) as (load, buckets):
        for _ in range(times):
            first = hosts.owner()
            for one in (first, *(one for one in hosts.of("metadata") if one is not first)):
                one.signal(signal.SIGSTOP)
                time.sleep(LEASE + 3.0)
                one.signal(signal.SIGCONT)
                progress(load, buckets)
                hosts.await_whole()
                time.sleep(2.0)
    assert hosts.said("metadata", "metadata.tablet_lost") > lost, "no commit of a former owner was refused"


def test_either_owner_is_cut_off_from_the_coordinator_alone(hosts: Cluster, record: Record) -> None:
    """It reaches Cassandra and the others, and is reached: it goes on believing until it is refused, and takes nothing back."""
    assert hosts.network is not None
    times = rounds(1)
    with duelling(hosts, 43, record, losses=2 * times) as (load, buckets):
        for _ in range(times):
            first = hosts.owner()
            for one in (first, *(one for one in hosts.of("metadata") if one is not first)):
                hosts.network.cut_from(one.name, hosts.network.other)
                time.sleep(LEASE + 2.0)
                progress(load, buckets)
                hosts.network.join(one.name)
                hosts.await_whole()
                progress(load, buckets)

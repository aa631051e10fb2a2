# SPDX-License-Identifier: Apache-2.0
"""Disks taken away, given back, filled and hung under load; each test ends with a comparison with the model."""

import itertools
import os
import time
from collections.abc import Callable

from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.load import Load
from drystone_testing.mounted_disks import MountedDisks
from drystone_testing.s3_client import S3Client

Disks = Callable[..., MountedDisks]


def test_every_pair_of_six_disks_can_be_taken_away_under_load(mounted_disks: Disks, record: Record) -> None:
    """4+2: with any two disks gone no read fails, writes go on, and nothing is lost when they return."""
    disks = mounted_disks(6, size="2g")
    pairs = list(itertools.combinations(range(6), 2))
    with LiveStore(*disks.paths, options=("--state-dir", str(disks.paths[0].parents[1] / "state"))) as store:
        load = Load(store.port, "pairs", writers=3)
        load.start()
        try:
            time.sleep(1)
            for pair in pairs:
                before = load.acknowledged
                for index in pair:
                    disks.take_away(index)
                time.sleep(2.5)
                assert load.acknowledged > before, f"no write was acknowledged without disks {pair}"
                for index in pair:
                    disks.give_back(index)
                await_all_healthy(store)
        finally:
            load.finish()
        assert not load.failed_reads, load.failed_reads[:10]
        load.verify(store.port)
        record(pairs=len(pairs), acknowledged=load.acknowledged, failed_reads=0, lost=0, longest_gap=load.longest_gap)


def await_all_healthy(store: LiveStore, *, timeout: float = 15) -> None:
    """Until every disk is in service again, as `drystone status` says."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        states = [disk["state"] for disk in store.status()["disks"]]
        if all(state in ("healthy", "suspect") for state in states):
            return
        time.sleep(0.2)
    raise AssertionError(f"disks did not come back: {store.status()['disks']}")


def test_reads_survive_a_restart_with_any_two_disks_missing(mounted_disks: Disks, record: Record) -> None:
    """A start needs at most m disks missing, the metadata primary's included; every object reads back."""
    disks = mounted_disks(6, size="2g")
    options = ("--state-dir", str(disks.paths[0].parents[1] / "state"))
    store = LiveStore(*disks.paths, options=options)
    try:
        store.start()
        load = Load(store.port, "restart", writers=2)
        load.start()
        time.sleep(4)
        load.finish()
        load.verify(store.port)
        slowest = 0.0
        for pair in [(0, 1), (0, 2), (1, 2), (3, 5)]:
            store.stop()
            for index in pair:
                disks.take_away(index)
            slowest = max(slowest, store.start())
            load.verify(store.port)
            store.stop()
            for index in pair:
                disks.give_back(index)
            store.start()
        load.verify(store.port)
        record(restarts=8, lost=0, slowest_start=round(slowest, 2))
    finally:
        store.kill_all()


def test_a_full_disk_refuses_writes_cleanly_and_still_serves_reads_and_deletes(
    mounted_disks: Disks, record: Record
) -> None:
    """No space: the right S3 error for writes, nothing half-written visible, reads and deletes work."""
    disks = mounted_disks(6, size="300m")
    options = ("--state-dir", str(disks.paths[0].parents[1] / "state"))
    environment = {"DRYSTONE_STORAGE_VOLUME_SIZE": "256MiB"}
    with LiveStore(*disks.paths, options=options, environment=environment) as store:
        client = S3Client(store.port)
        client.create_bucket("full")
        body, stored, refused = os.urandom(8 << 20), [], None
        for index in range(400):
            answer = client.call("PUT", f"/full/k{index:04d}", body=body)
            if answer.status != 200:
                refused = answer
                break
            stored.append(f"k{index:04d}")
        assert refused is not None, "400 objects of 8 MiB fitted into 1.8 GB"
        assert refused.status in (503, 507), refused
        assert refused.code in ("InsufficientStorage", "ServiceUnavailable", "SlowDown"), refused
        assert client.list_keys("full") == stored
        for key in stored[:5]:
            assert client.call("GET", f"/full/{key}").body == body
        for key in stored[:5]:
            assert client.call("DELETE", f"/full/{key}").status == 204
        assert client.list_keys("full") == stored[5:]
        record(stored=len(stored), refusal=refused.code, status=refused.status)

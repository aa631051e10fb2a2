# SPDX-License-Identifier: Apache-2.0
"""Disks that hang, are slow, or take metadata members away, under load; each test ends with a comparison with the model.

A disk hangs by strace: the threads that serve it are held before the system call is done, and do it when they wake up, as
a disk does that answers late. No time is asserted, the ledger holds what was seen; rates are compared within one run.
"""

import itertools
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.load import Load
from drystone_testing.mounted_disks import MountedDisks
from drystone_testing.s3_client import S3Client
from drystone_testing.traced_threads import DISK_READS as READS
from drystone_testing.traced_threads import DISK_WRITES as WRITES
from drystone_testing.traced_threads import LONGEST_HOLD, Held, needs_strace, threads_by_disk

Disks = Callable[..., MountedDisks]
HANG = LONGEST_HOLD


def member_disks(store: LiveStore) -> list[str]:
    """Names of the disks that hold a metadata member, the primary's first."""
    members = sorted(store.status()["members"], key=lambda member: member["role"] != "primary")
    return [Path(member["path"]).name for member in members]


def longest_standstill(load: Load, seconds: float) -> tuple[float, int]:
    """(seconds without a new acknowledgement at the longest, acknowledgements) while waiting `seconds`."""
    began = last = time.monotonic()
    first = seen = load.acknowledged
    longest = 0.0
    while time.monotonic() - began < seconds:
        time.sleep(0.05)
        now = time.monotonic()
        if load.acknowledged != seen:
            seen, last = load.acknowledged, now
        longest = max(longest, now - last)
    return round(longest, 2), seen - first


def settle(store: LiveStore, load: Load) -> None:
    """End the load; everything is as the model says, now and after a crash and a restart."""
    load.finish()
    assert not load.failed_reads, f"{len(load.failed_reads)} reads failed: {load.failed_reads[:10]}\n{store.log_tail()}"
    load.verify(store.port)
    store.kill_all()
    store.start()
    load.verify(store.port)


@needs_strace
@pytest.mark.parametrize("calls", ["writes", "reads"])
@pytest.mark.parametrize("which", ["without metadata", "follower", "primary"])
def test_a_hung_disk_stops_neither_reads_nor_writes(tmp_path: Path, record: Record, which: str, calls: str) -> None:
    """One call of each of its threads hangs: the store goes on without the disk; the late write does no harm."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        load = Load(store.port, "hung", writers=3, multipart=0.01)
        load.start()
        time.sleep(1)
        threads = threads_by_disk(store.main_pid(), tmp_path / "threads.strace", names=r"d\d+")
        members = member_disks(store)
        others = [disk for disk in sorted(threads) if disk not in members]
        disk = {"without metadata": others[0], "follower": members[1], "primary": members[0]}[which]
        main = store.main_pid()
        held = Held(
            threads[disk],
            WRITES if calls == "writes" else READS,
            f"delay_enter={HANG}s:when=1",
            tmp_path / "hang.strace",
        )
        standstill, acknowledged = longest_standstill(load, HANG)
        assert acknowledged, f"no write was acknowledged while a disk hung\n{store.log_tail()}"
        assert standstill < HANG - 1, "writes went on only when the disk did"
        awake, after = longest_standstill(load, 4)
        assert after, "no write was acknowledged after the disk went on"
        hung = held.injected()
        held.detach()
        assert hung or calls == "reads", "nothing hung"
        assert store.main_pid() == main, f"the main process was replaced\n{store.log_tail()}"
        settle(store, load)
        record(
            disk=which, calls=calls, threads=len(threads[disk]), hung_calls=hung, acknowledged=load.acknowledged, lost=0,
            standstill=standstill, standstill_awake=awake, failed_reads=0,
        )  # fmt: skip
    finally:
        store.kill_all()


def uncached_reads(load: Load, root: Path, *, rounds: int = 25) -> dict[str, float]:
    """Read keys whose bytes the kernel no longer holds; how long that took."""
    took = []
    for number in range(rounds):
        for shard in root.glob("disks/d*/volumes/*"):
            with shard.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        writer = load.writers[number % len(load.writers)]
        key = sorted(writer.possible)[number % len(writer.possible)]
        began = time.monotonic()
        writer.read(key)
        took.append(time.monotonic() - began)
    took.sort()
    return {"median": round(took[rounds // 2], 3), "most": round(took[-1], 3)}


def await_demoted(store: LiveStore, disk: str, *, timeout: float = 90) -> None:
    """Until nothing new is placed on the disk and it holds no metadata member."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = store.status()
        states = {Path(each["path"]).name: each["state"] for each in status["disks"]}
        members = {Path(m["path"]).name for m in status["members"] if m["role"] in ("primary", "follower")}
        if states[disk] == "suspect" and disk not in members:
            return
        time.sleep(0.3)
    raise AssertionError(f"{disk} is slow and nobody minds: {store.status()}\n{store.log_tail()}")


def await_rate(load: Load, least: float, *, window: float = 3, timeout: float = 60) -> float:
    """Acknowledgements a second, over a window, once they reach `least`; the best seen when they do not in time."""
    deadline, best = time.monotonic() + timeout, 0.0
    while best < least and time.monotonic() < deadline:
        before, began = load.acknowledged, time.monotonic()
        time.sleep(window)
        best = max(best, (load.acknowledged - before) / (time.monotonic() - began))
    return best


@needs_strace
@pytest.mark.parametrize("which", ["without metadata", "primary"])
def test_a_slow_disk_slows_neither_reads_nor_writes_for_long(tmp_path: Path, record: Record, which: str) -> None:
    """Every call of its threads takes 300 ms longer, for good: reads go round it, writes and metadata leave it behind and
    come back to a fair share of what they were."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        load = Load(store.port, "slow", writers=3, multipart=0.01)
        load.start()
        time.sleep(1)
        threads = threads_by_disk(store.main_pid(), tmp_path / "threads.strace", names=r"d\d+")
        members = member_disks(store)
        disk = members[0] if which == "primary" else next(disk for disk in sorted(threads) if disk not in members)
        healthy_standstill, acknowledged = longest_standstill(load, 3)
        healthy = acknowledged / 3
        reads = sum(writer.tally.reads for writer in load.writers)
        began, before = time.monotonic(), load.acknowledged
        held = Held(threads[disk], f"{WRITES},{READS}", "delay_enter=300ms", tmp_path / "slow.strace")
        await_demoted(store, disk)
        waited, meanwhile = time.monotonic() - began, load.acknowledged - before
        assert held.injected(), "nothing was slow"
        rate = await_rate(load, healthy / 4)
        assert held.process.poll() is None, "the disk was slow no more"
        slow_reads = sum(writer.tally.reads for writer in load.writers) - reads
        load.finish()
        slow_latency = uncached_reads(load, tmp_path / "store")
        slowed = held.injected()
        slowed_reads = len(re.findall(r" preadv?\d*\(.*DELAYED", held.log.read_text()))
        held.detach()
        latency = uncached_reads(load, tmp_path / "store")
        settle(store, load)
        record(
            disk=which, slow_calls=slowed, slow_read_calls=slowed_reads, lost=0, failed_reads=0, healthy_writes_per_s=round(healthy, 1),
            waiting_writes_per_s=round(meanwhile / waited, 1), left_after=round(waited, 1), writes_per_s=round(rate, 1), reads=slow_reads,
            healthy_standstill=healthy_standstill, uncached_read_s=slow_latency, healthy_uncached_read_s=latency,
        )  # fmt: skip
        assert slow_reads, "nothing was read beside a slow disk"
        assert rate >= healthy / 4, (
            f"{rate:.1f} writes a second without the slow disk, {healthy:.1f} before it was slow"
        )
    finally:
        store.kill_all()


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)], ids=str)
def test_any_two_metadata_members_can_be_taken_away_under_load(
    mounted_disks: Disks, record: Record, pair: tuple[int, int]
) -> None:
    """m = 2 of the 3 members' disks (0 is the primary) vanish at once: reads come back, nothing is lost."""
    disks = mounted_disks(6, size="1g")
    store = LiveStore(*disks.paths, options=("--state-dir", str(disks.paths[0].parents[1] / "state")))
    try:
        store.start()
        load = Load(store.port, "members", writers=3, multipart=0.01)
        load.start()
        time.sleep(1)
        holders = member_disks(store)
        assert len(holders) == 3
        indices = [int(holders[index].removeprefix("d")) for index in pair]
        for index in indices:
            disks.take_away(index)
        standstill, _ = longest_standstill(load, 6)
        before = load.acknowledged, sum(writer.tally.reads for writer in load.writers)
        time.sleep(2)
        after = load.acknowledged, sum(writer.tally.reads for writer in load.writers)
        assert after[0] > before[0], f"no write was acknowledged without {pair} of {holders}\n{store.log_tail()}"
        assert after[1] > before[1], f"no read was answered without {pair} of {holders}\n{store.log_tail()}"
        away = load.acknowledged
        store.kill_all()  # what was acknowledged while they were away is found by those that stayed
        store.start()
        for index in indices:
            disks.give_back(index)
        await_members(store)
        failed = len(load.failed_reads)
        load.finish()
        load.verify(store.port)
        store.kill_all()
        store.start()
        load.verify(store.port)
        record(pair=pair, standstill=standstill, acknowledged=load.acknowledged, away=away, failed_reads=failed, lost=0)
    finally:
        store.kill_all()


def await_members(store: LiveStore, *, timeout: float = 60) -> None:
    """Until every disk is in service and three members are known and well."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = store.status()
        well = all(disk["state"] in ("healthy", "suspect") for disk in status["disks"])
        if well and len([m for m in status["members"] if m["role"] in ("primary", "follower")]) >= 3:
            return
        time.sleep(0.3)
    raise AssertionError(f"members or disks did not come back: {store.status()}\n{store.log_tail()}")


def test_any_two_metadata_directories_can_be_deleted_while_down(tmp_path: Path, record: Record) -> None:
    """`meta/` of two of three members is gone at a start, after a stop and after a kill: the third restores them."""
    store = LiveStore(tmp_path / "store")
    deleted = 0
    try:
        store.start()
        load = Load(store.port, "deleted", writers=2, multipart=0.01)
        load.start()
        time.sleep(2)
        load.finish()
        load.verify(store.port)
        client = S3Client(store.port)
        for number, (first, second) in enumerate([*itertools.combinations(range(3), 2)] * 2):
            holders = member_disks(store)
            if number % 2:
                store.kill_all()
            else:
                assert store.stop() == 0
            for index in (first, second):
                shutil.rmtree(tmp_path / "store/disks" / holders[index] / "meta")
                deleted += 1
            store.start()
            load.verify(store.port)
            client.close()
            assert client.call("PUT", f"/deleted/w0/after-{number}", body=b"goes on").status == 200
            await_members(store)
        for number in range(6):
            assert client.call("GET", f"/deleted/w0/after-{number}").body == b"goes on"
        record(directories=deleted, restarts=6, lost=0)
    finally:
        store.kill_all()

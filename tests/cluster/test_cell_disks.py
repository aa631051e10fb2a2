# SPDX-License-Identifier: Apache-2.0
"""Single disks of a cell's storage nodes taken away, given back, replaced, filled, hung and damaged, under load through both
gateways; each test ends with a comparison with the model."""

import itertools
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drystone_testing.cell_load import await_true, loaded, progress, verify
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.ledger import Record, rounds
from drystone_testing.live import LiveStore, drystone_command
from drystone_testing.mounted_disks import MountedDisks
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import S3Client, Unknown
from drystone_testing.shard_damage import cut_short, flip_bits, refuted, shards, zero_blocks
from drystone_testing.traced_threads import DISK_READS, DISK_WRITES, LONGEST_HOLD, Held, needs_strace, threads_by_disk

NODES, EACH = 6, 2
MIB = 1 << 20


@pytest.fixture(scope="module")
def whole() -> Iterator[Cluster]:
    """Six nodes of two disks, each a file system of its own; of the rest the least. What is away for 15 s is lost."""
    settings = {"storage": {"lost_after": "15s", "scrub_period": "0", "scrub_rate": "1GiB", "repair_rate": "1GiB"}}
    shape = Shape(nodes=NODES, disks_each=EACH, metadata=1, etcd=1, disk_size="1G", settings=settings)
    with running_cell(shape) as cluster:
        yield cluster


@pytest.fixture
def cell(whole: Cluster) -> Iterator[Cluster]:
    """Everything runs and every disk is healthy, before and after."""
    whole.heal()
    yield whole
    whole.heal()


def mounts(cell: Cluster) -> MountedDisks:
    """Its disks; disk d of node n (from 0) is number n * EACH + d."""
    assert cell.mounts is not None
    return cell.mounts


def states(cell: Cluster, index: int) -> list[str]:
    """Of the disks of the node that has this one, as `drystone status` shows them: `failed`, or in service."""
    node = mounts(cell).paths[index].parent.name
    told = [disk["state"] for disk in cell.status()["disks"] if disk["path"] == node]
    return sorted("failed" if state == "failed" else "in service" for state in told)


def await_states(cell: Cluster, index: int, *wanted: str, within: float = 60) -> None:
    """Until the node of this disk shows its disks so."""
    await_true(lambda: states(cell, index) == sorted(wanted), lambda: cell.status()["disks"], within=within)


def await_repaired(cell: Cluster) -> None:
    """Until nothing waits for repair, as a leader says that could ask every node."""

    def repaired() -> bool:
        status = cell.status()
        waits = [status["repair"][name] for name in ("slots_pending", "waiting", "hopeless", "unasked")]
        return status["background_answers"] and not status["volumes"]["degraded"] and not any(waits)

    await_true(repaired, cell.status, within=300)


def scrubbed(cell: Cluster) -> int:
    """A whole pass of scrubbing, begun now; the exit code of `drystone scrub start --watch`: 0 when it found nothing."""
    state = cell.root / "gateway-2" / "state"
    command = [*drystone_command(), "scrub", "start", "--anew", "--watch", "--json", "--state-dir", str(state)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode in (0, 1), ran.stderr
    return ran.returncode


def close_all(cell: Cluster) -> None:
    """Every storage node is stopped in order and started: no volume is open."""
    for node in cell.of("storage-node"):
        assert node.stop() == 0, node.name
    for node in cell.of("storage-node"):
        node.start()
    for node in cell.of("storage-node"):
        node.wait()
    cell.await_whole()


def test_disks_are_taken_away_under_load_and_given_back(cell: Cluster, record: Record) -> None:
    """Any m of different nodes, and both of one node: no read fails, writes go on, nothing is lost when they return."""
    disks = mounts(cell)
    pairs = [pair for pair in itertools.combinations(range(NODES * EACH), 2) if pair[0] // EACH != pair[1] // EACH]
    of_one_node = [(node * EACH, node * EACH + 1) for node in range(NODES)]
    chosen = [*pairs[:: max(1, len(pairs) // rounds(2))][: rounds(2)], *of_one_node[: rounds(1)]]
    with loaded(cell, "away", writers=2, seed=41) as load:
        for pair in chosen:
            for index in pair:
                disks.take_away(index)
            for index in pair:
                both = pair[0] // EACH == pair[1] // EACH
                await_states(cell, index, "failed", "failed" if both else "in service")
            progress(load)
            for index in pair:
                disks.give_back(index)
            cell.await_whole()
            progress(load)
    record(pairs=len(chosen), acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []


def test_replaced_disks_are_taken_in_and_filled(cell: Cluster, record: Record) -> None:
    """More of them than the profile has parity, one after the other, at nodes of their own: with each filled again nothing is
    lost, and the old ones stand nowhere any more."""
    disks, chosen = mounts(cell), [0, 3, 4][: 1 + rounds(2)]
    with loaded(cell, "replaced", writers=2, seed=42) as load:
        for index in chosen:
            disks.take_away(index)
            await_states(cell, index, "failed", "in service")
            disks.renew(index)
            await_states(cell, index, "in service", "in service", within=90)
            cell.await_whole()
            progress(load)
            await_repaired(cell)
    record(disks=len(chosen), acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert load.failed_reads == []
    assert sum(len(shards(disks.paths[index])) for index in chosen) > 0


def test_a_disk_of_another_store_is_left_alone(cell: Cluster, tmp_path: Path, record: Record) -> None:
    """Under load, at the path of one of ours: it is failed, what it holds stays as it is, its fragments are rebuilt elsewhere.

    Until the next look at the path (a second) a volume may yet be opened there: the ledger says how many files were left.
    """
    with LiveStore(tmp_path / "store") as store:
        client = S3Client(store.port)
        client.create_bucket("theirs")
        assert client.call("PUT", "/theirs/k", body=b"theirs").status == 200
    foreign = tmp_path / "store" / "disks" / "d0"
    before = files_of(foreign)
    disks = mounts(cell)
    with loaded(cell, "foreign", writers=2, seed=43) as load:
        disks.take_away(2)
        disks.put(2, foreign)
        await_states(cell, 2, "failed", "in service")
        progress(load)
        await_repaired(cell)
        assert states(cell, 2) == ["failed", "in service"]
        disks.take_away(2)
        disks.give_back(2)
        await_states(cell, 2, "in service", "in service")
        progress(load)
    after = files_of(foreign)
    strays = len(after) - len(before)
    record(acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap, strays=strays)
    assert load.failed_reads == []
    assert {path: after.get(path) for path in before} == before


def files_of(disk: Path) -> dict[Path, tuple[int, int]]:
    """When each was changed last, and its size."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in disk.rglob("*") if path.is_file()}


def test_full_disks_are_left_out_and_a_full_cell_refuses_writes_cleanly(cell: Cluster, record: Record) -> None:
    """Two full disks: everything goes on. All full: 507 or 503 for writes, reads and deletes go on; with room again, all do."""
    disks = mounts(cell)
    with loaded(cell, "full", writers=2, seed=44) as load:
        for index in (0, 3):
            fill(disks.paths[index])
        progress(load)
        progress(load)
    assert load.failed_reads == []
    client = S3Client(cell.s3_ports[0])
    client.create_bucket("refused")
    stored: dict[str, bytes] = {}
    refusals: list[str] = []
    for number in range(400):
        if number % 10 == 0:  # volumes that are closed give back what they had allocated ahead
            for path in disks.paths:
                fill(path)
        key, body = f"k{number:03d}", os.urandom(2 * MIB if number % 2 else 5000)
        try:
            answer = client.call("PUT", f"/refused/{key}", body=body)
        except Unknown as unknown:
            raise AssertionError(f"a full cell breaks connections: {unknown}") from unknown
        if answer.status == 200:
            stored[key] = body
            continue
        refusals.append(f"{answer.status} {answer.code}")
        if len(refusals) == 6:
            break
    said = cell.status()
    assert refusals and set(refusals) <= {"507 InsufficientStorage", "503 ServiceUnavailable", "503 SlowDown"}, refusals
    for port in cell.s3_ports:
        reader = S3Client(port)
        assert reader.list_keys("refused") == sorted(stored)
        assert all(reader.call("GET", f"/refused/{key}").body == body for key, body in stored.items())
        load.verify(port)
    for key in sorted(stored)[:3]:
        assert client.call("DELETE", f"/refused/{key}").status == 204
    assert client.list_keys("refused") == sorted(stored)[3:]
    for path in disks.paths:
        (path / BALLAST).unlink(missing_ok=True)
    await_true(lambda: client.call("PUT", "/refused/after", body=bytes(MIB)).status == 200, cell.status)
    record(acknowledged=load.acknowledged, stored=len(stored), refusals=sorted(set(refusals)), health=said["health"])


BALLAST = "lost+found/ballast"
"""Where a file of nobody's makes a disk full."""


def fill(disk: Path) -> None:
    """Only a few blocks are left."""
    (disk / BALLAST).parent.mkdir(exist_ok=True)
    with (disk / BALLAST).open("ab") as file:
        free = os.statvfs(disk)
        room = free.f_bavail * free.f_frsize - MIB
        with suppress(OSError):  # somebody else was faster
            if room > 0:
                os.posix_fallocate(file.fileno(), file.tell(), room)


@needs_strace
@pytest.mark.parametrize("calls", [DISK_WRITES, DISK_READS], ids=["writes", "reads"])
def test_a_hung_disk_of_one_node_stops_nobody(cell: Cluster, tmp_path: Path, record: Record, calls: str) -> None:
    """One call of each of its threads hangs: the cell goes on without the disk; the late call does no harm."""
    node = cell.of("storage-node")[1]
    with loaded(cell, f"hung-{'writes' if calls == DISK_WRITES else 'reads'}", writers=2, seed=45) as load:
        threads = threads_by_disk(node.pid, tmp_path / "threads.strace", names=r"disk-\d+")
        disk = sorted(threads)[0]
        held = Held(threads[disk], calls, f"delay_enter={LONGEST_HOLD}s:when=1", tmp_path / "hang.strace")
        until = time.monotonic() + LONGEST_HOLD
        while time.monotonic() < until:
            progress(load, within=LONGEST_HOLD - 1)
        progress(load)
        hung = held.injected()
        held.detach()
        assert node.alive
    record(
        threads=len(threads[disk]),
        hung_calls=hung,
        acknowledged=load.acknowledged,
        unknown=load.unknown,
        gap=load.longest_gap,
    )
    assert load.failed_reads == []


@needs_strace
def test_a_slow_disk_of_one_node_is_left_behind(cell: Cluster, tmp_path: Path, record: Record) -> None:
    """Every call of its threads takes 300 ms longer: reads are answered, writes go on, nothing is lost."""
    node = cell.of("storage-node")[2]
    with loaded(cell, "slow", writers=2, seed=46) as load:
        threads = threads_by_disk(node.pid, tmp_path / "threads.strace", names=r"disk-\d+")
        disk = sorted(threads)[0]
        held = Held(threads[disk], f"{DISK_WRITES},{DISK_READS}", "delay_enter=300ms", tmp_path / "slow.strace")
        for _ in range(rounds(5)):
            progress(load)
        slowed = held.injected()
        held.detach()
    record(slow_calls=slowed, acknowledged=load.acknowledged, unknown=load.unknown, gap=load.longest_gap)
    assert slowed
    assert load.failed_reads == []


@pytest.mark.parametrize("kind", ["bits", "zeros", "cuts"])
def test_damage_on_two_nodes_is_never_served_and_all_healed(cell: Cluster, record: Record, kind: str) -> None:
    """Bits turned over, blocks zeroed, files cut on the disks of m nodes while both gateways read and write: every byte is
    right; a pass of scrubbing tells of it, repair heals it, the next pass finds nothing."""
    chooser, disks = random.Random(47), mounts(cell)
    hurt = told = 0
    with loaded(cell, f"damaged-{kind}", writers=2, seed=47, keys=20) as load:
        progress(load)
        for _ in range(rounds(1)):
            slots = Counter[str]()
            for node in chooser.sample(range(NODES), 2):
                for path in (each for disk in disks.paths[node * EACH : node * EACH + EACH] for each in shards(disk)):
                    slots[path.stem] += 1
                    if slots[path.stem] <= 2:  # m; a node holds two of a volume's slots when others were late
                        hurt += harm(kind, path, chooser)
            for _ in range(3):
                progress(load)
            # At most m fragments of a stripe are wrong at a time.
            scrubbed(cell)
            told += cell.status()["scrub_pass"]["slots_damaged"]
            await_repaired(cell)
    verify(cell, load)
    close_all(cell)
    first = scrubbed(cell)
    told += cell.status()["scrub_pass"]["slots_damaged"]
    await_repaired(cell)
    second = scrubbed(cell)
    status = cell.status()
    verify(cell, load)
    record(
        hurt=hurt, acknowledged=load.acknowledged, unknown=load.unknown, wrong=0, failed_reads=len(load.failed_reads),
        slots_repaired=status["repair"]["slots_repaired"], first_pass=first, told=told,
    )  # fmt: skip
    assert hurt and told
    assert load.failed_reads == []
    assert second == 0, status
    unfinished = torn(cell)
    assert not refuted(path for disk in disks.paths for path in shards(disk) if path.stem not in unfinished)


def torn(cell: Cluster) -> set[str]:
    """Volumes with a stripe that too few slots ever got (a disk was late: it was never acknowledged): nothing can heal what was
    hurt of it, and no name points there, as the comparison with the model has shown."""
    lines = [line for one in cell.of("storage-node") for line in one.log.read_text(errors="replace").splitlines()]
    return {json.loads(line)["volume"] for line in lines if '"scrub.incomplete_stripes"' in line}


def harm(kind: str, path: Path, chooser: random.Random) -> int:
    """How many places were hurt; a volume may be retired meanwhile."""
    try:
        match kind:
            case "bits":
                return flip_bits(path, chooser, 40)
            case "zeros":
                return zero_blocks(path, chooser, 20)
            case _:
                return cut_short(path, chooser)
    except FileNotFoundError:
        return 0

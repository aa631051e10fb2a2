# SPDX-License-Identifier: Apache-2.0
"""A whole cell under load through both gateways while its processes die and stand still; compared with a model at the end."""

import itertools
import json
import signal
import time
from base64 import b64decode

from drystone_core.formats.coordination import VOLUMES, NodeDocument, OpenVolume, decode, node_key
from drystone_testing.cell_load import LEASE, await_true, loaded, progress, verify
from drystone_testing.cluster import Cluster
from drystone_testing.ledger import SCALE, Record, rounds
from drystone_testing.service_process import Service


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
    """All three members are killed, for longer than leases last: volumes that are open take appends, the owner goes on owning.
    When they are back everybody registers again, somebody leads, and what was open is closed by whoever opened it."""
    away = max(LEASE + 15.0, min(60.0, 15.0 * SCALE))
    with loaded(cell, "no-etcd", seed=25) as load:
        progress(load)  # volumes are open: none can be opened without the coordinator
        before, acknowledged = load.unknown, load.acknowledged
        for member in cell.etcd.members:
            member.kill()
        until = time.monotonic() + away
        while time.monotonic() < until:
            progress(load, within=10)
        refused, meanwhile = load.unknown - before, load.acknowledged - acknowledged
        for member in cell.etcd.members:
            member.start()
        for member in cell.etcd.members:
            cell.etcd.wait(member)
        progress(load)
        cell.await_whole()
        await_true(lambda: leaders(cell) == ["lifecycle", "replication"], cell.status)
        await_true(lambda: not ownerless(cell), lambda: ownerless(cell))
        progress(load)
    record(away=away, meanwhile=meanwhile, acknowledged=load.acknowledged, refused=refused, gap=load.longest_gap)
    assert refused == 0
    assert load.failed_reads == []
    for node in cell.of("storage-node"):  # an orderly stop leaves nothing open: what still stands then was leaked
        node.stop()
        assert [claim for claim in claims(cell) if claim.owner == node.name] == []
        node.start()
        node.wait()
        cell.await_whole()
    await_true(lambda: whole(cell), cell.status, within=300.0)  # a slot waited for longer than 90 s once
    verify(cell, load)


def leaders(cell: Cluster) -> list[str]:
    """The roles that have a process which leads."""
    return sorted({one["role"] for one in cell.status()["cell"] if one["part"] == "leads"})


def whole(cell: Cluster) -> bool:
    """No volume lacks a fragment, nothing waits for repair, and every node could be asked."""
    status = cell.status()
    waits = [status["repair"][name] for name in ("slots_pending", "waiting", "hopeless", "unasked")]
    return bool(status["background_answers"]) and not status["volumes"]["degraded"] and not any(waits)


def claims(cell: Cluster) -> list[OpenVolume]:
    """The open volumes in the coordinator."""
    return [decode(OpenVolume, value, key=key) for key, value in documents(cell, VOLUMES)]


def ownerless(cell: Cluster) -> list[OpenVolume]:
    """Those that nobody who is registered opened under the registration it has now."""
    nodes = [decode(NodeDocument, value, key=key) for key, value in documents(cell, node_key("storage-node", ""))]
    lives = {(node.node, node.incarnation) for node in nodes}
    return [claim for claim in claims(cell) if (claim.owner, claim.incarnation) not in lives]


def documents(cell: Cluster, prefix: str) -> list[tuple[str, bytes]]:
    """Key (without the cell's own prefix) and value of each."""
    answer = json.loads(cell.etcd.control("get", "/drystone/" + prefix, "--prefix", "-w", "json"))
    found = [(b64decode(one["key"]).decode(), b64decode(one["value"])) for one in answer.get("kvs", [])]
    return [(key.removeprefix("/drystone/"), value) for key, value in found]


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

# SPDX-License-Identifier: Apache-2.0
"""A whole cell is linearizable key by key through two gateways while its processes die, stand still, are cut off and have
their clocks set.

Short form: 7 histories of 1,000 operations, one for each kind of trouble. Long form: FAULT_SCALE=20 HISTORY_CALLS=2000.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drystone_testing.cell_load import LEASE
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.histories import Endpoint, HistoryClient, run
from drystone_testing.ledger import Record, rounds
from drystone_testing.linearizability import Kind
from drystone_testing.network import missing as missing_network
from drystone_testing.porcupine import unexplained
from drystone_testing.running_cell import running_cell
from drystone_testing.s3_client import S3Client
from drystone_testing.service_process import Service

BUCKET = "histories"
CLIENTS, KEYS = 5, 6
CALLS = int(os.environ.get("HISTORY_CALLS", "1000"))
"""Of a history."""
ONLY = os.environ.get("HISTORY_TROUBLE", "")
"""The only kind of trouble, when one is looked at; else each in turn."""


@pytest.fixture(scope="module")
def cell() -> Iterator[Cluster]:
    """Two gateways, two metadata processes, six storage nodes, etcd of three, Cassandra; hosts of their own where namespaces
    can be made."""
    shape = Shape(namespaces=missing_network() is None, moved_clocks=True)
    with running_cell(shape) as cluster:
        yield cluster


class Trouble:
    """What happens to the cell during a history; `kinds` by name, each one occurrence."""

    def __init__(self, cell: Cluster, seed: int) -> None:
        self.cell, self.chance = cell, random.Random(seed)
        self.happened: dict[str, int] = {}
        self.kinds: dict[str, Callable[[], None]] = {
            "a process dies": lambda: self._die(self._anyone()),
            "a process stands still past its lease": lambda: self._stand_still(self._anyone(), LEASE + 2),
            "the owner of the names goes": self._owner_goes,
            "two storage nodes die": self._nodes_die,
            "a store stumbles": self._store_stumbles,
            "clocks are set": self._clocks_are_set,
        }
        if cell.network is not None:
            self.kinds["a host is cut off past its lease"] = self._cut_off

    def strike(self, kind: str) -> None:
        """Once, and a moment of peace."""
        self.happened[kind] = self.happened.get(kind, 0) + 1
        self.kinds[kind]()
        time.sleep(self.chance.uniform(0.3, 1.5))

    def _anyone(self) -> Service:
        role = self.chance.choice(["gateway", "metadata", "storage-node"])
        return self.chance.choice(self.cell.of(role))

    def _die(self, *all_of: Service) -> None:
        for one in all_of:
            one.kill()
        time.sleep(self.chance.uniform(0.2, LEASE + 1))
        for one in all_of:
            one.start()
        for one in all_of:
            one.wait()

    def _stand_still(self, one: Service, seconds: float) -> None:
        one.signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            one.signal(signal.SIGCONT)

    def _owner_goes(self) -> None:
        with suppress(KeyError, IndexError):  # nobody owns them just now
            owner = self.cell.owner()
            if self.chance.random() < 0.5:
                self._die(owner)
            else:
                self._stand_still(owner, LEASE + 2)

    def _nodes_die(self) -> None:
        self._die(*self.chance.sample(self.cell.of("storage-node"), 2))

    def _cut_off(self) -> None:
        assert self.cell.network is not None
        name = self.chance.choice([self._owner_name(), self.chance.choice(self.cell.of("storage-node")).name])
        self.cell.network.cut(name)
        try:
            time.sleep(LEASE + 3)
        finally:
            self.cell.network.join(name)

    def _owner_name(self) -> str:
        try:
            return self.cell.owner().name
        except (KeyError, IndexError):  # nobody owns them just now
            return self.chance.choice(self.cell.of("metadata")).name

    def _clocks_are_set(self) -> None:
        """Of one process, or of several at once, by seconds or minutes, forth or back, again and again; then set right."""
        chosen = self.chance.sample([*self.cell.services.values()], self.chance.choice([1, 1, 3]))
        owner = self.cell.services[self._owner_name()]
        for one in {one.name: one for one in [owner, *chosen][self.chance.choice([0, 1]) :]}.values():
            for _ in range(self.chance.choice([1, 3])):
                self.cell.move_clock(one, self.chance.choice([-1, 1]) * self.chance.choice([2.0, 20.0, 240.0]))
                time.sleep(self.chance.uniform(0.1, 1.0))
        time.sleep(self.chance.uniform(0.2, 2.0))
        for each in self.cell.services.values():
            self.cell.move_clock(each, 0.0)

    def _store_stumbles(self) -> None:
        member = self.chance.choice(self.cell.etcd.members)
        match self.chance.choice(["etcd dies", "etcd stands still", "Cassandra stands still"]):
            case "etcd dies":
                member.kill()
                time.sleep(2)
                member.start()
                self.cell.etcd.wait(member)
            case "etcd stands still":
                member.signal(signal.SIGSTOP)
                time.sleep(3)
                member.signal(signal.SIGCONT)
            case _:
                self.cell.cassandra.pause()
                time.sleep(3)
                self.cell.cassandra.resume()


def test_histories_through_two_gateways_are_linearizable(cell: Cluster, tmp_path: Path, record: Record) -> None:
    """Put, conditional put, delete, get and list by 5 clients that change gateways with every call: an order explains all."""
    seed = int(os.environ.get("FAULT_SEED", "20261201"))
    endpoints = [Endpoint(port) for port in cell.s3_ports]
    S3Client(cell.s3_ports[0]).create_bucket(BUCKET)
    unexercised = missing_network()
    total = dict.fromkeys(("operations", "unknown", "retried", "lists", "reads", "writes"), 0)
    happened: dict[str, int] = {}
    judges: set[str] = set()
    histories = rounds(len(Trouble(cell, seed).kinds))
    for number in range(histories):
        trouble = Trouble(cell, seed + number)
        kind = ONLY or list(trouble.kinds)[number % len(trouble.kinds)]
        prefix = f"h{number}"
        keys = [f"{prefix}/{each}" for each in range(KEYS)]
        clients = [
            HistoryClient(endpoints, BUCKET, prefix, keys, seed=(seed + number) * 100 + each, count=CALLS // CLIENTS)
            for each in range(CLIENTS)
        ]
        history = run(clients, lambda trouble=trouble, kind=kind: trouble.strike(kind))
        assert [wrong for client in clients for wrong in client.tally.wrong] == [], f"seed {seed + number}, {kind}"
        judged_by, found = unexplained(history, tmp_path / prefix)
        judges.add(judged_by)
        assert found is None, f"seed {seed + number}, {kind}: {found}"
        for client in clients:
            for name in ("operations", "unknown", "retried", "lists"):
                total[name] += getattr(client.tally, name)
        total["reads"] += sum(call.kind is Kind.READ for call in history)
        total["writes"] += sum(call.kind is not Kind.READ for call in history)
        for name, count in trouble.happened.items():
            happened[name] = happened.get(name, 0) + count
        cell.heal()
    noticed = sum(cell.said(role, "registration.clock_was_set") for role in ("gateway", "metadata", "storage-node"))
    record(
        seed=seed,
        histories=histories,
        clocks_seen_set=noticed,
        violations=0,
        judges=sorted(judges),
        not_cut_off=unexercised,
        happened=happened,
        **total,
    )
    assert noticed or "clocks are set" not in happened, "no process saw its clock move"

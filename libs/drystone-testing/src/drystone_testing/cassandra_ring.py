# SPDX-License-Identifier: Apache-2.0
"""Three Cassandra nodes on 127.0.0.1 … 127.0.0.3 that are one ring: every row on all of them, any one may be away."""

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel, DriverException
from cassandra import Unavailable as TooFewAlive
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import FallthroughRetryPolicy, WhiteListRoundRobinPolicy

from drystone_metadata.store.cassandra import CassandraSettings, OpenCell
from drystone_metadata.store.cassandra.statements import partition
from drystone_metadata.store.ports import RowKey, TabletId
from drystone_testing.cassandra_cell import CassandraHarness, settings_for
from drystone_testing.cassandra_node import START_SECONDS, CassandraNode, free_port

SIZE = 3
_PROBE = "ring_probe"
"""A keyspace with a row on every member."""


class CassandraRing:
    """`start()` once; members are killed, paused and started again one by one."""

    def __init__(self, root: Path, *, heap: str = "400m") -> None:
        addresses = [f"127.0.0.{number + 1}" for number in range(SIZE)]
        port, storage_port = common_port(addresses), common_port(addresses)
        self.members = [
            CassandraNode(
                root / f"member-{number + 1}",
                address=address,
                port=port,
                storage_port=storage_port,
                seed=addresses[0],
                heap=heap,
            )
            for number, address in enumerate(addresses)
        ]

        self._turn = 0

    def start(self) -> None:
        """One after another (two that join at once refuse each other); all see all when it returns."""
        for member in self.members:
            member.start()
        first = self.members[0]
        with Cluster([first.address], port=first.port, protocol_version=5) as cluster, cluster.connect() as session:
            options = f"{{'class': 'NetworkTopologyStrategy', '{first.datacentre}': {SIZE}}}"
            session.execute(f"CREATE KEYSPACE {_PROBE} WITH replication = {options}", timeout=60)
            session.execute(f"CREATE TABLE {_PROBE}.rows (name text PRIMARY KEY)", timeout=60)
        self.await_whole()

    def stop(self) -> None:
        """All of them, at once: nobody needs their files any more."""
        for member in self.members:
            if member.running:
                member.kill()

    def away(self, member: CassandraNode | None = None) -> CassandraNode:
        """A member that is killed: one that is already, else this one, else the next one in turn."""
        gone = next((each for each in self.members if not each.running), None)
        if gone is None:
            gone = member or self.members[self._turn % SIZE]
            self._turn += 1
            gone.kill()
        return gone

    def coordinator(self, cell: OpenCell, tablet: TabletId) -> CassandraNode:
        """The member a session sends the tablet's statements to while it is there."""
        key = b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in partition(tablet))
        first = cell.session.cluster.metadata.get_replicas(cell.settings.keyspace, key)[0]
        return next(member for member in self.members if member.address == first.address)

    def mend(self) -> None:
        """Start who was killed; every member sees every other when it returns."""
        for member in self.members:
            if not member.running:
                member.start()
        self.await_whole()

    def await_whole(self) -> None:
        """Until each member, asked alone, gets an answer from all three."""
        until = time.monotonic() + START_SECONDS
        for member in self.members:
            while not _asks_all(member):
                if time.monotonic() > until:
                    raise RuntimeError(f"Cassandra at {member.address} does not see the whole ring")
                time.sleep(0.5)

    def await_noticed(self) -> None:
        """Until the members that run count on the absent ones no more (before that, a read now and then waits for them)."""
        until = time.monotonic() + START_SECONDS
        for member in self.members:
            while member.running and (found := _asks_all(member)) is not False:
                if time.monotonic() > until:
                    raise RuntimeError(f"Cassandra at {member.address} notices nothing: {found}")
                time.sleep(0.5)

    def settings(self, **more: Any) -> CassandraSettings:
        """How tests open the ring: three replicas, as a real cell."""
        addresses = tuple(member.address for member in self.members)
        return settings_for(self.members[0], **({"contact_points": addresses, "replication_factor": SIZE} | more))


class RingHarness(CassandraHarness):
    """For the contract suite: in a crash a member is killed, and the storage's process; it goes on without that member."""

    def __init__(self, ring: CassandraRing, **settings: Any) -> None:
        super().__init__(ring.members[0])
        self.settings = ring.settings(**settings)
        self.ring = ring

    async def crash(self) -> None:
        """What was acknowledged is on two of the three at least."""
        self.ring.mend()
        self.ring.away()
        self.ring.await_noticed()
        await self.stop()

    def damage(self, key: RowKey) -> bool:
        """Through a member that runs."""
        self.node = next(member for member in self.ring.members if member.running)
        return super().damage(key)


def common_port(addresses: Sequence[str]) -> int:
    """A port that is free on every address: the driver takes it to be the same everywhere, and so do the nodes."""
    while True:
        port = free_port(addresses[0])
        with suppress(OSError):
            for address in addresses[1:]:
                with socket.socket() as other:
                    other.bind((address, port))
            return port


def _asks_all(member: CassandraNode) -> bool | None:
    """Whether the member, asked alone, gets an answer from all three; False: it knows that it cannot; None: no answer."""
    alone = ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy([member.address]),
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.ALL,
        request_timeout=10,
    )
    try:
        with (
            Cluster(
                [member.address],
                port=member.port,
                protocol_version=5,
                connect_timeout=10,
                execution_profiles={EXEC_PROFILE_DEFAULT: alone},
            ) as cluster,
            cluster.connect() as session,
        ):
            session.execute(f"INSERT INTO {_PROBE}.rows (name) VALUES ('seen')")
            session.execute(f"SELECT name FROM {_PROBE}.rows WHERE name = 'seen'")
    except TooFewAlive:
        return False
    except (DriverException, NoHostAvailable, OSError):
        return None
    return True

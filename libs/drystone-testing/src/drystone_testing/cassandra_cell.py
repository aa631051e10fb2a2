# SPDX-License-Identifier: Apache-2.0
"""A keyspace of a real Cassandra as a test uses it: opened on the test's loop, its tablets apart from other tests'."""

from collections.abc import Sequence
from typing import Any

from cassandra.cluster import Cluster

from drystone_metadata.store.cassandra import CassandraSettings, OpenCell, open_cell
from drystone_metadata.store.cassandra.statements import partition
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Batch,
    Committed,
    Expected,
    FeedRow,
    Fill,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    TabletStorage,
)
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.cassandra_node import CassandraNode

KEYSPACE = "drystone_test"


def settings_for(node: CassandraNode, **more: Any) -> CassandraSettings:
    """How tests open the node: one replica, the keyspace made when it is not there."""
    given: dict[str, Any] = {
        "contact_points": (node.address,), "port": node.port, "keyspace": KEYSPACE, "datacentre": node.datacentre,
        "replication_factor": 1, "migrate": True, "reconnect_after": 0.1,
    }  # fmt: skip
    return CassandraSettings(**(given | more))


async def open_test_cell(settings: CassandraSettings) -> OpenCell:
    """With the machine's own clock and entropy."""
    return await open_cell(settings, clock=SystemClock(), entropy=SystemEntropy())


class ApartStorage:
    """A TabletStorage in which every tablet id begins with a test's own bytes."""

    def __init__(self, storage: TabletStorage, prefix: bytes) -> None:
        self.storage = storage
        self.prefix = prefix

    def name(self, tablet: TabletId) -> TabletId:
        """What the tablet is called below."""
        return TabletId(self.prefix + tablet)

    async def create(
        self,
        tablet: TabletId,
        *,
        low: bytes,
        high: bytes,
        generation: int,
        phase: TabletPhase = TabletPhase.OPEN,
        child: TabletId = TabletId(b""),  # noqa: B008 - bytes
    ) -> None:
        await self.storage.create(
            self.name(tablet), low=low, high=high, generation=generation, phase=phase, child=child
        )

    async def drop(self, tablet: TabletId) -> None:
        await self.storage.drop(self.name(tablet))

    async def state(self, tablet: TabletId) -> TabletState:
        return await self.storage.state(self.name(tablet))

    async def take_over(self, tablet: TabletId) -> TabletState:
        return await self.storage.take_over(self.name(tablet))

    async def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> Committed:
        return await self.storage.commit(self.name(tablet), expected, batch)

    async def fill(self, tablet: TabletId, expected: TabletState, fill: Fill) -> Committed:
        return await self.storage.fill(self.name(tablet), expected, fill)

    async def reshape(self, tablet: TabletId, expected: TabletState, to: TabletState) -> Committed:
        return await self.storage.reshape(self.name(tablet), expected, to)

    async def clear(self, tablet: TabletId, expected: TabletState) -> Committed:
        return await self.storage.clear(self.name(tablet), expected)

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        return await self.storage.read(self.name(tablet), keys)

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        return await self.storage.scan(self.name(tablet), start, end, limit)

    async def feed(self, tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        return await self.storage.feed(self.name(tablet), after, limit)

    async def trim_feed(self, tablet: TabletId, before: int) -> None:
        await self.storage.trim_feed(self.name(tablet), before)


class CassandraHarness:
    """For the contract suite: each harness has tablets of its own in one keyspace; a crash is a killed node."""

    many_tablets = True

    def __init__(self, node: CassandraNode, **settings: Any) -> None:
        self.node = node
        self.settings = settings_for(node, **settings)
        self.prefix = SystemEntropy().token(8)
        self.cell: OpenCell | None = None

    async def start(self) -> ApartStorage:
        self.cell = await open_test_cell(self.settings)
        return ApartStorage(self.cell.storage, self.prefix)

    async def stop(self) -> None:
        assert self.cell is not None
        await self.cell.close()

    async def crash(self) -> None:
        """The whole cluster loses power."""
        self.node.kill()
        await self.stop()
        self.node.start()

    def damage(self, key: RowKey) -> bool:
        """Flip a bit of the stored value, conditionally as everything that changes a tablet."""
        with (
            Cluster([self.node.address], port=self.node.port, protocol_version=5) as cluster,
            cluster.connect() as session,
        ):
            at = (*partition(TabletId(self.prefix + CELL_TABLET)), *key)
            where = "WHERE bucket_id = %s AND tablet_id = %s AND kind = %s AND key = %s AND seq = %s"
            ((value,),) = session.execute(f"SELECT value FROM {KEYSPACE}.tablets {where}", at)
            changed = bytes((value[0] ^ 1,)) + value[1:]
            session.execute(f"UPDATE {KEYSPACE}.tablets SET value = %s {where} IF value = %s", (changed, *at, value))
        return True

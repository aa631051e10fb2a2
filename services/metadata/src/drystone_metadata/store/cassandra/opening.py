# SPDX-License-Identifier: Apache-2.0
"""Opening a cell's keyspace: connect, check the cluster, the schema and the home, and only then serve."""

import logging

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock, Entropy
from drystone_metadata.store.cassandra.schema import HOME, Schema
from drystone_metadata.store.cassandra.server_checks import (
    SETTINGS,
    check_nodes,
    check_replication,
    check_server,
    choose_home,
)
from drystone_metadata.store.cassandra.session import CqlSession, connect
from drystone_metadata.store.cassandra.settings import CassandraSettings
from drystone_metadata.store.cassandra.statements import Statements, prepare
from drystone_metadata.store.cassandra.storage import CassandraStorage

IDENTITY = "identity"
"""The fact that names the cell."""
log = logging.getLogger(__name__)


class OpenCell:
    """A keyspace in use: its session, and storages over it."""

    def __init__(
        self,
        session: CqlSession,
        settings: CassandraSettings,
        statements: Statements,
        *,
        schema: Schema,
        home: str,
        most_bytes: int,
    ) -> None:
        self.session = session
        self._schema = schema
        self.home = home
        """The datacentre that commits (R9)."""
        self.most_bytes = most_bytes
        """What every node takes in one commit."""
        self.settings = settings
        self.statements = statements
        self.storage = CassandraStorage(cql=session, statements=statements, settings=settings, most_bytes=most_bytes)

    async def identity(self) -> ClusterId | None:
        """The cell whose metadata it holds; None: nobody has said yet."""
        found = await self._schema.fact(IDENTITY)
        return ClusterId(found) if found else None

    async def claim(self, cell: ClusterId) -> None:
        """It is that cell's from now on; Refused when it is another's."""
        check_identity(self.settings.keyspace, ClusterId(await self._schema.set_fact(IDENTITY, cell)), cell)

    async def close(self) -> None:
        """End the session."""
        await self.session.close()


async def open_cell(settings: CassandraSettings, *, clock: Clock, entropy: Entropy) -> OpenCell:
    """Unavailable with a sentence that says what to do when the cluster, the schema or the home is not as it must be."""
    session = await connect(settings)
    try:
        most_bytes = await _check_nodes(session)
        schema = Schema(session, settings, clock=clock, entropy=entropy)
        await _check_replicas(session, settings)
        await schema.ready()
        home = await _home(session, schema, settings)
        statements = await prepare(session, settings.keyspace)
    except BaseException:
        await session.close()
        raise
    return OpenCell(session, settings, statements, schema=schema, home=home, most_bytes=most_bytes)


def check_identity(keyspace: str, there: ClusterId | None, cell: ClusterId) -> None:
    """Refused unless the keyspace is the cell's."""
    if there is None:
        raise Refused(ErrorCode.INVALID_REQUEST, f"keyspace {keyspace} belongs to no cell yet: run drystone cell init")
    if there != cell:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"keyspace {keyspace} holds the metadata of cell {there}, the coordinator is cell {cell}'s: give each cell a"
            " coordinator (or a prefix) and a keyspace of its own",
        )


async def _check_replicas(session: CqlSession, settings: CassandraSettings) -> None:
    """Before anything is written or read at a quorum: that there can be one where our connections go."""
    asked, replicas = session.datacentre, await _replicas(session, settings.keyspace)
    if replicas is None and not settings.migrate:
        return
    if replicas is not None and asked not in replicas:
        raise Unavailable(
            f"the contact points are in datacentre {asked}, keyspace {settings.keyspace} is replicated to"
            f" {', '.join(replicas)}: give contact points in its home datacentre"
        )
    nodes = sum(host.datacenter == asked for host in session.cluster.metadata.all_hosts())
    wanted = settings.replication_factor if replicas is None else replicas[asked]
    check_nodes(settings.keyspace, asked, replicas=wanted, nodes=nodes)


async def _home(session: CqlSession, schema: Schema, settings: CassandraSettings) -> str:
    """The home, stored at the first start (R9)."""
    replicas = await _replicas(session, settings.keyspace) or {}
    stored = await schema.fact(HOME)

    def choose(stored: str | None) -> str:
        return choose_home(
            settings.keyspace, replicas, wanted=settings.datacentre, stored=stored, asked=session.datacentre
        )

    home = choose(stored)
    if stored is None:
        home = choose(await schema.set_fact(HOME, home))
    if replicas[home] < 3:
        log.warning("metadata.few_replicas", extra={"keyspace": settings.keyspace, "replicas": replicas[home]})
    return home


async def _replicas(session: CqlSession, keyspace: str) -> dict[str, int] | None:
    rows = await session.look(f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'")
    return check_replication(keyspace, rows[0][0]) if rows else None


async def _check_nodes(session: CqlSession) -> int:
    """Every node of the datacentre that answers; what the smallest takes in one commit."""
    names = ", ".join(f"'{name}'" for name in SETTINGS)
    most = []
    for host in session.cluster.metadata.all_hosts():
        if host.datacenter == session.datacentre and host.is_up:
            try:
                rows = await session.look(
                    f"SELECT name, value FROM system_views.settings WHERE name IN ({names})", host
                )
            except Unavailable as error:  # it has just gone; the driver does not know yet
                log.warning("metadata.node_not_checked", extra={"host": str(host.endpoint), "reason": error.message})
                continue
            most.append(check_server(str(host.endpoint), dict(rows)))
    if not most:
        raise Unavailable(f"no Cassandra node of datacentre {session.datacentre} is up and answers")
    return min(most)

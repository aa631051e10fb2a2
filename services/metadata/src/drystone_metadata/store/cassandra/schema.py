# SPDX-License-Identifier: Apache-2.0
"""The keyspace of a cell: its tables, the migrations that make them, and the facts that are stored about the cell.

Invariants
  M1  A migration that was released is never edited; a change of the schema is a further one.
  M2  Statements of a migration may run twice (a process that dies in the middle is followed by another), so each is
      idempotent; table ids are derived from their names, so that even two processes at once make one table.
  M3  Migrations run under a lock (a row with a lifetime) and each is noted once, by a conditional insert.
  M4  A process serves only at exactly its own schema version.
Layout  docs/formats/cassandra.md.
"""

import uuid
from dataclasses import dataclass

from drystone_core.errors import Unavailable
from drystone_core.ports import Clock, Entropy
from drystone_metadata.store.cassandra.outcomes import FAILURES, unavailable
from drystone_metadata.store.cassandra.session import COMMIT, SCHEMA, CqlSession, Rows
from drystone_metadata.store.cassandra.settings import CassandraSettings

HOME = "home_datacentre"
_LOCK = "migrating"
_LOCK_SECONDS = 120
_NAMESPACE = uuid.UUID("5d6b1f0e-6f0c-5e0e-9d0a-d27f0c0a55a7")
_FACTS = "CREATE TABLE IF NOT EXISTS {keyspace}.cell (name text PRIMARY KEY, value text) WITH id = {cell_id}"
_NOTED = (
    "CREATE TABLE IF NOT EXISTS {keyspace}.migrations (version int PRIMARY KEY, name text, applied_us bigint)"
    " WITH id = {migrations_id}"
)
_TABLETS = """CREATE TABLE IF NOT EXISTS {keyspace}.tablets (
    bucket_id blob, tablet_id blob, kind smallint, key blob, seq blob,
    head bigint static, epoch bigint static, batch_id blob static, floor bigint static, bucket_gen bigint static,
    low blob static, high blob static, state text static, child blob static, trimmed bigint static,
    value blob,
    PRIMARY KEY ((bucket_id, tablet_id), kind, key, seq)
) WITH id = {tablets_id}
    AND compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}}
    AND read_repair = 'BLOCKING' AND default_time_to_live = 0"""
_TABLES = ("cell", "migrations", "tablets")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; the steps are numbered from 1."""

    name: str
    statements: tuple[str, ...]


_NOTES = "ALTER TABLE {keyspace}.tablets ADD IF NOT EXISTS note blob static"
MIGRATIONS = (Migration("tablets", (_TABLETS,)), Migration("notes of tablets", (_NOTES,)))
VERSION = len(MIGRATIONS)
"""The schema this release works with."""


class Schema:
    """Looks at a keyspace and brings it up; `ready` is the whole of it."""

    def __init__(self, session: CqlSession, settings: CassandraSettings, *, clock: Clock, entropy: Entropy) -> None:
        self._session = session
        self._settings = settings
        self._keyspace = settings.keyspace
        self._clock = clock
        self._entropy = entropy

    async def ready(self) -> None:
        """The schema is this release's, or Unavailable says what to do."""
        if self._settings.migrate:
            await self._bring_up()
        version = await self.version()
        if version > VERSION:
            raise Unavailable(
                f"keyspace {self._keyspace} has schema version {version}, this release knows {VERSION}:"
                " run the newer release that brought it there, or one after it"
            )
        if version < VERSION:
            found = f"has schema version {version}" if version else "holds no Drystone schema"
            raise Unavailable(
                f"keyspace {self._keyspace} {found}, this release needs {VERSION}:"
                " run `drystone cell init` of this release, then start its services"
            )

    async def version(self) -> int:
        """Of the last migration; 0 without a schema. Damaged history is Unavailable."""
        if not await self._has_tables():
            return 0
        noted = sorted(await self._session.look(f"SELECT version, name FROM {self._keyspace}.migrations"))
        for at, (version, name) in enumerate(noted):
            if version != at + 1 or (at < VERSION and name != MIGRATIONS[at].name):
                raise Unavailable(
                    f"keyspace {self._keyspace} was migrated by something else (step {version}, {name!r}):"
                    " give this cell a keyspace of its own"
                )
        return len(noted)

    async def fact(self, name: str) -> str | None:
        """What is stored about the cell under `name`."""
        rows = await self._session.look(f"SELECT value FROM {self._keyspace}.cell WHERE name = '{name}'")
        return str(rows[0][0]) if rows and rows[0][0] is not None else None

    async def set_fact(self, name: str, value: str) -> str:
        """Store a fact unless there is one; the one that holds."""
        text = value.replace("'", "''")
        rows = await self._ask(
            f"INSERT INTO {self._keyspace}.cell (name, value) VALUES ('{name}', '{text}') IF NOT EXISTS"
        )
        if rows[0][0]:
            return value
        return str(rows[0][2])

    async def _bring_up(self) -> None:
        settings, keyspace = self._settings, self._keyspace
        if not await self._has_keyspace():
            datacentre = settings.datacentre or self._session.datacentre
            await self._change(
                f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication ="
                f" {{'class': 'NetworkTopologyStrategy', '{datacentre}': {settings.replication_factor}}}"
            )
        if not await self._has_tables():
            for text in (_FACTS, _NOTED):
                await self._change(_filled(text, keyspace))
        if await self.version() >= VERSION:
            return
        owner = self._entropy.token(8).hex()
        await self._lock(owner)
        try:
            for version in range(await self.version() + 1, VERSION + 1):
                await self._migrate(version, MIGRATIONS[version - 1])
        finally:
            await self._ask(f"DELETE FROM {keyspace}.cell WHERE name = '{_LOCK}' IF value = '{owner}'")

    async def _migrate(self, version: int, migration: Migration) -> None:
        for text in migration.statements:
            await self._change(_filled(text, self._keyspace))
        await self._ask(
            f"INSERT INTO {self._keyspace}.migrations (version, name, applied_us)"
            f" VALUES ({version}, '{migration.name}', {self._clock.wall_us()}) IF NOT EXISTS"
        )

    async def _lock(self, owner: str) -> None:
        """Have the migration lock; it ends by itself when its holder dies."""
        until = self._clock.monotonic() + self._settings.schema_timeout + _LOCK_SECONDS
        while True:
            rows = await self._ask(
                f"INSERT INTO {self._keyspace}.cell (name, value) VALUES ('{_LOCK}', '{owner}') IF NOT EXISTS"
                f" USING TTL {_LOCK_SECONDS}"
            )
            if rows[0][0]:
                return
            if self._clock.monotonic() >= until:
                raise Unavailable(
                    f"another process has been migrating keyspace {self._keyspace} for minutes: look at its log"
                )
            await self._clock.sleep(0.5)

    async def _has_keyspace(self) -> bool:
        return bool(
            await self._session.look(
                f"SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{self._keyspace}'"
            )
        )

    async def _has_tables(self) -> bool:
        rows = await self._session.look(
            f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{self._keyspace}'"
        )
        return {"cell", "migrations"} <= {str(name) for (name,) in rows}

    async def _change(self, text: str) -> None:
        await self._ask(text, profile=SCHEMA)
        if not await self._session.agreed():
            raise Unavailable("the Cassandra nodes do not agree on the schema: wait until all are up, then start again")

    async def _ask(self, text: str, *, profile: str = COMMIT) -> Rows:
        """Once: it changes something."""
        try:
            return await self._session.run(text, profile)
        except FAILURES as failure:
            raise unavailable(failure) from failure


def _filled(text: str, keyspace: str) -> str:
    ids = {f"{table}_id": uuid.uuid5(_NAMESPACE, f"{keyspace}.{table}") for table in _TABLES}
    return text.format(keyspace=keyspace, **ids)

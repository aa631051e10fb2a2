# SPDX-License-Identifier: Apache-2.0
"""The distributed TabletStorage: a tablet is one partition, a commit one conditional batch on it.

Invariants
  T1  COMMITTED means: Cassandra said that the batch was applied (or showed its batch id as the tablet's last one), so it
      is accepted by a quorum of the home datacentre and every later read there sees it.
  T2  STALE means: Cassandra showed statics other than expected, in an answer to this batch. Everything else is UNKNOWN,
      or raised when nothing was sent.
  T3  `state` is a SERIAL read: what a coordinator has begun is finished or void when it answers. A batch that is still on
      its way to a coordinator may be applied later, but only at the head it names: when anything else was committed it
      is stale, and when it does go in the owner's next commit is, who then meets its write ids in the feed.
  T4  Rows are read together with the epoch of their partition, and keys outside the range of that epoch are refused (R7).
  T5  take_over returns an epoch that its own conditional update wrote, never one it merely found.
States of a commit   sent --applied--> COMMITTED;  --not applied--> STALE;  --anything else--> UNKNOWN --state()--> settled
Source  docs/formats/cassandra.md
"""

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NoReturn

from cassandra.query import Statement

from drystone_core.check import check
from drystone_core.errors import Damaged, DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.rowseal import intact
from drystone_metadata.store.cassandra.outcomes import FAILURES, refused, unavailable
from drystone_metadata.store.cassandra.session import COMMIT, READ, Cql, Rows
from drystone_metadata.store.cassandra.settings import CassandraSettings
from drystone_metadata.store.cassandra.statements import SENTINEL, Statements, batch_size, partition, sequence_key
from drystone_metadata.store.ports import (
    Batch,
    Committed,
    Expected,
    FeedRow,
    Fill,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    UnknownTablet,
)
from drystone_metadata.store.ranges import check_keys, check_span

_ATTEMPTS = 8
_NO_TABLET = TabletId(b"")
_RESTLESS = "the tablet changes its owner too fast to be read"


class CassandraStorage:
    """See the module's docstring. `opening.open_storage` makes one."""

    def __init__(self, *, cql: Cql, statements: Statements, settings: CassandraSettings, most_bytes: int) -> None:
        """`most_bytes`: what every node takes in one commit."""
        self._cql = cql
        self._statements = statements
        self._settings = settings
        self._most_bytes = most_bytes
        self._ranges: dict[TabletId, TabletState] = {}
        """Statics as last seen, of which only what the epoch fixes is used (statements.py Q2)."""

    # Changes

    async def create(
        self,
        tablet: TabletId,
        *,
        low: bytes,
        high: bytes,
        generation: int,
        phase: TabletPhase = TabletPhase.OPEN,
        child: TabletId = _NO_TABLET,
    ) -> None:
        statics = (generation, low, high, phase.value, child)
        await self._lwt(self._statements.create.bind((*partition(tablet), *statics)))

    async def drop(self, tablet: TabletId) -> None:
        await self._lwt(self._statements.drop_tablet(tablet))
        self._ranges.pop(tablet, None)

    async def take_over(self, tablet: TabletId) -> TabletState:
        state = await self.state(tablet)
        for _ in range(_ATTEMPTS):
            epoch = state.epoch + 1
            try:
                applied = await self._lwt(self._statements.raise_epoch.bind((epoch, *partition(tablet), state.epoch)))
            except Unavailable:
                applied = False  # Perhaps it went in; whose the epoch is cannot be told, so another one is written.
            state = await self.state(tablet)
            if applied and state.epoch == epoch:
                return state
        raise Unavailable("too many processes take the tablet over at once")

    async def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> Committed:
        self._check_size(batch_size(tablet, batch))
        known = await self._known(tablet, expected.epoch)
        if known.epoch == expected.epoch:
            check_keys(known, batch.deletes)
            check_keys(known, [key for key, _ in batch.puts])
        statement = self._statements.commit(tablet, expected, batch)
        return await self._condition(statement, (expected.head + 1, expected.epoch, batch.batch_id))

    async def fill(self, tablet: TabletId, expected: TabletState, fill: Fill) -> Committed:
        self._check_size(batch_size(tablet, fill))
        statement = self._statements.filling(tablet, expected, fill)
        return await self._condition(statement, (expected.head + 1, expected.epoch, fill.batch_id))

    async def reshape(self, tablet: TabletId, expected: TabletState, to: TabletState) -> Committed:
        check(to.epoch == expected.epoch + 1, "a new shape is a new epoch")
        return await self._condition(self._statements.reshaping(tablet, expected, to), None)

    async def clear(self, tablet: TabletId, expected: TabletState) -> Committed:
        return await self._condition(self._statements.clearing(tablet, expected), None)

    async def _condition(self, statement: Statement, ours: tuple[int, int, bytes] | None) -> Committed:
        """Send something conditional; `ours`: the (head, epoch, batch id) which a refusal shows when it went in after all."""
        try:
            ((applied, *found),) = await self._cql.run(statement, COMMIT)
        except FAILURES as failure:
            if refused(failure):
                raise unavailable(failure) from failure
            return Committed.UNKNOWN
        if applied:
            return Committed.COMMITTED
        if not found:
            self._unknown_tablet()
        if ours is None:
            return Committed.STALE
        # The row as it stands: bucket_id, tablet_id, kind, key, seq, then what the condition names.
        head, epoch, _generation, _phase, batch_id = found[-5:]
        return Committed.COMMITTED if (head, epoch, batch_id) == ours else Committed.STALE

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise Refused(
                ErrorCode.INVALID_REQUEST,
                f"a commit of {size} bytes is more than Cassandra takes ({self._most_bytes}): raise max_mutation_size and"
                " native_transport_max_message_size there, or commit less at once",
            )

    async def trim_feed(self, tablet: TabletId, before: int) -> None:
        await self._lwt(self._statements.trim_feed(tablet, before), must_exist=True)

    async def _lwt(self, statement: Statement, *, must_exist: bool = False) -> bool:
        """Whether a conditional statement was applied; Unavailable when that is unknown. All of them may be repeated."""
        try:
            ((applied, *found),) = await self._cql.run(statement, COMMIT)
        except FAILURES as failure:
            raise unavailable(failure) from failure
        if must_exist and not applied and not found:
            self._unknown_tablet()
        return bool(applied)

    # Reads

    async def state(self, tablet: TabletId) -> TabletState:
        return await self._see(tablet, self._statements.settled.bind(partition(tablet)), COMMIT)

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        if not keys:
            return []
        most = self._settings.read_rows
        if len(keys) <= most:
            found = await self._read(tablet, keys)
        else:
            found = {}
            unique = iter(dict.fromkeys(keys))
            try:
                async with asyncio.TaskGroup() as group:
                    parts = []
                    while part := list(islice(unique, most)):
                        parts.append(group.create_task(self._read(tablet, part)))
            except* DrystoneError as errors:
                raise _first(errors) from None
            for task in parts:
                found.update(task.result())
        for key, value in found.items():
            if not intact(*key, value):
                raise Damaged("metadata row fails its checksum", kind=str(key[0]))
        get = found.get
        return [get(key) for key in keys]

    async def _read(self, tablet: TabletId, keys: Sequence[RowKey]) -> dict[tuple[int, bytes, bytes], bytes]:
        """The rows there are. The sentinel is asked for as well: it brings the epoch when none of the others is there."""
        statement = self._statements.rows.bind((*partition(tablet), [SENTINEL, *keys]))
        for _ in range(_ATTEMPTS):
            rows = await self._ask(statement)
            if not rows:
                self._unknown_tablet()
            epoch = rows[0][4]
            known = await self._known(tablet, epoch)
            if known.epoch == epoch:
                check_keys(known, keys)
                return {(kind, key, seq): value for kind, key, seq, value, _ in rows if kind}
        raise Unavailable(_RESTLESS)

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        found: list[tuple[RowKey, bytes]] = []
        page, most = limit, self._settings.scan_rows
        while start < end and len(found) < limit:
            page = min(most, limit - len(found))
            rows = await self._page(tablet, start, end, page)
            found += [(RowKey(kind, key, seq), value) for kind, key, seq, value, _ in rows]
            if len(rows) < page:
                break
            kind, key, seq = found[-1][0]
            start = RowKey(kind, key, seq + b"\0")
        return found

    async def _page(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> Rows:
        statement = self._statements.page.bind((*partition(tablet), *start, *end, limit))
        for _ in range(_ATTEMPTS):
            before = self._ranges.get(tablet)
            rows = await self._ask(statement)
            if rows:
                epoch: int | None = rows[0][4]
                known = await self._known(tablet, rows[0][4])
            else:
                # Nothing there brings the epoch: only one that was seen before and still is was that of the page, too.
                # The tablet may have grown since, and what it took over was not in it when the page was read.
                known = await self._look(tablet)
                epoch = before.epoch if before is not None else None
            if known.epoch == epoch:
                check_span(known, start, end)
                return rows
        raise Unavailable(_RESTLESS)

    async def feed(self, tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        found: list[FeedRow] = []
        while len(found) < limit:
            page = min(self._settings.feed_rows, limit - len(found))
            statement = self._statements.feed.bind((*partition(tablet), sequence_key(after), page))
            rows = await self._ask(statement)
            found += [FeedRow(int.from_bytes(key, "big"), batch_id, record) for key, batch_id, record in rows]
            if len(rows) < page:
                break
            after = found[-1].seq
        if not found and limit > 0:
            await self._look(tablet)
        return found

    async def _ask(self, statement: Statement) -> Rows:
        try:
            return await self._cql.run(statement, READ)
        except FAILURES as failure:
            raise unavailable(failure) from failure

    async def _known(self, tablet: TabletId, epoch: int) -> TabletState:
        """The statics of this epoch, or newer ones."""
        known = self._ranges.get(tablet)
        return known if known is not None and known.epoch == epoch else await self._look(tablet)

    async def _look(self, tablet: TabletId) -> TabletState:
        return await self._see(tablet, self._statements.statics.bind(partition(tablet)), READ)

    async def _see(self, tablet: TabletId, statement: Statement, profile: str) -> TabletState:
        try:
            rows = await self._cql.run(statement, profile)
        except FAILURES as failure:
            raise unavailable(failure) from failure
        if not rows:
            self._unknown_tablet()
        head, epoch, batch_id, floor_us, generation, low, high, phase, child, note, _kind = rows[0]
        state = TabletState(
            head=head,
            epoch=epoch,
            batch_id=batch_id,
            floor_us=floor_us,
            generation=generation,
            phase=TabletPhase(phase),
            low=low,
            high=high,
            child=TabletId(child),
            note=note or b"",
        )
        ranges = self._ranges
        if tablet not in ranges and len(ranges) >= self._settings.known_tablets:
            del ranges[next(iter(ranges))]
        ranges[tablet] = state
        return state

    @staticmethod
    def _unknown_tablet() -> NoReturn:
        raise UnknownTablet


def _first(errors: BaseExceptionGroup[DrystoneError]) -> DrystoneError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DrystoneError)
    return error

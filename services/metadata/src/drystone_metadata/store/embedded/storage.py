# SPDX-License-Identifier: Apache-2.0
"""The embedded TabletStorage: one tablet, kept whole on m+1 disks.

Invariants
  E1  COMMITTED means: the batch's record is durable in the journals of all m+1 members (chain.py).
  E2  Reads see exactly the committed batches: what is in memory (overlay.py) over any complete member's SQLite file.
      SQLite is written in the background, in sorted transactions; so a commit costs no SQLite call and a failed file no
      replay: the next member's file serves at once (R10).
  E3  One commit at a time; whoever is cancelled or told Unavailable in the middle of one leaves the chain doubtful, and
      the next commit begins a term in which that record is not.
  E4  Everything but the fields of `Member` that lanes own is touched on the loop only.
Lanes: commits use the journal lanes; flushes and copies the background lanes; long reads the reading lanes.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import apsw

from drystone_core.check import check
from drystone_core.errors import Damaged, ErrorCode, Refused, Unavailable
from drystone_core.formats.journal import (
    RecordKind,
    encode_batch,
    encode_create,
    encode_number,
    record_size,
)
from drystone_core.formats.rowseal import intact
from drystone_core.ports import Clock, Entropy, Lanes
from drystone_metadata.store.embedded.chain import Chain
from drystone_metadata.store.embedded.database import Database, load_checksum_vfs
from drystone_metadata.store.embedded.keeper import Keeper
from drystone_metadata.store.embedded.member import Member, Standing
from drystone_metadata.store.embedded.opening import open_cell
from drystone_metadata.store.embedded.overlay import ABSENT, Layer, Overlay, after, merge, next_state, with_epoch
from drystone_metadata.store.embedded.units import EmbeddedSettings, MemberUnit, OnEvent
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
    UnknownTablet,
)

_NO_TABLET = TabletId(b"")


def _no_event(_name: str, _fields: dict[str, Any]) -> None:
    """Nobody listens."""


class EmbeddedStorage:
    """See the module's docstring. `open` before anything else, `close` at the end."""

    def __init__(
        self,
        *,
        units: Sequence[MemberUnit],
        cluster_id: str,
        m: int,
        lanes: Lanes,
        clock: Clock,
        entropy: Entropy,
        settings: EmbeddedSettings | None = None,
        on_event: OnEvent = _no_event,
    ) -> None:
        """`units` are all disks of the cell, the unreadable ones included; `m` of them may be missing."""
        check(len(units) > m, "a cell needs at least m+1 disks")
        self._settings = settings or EmbeddedSettings()
        self._lanes = lanes
        self._clock = clock
        self._m = m
        self._members = [Member(unit, cluster_id=cluster_id, settings=self._settings) for unit in units]
        self._chain = Chain(
            members=self._members,
            cluster_id=cluster_id,
            m=m,
            lanes=lanes,
            clock=clock,
            entropy=entropy,
            settings=self._settings,
            on_event=on_event,
        )
        self._overlay = Overlay(Layer(None), 0)
        self._state: TabletState | None = None
        self._lock = asyncio.Lock()
        self._keeper = Keeper(
            chain=self._chain,
            members=self._members,
            overlay=self._overlay,
            lock=self._lock,
            settle=self._settle,
            lanes=lanes,
            clock=clock,
            settings=self._settings,
            on_event=on_event,
        )
        self._backlog: list[tuple[RecordKind, bytes]] = []
        """Records found at the start that not every member holds: appended again before anything else."""
        self._open = False

    async def open(self, *, create: bool = False) -> None:
        """Find the newest state on the disks, begin a term, serve. `create`: a cell with nothing on any disk is new.

        Unavailable when too many disks are missing (R5) or nothing is there and `create` is not set.
        """
        load_checksum_vfs()
        found = await open_cell(
            self._members, m=self._m, lanes=self._lanes, clock=self._clock, settings=self._settings, create=create
        )
        self._chain.place(found.stamp, term=found.term, members=found.members)
        self._chain.joined = found.rebuild
        self._overlay.layers[:] = found.layers
        self._overlay.active = found.layers[-1]
        self._overlay.base = found.base
        self._backlog = found.backlog
        self._state = found.layers[-1].state
        self._open = True
        self._keeper.start()
        async with self._lock:
            try:
                await self._settle()
            except Unavailable as error:
                self._keeper.say("metadata.read_only", reason=error.message)

    async def close(self, *, flush: bool = True) -> None:
        """Stop; with `flush` the files are brought to the head first, so that the next start has nothing to replay."""
        if not self._open:
            return
        async with self._lock:
            self._open = False
            await self._keeper.stop(flush=flush)

    def status(self) -> dict[str, Any]:
        """What `drystone status` shows: members with standing and lag, term, primary, head; `writable` and why not."""
        primary = self._keeper.serving()
        whole = not any(member.standing is Standing.FAILED for member in self._chain.set)
        return {
            "term": self._chain.term,
            "index": self._chain.index,
            "head": self._state.head if self._state else 0,
            "epoch": self._state.epoch if self._state else 0,
            "primary": primary.disk_id if primary else None,
            "writable": self._open and (whole and not self._backlog and len(self._chain.set) > self._m),
            "redundant": sum(member.serves for member in self._chain.set if member.standing is Standing.MEMBER),
            "wanted": self._m + 1,
            "in_memory_bytes": sum(layer.size for layer in self._overlay.layers),
            "members": [
                {
                    "disk": member.disk_id,
                    "standing": member.standing.value,
                    "complete": member.serves,
                    "lag": self._chain.index - member.applied.index if member.applied else None,
                    "reason": member.reason,
                }
                for member in self._members
            ],
        }

    async def verify_members(self) -> list[str]:
        """Compare the members' files by key ranges at equal sequence (R11): what differs, in words."""
        self._find(CELL_TABLET)
        return await self._keeper.verify()

    async def readmit(self, disk_id: str) -> bool:
        """A failed disk is healthy again (replaced, checked): it may serve as a spare. False: unknown or not failed."""
        return await self._keeper.readmit(disk_id)

    # TabletStorage: changes

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
        if tablet != CELL_TABLET or phase is not TabletPhase.OPEN or child:
            raise _one_tablet()
        async with self._lock:
            if self._state is None:
                payload = encode_create(low=low, high=high, generation=generation)
                await self._log(RecordKind.CREATE, payload)
                self._become(TabletState(low=low, high=high, generation=generation))

    async def drop(self, tablet: TabletId) -> None:
        async with self._lock:
            if tablet == CELL_TABLET and self._state is not None:
                await self._log(RecordKind.DROP, b"")
                self._overlay.active.clear()
                self._become(None)

    async def take_over(self, tablet: TabletId) -> TabletState:
        async with self._lock:
            epoch = self._find(tablet).epoch + 1
            await self._log(RecordKind.EPOCH, encode_number(epoch))
            state = with_epoch(self._find(tablet), epoch)
            self._become(state)
            return state

    async def commit(self, tablet: TabletId, expected: Expected, batch: Batch) -> Committed:
        async with self._lock:
            state = self._find(tablet)
            if (
                state.head != expected.head
                or state.epoch != expected.epoch
                or state.generation != expected.generation
                or state.phase is not TabletPhase.OPEN
            ):
                return Committed.STALE
            if self._keeper.crowded:
                await self._keeper.room()
            check(batch.floor_us >= state.floor_us, "a tablet's floor never goes back")
            payload = encode_batch(
                head=state.head + 1,
                batch_id=batch.batch_id,
                floor_us=batch.floor_us,
                generation=batch.generation,
                puts=batch.puts,
                deletes=batch.deletes,
                feed=batch.feed,
            )
            try:
                await self._log(RecordKind.BATCH, payload)
            except Unavailable:
                if self._chain.in_doubt:
                    return Committed.UNKNOWN
                raise
            self._state = state = next_state(state, batch.batch_id, batch.floor_us, batch.generation)
            self._overlay.active.batch(state, batch.puts, batch.deletes, batch.feed)
            if self._overlay.active.size >= self._settings.apply_bytes or self._chain.joined:
                await self._keeper.freeze()
        return Committed.COMMITTED

    async def fill(self, tablet: TabletId, expected: TabletState, fill: Fill) -> Committed:
        raise _one_tablet()

    async def reshape(self, tablet: TabletId, expected: TabletState, to: TabletState) -> Committed:
        raise _one_tablet()

    async def clear(self, tablet: TabletId, expected: TabletState) -> Committed:
        raise _one_tablet()

    async def trim_feed(self, tablet: TabletId, before: int) -> None:
        async with self._lock:
            self._find(tablet)
            await self._log(RecordKind.TRIM, encode_number(before))
            self._overlay.active.forget_feed(before)
            self._keeper.note_joined()

    async def _log(self, kind: RecordKind, payload: bytes) -> None:
        """Append a record; under the lock."""
        if self._backlog:
            await self._settle()
        await self._chain.append(kind, payload)
        self._overlay.active.size += record_size(len(payload))

    async def _settle(self) -> None:
        """Begin a term if one is due and write again what the last start found at the end of only some journals."""
        if self._chain.doubtful:
            await self._chain.new_term("start" if self._backlog else "settle")
        while self._backlog:
            await self._chain.append(*self._backlog[0])
            del self._backlog[0]
        self._keeper.may_freeze = True
        self._keeper.note_joined()

    def _become(self, state: TabletState | None) -> None:
        self._state = self._overlay.active.state = state
        self._keeper.note_joined()

    def _find(self, tablet: TabletId) -> TabletState:
        if not self._open:
            raise Unavailable("metadata is not open")
        if tablet != CELL_TABLET or self._state is None:
            raise UnknownTablet
        return self._state

    # TabletStorage: reads

    async def state(self, tablet: TabletId) -> TabletState:
        if self._lock.locked() or self._chain.in_doubt:
            async with self._lock:
                if self._chain.in_doubt:
                    await self._settle()
                return self._find(tablet)
        return self._find(tablet)

    async def read(self, tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        self._find(tablet)
        while True:
            found, wanting = self._from_memory(keys)
            if not wanting:
                return found  # type: ignore[return-value]
            asked = [keys[at] for at in wanting]
            member = self._keeper.serving_or_raise()
            try:
                if len(asked) <= self._settings.scan_inline:
                    values = self._read_inline(member, asked)
                else:
                    index, values = await self._lanes.run(
                        member.unit.reading, partial(_read_group, _database(member), asked), deadline=self._deadline()
                    )
                    found, again = self._from_memory(keys)
                    if index < self._overlay.base or again != wanting:
                        continue
            except (apsw.Error, OSError) as error:
                self._keeper.read_failed(member, error)
                continue
            for at, key, value in zip(wanting, asked, values, strict=True):
                if value is not None and not intact(*key, value):
                    self._keeper.row_failed(member)
                    break
                found[at] = value
            else:
                return found  # type: ignore[return-value]

    @staticmethod
    def _read_inline(member: Member, keys: Sequence[RowKey]) -> list[bytes | None]:
        database = _database(member)
        return [database.row(keys[0])] if len(keys) == 1 else database.row_group(keys, inline=True)[1]

    def _from_memory(self, keys: Sequence[RowKey]) -> tuple[list[object], list[int]]:
        """(values, positions of those SQLite must be asked for)."""
        found = list(map(self._overlay.lookup, keys))
        return found, [at for at, value in enumerate(found) if value is ABSENT]

    async def scan(self, tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        self._find(tablet)
        found: list[tuple[RowKey, bytes]] = []
        while len(found) < limit and start < end:
            page, start = await self._page(start, end, limit - len(found))
            found = found + page if found else page
        return found[:limit] if len(found) > limit else found

    async def _page(self, start: RowKey, end: RowKey, limit: int) -> tuple[list[tuple[RowKey, bytes]], RowKey]:
        """(rows from `start` on in order, where the next page starts)."""
        overlay = self._overlay
        while True:
            over, bound = overlay.range(start, end, limit)
            if overlay.covers_all:
                return merge(over, []), bound
            member = self._keeper.serving_or_raise()
            want = limit + len(over)
            try:
                if limit <= self._settings.scan_inline:
                    _, rows = _database(member).rows(start, bound, want, inline=True)
                else:
                    index, rows = await self._lanes.run(
                        member.unit.reading,
                        partial(_database(member).rows, start, bound, want, inline=False),
                        deadline=self._deadline(),
                    )
                    # The head is what counts: what was committed meanwhile is put over the rows as well.
                    again, lower = overlay.range(start, bound, limit + len(over))
                    if index < overlay.base or overlay.covers_all:
                        continue
                    over, bound = again, lower
                    rows = [row for row in rows if row[0] < bound] if rows and rows[-1][0] >= bound else rows
            except (apsw.Error, OSError) as error:
                self._keeper.read_failed(member, error)
                continue
            if len(rows) == want:
                bound = min(bound, after(rows[-1][0]))
                over = {key: value for key, value in over.items() if key < bound}
            return merge(over, rows), bound

    async def feed(self, tablet: TabletId, after: int, limit: int) -> list[FeedRow]:
        state = self._find(tablet)
        while True:
            recent = self._overlay.recent_feed(after)
            if limit <= 0 or after >= state.head or self._overlay.covers_all or (recent and recent[0].seq == after + 1):
                return recent[: max(0, limit)]
            trim = max(layer.trim for layer in self._overlay.layers)
            member = self._keeper.serving_or_raise()
            try:
                index, rows = await self._lanes.run(
                    member.unit.reading,
                    partial(_database(member).feed, max(after, trim - 1), limit),
                    deadline=self._deadline(),
                )
            except (apsw.Error, OSError) as error:
                self._keeper.read_failed(member, error)
                continue
            if index < self._overlay.base:
                continue
            last = rows[-1].seq if rows else after
            if len(rows) < limit:
                rows += self._overlay.recent_feed(last)[: limit - len(rows)]
            return rows

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._settings.late_after


def _one_tablet() -> Refused:
    return Refused(
        ErrorCode.NOT_IMPLEMENTED, "an embedded cell has one tablet, which is not split: several need Cassandra"
    )


def _database(member: Member) -> Database:
    if member.db is None:
        raise Damaged("the metadata file is gone")
    return member.db


def _read_group(database: Database, keys: Sequence[RowKey]) -> tuple[int, list[bytes | None]]:
    return database.row_group(keys, inline=False)

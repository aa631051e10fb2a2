# SPDX-License-Identifier: Apache-2.0
"""The chain of records over the members' journals: appends, terms, member sets (R5).

Invariants
  C1  A record counts when it is durable on all m+1 members of its term's set. One that any member refused or was late
      with never counts: the next term begins at its index and what it said is appended again.
  C2  Every set has m+1 members, at least one of them with a complete file; with too few healthy disks nothing is
      appended (docs/adr: a smaller set could not be told from a lost one at the next start), reads go on.
  C3  A member is dropped for an error of its disk, or for lateness when another member has answered; all late = wait.
      Want of space, memory or descriptors drops nobody.
  C4  A member that was dropped for lateness may still have a write under way: its files are not used again here.
  C5  A member that is slow by habit is replaced by a spare that has caught up with it (handover.py); it stays in the set
      until the term without it has begun: slowness makes no set smaller and no copy fewer.
One caller at a time: the storage's commit lock.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from drystone_core.errors import Unavailable
from drystone_core.formats.journal import (
    BLOCK,
    RecordKind,
    SegmentHeader,
    encode_record,
    encode_segment,
    encode_term,
    record_size,
)
from drystone_core.ports import Clock, Entropy, Lane, Lanes
from drystone_core.slowness import PeerTimes
from drystone_metadata.store.embedded.member import Member, Standing
from drystone_metadata.store.embedded.overlay import Stamp
from drystone_metadata.store.embedded.segments import Journal
from drystone_metadata.store.embedded.units import EmbeddedSettings, OnEvent, is_disk_fault


def _nobody(_member: Member) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """What a lane is asked to do to show that it moves."""


class Chain:
    """Position of the log and the set it is written to."""

    def __init__(
        self,
        *,
        members: Sequence[Member],
        cluster_id: str,
        m: int,
        lanes: Lanes,
        clock: Clock,
        entropy: Entropy,
        settings: EmbeddedSettings,
        on_event: OnEvent,
    ) -> None:
        self._all = members
        self._cluster = bytes.fromhex(cluster_id)
        self._wanted = m + 1
        self._lanes = lanes
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._on_event = on_event
        self.set: list[Member] = []
        self.term = 0
        self.index = 0
        """Of the last record that counts."""
        self.hash = b""
        self.doubtful = True
        """A new term is needed before anything is appended."""
        self.in_doubt = False
        """A refused record may be on some member: only a new term (or the next start) decides what counts."""
        self.joined: list[Member] = []
        """Members of the set whose files must be made; the storage takes them from here."""
        self._writes: list[tuple[Lane, Callable[[bytes, int, bytes], None]]] = []
        self._times = PeerTimes((), settings.slow)
        """Of the set's journal writes."""
        self._nonce = b""
        self._segment = 0
        self._offset = 0
        self._header = b""
        """To be written before the next record."""
        self.stamp = Stamp(0, b"", 0, ())
        """The last record that counts."""
        self.want_prepared: Callable[[], None] = _nothing
        """Called when a segment was begun: somebody shall call `prepare_next` soon."""
        self.found_slow: Callable[[Member], None] = _nobody
        """Called with a member that is slow by habit, with every slow record again."""

    def place(self, stamp: Stamp, *, term: int, members: list[Member]) -> None:
        """Stand where recovery found the log to end; `term` is the highest seen."""
        self.stamp, self.index, self.hash = stamp, stamp.index, stamp.hash
        self.term, self.set = term, members
        self.doubtful = True

    async def append(self, kind: RecordKind, payload: bytes) -> None:
        """Durable on every member when it returns. Unavailable: some may hold it, the next term will not."""
        while True:
            if self.doubtful:
                await self.new_term("unsettled")
            size = record_size(len(payload))
            if self._offset + size > self._settings.segment_bytes and self._offset > BLOCK:
                await self._turn()
                if self.doubtful:
                    continue
            if await self._write(kind, payload, size):
                return

    async def new_term(self, reason: str) -> None:
        """Begin a term with the healthy members and as many spares as are wanting."""
        self.doubtful = True
        chosen = self._choose()
        while not await self._begin(chosen, reason):
            chosen = self._choose()
        for member in chosen:
            if member.standing is Standing.SPARE:
                member.standing = Standing.MEMBER
                self.joined.append(member)

    async def replace(self, leaving: Member, joining: Member, reason: str) -> bool:
        """Begin a term in which a spare whose file is at the head, durably, stands in a member's place.

        False (or Unavailable) when one of the new set failed: the old one stands, and a new term is due (C5).
        """
        before = self.set
        self.doubtful, begun = True, False
        joining.standing = Standing.MEMBER
        try:
            begun = await self._begin([*(member for member in before if member is not leaving), joining], reason)
        finally:
            if not begun:
                self.set = before
                if joining.standing is Standing.MEMBER:
                    joining.standing = Standing.SPARE
        if begun:
            self._put_out(leaving, reason)
        return begun

    async def _begin(self, chosen: list[Member], reason: str) -> bool:
        """Begin a term with this set; False when some of it failed (they are dropped)."""
        self.term += 1
        self._segment, self._offset = 0, BLOCK
        self._nonce = self._entropy.token(16)
        self._header = self._segment_header(chosen)
        opened = await self._scatter(
            chosen,
            [(member.unit.background, partial(member.journal.open_term, self.term, self.index)) for member in chosen],
        )
        if not opened:
            return False
        payload = encode_term([member.disk_id for member in chosen], reason)
        self.set = chosen
        self._writes = [(member.unit.lane, member.journal.write) for member in chosen]
        self._times = PeerTimes([member.disk_id for member in chosen], self._settings.slow, before=self._times)
        if not await self._write(RecordKind.TERM, payload, record_size(len(payload))):
            return False
        names = [member.disk_id for member in chosen]
        self._on_event("metadata.term", {"term": self.term, "members": names, "reason": reason})
        self.want_prepared()
        return True

    def drop(self, member: Member, reason: str) -> None:
        """The member's disk failed: the next append begins a term without it."""
        if member.standing is Standing.FAILED:
            return
        if member.standing is Standing.MEMBER or member in self.set:
            self.doubtful = True
        self._put_out(member, reason)

    def _put_out(self, member: Member, reason: str) -> None:
        member.standing = Standing.FAILED
        member.reason = reason
        member.failed_at = self._clock.monotonic()
        member.journal = Journal(member.unit.disk, segment_bytes=self._settings.segment_bytes)
        self._on_event("metadata.member_dropped", {"disk": member.disk_id, "reason": reason})

    async def prepare_next(self) -> None:
        """Have the next segment's file ready on every member, before it is needed."""
        chosen = self.set
        calls = [
            (member.unit.background, partial(member.journal.prepare, self.term, self._segment + 1)) for member in chosen
        ]
        results = await self._lanes.scatter(calls, deadline=self._clock.monotonic() + self._settings.disk_deadline)
        for member, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException) and is_disk_fault(result):
                self.drop(member, f"journal segment: {result!r}")

    def spares(self) -> list[Member]:
        """Who may take a member's place, those last that were slow members themselves not long ago."""
        now = self._clock.monotonic()
        spares = [member for member in self._all if member.standing is Standing.SPARE and member not in self.set]
        return sorted(spares, key=lambda member: member.left_until > now)

    def _choose(self) -> list[Member]:
        healthy = [member for member in self.set if member.standing is not Standing.FAILED]
        chosen = (healthy + self.spares())[: self._wanted]
        if len(chosen) < self._wanted:
            failed = {member.disk_id: member.reason for member in self._all if member.standing is Standing.FAILED}
            raise Unavailable(
                f"metadata is read-only: {len(chosen)} healthy disks, {self._wanted} needed", failed=repr(failed)
            )
        if not any(member.serves for member in chosen):
            raise Unavailable("no complete metadata member is left")
        return chosen

    def _segment_header(self, members: Sequence[Member]) -> bytes:
        return encode_segment(
            SegmentHeader(
                cluster=self._cluster,
                term=self.term,
                segment=self._segment,
                nonce=self._nonce,
                members=tuple(member.disk_id for member in members),
            )
        )

    async def _turn(self) -> None:
        """Go on in the next segment."""
        following = self._segment + 1
        late = [member for member in self.set if not member.journal.ready(self.term, following)]
        if late:
            calls = [(member.unit.background, partial(member.journal.prepare, self.term, following)) for member in late]
            if not await self._scatter(late, calls):
                return
        for member in self.set:
            member.journal.turn(self.index)
        self._segment, self._offset = following, BLOCK
        self._header = self._segment_header(self.set)
        self.want_prepared()

    async def _scatter(self, members: Sequence[Member], calls: Sequence[tuple[Lane, Callable[[], None]]]) -> bool:
        """Slow calls on each member's disk; False when some failed (they are dropped)."""
        results = await self._lanes.scatter(calls, deadline=self._clock.monotonic() + self._settings.disk_deadline)
        return self._sort_out(members, results)

    async def _write(self, kind: RecordKind, payload: bytes, size: int) -> bool:
        """Append at the present position; False when some member failed."""
        offset, header = self._offset, self._header
        index = self.index + 1
        block, digest = encode_record(
            kind=kind,
            term=self.term,
            index=index,
            segment=self._segment,
            offset=offset,
            nonce=self._nonce,
            previous=self.hash,
            payload=payload,
        )
        self.doubtful = True
        self.in_doubt = self.in_doubt or kind is not RecordKind.TERM
        began, monotonic = self._clock.monotonic(), self._clock.monotonic
        results: list[Any] = await self._lanes.scatter(
            [(lane, partial(_write_timed, write, block, offset, header, monotonic)) for lane, write in self._writes],
            deadline=began + self._settings.late_after,
        )
        if any(isinstance(result, BaseException) for result in results):
            if all(isinstance(result, TimeoutError) for result in results):
                results = await self._wait_for_any()
            self._sort_out(self.set, results)
            return False
        self.index, self.hash, self._offset, self._header = index, digest, offset + size, b""
        self.in_doubt = False
        self.stamp = Stamp(index, digest, self.term, tuple(member.disk_id for member in self.set))
        self.doubtful = any(member.standing is Standing.FAILED for member in self.set)
        for position in self._times.observe(began, results):
            self.found_slow(self.set[position])
        return True

    async def _wait_for_any(self) -> list[Any]:
        """All are late: wait until one moves again, then give the others as long again.

        What was late may have been skipped (lanes do that), so the record is appended again in a new term either way.
        """
        while True:
            calls = [(member.unit.lane, _nothing) for member in self.set]
            deadline = self._clock.monotonic() + self._settings.late_after
            results = await self._lanes.scatter(calls, deadline=deadline)
            if not all(isinstance(result, TimeoutError) for result in results):
                return results
            self._on_event("metadata.all_members_late", {"term": self.term})
            await self._clock.sleep(self._settings.late_after / 20)

    def _sort_out(self, members: Sequence[Member], results: Sequence[Any]) -> bool:
        wanting: BaseException | None = None
        sound = True
        for member, result in zip(members, results, strict=True):
            if not isinstance(result, BaseException):
                continue
            sound = False
            if is_disk_fault(result):
                self.drop(member, f"late: {result}" if isinstance(result, TimeoutError) else f"journal: {result!r}")
            else:
                wanting = result
        if wanting is not None:
            raise Unavailable(f"metadata journal: {wanting}") from wanting
        return sound


def _write_timed(
    write: Callable[[bytes, int, bytes], None], block: bytes, offset: int, header: bytes, monotonic: Callable[[], float]
) -> float:
    """On the lane: when it was durable."""
    write(block, offset, header)
    return monotonic()

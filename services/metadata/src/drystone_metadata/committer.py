# SPDX-License-Identifier: Apache-2.0
"""Group commit of one tablet: what waits while a commit is in flight becomes the next batch.

Invariants
  C1  One commit is in flight at a time; a batch is decided at the head it is committed on.
  C2  An answer is given only after the commit that decided it is durable; an answer without effect only after the
      tablet was seen at the head it was decided at, under our epoch.
  C3  An unknown outcome is settled (state, then feed) before anything else is decided (R6 of metadata.md).
  C4  A tablet taken over by another owner is never written to again by this one.
  C5  Queue, batch and memory are bounded; a full queue answers Busy.
States  NEW --start()--> OWNER --taken over--> LOST;  OWNER --unknown outcome--> UNSETTLED --settled--> OWNER
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from drystone_core.errors import Busy, Damaged, DrystoneError, Refused, Unavailable
from drystone_core.formats.feed import FeedEntry, decode_record, encode_record
from drystone_core.ids import WriteId, write_issued_us
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.logic.conditions import AHEAD_US
from drystone_metadata.logic.decide import Change, decide, reads
from drystone_metadata.logic.view import Decision, Moment, NeedRows, View
from drystone_metadata.memory_of_writes import WriteMemory
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import Batch, Committed, Expected, RowKey, TabletId, TabletState, TabletStorage
from drystone_metadata.store.reading import fetch

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """See the module's states."""

    NEW = "new"
    OWNER = "owner"
    UNSETTLED = "unsettled"
    LOST = "lost"


class Waiting(NamedTuple):
    """A mutation and who waits for it."""

    change: Change
    future: "asyncio.Future[Outcome]"


Answer = Outcome | DrystoneError


@dataclass(slots=True, eq=False)
class Prepared:
    """A decided batch."""

    expected: Expected
    view: View
    answers: list[Answer]
    """One per waiting mutation decided; those beyond go back to the queue."""
    entries: list[FeedEntry]
    idle: list[tuple[WriteId, Outcome | Refused]]
    batch: Batch
    now_us: int


class Committer:
    """Decides and commits the mutations of one tablet. `run()` is its loop; call `start()` first."""

    def __init__(
        self,
        *,
        storage: TabletStorage,
        tablet: TabletId,
        clock: Clock,
        entropy: Entropy,
        settings: MetadataSettings,
    ) -> None:
        self._storage = storage
        self._tablet = tablet
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._phase = Phase.NEW
        self._state = TabletState()
        self._queue: deque[Waiting] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._unsettled: Prepared | None = None
        self._floor_base = (0, 0.0)
        self.writes = WriteMemory(window_us=int(settings.window * 1e6), limit=settings.remembered)
        self.buckets: dict[str, Bucket] = {}
        """Buckets known to be current; readers of this process may use it (R2: we are the one who changes them)."""
        self.bucket_mark = 0
        """Odd while a commit that changes buckets is under way: what is read meanwhile must not enter `buckets`."""
        self.batches = 0
        self.mutations = 0

    @property
    def state(self) -> TabletState:
        """The tablet as last seen."""
        return self._state

    @property
    def phase(self) -> Phase:
        """Whether mutations are accepted."""
        return self._phase

    async def start(self) -> None:
        """Take the tablet over and remember its recent write ids."""
        self._state = await self._storage.take_over(self._tablet)
        self._floor_base = (self._clock.wall_us(), self._clock.monotonic())
        self._unsettled = None
        self.buckets.clear()
        self.writes.forget_all()
        await self._remember()
        self._phase = Phase.OWNER

    def submit(self, change: Change) -> "asyncio.Future[Outcome]":
        """Queue a mutation; its future gets the outcome or the refusal."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._phase is Phase.LOST or self._phase is Phase.NEW:
            future.set_exception(Unavailable("this process does not own the tablet"))
        elif len(self._queue) >= self._settings.queue_count:
            future.set_exception(Busy("metadata queue is full"))
        else:
            self._queue.append(Waiting(change, future))
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)
        return future

    async def run(self) -> None:
        """Commit what waits, until cancelled or the tablet is lost."""
        try:
            while self._phase is not Phase.LOST:
                if not self._queue:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                    self._wake = None
                await self._turn(self._gather())
        finally:
            self._fail(list(self._queue), "metadata service ends")
            self._queue.clear()

    def _gather(self) -> list[Waiting]:
        queue = self._queue
        batch: list[Waiting] = []
        while queue and len(batch) < self._settings.batch_count:
            waiting = queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    async def _turn(self, batch: list[Waiting]) -> None:
        """One batch, from decision to answers; whatever goes wrong, every future ends."""
        try:
            if self._phase is Phase.UNSETTLED:
                await self._settle()
            prepared = await self._commit(batch)
        except DrystoneError as error:
            log.warning("metadata.batch_failed", extra={"code": error.code.value, "count": len(batch)})
            self._fail(batch, error.message or error.code.value)
            return
        except BaseException:
            self._fail(batch, "metadata service failed")
            raise
        self._answer(batch, prepared)

    async def _commit(self, batch: list[Waiting]) -> Prepared:
        """Decide and commit until it holds."""
        for _ in range(self._settings.attempts):
            prepared = await self._prepare(batch)
            if not prepared.entries:
                state = await self._storage.state(self._tablet)
                if _expected(state) == prepared.expected:
                    return prepared
                await self._refresh(state)
                continue
            self.bucket_mark |= 1 if prepared.view.changed_buckets else 0
            try:
                result = await self._storage.commit(self._tablet, prepared.expected, prepared.batch)
            except Unavailable:
                result = Committed.UNKNOWN
            except BaseException:
                self._unsettled, self._phase = prepared, Phase.UNSETTLED
                raise
            if result is Committed.UNKNOWN:
                self._unsettled, self._phase = prepared, Phase.UNSETTLED
                result = Committed.COMMITTED if await self._settle() else Committed.STALE
            elif result is Committed.COMMITTED:
                self._applied(prepared)
            else:
                await self._refresh(await self._storage.state(self._tablet))
            self.bucket_mark += self.bucket_mark & 1
            if result is Committed.COMMITTED:
                return prepared
        raise Unavailable("the tablet is too contended")

    async def _prepare(self, batch: Sequence[Waiting]) -> Prepared:
        """Decide a batch at the present head."""
        state, settings = self._state, self._settings
        now_us = self._clock.wall_us()
        floor_us = self._floor(now_us)
        view = View(self.buckets)
        answers: list[Answer] = []
        entries: list[FeedEntry] = []
        idle: list[tuple[WriteId, Outcome | Refused]] = []
        size = 0
        await self._load(view, [waiting.change for waiting in batch])
        token = self._entropy.token(8 * len(batch) + 16)
        here: dict[bytes, Answer] = {}
        for position, (change, _) in enumerate(batch):
            identity = change.write_id[8:]
            answer: Answer | None = here.get(identity) or self._known(change.write_id, now_us)
            if answer is None:
                random8 = token[16 + 8 * position : 24 + 8 * position]
                moment = Moment(now_us // 1000, now_us, state.head + 1, position, floor_us, random8)
                answer, decision = await self._decide(view, change, moment)
                if decision is not None and decision.entry is not None:
                    view.accept(decision)
                    entries.append(decision.entry)
                    size += sum(len(value) for value in decision.changes.values() if value is not None)
                elif isinstance(answer, Outcome | Refused):
                    idle.append((change.write_id, answer))
                here[identity] = answer
            answers.append(answer)
            if size > settings.batch_bytes:
                break
        changed = view.changed
        commit = Batch(
            batch_id=token[:16],
            floor_us=floor_us,
            generation=state.generation + (1 if view.changed_buckets else 0),
            puts=[(key, value) for key, value in changed.items() if value is not None],
            deletes=[key for key, value in changed.items() if value is None],
            feed=encode_record(now_us // 1000, entries),
        )
        return Prepared(_expected(state), view, answers, entries, idle, commit, now_us)

    def _known(self, write_id: WriteId, now_us: int) -> Answer | None:
        """R1: the first answer to a repeat, or why an id cannot be judged."""
        found = self.writes.find(write_id)
        if found is None:
            issued = write_issued_us(write_id)
            if issued < now_us - self.writes.window_us or issued > now_us + AHEAD_US:
                return Unavailable("the write id is outside the window in which repeats are recognised")
        return found

    async def _decide(self, view: View, change: Change, moment: Moment) -> tuple[Answer, Decision | None]:
        """Decide one mutation, reading what it turns out to need."""
        while True:
            try:
                decision = decide(view, change, moment)
            except NeedRows as asked:
                need = asked
            except DrystoneError as error:
                return error, None
            else:
                return decision.outcome, decision
            try:
                await fetch(self._storage, self._tablet, view, need)
            except Damaged as error:
                return error, None

    async def _load(self, view: View, changes: Sequence[Change]) -> None:
        """One bulk read of what the batch will ask for; buckets not known yet are left to NeedRows."""
        buckets = view.buckets
        wanted: list[RowKey] = []
        for change in changes:
            bucket = buckets.get(change.bucket)
            if bucket is not None:
                wanted.extend(reads(change, bucket))
        if wanted:
            keys = wanted if len(wanted) == 1 else list(dict.fromkeys(wanted))
            try:
                found = await self._storage.read(self._tablet, keys)
            except Damaged:
                return  # Each mutation then reads for itself, and only those that meet the damage fail.
            view.rows.update(zip(keys, found, strict=True))

    def _applied(self, prepared: Prepared) -> None:
        """The batch is in: advance what the owner knows."""
        batch, state = prepared.batch, self._state
        self._state = TabletState(
            head=prepared.expected.head + 1,
            epoch=state.epoch,
            batch_id=batch.batch_id,
            floor_us=batch.floor_us,
            generation=batch.generation,
            phase=state.phase,
            low=state.low,
            high=state.high,
            child=state.child,
        )
        for name, bucket in prepared.view.changed_buckets.items():
            if bucket is None:
                self.buckets.pop(name, None)
            else:
                self.buckets[name] = bucket
        self.writes.learn(prepared.now_us, prepared.entries)
        self.writes.learn_idle(prepared.now_us, prepared.idle)
        self.batches += 1
        self.mutations += len(prepared.entries)

    def _answer(self, batch: list[Waiting], prepared: Prepared) -> None:
        answers = prepared.answers
        if not prepared.entries:
            self.writes.learn_idle(prepared.now_us, prepared.idle)
        for (_, future), answer in zip(batch, answers, strict=False):
            if future.done():
                continue
            if isinstance(answer, Outcome):
                future.set_result(answer)
            else:
                future.set_exception(answer)
        if len(batch) > len(answers):
            self._queue.extendleft(reversed(batch[len(answers) :]))

    @staticmethod
    def _fail(batch: Sequence[Waiting], reason: str) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(Unavailable(reason))

    async def _settle(self) -> bool:
        """C3: did the batch of unknown outcome go in? Raises Unavailable while that cannot be told."""
        prepared = self._unsettled
        if prepared is None:
            self._phase = Phase.OWNER
            return False
        state = await self._storage.state(self._tablet)
        sequence = prepared.expected.head + 1
        ours = prepared.batch.batch_id
        if state.head >= sequence and state.batch_id != ours:
            rows = await self._storage.feed(self._tablet, sequence - 1, 1)
            went_in = bool(rows) and rows[0].seq == sequence and rows[0].batch_id == ours
        else:
            went_in = state.head >= sequence
        self._unsettled, self._phase = None, Phase.OWNER
        self.bucket_mark += self.bucket_mark & 1
        if went_in:
            self._applied(prepared)
        if _expected(state) != _expected(self._state):
            await self._refresh(state)
        return went_in

    async def _refresh(self, state: TabletState) -> None:
        """The tablet is not where we believed: see how it stands, and whether it is still ours."""
        if state.epoch != self._state.epoch:
            self._phase = Phase.LOST
            log.error("metadata.tablet_lost", extra={"epoch": state.epoch})
            raise Unavailable("the tablet has another owner")
        if state.head != self._state.head or state.generation != self._state.generation:
            self.buckets.clear()
            self.writes.forget_all()
            self._state = state
            await self._remember()
        self._state = state

    async def _remember(self) -> None:
        """Learn the write ids of the feed's last `window` seconds, newest pages first, then in order."""
        head = self._state.head
        oldest_ms = (self._clock.wall_us() - self.writes.window_us) // 1000
        pages: list[list[tuple[int, list[FeedEntry]]]] = []
        until, count = head, 0
        while until > 0 and count < self._settings.remembered:
            after = max(0, until - self._settings.feed_page)
            rows = await self._storage.feed(self._tablet, after, until - after)
            records = [decode_record(row.record) for row in rows if row.record]
            pages.append([(record.time_ms, record.entries) for record in records])
            count += sum(len(record.entries) for record in records)
            if not records or records[0].time_ms < oldest_ms:
                break
            until = after
        for page in reversed(pages):
            for time_ms, found in page:
                if time_ms >= oldest_ms:
                    self.writes.learn(time_ms * 1000, found)

    def _floor(self, now_us: int) -> int:
        """R7: now less its age, monotone; a wall clock that leaps while we run cannot take it along."""
        base_us, base_mono = self._floor_base
        run_us = int((self._clock.monotonic() - base_mono) * 1e6)
        target = min(now_us, base_us + run_us + AHEAD_US) - int(self._settings.floor_age * 1e6)
        present = self._state.floor_us
        return target if target >= present + int(self._settings.floor_step * 1e6) else present


def _expected(state: TabletState) -> Expected:
    return Expected(state.head, state.epoch, state.generation)

# SPDX-License-Identifier: Apache-2.0
"""Group commit of one tablet: what waits while a commit is in flight becomes the next batch.

Invariants
  C1  One commit is in flight at a time; a batch is decided at the head it is committed on.
  C2  An answer is given only after the commit that decided it is durable; an answer without effect only after the
      tablet was seen at the head it was decided at, under our epoch.
  C3  An unknown outcome is settled (state, then feed) before anything else is decided (R6 of metadata.md).
  C4  A tablet taken over by another owner is never written to again by this one.
  C5  Queue, batch and memory are bounded; a full queue answers Busy.
  C6  Nothing is decided before the recent write ids are in memory; reads need not wait for them.
States  NEW --start()--> OWNER --taken over, cancelled--> LOST;  OWNER --unknown outcome--> UNSETTLED --settled--> OWNER
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from drystone_core.errors import Busy, Damaged, DrystoneError, Refused, Stale, Unavailable
from drystone_core.formats.feed import FeedEntry, decode_outcome, decode_record, encode_record
from drystone_core.ids import WriteId, write_issued_us
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_metadata.batches import Answer, Phase, Prepared, Waiting, Watcher
from drystone_metadata.cell_time import CellTime
from drystone_metadata.logic.conditions import AHEAD_US
from drystone_metadata.logic.decide import Change, decide, reads
from drystone_metadata.logic.housekeeping import RaiseFloor
from drystone_metadata.logic.view import Decision, Moment, NeedRows, View
from drystone_metadata.memory_of_writes import WriteMemory
from drystone_metadata.recent_writes import remember
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Batch,
    Committed,
    Expected,
    RowKey,
    TabletId,
    TabletState,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.store.ranges import check_keys, holds
from drystone_metadata.store.reading import fetch

log = logging.getLogger(__name__)


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
        self._time = CellTime(clock=clock, persisted_us=0)
        self._loaded = False
        self._between = asyncio.Lock()
        """Held while a batch is decided and committed."""
        self.writes = WriteMemory(window=settings.window, limit=settings.remembered)
        self.buckets: dict[str, Bucket] = {}
        """Buckets known to be current; readers of this process may use it (R2: we are the one who changes them)."""
        self.bucket_mark = 0
        """Odd while a commit that changes buckets is under way: what is read meanwhile must not enter `buckets`."""
        self.watcher: Watcher | None = None
        """Told the rows of every commit; None in their place: others than those told may have changed."""
        self.batches = 0
        self.mutations = 0
        self.feed_bytes = 0
        """Of all records committed since the start."""

    @property
    def state(self) -> TabletState:
        """The tablet as last seen."""
        return self._state

    @property
    def phase(self) -> Phase:
        """Whether mutations are accepted."""
        return self._phase

    async def start(self) -> None:
        """Take the tablet over; its recent write ids are remembered by the first turn."""
        self._state = await self._storage.take_over(self._tablet)
        floor_us = self._state.floor_us
        persisted_us = floor_us + int(self._settings.floor_age * 1e6) if floor_us else 0
        self._time = CellTime(clock=self._clock, persisted_us=persisted_us)
        self._unsettled = None
        self.buckets.clear()
        self.bucket_mark += self.bucket_mark & 1
        self._loaded = False
        self._phase = Phase.OWNER

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._queue and not self._between.locked()

    @property
    def loaded(self) -> bool:
        """Whether the recent write ids are in memory."""
        return self._loaded

    def cell_us(self) -> int:
        """Cell time, Unix microseconds."""
        return self._time.now_us()

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """No commit is under way inside: what is read there is read at one head."""
        async with self._between:
            yield

    def moved(self, state: TabletState) -> None:
        """Inside pause(): this process changed the tablet otherwise than by a commit."""
        self._state = state
        self.buckets.clear()

    async def reshape(self, to: TabletState) -> None:
        """Inside pause(): all statics become `to`, under a new epoch that is ours.

        Stale when the tablet is not as it was believed to be. When the outcome is unknown the tablet is lost: taking it over
        again settles that, since it raises the epoch.
        """
        if self._phase is not Phase.OWNER:
            raise Unavailable("this process does not own the tablet")
        try:
            result = await self._storage.reshape(self._tablet, self._state, to)
            if result is Committed.STALE:
                await self._refresh(await self._storage.state(self._tablet))
                raise Stale("the tablet is not as it was")
            if result is Committed.UNKNOWN and await self._storage.state(self._tablet) != to:
                raise Unavailable("whether the tablet was reshaped is not known")
        except Stale:
            raise
        except BaseException:
            self._phase = Phase.LOST
            raise
        self._state = to

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
            await self._load_at_start()
            while self._phase is not Phase.LOST:
                if not self._queue:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                    self._wake = None
                async with self._between:
                    await self._turn(self._gather())
        except asyncio.CancelledError:
            self._phase = Phase.LOST  # nobody decides any more: what comes now is refused instead of waiting for ever
            raise
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
            if not self._loaded:
                await self._remember()
            prepared = await self._commit(batch)
        except DrystoneError as error:
            if isinstance(error, UnknownTablet):
                self._phase = Phase.LOST
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
            if not prepared.view.changed and not prepared.raises_floor:
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
        cell_us = self._time.now_us()
        floor_us = self._floor(cell_us)
        stamp_us = min(now_us, cell_us + int(settings.clock_gap * 1e6))
        view = View(self.buckets, state=state, first=self._tablet == CELL_TABLET)
        answers: list[Answer] = []
        entries: list[FeedEntry] = []
        idle: list[tuple[WriteId, Outcome | Refused]] = []
        size = 0
        await self._load(view, [waiting.change for waiting in batch])
        token = self._entropy.token(8 * len(batch) + 16)
        here: dict[bytes, Answer] = {}
        for position, (change, _) in enumerate(batch):
            identity = change.write_id[8:]
            answer: Answer | None = here.get(identity) or await self._known(change.write_id, now_us)
            if answer is None:
                random8 = token[16 + 8 * position : 24 + 8 * position]
                moment = Moment(now_us // 1000, stamp_us, state.head + 1, position, floor_us, random8)
                answer, decision = await self._decide(view, change, moment)
                if decision is not None and decision.changes:
                    view.accept(decision)
                    if decision.entry is not None:
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
        raises = floor_us > state.floor_us and any(isinstance(change, RaiseFloor) for change, _ in batch)
        return Prepared(_expected(state), view, answers, entries, idle, commit, raises)

    async def _known(self, write_id: WriteId, now_us: int) -> Answer | None:
        """R1: the first answer to a repeat, or why an id cannot be judged."""
        identity = write_id[8:]
        for sequence in self.writes.sequences(identity):
            try:
                found = await self._recall(sequence, identity)
            except DrystoneError as error:
                return error
            if found is not None:
                return found
        known = self.writes.without_effect(identity)
        if known is None:
            issued = write_issued_us(write_id)
            if issued < now_us - int(self._settings.window * 1e6) or issued > now_us + AHEAD_US:
                return Unavailable("the write id is outside the window in which repeats are recognised")
        return known

    async def _recall(self, sequence: int, identity: bytes) -> Outcome | None:
        """The outcome the feed holds of a mutation committed under `sequence`; None when it was another one."""
        rows = await self._storage.feed(self._tablet, sequence - 1, 1)
        if not rows or rows[0].seq != sequence:
            raise Unavailable("the feed does not reach back to the first attempt")
        for entry in decode_record(rows[0].record).entries:
            if entry.write_id[8:] == identity:
                return decode_outcome(entry.outcome)
        return None

    async def _decide(self, view: View, change: Change, moment: Moment) -> tuple[Answer, Decision | None]:
        """Decide one mutation, reading what it turns out to need."""
        while True:
            try:
                decision = decide(view, change, moment)
                check_keys(view.state, decision.changes)
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
        if wanted and (view.state.low or view.state.high):
            wanted = [key for key in wanted if holds(view.state, key)]
        if wanted:
            keys = wanted if len(wanted) == 1 else list(dict.fromkeys(wanted))
            try:
                found = await self._storage.read(self._tablet, keys)
            except Damaged:
                return  # Each mutation then reads for itself, and only those that meet the damage fail.
            view.rows.update(zip(keys, found, strict=True))

    def _applied(self, prepared: Prepared) -> None:
        """The batch is in: advance what the owner knows."""
        batch = prepared.batch
        # What a commit does not change stays: above all the note, by which a move of a range is ended or undone.
        self._state = replace(
            self._state,
            head=prepared.expected.head + 1,
            batch_id=batch.batch_id,
            floor_us=batch.floor_us,
            generation=batch.generation,
        )
        for name, bucket in prepared.view.changed_buckets.items():
            if bucket is None:
                self.buckets.pop(name, None)
            else:
                self.buckets[name] = bucket
        if self.watcher is not None:
            self.watcher(prepared.view.changed)
        identities = [entry.write_id[8:] for entry in prepared.entries]
        self.writes.learn(self._clock.monotonic(), self._state.head, identities)
        self.writes.learn_idle(prepared.idle)
        self.feed_bytes += len(batch.feed)
        self.batches += 1
        self.mutations += len(prepared.entries)

    def _answer(self, batch: list[Waiting], prepared: Prepared) -> None:
        answers = prepared.answers
        if not prepared.view.changed:
            self.writes.learn_idle(prepared.idle)
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
            if self.watcher is not None:
                self.watcher(None)
            self.buckets.clear()
            self._loaded = False
            self._state = state
            await self._remember()
        self._state = state

    async def _load_at_start(self) -> None:
        """Have the write ids ready for the first mutation; a failure is met again by that one."""
        async with self._between:
            try:
                if not self._loaded and self._phase is Phase.OWNER:
                    await self._remember()
            except DrystoneError as error:
                log.warning("metadata.feed_not_read", extra={"code": error.code.value})

    async def _remember(self) -> None:
        """Learn the write ids of the feed's last `window` seconds."""
        self.writes.forget_all()
        await remember(
            self._storage, self._tablet, self._state.head, self.writes, clock=self._clock, settings=self._settings
        )
        self._loaded = True

    def _floor(self, cell_us: int) -> int:
        """R7: cell time less its age, monotone."""
        target = cell_us - int(self._settings.floor_age * 1e6)
        present = self._state.floor_us
        return target if target >= present + int(self._settings.floor_step * 1e6) else present


def _expected(state: TabletState) -> Expected:
    return Expected(state.head, state.epoch, state.generation)

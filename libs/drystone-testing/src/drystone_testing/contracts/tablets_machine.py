# SPDX-License-Identifier: Apache-2.0
"""The metadata service over many tablets against the reference model: MetadataMachine's rules, while tablets are split and
joined, owners robbed, and processes end in the middle of it.

Mutations of one key, and those of buckets, are sent one after another (they are decided in different tablets, so the order in
which they are begun says nothing); whatever is answered Unavailable is sent again, unchanged (R1).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule

from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.ids import make_write_id
from drystone_core.mutations import CreateBucket, DeleteBucket, Outcome
from drystone_metadata.batches import Phase
from drystone_metadata.cell_metadata import TabletsMetadata
from drystone_metadata.committer import Committer
from drystone_metadata.logic.decide import Change, OfBuckets
from drystone_metadata.logic.housekeeping import RaiseFloor
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.ports import (
    CELL_TABLET,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    TabletStorage,
    UnknownTablet,
)
from drystone_metadata.store.ranges import OBJECT_KINDS
from drystone_metadata.tablets.map import TabletMap
from drystone_metadata.tablets.merging import Merger
from drystone_metadata.tablets.running import RunningTablet
from drystone_testing.contracts.metadata_machine import BUCKETS, INTENTS, KEYS, MetadataMachine

MOVES = [*["none"] * 16, "stale", "unknown_before", "unknown_after", "unavailable", "end"]
"""What calls that move ranges meet; `end`: the process ends there."""
_FAULTS_OF_MOVES: st.SearchStrategy[list[str]] = st.one_of(st.just([]), st.lists(st.sampled_from(MOVES), max_size=24))


class ProcessEnds(Exception):
    """The process is no more; nothing of it goes on."""


class OneProcess:
    """A metadata process that owns every tablet."""

    def __init__(self, storage: TabletStorage, clock: Any, entropy: Any) -> None:
        self.storage, self.clock, self.entropy = storage, clock, entropy
        # Days pass between two rules, and nobody renews uploads here: those of silent writers stay.
        self.settings = MetadataSettings(fill_rows=3, feed_page=8, sweep_after=0.0, upload_silence=1e9)
        self.map = TabletMap(storage)
        self.running: dict[TabletId, RunningTablet] = {}
        self.tasks: dict[TabletId, asyncio.Task[None]] = {}
        self.merger = Merger(storage=storage, clock=clock, entropy=entropy, settings=self.settings)
        self.service = TabletsMetadata(
            storage=storage,
            tablets=self.map,
            submit=self.submit,
            ours=lambda tablet: tablet in self.running,
            pause=lambda tablet: self.running[tablet].committer.pause if tablet in self.running else None,
            clock=clock,
            entropy=entropy,
            settings=self.settings,
        )

    @property
    def committer(self) -> Committer:
        return self.running[CELL_TABLET].committer

    async def submit(self, tablet: TabletId, change: Change) -> Outcome:
        one = self.running.get(tablet)
        if one is None or one.committer.phase is Phase.LOST:
            raise Unavailable("nobody owns the tablet")
        return await one.committer.submit(change)

    async def own(self) -> None:
        """Own all tablets there are; what was begun is ended or undone."""
        for _ in range(20):
            try:
                spots = await self.map.all()
            except Unavailable:
                spots = self.map.spots
            wanted = {spot.tablet for spot in spots} | self.map.closed
            for tablet in set(self.running) - wanted:
                await self.leave(tablet)
            if not self.map.closed and all(self._owned(tablet) for tablet in wanted):
                return
            for tablet in wanted:
                if not self._owned(tablet):
                    with contextlib.suppress(Unavailable):
                        await self._take(tablet)
        raise AssertionError("the tablets do not come to rest")

    def _owned(self, tablet: TabletId) -> bool:
        one = self.running.get(tablet)
        return (
            one is not None
            and one.committer.phase is not Phase.LOST
            and one.committer.state.phase is TabletPhase.OPEN
            and not self.tasks[tablet].done()
        )

    async def _take(self, tablet: TabletId) -> None:
        await self.leave(tablet)
        one = RunningTablet(
            storage=self.storage, tablet=tablet, clock=self.clock, entropy=self.entropy, settings=self.settings
        )
        try:
            await one.committer.start()
            if one.committer.state.phase is not TabletPhase.OPEN and not await self.merger.settle(one):
                self.map.forget(tablet)
                return
            self.running[tablet] = one
            self.tasks[tablet] = asyncio.create_task(one.committer.run())
            await asyncio.sleep(0)
            await one.splitter.tidy()
        except UnknownTablet:
            self.map.forget(tablet)

    async def leave(self, tablet: TabletId) -> None:
        self.running.pop(tablet, None)
        task = self.tasks.pop(tablet, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProcessEnds):
                await task

    async def end(self) -> None:
        for tablet in list(self.tasks):
            await self.leave(tablet)


class TabletsMachine(MetadataMachine):
    """The rules; `make_world` as for MetadataMachine, its `plan_moves` names what calls that move ranges meet."""

    process: OneProcess
    splits = joins = ends = 0

    async def _start(self) -> None:
        storage: TabletStorage = await self.world.start()
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        self.process = OneProcess(storage, self.clock, self.entropy)
        await self.process.own()
        self.service = self.process.service  # type: ignore[assignment]
        self.service.committer = self.process.committer

    async def _stop(self) -> None:
        await self.process.end()
        await self.world.crash()

    def _own(self) -> None:
        self.world.plan([])
        self.run(self.process.own())
        self.service.committer = self.process.committer

    def _batch(self, changes: list[Any], faults: list[str] | None = None) -> None:
        self.world.plan(faults or [])
        for group in _groups(changes):
            for change, answer in zip(group, self.run(self._send(group)), strict=True):
                self._compare(change, answer)
        self._own()

    def _compare(self, change: Any, answer: Outcome | BaseException) -> None:
        """A repeat is recognised in the tablet of its key, and a bucket made anew has its keys elsewhere (ADR 0404)."""
        super()._compare(change, answer)
        if isinstance(change, DeleteBucket) and isinstance(answer, Outcome):
            self.done = [one for one in self.done if one[0].bucket != change.bucket or isinstance(one[0], OfBuckets)]

    async def _send(self, changes: list[Any]) -> list[Any]:
        """What is answered Unavailable is sent again, once all tablets have an owner."""
        answers: list[Any] = [Unavailable("not sent")] * len(changes)
        for attempt in range(6):
            left = [at for at, answer in enumerate(answers) if isinstance(answer, Unavailable)]
            if not left:
                break
            if attempt:
                self.world.plan([])
                await self.process.own()
            found = await super()._send([changes[at] for at in left])
            for at, answer in zip(left, found, strict=True):
                answers[at] = answer
        return answers

    @rule(
        bucket=st.sampled_from([*BUCKETS, "floor"]),
        key=st.sampled_from([b"", *KEYS]),
        faults=_FAULTS_OF_MOVES,
        changed=st.sampled_from(BUCKETS),
        intents=st.one_of(st.just([]), st.lists(INTENTS, max_size=8)),
    )
    def split(self, bucket: str, key: bytes, faults: list[str], changed: str, intents: list[tuple[Any, ...]]) -> None:
        """Give a tablet's upper part away: among faults, or while keys change."""
        if bucket not in self.model.buckets:
            return
        address = self.run(self.service.bucket(bucket)).bucket_id.to_bytes(8, "big") + key
        spot = self.run(self.process.map.look(address))
        if not spot.low < address:
            return
        changes = [change for intent in intents if (change := self._change(changed, *intent)) is not None]
        self._move(lambda: self._split(spot.tablet, address), [] if changes else faults, changes)
        for which in range(4):
            self.repeat(which)

    async def _split(self, tablet: TabletId, middle: bytes) -> None:
        await self.process.running[tablet].splitter.split(middle)
        type(self).splits += 1

    @rule(
        which=st.integers(0, 7),
        faults=_FAULTS_OF_MOVES,
        bucket=st.sampled_from(BUCKETS),
        intents=st.lists(INTENTS, max_size=3),
    )
    def join(self, which: int, faults: list[str], bucket: str, intents: list[tuple[Any, ...]]) -> None:
        """Two neighbours become one, long after the last commit; then keys change."""
        spots = self.run(self.process.map.all())
        if len(spots) < 2:
            return
        self.clock.now_us += 20 * 60_000_000
        at = which % (len(spots) - 1)

        async def join() -> None:
            left, right = (self.process.running[spot.tablet] for spot in spots[at : at + 2])
            await self.process.merger.join(left, right)
            type(self).joins += 1

        self._move(join, faults)
        self._batch([change for intent in intents if (change := self._change(bucket, *intent)) is not None])
        self.compare_versions(bucket)

    def _move(self, move: Callable[[], Any], faults: list[str], changes: Sequence[Any] = ()) -> None:
        self.world.plan_moves(faults)  # type: ignore[attr-defined]
        moving = self.loop.create_task(move())
        try:
            if changes:
                self._batch(list(changes))
            self.run(moving)
        except ProcessEnds:
            type(self).ends += 1
            self.world.plan([])
            self.run(self._stop())
            self.run(self._start())
            return
        except DrystoneError:
            pass
        self._own()

    @rule(which=st.integers(0, 7))
    def rob(self, which: int) -> None:
        """Another process takes a tablet over; ours learns of it when it commits."""
        tablets = list(self.process.running)
        self.run(self.process.storage.take_over(tablets[which % len(tablets)]))

    @rule()
    def upkeep(self) -> None:
        """Sweeps and trims of every tablet find nothing that is needed."""

        async def turns() -> None:
            for one in list(self.process.running.values()):
                for _ in range(30):
                    await one.upkeep.turn()
                async for _ in self.process.service.changes.leftovers(one.tablet):
                    pass

        with contextlib.suppress(Unavailable):
            self.run(turns())
        self._own()

    @rule()
    def ranges(self) -> None:
        """The tablets hold every address, each once, and no object row outside its tablet is to be seen."""
        spots = self.run(self.process.map.all())
        assert spots[0].low == b"" and spots[-1].high == b""
        assert all(one.high == two.low for one, two in pairwise(spots))
        for spot in spots:
            if spot.high:
                try:
                    self.run(self.process.storage.read(spot.tablet, [RowKey(OBJECT_KINDS.start, spot.high)]))
                except KeyOutOfRange:
                    continue
                raise AssertionError("a key beyond the range was read")

    def _raise_floors(self) -> None:
        async def floors() -> None:
            for one in list(self.process.running.values()):
                now_us, cell_us = self.clock.now_us, one.committer.cell_us()
                self.clock.now_us += max(0, now_us - cell_us)
            self.clock.now_us += 25 * 3_600_000_000
            for one in list(self.process.running.values()):
                change = RaiseFloor(write_id=make_write_id(self.clock.now_us, self.entropy.token(16)))
                await one.committer.submit(change)

        self._own()
        for _ in range(9):
            try:
                self.run(floors())
                return
            except Unavailable:
                self._own()
        raise AssertionError("the floors cannot be raised")

    @rule()
    def compare_dead_blobs(self) -> None:
        """A day later a blob is dead exactly when nothing names it (R7)."""
        self._raise_floors()
        names = list(self.names.values())
        dead = self.run(self.service.dead_blobs([name for _, name in names]))
        for (bucket, name), is_dead in zip(names, dead, strict=True):
            assert is_dead is not self._is_named(bucket, name), (bucket, name)

    @rule()
    def third_bucket(self) -> None:
        """A bucket comes or goes between the others."""
        common: dict[str, Any] = {"write_id": self._id(), "bucket": "floor"}
        if "floor" in self.model.buckets:
            self._batch([DeleteBucket(**common)])
        else:
            self._batch([CreateBucket(**common, owner="1" * 12, region="r")])


def _groups(changes: list[Any]) -> list[list[Any]]:
    """In order; in one group no key twice, and a bucket's change alone."""
    groups: list[list[Any]] = []
    keys: set[bytes] = set()
    alone = True
    for change in changes:
        of_bucket = isinstance(change, OfBuckets)
        if alone or of_bucket or change.key in keys:
            groups.append([])
            keys = set()
        groups[-1].append(change)
        alone = of_bucket
        if not of_bucket:
            keys.add(change.key)
    return groups

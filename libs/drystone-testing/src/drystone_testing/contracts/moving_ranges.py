# SPDX-License-Identifier: Apache-2.0
"""What a TabletStorage of many tablets must do so that ranges can move between them: fill, reshape, clear.

Subclass `MovingRangesContract` with a harness as for `TabletStorageContract`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from drystone_core.errors import Refused
from drystone_core.formats.row_keys import BUCKET, CURRENT, VERSION
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Committed,
    FeedRow,
    Fill,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    TabletStorage,
    UnknownTablet,
)
from drystone_testing.contracts.tablet_storage import StorageHarness, Writer, owner, row

CHILD = TabletId(b"child")
KEYS = [b"a", b"c", b"m", b"m\x00", b"x"]


async def filling(storage: TabletStorage, *, low: bytes = b"m", high: bytes = b"") -> TabletState:
    """The child's state once it was made and taken over."""
    await storage.create(CHILD, low=low, high=high, generation=1, phase=TabletPhase.FILLING)
    return await storage.take_over(CHILD)


def fill(state: TabletState, *rows: tuple[RowKey, bytes], deletes: tuple[RowKey, ...] = (), mark: int = 0) -> Fill:
    """A fill whose id is that of its place."""
    return Fill(batch_id=state.head.to_bytes(8, "big") + bytes(7) + bytes((mark,)), puts=rows, deletes=deletes)


def opened(state: TabletState, *, head: int) -> TabletState:
    """What makes a filled tablet serve."""
    return replace(state, epoch=state.epoch + 1, head=head, phase=TabletPhase.OPEN, floor_us=77, batch_id=b"o" * 16)


class MovingRangesContract:
    """The suite. Every test starts from an empty storage."""

    @pytest.fixture
    def harness(self) -> StorageHarness:
        """Subclasses give their harness here."""
        pytest.fail("a contract suite needs a harness fixture")

    @pytest.fixture
    async def storage(self, harness: StorageHarness) -> AsyncIterator[TabletStorage]:
        """A started storage, stopped after the test."""
        yield await harness.start()
        await harness.stop()

    async def test_filling_tablet_serves_nothing_and_takes_no_commit(self, storage: TabletStorage) -> None:
        """Until it is open its object rows are refused, never absent."""
        state = await filling(storage)
        assert await storage.fill(CHILD, state, fill(state, row(CURRENT, b"m"))) is Committed.COMMITTED
        with pytest.raises(KeyOutOfRange):
            await storage.read(CHILD, [RowKey(CURRENT, b"m")])
        with pytest.raises(KeyOutOfRange):
            await storage.scan(CHILD, RowKey(CURRENT, b"m"), RowKey(CURRENT, b"z"), 9)
        writer = Writer(storage, replace(state, head=1), CHILD)
        assert await writer.put(row(BUCKET, b"b")) is Committed.STALE
        with pytest.raises(KeyOutOfRange):
            await writer.put(row(CURRENT, b"m"))

    async def test_fill_is_in_sequence_and_carries_feed(self, storage: TabletStorage) -> None:
        """A fill goes in once, at the head it names: one that comes late or twice changes nothing."""
        state = await filling(storage)
        late = fill(state, row(CURRENT, b"m", b"", b"old"), mark=1)
        first = Fill(
            batch_id=b"f" * 16,
            puts=(row(CURRENT, b"m", b"", b"new"), row(CURRENT, b"n")),
            feed=(FeedRow(7, b"7" * 16, b"seven"), FeedRow(8, b"8" * 16, b"eight")),
        )
        assert await storage.fill(CHILD, state, first) is Committed.COMMITTED
        assert await storage.fill(CHILD, state, late) is Committed.STALE
        after = await storage.state(CHILD)
        assert (after.head, after.batch_id, after.phase) == (1, b"f" * 16, TabletPhase.FILLING)
        second = fill(after, deletes=(RowKey(CURRENT, b"n"),))
        assert await storage.fill(CHILD, after, second) is Committed.COMMITTED
        settled = await storage.state(CHILD)
        assert await storage.reshape(CHILD, settled, opened(settled, head=8)) is Committed.COMMITTED
        kept = row(CURRENT, b"m", b"", b"new")
        assert await storage.read(CHILD, [kept[0], RowKey(CURRENT, b"n")]) == [kept[1], None]
        assert [tuple(entry) for entry in await storage.feed(CHILD, 0, 9)] == [tuple(entry) for entry in first.feed]

    @pytest.mark.parametrize("wrong", ["head", "epoch", "generation", "phase"])
    async def test_wrong_expectation_moves_nothing(self, storage: TabletStorage, wrong: str) -> None:
        """Fill, reshape and (head and generation apart) clear are refused when the statics are others."""
        state = await filling(storage)
        believed = (
            replace(state, phase=TabletPhase.OPEN)
            if wrong == "phase"
            else replace(state, **{wrong: getattr(state, wrong) + 1})
        )
        assert await storage.fill(CHILD, believed, fill(state, row(CURRENT, b"m"))) is Committed.STALE
        assert await storage.reshape(CHILD, believed, opened(believed, head=9)) is Committed.STALE
        if wrong in ("epoch", "phase"):
            assert await storage.clear(CHILD, believed) is Committed.STALE
        assert await storage.state(CHILD) == state

    async def test_reshape_sets_every_static(self, storage: TabletStorage) -> None:
        """What it says is what is there, and the tablet goes on from there."""
        state = await filling(storage)
        to = TabletState(
            head=41, epoch=state.epoch + 1, batch_id=b"n" * 16, floor_us=99, generation=5, phase=TabletPhase.OPEN,
            low=b"m", high=b"t", child=TabletId(b"next"), note=b"some note",
        )  # fmt: skip
        assert await storage.reshape(CHILD, state, to) is Committed.COMMITTED
        assert await storage.state(CHILD) == to
        assert await storage.reshape(CHILD, state, to) is Committed.STALE
        writer = Writer(storage, to, CHILD)
        assert await writer.put(row(CURRENT, b"n")) is Committed.COMMITTED
        assert (await storage.state(CHILD)).head == 42

    async def test_one_of_two_rival_shapes_wins(self, storage: TabletStorage) -> None:
        """Of reshapes, take-overs and commits sent at once from one state, those that depend on it exclude one another."""
        writer = await owner(storage)
        await writer.put(*[row(CURRENT, key) for key in KEYS])
        state = await storage.state(CELL_TABLET)
        shapes = [replace(state, epoch=state.epoch + 1, high=high) for high in (b"b", b"m", b"p")]
        results = await asyncio.gather(*(storage.reshape(CELL_TABLET, state, shape) for shape in shapes))
        assert sorted(results) == [Committed.COMMITTED] + [Committed.STALE] * 2
        assert await storage.state(CELL_TABLET) == shapes[results.index(Committed.COMMITTED)]
        assert await writer.put(row(CURRENT, b"a")) is Committed.STALE

    async def test_former_owner_cannot_move_ranges(self, storage: TabletStorage) -> None:
        """A take-over fences fills, reshapes and clears of the owner before."""
        state = await filling(storage)
        await storage.take_over(CHILD)
        assert await storage.fill(CHILD, state, fill(state, row(CURRENT, b"m"))) is Committed.STALE
        assert await storage.reshape(CHILD, state, opened(state, head=1)) is Committed.STALE
        assert await storage.clear(CHILD, state) is Committed.STALE

    async def test_rows_given_away_are_refused_then_cleared(self, storage: TabletStorage) -> None:
        """After a reshape keys beyond the range are refused; clear removes them and nothing within, and no bucket row."""
        writer = await owner(storage)
        rows = [row(kind, key) for kind in (CURRENT, VERSION) for key in KEYS] + [row(BUCKET, b"z")]
        await writer.put(*rows)
        state = await storage.state(CELL_TABLET)
        small = replace(state, epoch=state.epoch + 1, high=b"m", child=CHILD)
        assert await storage.reshape(CELL_TABLET, state, small) is Committed.COMMITTED
        with pytest.raises(KeyOutOfRange):
            await storage.read(CELL_TABLET, [RowKey(CURRENT, b"m")])
        assert await storage.scan(CELL_TABLET, RowKey(CURRENT, b""), RowKey(CURRENT, b"m"), 9) == rows[:2]
        assert await storage.clear(CELL_TABLET, small) is Committed.COMMITTED
        assert await storage.clear(CELL_TABLET, small) is Committed.COMMITTED
        whole = replace(small, epoch=small.epoch + 1, high=b"")
        assert await storage.reshape(CELL_TABLET, small, whole) is Committed.COMMITTED
        assert await storage.scan(CELL_TABLET, RowKey(BUCKET, b""), RowKey(255, b""), 99) == sorted(
            (key, value) for key, value in rows if key.kind == BUCKET or key.key < b"m"
        )

    async def test_late_clear_does_not_harm_a_larger_tablet(self, storage: TabletStorage) -> None:
        """A clear that is meant for a former shape removes nothing of the present one."""
        writer = await owner(storage)
        await writer.put(*[row(CURRENT, key) for key in KEYS])
        state = await storage.state(CELL_TABLET)
        small = replace(state, epoch=state.epoch + 1, high=b"m")
        whole = replace(state, epoch=state.epoch + 2)
        assert await storage.reshape(CELL_TABLET, state, small) is Committed.COMMITTED
        assert await storage.reshape(CELL_TABLET, small, whole) is Committed.COMMITTED
        assert await storage.clear(CELL_TABLET, small) is Committed.STALE
        assert len(await storage.scan(CELL_TABLET, RowKey(CURRENT, b""), RowKey(VERSION, b""), 9)) == len(KEYS)

    async def test_shapes_survive_a_crash(self, harness: StorageHarness) -> None:
        """Range, phase, child and note are as durable as rows."""
        storage = await harness.start()
        state = await filling(storage, high=b"t")
        to = replace(opened(state, head=3), child=TabletId(b"next"), note=b"n")
        assert await storage.fill(CHILD, state, fill(state, row(CURRENT, b"n"))) is Committed.COMMITTED
        state = await storage.state(CHILD)
        assert await storage.reshape(CHILD, state, to) is Committed.COMMITTED
        await harness.crash()
        storage = await harness.start()
        try:
            assert await storage.state(CHILD) == to
            assert await storage.read(CHILD, [RowKey(CURRENT, b"n")]) == [row(CURRENT, b"n")[1]]
        finally:
            await harness.stop()

    async def test_nothing_moves_in_a_tablet_that_is_gone(self, storage: TabletStorage) -> None:
        """A dropped tablet takes no fill, shape or clear, so that who comes late makes nothing of it."""
        state = await filling(storage)
        await storage.drop(CHILD)
        for call in (
            storage.fill(CHILD, state, fill(state, row(CURRENT, b"m"))),
            storage.reshape(CHILD, state, opened(state, head=1)),
            storage.clear(CHILD, state),
        ):
            with pytest.raises(Refused) as refused:
                await call
            assert isinstance(refused.value, UnknownTablet)
        with pytest.raises(UnknownTablet):
            await storage.state(CHILD)

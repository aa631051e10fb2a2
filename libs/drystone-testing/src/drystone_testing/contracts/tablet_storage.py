# SPDX-License-Identifier: Apache-2.0
"""What every TabletStorage must do: subclass `TabletStorageContract` in a test module and give it a harness.

    class TestEmbedded(TabletStorageContract):
        @pytest.fixture
        def harness(self, tmp_path): return MyHarness(tmp_path)

A harness starts the storage on one persistent state again and again. Row values are opaque to a storage, but every
value the suite writes is sealed (drystone_core.formats.rowseal), so a storage may verify what it reads.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from drystone_core.errors import Damaged, ErrorCode, Refused
from drystone_core.formats.row_keys import BUCKET, CURRENT, VERSION
from drystone_core.formats.rowseal import seal, unseal
from drystone_metadata.store.ports import (
    CELL_TABLET,
    Batch,
    Committed,
    Expected,
    KeyOutOfRange,
    RowKey,
    TabletId,
    TabletPhase,
    TabletState,
    TabletStorage,
)


class StorageHarness(Protocol):
    """Gives the suite storages that share one persistent state."""

    many_tablets: bool
    """False: CELL_TABLET is the only tablet there is."""

    async def start(self) -> TabletStorage:
        """Open (the first time: create) the storage."""
        ...

    async def stop(self) -> None:
        """Orderly end of the storage started last."""
        ...

    async def crash(self) -> None:
        """End it as a power loss would: only what is durable stays."""
        ...

    def damage(self, key: RowKey) -> bool:
        """Flip one bit of the stored value of this row, wherever reads take it from; False when the harness cannot."""
        ...


def row(kind: int, key: bytes, seq: bytes = b"", body: bytes = b"v") -> tuple[RowKey, bytes]:
    """A sealed row for a batch."""
    return RowKey(kind, key, seq), seal(kind, key, seq, body)


class Writer:
    """Commits batches in sequence, believing what it last saw."""

    def __init__(self, storage: TabletStorage, state: TabletState, tablet: TabletId = CELL_TABLET) -> None:
        self.storage = storage
        self.tablet = tablet
        self.head, self.epoch, self.generation, self.floor = state.head, state.epoch, state.generation, state.floor_us

    def expected(self) -> Expected:
        return Expected(self.head, self.epoch, self.generation)

    async def put(self, *rows: tuple[RowKey, bytes], deletes: tuple[RowKey, ...] = (), feed: bytes = b"") -> Committed:
        """One batch; the belief advances when it went in."""
        batch = Batch(
            batch_id=self.batch_id(),
            floor_us=self.floor,
            generation=self.generation,
            puts=rows,
            deletes=deletes,
            feed=feed,
        )
        result = await self.storage.commit(self.tablet, self.expected(), batch)
        if result is Committed.COMMITTED:
            self.head += 1
        return result

    def batch_id(self) -> bytes:
        """The id of the next batch."""
        return (self.head + 1).to_bytes(8, "big") + self.epoch.to_bytes(8, "big")


async def owner(storage: TabletStorage, tablet: TabletId = CELL_TABLET) -> Writer:
    """Create the tablet when absent, take it over and write to it."""
    await storage.create(tablet, low=b"", high=b"", generation=1)
    return Writer(storage, await storage.take_over(tablet), tablet)


class TabletStorageContract:
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

    async def test_new_tablet_is_open_with_head_zero(self, storage: TabletStorage) -> None:
        """A created tablet has head 0, the given generation and is open; creating again changes nothing."""
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        state = await storage.state(CELL_TABLET)
        assert (state.head, state.generation, state.phase, state.floor_us) == (0, 1, TabletPhase.OPEN, 0)
        writer = Writer(storage, await storage.take_over(CELL_TABLET))
        await writer.put(row(1, b"a"))
        await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
        assert (await storage.state(CELL_TABLET)).head == 1

    async def test_unknown_tablet_is_refused(self, storage: TabletStorage) -> None:
        """No call answers for a tablet that was never created."""
        await owner(storage)
        other = TabletId(b"nowhere")
        for call in (
            storage.state(other),
            storage.read(other, [RowKey(1, b"a")]),
            storage.scan(other, RowKey(1, b""), RowKey(2, b""), 10),
            storage.feed(other, 0, 10),
            storage.take_over(other),
            storage.commit(other, Expected(0, 1, 1), Batch(batch_id=b"b" * 16, floor_us=0, generation=1)),
        ):
            with pytest.raises(Refused) as refused:
                await call
            assert refused.value.code is ErrorCode.NO_SUCH_BUCKET

    async def test_commit_advances_the_statics(self, storage: TabletStorage) -> None:
        """A commit raises the head by one and carries batch id, floor and generation."""
        writer = await owner(storage)
        batch = Batch(batch_id=b"i" * 16, floor_us=77, generation=5, puts=(row(1, b"a"),), feed=b"f")
        assert await storage.commit(CELL_TABLET, writer.expected(), batch) is Committed.COMMITTED
        state = await storage.state(CELL_TABLET)
        assert (state.head, state.batch_id, state.floor_us, state.generation) == (1, b"i" * 16, 77, 5)
        assert state.epoch == writer.epoch

    async def test_rows_read_back_in_the_order_asked(self, storage: TabletStorage) -> None:
        """Reads answer in order, None for absent rows, repeated keys repeatedly."""
        writer = await owner(storage)
        a, b = row(1, b"a", b"", b"first"), row(1, b"b", b"s", b"second" * 1000)
        assert await writer.put(a, b) is Committed.COMMITTED
        keys = [RowKey(1, b"b", b"s"), RowKey(1, b"nix"), RowKey(1, b"a"), RowKey(1, b"b"), RowKey(1, b"a")]
        assert await storage.read(CELL_TABLET, keys) == [b[1], None, a[1], None, a[1]]
        assert await storage.read(CELL_TABLET, []) == []

    async def test_many_rows_in_one_read(self, storage: TabletStorage) -> None:
        """A bulk read of thousands of rows (present and absent) is one call."""
        writer = await owner(storage)
        rows = [row(3, b"k%05d" % i, b"", b"v%d" % i) for i in range(1500)]
        await writer.put(*rows)
        keys = [RowKey(3, b"k%05d" % i) for i in range(3000)]
        found = await storage.read(CELL_TABLET, keys)
        assert found == [value for _, value in rows] + [None] * 1500

    async def test_put_replaces_and_delete_removes(self, storage: TabletStorage) -> None:
        """A later batch overwrites and deletes rows of an earlier one; deleting an absent row is no error."""
        writer = await owner(storage)
        await writer.put(row(1, b"a"), row(1, b"b"))
        newer = row(1, b"a", b"", b"newer")
        assert await writer.put(newer, deletes=(RowKey(1, b"b"), RowKey(1, b"never"))) is Committed.COMMITTED
        assert await storage.read(CELL_TABLET, [RowKey(1, b"a"), RowKey(1, b"b")]) == [newer[1], None]

    async def test_deletes_apply_before_puts(self, storage: TabletStorage) -> None:
        """A key both deleted and put in one batch is there afterwards."""
        writer = await owner(storage)
        await writer.put(row(1, b"a"))
        newer = row(1, b"a", b"", b"newer")
        await writer.put(newer, deletes=(RowKey(1, b"a"),))
        assert await storage.read(CELL_TABLET, [RowKey(1, b"a")]) == [newer[1]]

    async def test_last_put_of_a_key_in_a_batch_counts(self, storage: TabletStorage) -> None:
        """A key put several times in one batch holds the last value, whichever is greater."""
        writer = await owner(storage)
        for bodies in ((b"z", b"a"), (b"a", b"z")):
            first, last = (row(1, b"a", b"", body) for body in bodies)
            assert await writer.put(first, last) is Committed.COMMITTED
            assert await storage.read(CELL_TABLET, [RowKey(1, b"a")]) == [last[1]]

    async def test_empty_batch_advances_the_head(self, storage: TabletStorage) -> None:
        """A batch without rows (a floor being raised) is a commit like any other."""
        writer = await owner(storage)
        assert await writer.put() is Committed.COMMITTED
        assert (await storage.state(CELL_TABLET)).head == 1

    @pytest.mark.parametrize("wrong", ["head", "epoch", "generation"])
    async def test_wrong_expectation_is_stale_and_changes_nothing(self, storage: TabletStorage, wrong: str) -> None:
        """A commit whose head, epoch or generation is not the tablet's changes neither rows nor feed nor statics."""
        writer = await owner(storage)
        await writer.put(row(1, b"a"), feed=b"one")
        before = await storage.state(CELL_TABLET)
        good = writer.expected()
        for shift in (-1, 1):
            values = {"head": good.head, "epoch": good.epoch, "generation": good.generation}
            values[wrong] += shift
            batch = Batch(
                batch_id=b"x" * 16,
                floor_us=9,
                generation=9,
                puts=(row(1, b"b"),),
                deletes=(RowKey(1, b"a"),),
                feed=b"no",
            )
            assert await storage.commit(CELL_TABLET, Expected(**values), batch) is Committed.STALE
        assert await storage.state(CELL_TABLET) == before
        assert [value is None for value in await storage.read(CELL_TABLET, [RowKey(1, b"a"), RowKey(1, b"b")])] == [
            False,
            True,
        ]
        assert [entry.record for entry in await storage.feed(CELL_TABLET, 0, 10)] == [b"one"]

    async def test_take_over_fences_the_former_owner(self, storage: TabletStorage) -> None:
        """After take_over the former owner's commits are stale; head and rows stay."""
        former = await owner(storage)
        await former.put(row(1, b"a"))
        present = Writer(storage, await storage.take_over(CELL_TABLET))
        assert present.epoch > former.epoch and present.head == former.head
        assert await former.put(row(1, b"b")) is Committed.STALE
        assert await present.put(row(1, b"c")) is Committed.COMMITTED
        assert await former.put(row(1, b"b")) is Committed.STALE

    async def test_one_of_two_rival_commits_wins(self, storage: TabletStorage) -> None:
        """Of commits sent at once with the same expectation exactly one goes in."""
        writer = await owner(storage)
        batches = [
            Batch(batch_id=bytes([i]) * 16, floor_us=0, generation=1, puts=(row(1, b"rival", b"", b"%d" % i),))
            for i in range(4)
        ]
        results = await asyncio.gather(*(storage.commit(CELL_TABLET, writer.expected(), batch) for batch in batches))
        assert sorted(results) == [Committed.COMMITTED] + [Committed.STALE] * 3
        won = results.index(Committed.COMMITTED)
        assert await storage.read(CELL_TABLET, [RowKey(1, b"rival")]) == [batches[won].puts[0][1]]
        state = await storage.state(CELL_TABLET)
        assert (state.head, state.batch_id) == (1, batches[won].batch_id)

    async def test_scan_orders_by_kind_key_and_seq_bytewise(self, storage: TabletStorage) -> None:
        """Rows come in bytewise order of (kind, key, seq), whatever bytes those hold."""
        writer = await owner(storage)
        rows = [
            row(kind, key, seq)
            for kind in (1, 2, 255)
            for key in (b"", b"a", b"a\x00", b"a\x00b", b"a/", b"aa", b"\x7f", b"\x80", b"\xff", b"k" * 1032)
            for seq in (b"", b"\x00", b"\x00\x01", b"\xff")
        ]
        await writer.put(*reversed(rows))
        expected = sorted(rows)
        assert await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(255, b"\xff" * 1040), 1000) == expected
        middle = [entry for entry in expected if RowKey(2, b"a\x00") <= entry[0] < RowKey(2, b"\x80", b"\x00")]
        assert await storage.scan(CELL_TABLET, RowKey(2, b"a\x00"), RowKey(2, b"\x80", b"\x00"), 1000) == middle

    async def test_scan_returns_plain_row_keys_and_bytes(self, storage: TabletStorage) -> None:
        """Results compare as RowKey and bytes whatever the storage uses inside."""
        writer = await owner(storage)
        await writer.put(row(1, b"a"))
        ((key, value),) = await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 10)
        assert (key.kind, key.key, key.seq, type(value)) == (1, b"a", b"", bytes)

    async def test_scan_bounds_and_limit(self, storage: TabletStorage) -> None:
        """The start is included, the end is not, the limit holds, an empty range is empty."""
        writer = await owner(storage)
        rows = [row(1, b"%03d" % i) for i in range(300)]
        await writer.put(*rows)
        start, end = RowKey(1, b"010"), RowKey(1, b"020")
        assert await storage.scan(CELL_TABLET, start, end, 100) == rows[10:20]
        assert await storage.scan(CELL_TABLET, start, end, 3) == rows[10:13]
        assert await storage.scan(CELL_TABLET, start, end, 0) == []
        assert await storage.scan(CELL_TABLET, end, start, 100) == []
        assert await storage.scan(CELL_TABLET, start, start, 100) == []

    async def test_feed_holds_every_commit_in_order(self, storage: TabletStorage) -> None:
        """Feed rows carry sequence, batch id and record; `after` and `limit` page through them."""
        writer = await owner(storage)
        ids = []
        for i in range(7):
            ids.append(writer.batch_id())
            await writer.put(row(1, b"a"), feed=b"record %d" % i)
        entries = await storage.feed(CELL_TABLET, 0, 100)
        assert [tuple(entry) for entry in entries] == [(i + 1, ids[i], b"record %d" % i) for i in range(7)]
        assert [entry.seq for entry in await storage.feed(CELL_TABLET, 3, 2)] == [4, 5]
        assert await storage.feed(CELL_TABLET, 7, 100) == []

    async def test_trimmed_feed_is_forgotten(self, storage: TabletStorage) -> None:
        """trim_feed forgets records before a sequence and nothing else."""
        writer = await owner(storage)
        for i in range(6):
            await writer.put(row(1, b"%d" % i), feed=b"r")
        await storage.trim_feed(CELL_TABLET, 4)
        assert [entry.seq for entry in await storage.feed(CELL_TABLET, 0, 100)] == [4, 5, 6]
        assert (await storage.state(CELL_TABLET)).head == 6

    async def test_large_batch_is_atomic(self, storage: TabletStorage) -> None:
        """A batch of several MiB and thousands of rows goes in as one."""
        writer = await owner(storage)
        rows = [row(4, b"big%05d" % i, b"", bytes([i % 256]) * 900) for i in range(3000)]
        rows.append(row(4, b"huge", b"", b"h" * 400_000))
        assert await writer.put(*rows, feed=b"f" * 100_000) is Committed.COMMITTED
        assert len(await storage.scan(CELL_TABLET, RowKey(4, b""), RowKey(5, b""), 10_000)) == 3001
        assert (await storage.read(CELL_TABLET, [RowKey(4, b"huge")]))[0] == rows[-1][1]
        assert len((await storage.feed(CELL_TABLET, 0, 1))[0].record) == 100_000

    @pytest.mark.parametrize("ending", ["stop", "crash"])
    async def test_acknowledged_commits_survive(self, harness: StorageHarness, ending: str) -> None:
        """Rows, statics and feed of every acknowledged commit are there after a stop or a crash; then it goes on."""
        storage = await harness.start()
        writer = await owner(storage)
        for i in range(20):
            rows = [row(1, b"%02d" % i, b"", b"v" * 500), row(1, b"last", b"", b"%d" % i)]
            old = (RowKey(1, b"%02d" % (i - 5)),)
            assert await writer.put(*rows, deletes=old, feed=b"f%d" % i) is Committed.COMMITTED
        before = await storage.state(CELL_TABLET)
        await (harness.stop() if ending == "stop" else harness.crash())
        storage = await harness.start()
        try:
            state = await storage.take_over(CELL_TABLET)
            assert (state.head, state.batch_id, state.generation) == (20, before.batch_id, before.generation)
            assert state.epoch > before.epoch
            found = await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 100)
            assert [key.key for key, _ in found] == [b"%02d" % i for i in range(15, 20)] + [b"last"]
            assert found[-1][1] == row(1, b"last", b"", b"19")[1]
            feed = await storage.feed(CELL_TABLET, 0, 100)
            assert [entry.record for entry in feed] == [b"f%d" % i for i in range(20)]
            assert await writer_of(storage, state).put(row(1, b"on")) is Committed.COMMITTED
        finally:
            await harness.stop()

    async def test_former_owner_stays_fenced_over_a_restart(self, harness: StorageHarness) -> None:
        """The epoch is durable: an owner from before the restart is stale after the next take_over."""
        storage = await harness.start()
        former = await owner(storage)
        await former.put(row(1, b"a"))
        await harness.crash()
        storage = await harness.start()
        try:
            await storage.take_over(CELL_TABLET)
            former.storage = storage
            assert await former.put(row(1, b"b")) is Committed.STALE
        finally:
            await harness.stop()

    async def test_damaged_row_never_reads_as_absent(self, harness: StorageHarness, storage: TabletStorage) -> None:
        """R11: one flipped bit raises Damaged, from the storage or from the seal; it never becomes a missing row."""
        writer = await owner(storage)
        key, value = row(1, b"fragile", b"", b"some bytes of value")
        await writer.put((key, value), row(1, b"other"))
        if not harness.damage(key):
            pytest.skip("this harness cannot damage a row")
        with pytest.raises(Damaged):
            (stored,) = await storage.read(CELL_TABLET, [key])
            assert stored is not None
            unseal(key.kind, key.key, key.seq, stored)
        with pytest.raises(Damaged):
            found = await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 10)
            assert len(found) == 2
            for address, stored_row in found:
                unseal(address.kind, address.key, address.seq, stored_row)

    async def test_keys_beyond_the_range_are_refused(self, harness: StorageHarness, storage: TabletStorage) -> None:
        """R7: a tablet of a range refuses what lies beyond it; nothing there reads as absent."""
        if not harness.many_tablets:
            pytest.skip("this storage has one tablet")
        tablet = TabletId(b"middle")
        await storage.create(tablet, low=b"g", high=b"p", generation=1)
        writer = Writer(storage, await storage.take_over(tablet), tablet)
        inside = [row(kind, key) for kind in (CURRENT, VERSION) for key in (b"g", b"o\xff")]
        assert await writer.put(*inside) is Committed.COMMITTED
        assert await storage.read(tablet, [key for key, _ in inside]) == [value for _, value in inside]
        assert await storage.scan(tablet, RowKey(CURRENT, b"g"), RowKey(CURRENT, b"p"), 9) == inside[:2]
        assert await storage.scan(tablet, RowKey(VERSION, b"h"), RowKey(VERSION, b"h", b"x"), 9) == []
        for beyond in (b"", b"f\xff", b"p", b"p\x00", b"z"):
            with pytest.raises(KeyOutOfRange):
                await storage.read(tablet, [RowKey(CURRENT, b"h"), RowKey(CURRENT, beyond)])
            with pytest.raises(KeyOutOfRange):
                await writer.put(row(CURRENT, b"h"), row(CURRENT, beyond))
            with pytest.raises(KeyOutOfRange):
                await writer.put(row(CURRENT, b"h"), deletes=(RowKey(CURRENT, beyond),))
        for start, end in (
            (RowKey(CURRENT, b"f"), RowKey(CURRENT, b"h")),
            (RowKey(CURRENT, b"h"), RowKey(CURRENT, b"p", b"x")),
            (RowKey(CURRENT, b"h"), RowKey(CURRENT, b"q")),
            (RowKey(CURRENT, b"h"), RowKey(VERSION, b"")),
            (RowKey(CURRENT, b"h"), RowKey(VERSION, b"i")),
            (RowKey(BUCKET, b"h"), RowKey(VERSION, b"i")),
        ):
            with pytest.raises(KeyOutOfRange):
                await storage.scan(tablet, start, end, 9)
        assert (await storage.state(tablet)).head == 1

    async def test_rows_that_are_no_objects_have_no_range(
        self, harness: StorageHarness, storage: TabletStorage
    ) -> None:
        """Bucket rows stand in any tablet, whatever its range."""
        if not harness.many_tablets:
            pytest.skip("this storage has one tablet")
        tablet = TabletId(b"middle")
        await storage.create(tablet, low=b"g", high=b"p", generation=1)
        writer = Writer(storage, await storage.take_over(tablet), tablet)
        rows = [row(BUCKET, b"a"), row(BUCKET, b"z")]
        assert await writer.put(*rows) is Committed.COMMITTED
        assert await storage.read(tablet, [key for key, _ in rows]) == [value for _, value in rows]
        assert await storage.scan(tablet, RowKey(BUCKET, b""), RowKey(BUCKET + 1, b""), 9) == rows

    async def test_tablets_are_independent(self, harness: StorageHarness, storage: TabletStorage) -> None:
        """Rows, heads and feeds of one tablet are not another's; a dropped tablet is gone."""
        if not harness.many_tablets:
            pytest.skip("this storage has one tablet")
        left, right = await owner(storage, TabletId(b"left")), await owner(storage, TabletId(b"right"))
        await left.put(row(1, b"a", b"", b"left"), feed=b"l")
        assert await storage.read(right.tablet, [RowKey(1, b"a")]) == [None]
        assert (await storage.state(right.tablet)).head == 0
        await right.put(row(1, b"a", b"", b"right"), feed=b"r")
        assert [entry.record for entry in await storage.feed(left.tablet, 0, 9)] == [b"l"]
        await storage.drop(left.tablet)
        with pytest.raises(Refused):
            await storage.state(left.tablet)
        assert (await storage.state(right.tablet)).head == 1


def writer_of(storage: TabletStorage, state: TabletState) -> Writer:
    """A writer of the cell tablet from a take-over's answer."""
    return Writer(storage, state)

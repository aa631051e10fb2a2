# SPDX-License-Identifier: Apache-2.0
"""What is committed but not yet in every member's SQLite file.

Invariants
  O1  Layers are ordered by index and cover without gaps everything after the last index all members have applied.
  O2  A layer is the net effect of its records: applying it to any state between its first and last record (or
      before the first, or again) gives the state at its last.
  O3  So a reader that asks the layers from new to old, and only then any member's SQLite file, sees the head,
      whatever part of the layers that file holds already.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from drystone_core.formats.journal import (
    Record,
    RecordKind,
    decode_batch,
    decode_create,
    decode_number,
    record_size,
)
from drystone_core.ids import DiskId
from drystone_metadata.store.ports import FeedRow, RowKey, TabletState


@dataclass(frozen=True, slots=True)
class Stamp:
    """A record that counts, and the member set of its term."""

    index: int
    hash: bytes
    term: int
    members: tuple[DiskId, ...]


ABSENT = object()
"""`Layer.rows.get` default: the layer says nothing of the row."""


class Layer:
    """The effect of consecutive records."""

    __slots__ = ("_fresh", "_order", "cleared", "feed", "rows", "size", "stamp", "state", "trim")

    def __init__(self, state: TabletState | None) -> None:
        """Empty; `state` is the tablet's before it."""
        self.rows: dict[RowKey, bytes | None] = {}
        """None: deleted."""
        self.feed: list[FeedRow] = []
        self.cleared = False
        """The tablet was dropped in it: nothing older counts."""
        self.trim = 0
        self.size = 0
        """Journal bytes."""
        self.stamp: Stamp | None = None
        """Its last record; set when the layer is frozen."""
        self.state = state
        self._order: list[RowKey] = []
        self._fresh: list[RowKey] = []

    def batch(
        self, state: TabletState, puts: Sequence[tuple[RowKey, bytes]], deletes: Sequence[RowKey], feed: bytes
    ) -> None:
        """Take in a commit that led to `state`."""
        rows = self.rows
        before = len(rows)
        if deletes:
            rows.update(dict.fromkeys(deletes))
        rows.update(puts)
        if len(rows) != before:
            self._fresh.extend(deletes)
            self._fresh.extend([key for key, _ in puts])
        self.feed.append(FeedRow(state.head, state.batch_id, feed))
        self.state = state

    def clear(self) -> None:
        """The tablet is dropped."""
        self.rows.clear()
        self._order.clear()
        self._fresh.clear()
        self.feed.clear()
        self.cleared = True
        self.trim = 0
        self.state = None

    def forget_feed(self, before: int) -> None:
        """Trim the feed."""
        self.trim = max(self.trim, before)
        self.feed = [row for row in self.feed if row.seq >= before]

    def between(self, start: RowKey, end: RowKey, most: int) -> list[RowKey]:
        """The layer's first `most` rows with start <= row < end, deleted ones included, in order."""
        order, fresh = self._order, self._fresh
        if fresh:
            if len(fresh) * 8 > len(order):
                self._order = order = sorted(self.rows)
            else:
                for key in fresh:
                    at = bisect_left(order, key)
                    if at == len(order) or order[at] != key:
                        insort(order, key, at)
            self._fresh = []
        first = bisect_left(order, start)
        return order[first : min(bisect_left(order, end, first), first + most)]


def replay(layer: Layer, record: Record) -> None:
    """Take in a record read from a journal."""
    state = layer.state
    match record.kind:
        case RecordKind.BATCH:
            batch = decode_batch(record.payload)
            new = next_state(state or TabletState(), batch.batch_id, batch.floor_us, batch.generation)
            puts = [(RowKey(*row), value) for row, value in batch.puts]
            layer.batch(new, puts, [RowKey(*row) for row in batch.deletes], batch.feed)
        case RecordKind.CREATE:
            low, high, generation = decode_create(record.payload)
            layer.state = TabletState(low=low, high=high, generation=generation)
        case RecordKind.DROP:
            layer.clear()
        case RecordKind.EPOCH:
            layer.state = with_epoch(state or TabletState(), decode_number(record.payload))
        case RecordKind.TRIM:
            layer.forget_feed(decode_number(record.payload))
        case RecordKind.TERM:
            pass
    layer.size += record_size(len(record.payload))


def next_state(state: TabletState, batch_id: bytes, floor_us: int, generation: int) -> TabletState:
    """The statics after a commit (spelled out: `dataclasses.replace` costs three times as much)."""
    return TabletState(
        head=state.head + 1,
        epoch=state.epoch,
        batch_id=batch_id,
        floor_us=floor_us,
        generation=generation,
        phase=state.phase,
        low=state.low,
        high=state.high,
        child=state.child,
    )


def with_epoch(state: TabletState, epoch: int) -> TabletState:
    """The statics after a take-over."""
    return TabletState(
        head=state.head,
        epoch=epoch,
        batch_id=state.batch_id,
        floor_us=state.floor_us,
        generation=state.generation,
        phase=state.phase,
        low=state.low,
        high=state.high,
        child=state.child,
    )


class Overlay:
    """The layers, the newest last and still growing."""

    __slots__ = ("active", "base", "layers")

    def __init__(self, first: Layer, base: int) -> None:
        self.layers = [first]
        self.active = first
        self.base = base
        """What the layers hold begins after this index: any file at least so far, under the layers, is the head."""

    def freeze(self, stamp: Stamp) -> None:
        """End the growing layer at that record and begin another."""
        old = self.active
        old.stamp = stamp
        self.active = Layer(old.state)
        self.layers.append(self.active)

    def frozen_after(self, index: int) -> list[Layer]:
        """Layers that a file at `index` must take in, in order."""
        return [layer for layer in self.layers if layer.stamp is not None and layer.stamp.index > index]

    def drop_applied(self, index: int) -> None:
        """Forget frozen layers that every file has taken in, being at `index` or further."""
        layers = self.layers
        while (stamp := layers[0].stamp) is not None and stamp.index <= index:
            del layers[0]
            self.base = stamp.index

    def lookup(self, key: RowKey) -> object:
        """The row's value, None when deleted, ABSENT when SQLite must be asked."""
        for layer in reversed(self.layers):
            value = layer.rows.get(key, ABSENT)
            if value is not ABSENT:
                return value
            if layer.cleared:
                return None
        return ABSENT

    def recent_feed(self, after: int) -> list[FeedRow]:
        """Feed records with seq > after that are in the layers."""
        found: list[FeedRow] = []
        for layer in self.layers:
            if layer.cleared:
                found.clear()
            if layer.trim:
                found = [row for row in found if row.seq >= layer.trim]
            if layer.feed and layer.feed[-1].seq > after:
                found += [row for row in layer.feed if row.seq > after]
        return found

    @property
    def covers_all(self) -> bool:
        """SQLite does not count: the tablet was dropped in one of the layers."""
        return any(layer.cleared for layer in self.layers)

    def range(self, start: RowKey, end: RowKey, most: int) -> tuple[dict[RowKey, bytes | None], RowKey]:
        """(what the layers say of start <= row < bound, the bound): less than `end` where a layer holds `most` rows."""
        newest_first = []
        bound = end
        for layer in reversed(self.layers):
            if layer.rows:
                keys = layer.between(start, bound, most)
                if len(keys) == most:
                    bound = min(bound, after(keys[-1]))
                newest_first.append((layer, keys))
            if layer.cleared:
                break
        found: dict[RowKey, bytes | None] = {}
        for layer, keys in reversed(newest_first):
            rows = layer.rows
            for key in keys:
                if key < bound:
                    found[key] = rows[key]
        return found, bound


def after(key: RowKey) -> RowKey:
    """The least row key above `key`."""
    return RowKey(key.kind, key.key, key.seq + b"\0")


def merge(over: dict[RowKey, bytes | None], rows: list[tuple[RowKey, bytes]]) -> list[tuple[RowKey, bytes]]:
    """`rows` (of SQLite, in order) with what the layers say put over them."""
    if not over:
        return rows
    merged = [row for row in rows if row[0] not in over] if rows else []
    merged += [(key, value) for key, value in over.items() if value is not None]
    merged.sort()
    return merged

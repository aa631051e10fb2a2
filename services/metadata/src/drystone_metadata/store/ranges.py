# SPDX-License-Identifier: Apache-2.0
"""Which rows a tablet holds (R7 of the metadata design): what is asked beyond its range is refused, never absent.

A range is about `RowKey.key` of the object kinds: low <= key < high, an empty high = no end. Rows of other kinds (buckets,
documents) have no range: they stand in the first tablet, and copies of bucket rows wherever a tablet has their keys.
"""

from collections.abc import Iterable

from drystone_core.formats.row_keys import CURRENT, PART
from drystone_metadata.store.ports import KeyOutOfRange, RowKey, TabletPhase, TabletState

OBJECT_KINDS = range(CURRENT, PART + 1)
"""Kinds whose keys are object addresses."""


def holds(state: TabletState, key: RowKey) -> bool:
    """Whether the row is in the tablet's range, or has none."""
    if key.kind not in OBJECT_KINDS:
        return True
    return state.low <= key.key and (not state.high or key.key < state.high)


def check_keys(state: TabletState, keys: Iterable[RowKey]) -> None:
    """KeyOutOfRange unless the tablet holds all of them."""
    low, high = state.low, state.high
    is_open = state.phase is TabletPhase.OPEN
    if is_open and not low and not high:
        return
    for key in keys:
        if key.kind in OBJECT_KINDS and not (is_open and low <= key.key and (not high or key.key < high)):
            raise KeyOutOfRange("the tablet does not hold the key: refresh the map")


def check_span(state: TabletState, start: RowKey, end: RowKey) -> None:
    """KeyOutOfRange unless the tablet holds every key that start <= row < end may have."""
    low, high = state.low, state.high
    if end <= start or end.kind < OBJECT_KINDS.start or start.kind >= OBJECT_KINDS.stop:
        return
    if end == RowKey(OBJECT_KINDS.start, b""):
        return
    if state.phase is not TabletPhase.OPEN:
        raise KeyOutOfRange("the tablet's keys have moved: refresh the map")
    if not (low or high):
        return
    whole_kinds = end.kind > start.kind
    first = start.key if not whole_kinds or end == RowKey(start.kind + 1, b"") else b""
    past = b"" if whole_kinds else end.key + b"\0" if end.seq else end.key
    if first < low or (high and (whole_kinds or past > high)):
        raise KeyOutOfRange("the tablet does not hold all of the range: refresh the map")


def within(state: TabletState, start: RowKey, end: RowKey) -> tuple[RowKey, RowKey]:
    """The part of a span of one object kind (its end may be the beginning of the next kind) that the tablet holds."""
    low, high = RowKey(start.kind, state.low), RowKey(start.kind, state.high)
    return max(start, low), min(end, high) if state.high else end

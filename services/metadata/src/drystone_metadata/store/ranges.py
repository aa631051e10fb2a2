# SPDX-License-Identifier: Apache-2.0
"""Which row keys a tablet holds (R7 of the metadata design): what is asked beyond its range is refused, never absent.

A range is about `RowKey.key` of every kind: low <= key < high, an empty high = no end.
"""

from collections.abc import Iterable

from drystone_metadata.store.ports import KeyOutOfRange, RowKey, TabletPhase, TabletState


def check_keys(state: TabletState, keys: Iterable[RowKey]) -> None:
    """KeyOutOfRange unless the tablet holds all of them."""
    low, high = state.low, state.high
    if state.phase is TabletPhase.SPLIT:
        raise KeyOutOfRange("the tablet's keys have moved: refresh the map")
    if low or high:
        for key in keys:
            if key.key < low or (high and key.key >= high):
                raise KeyOutOfRange("the tablet does not hold the key: refresh the map")


def check_span(state: TabletState, start: RowKey, end: RowKey) -> None:
    """KeyOutOfRange unless the tablet holds every key that start <= row < end may have."""
    low, high = state.low, state.high
    if state.phase is TabletPhase.SPLIT:
        raise KeyOutOfRange("the tablet's keys have moved: refresh the map")
    if not (low or high) or end <= start:
        return
    whole_kinds = end.kind > start.kind
    first = start.key if not whole_kinds or end == RowKey(start.kind + 1, b"") else b""
    past = b"" if whole_kinds else end.key + b"\0" if end.seq else end.key
    if first < low or (high and (whole_kinds or past > high)):
        raise KeyOutOfRange("the tablet does not hold all of the range: refresh the map")

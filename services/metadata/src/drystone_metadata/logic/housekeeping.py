# SPDX-License-Identifier: Apache-2.0
"""Removing rows nobody can reach any more. Pure; decided like any mutation, so that it is exact at the head.

Invariants
  H1  Rows under the id of a bucket that is gone can go at once: the id is never given again (buckets K3), and all names
      of such a bucket count as dead without them (liveness D2).
  H2  A NAMED row can go when nothing stands where it leads: a uid is never named twice, so `is_dead` says the same
      with and without it, whatever the floor is.
  H3  Nothing else is removed: every row is judged again here, at the head it is removed at.
  H4  It has no entry in the feed: nothing that a consumer could see has changed.
"""

from dataclasses import dataclass

from drystone_core.formats.row_keys import BUCKET_NAME, CURRENT, NAMED, NULL_AT, PART, UPLOAD, VERSION
from drystone_core.ids import Uid, WriteId
from drystone_core.mutations import Outcome
from drystone_metadata.logic.names import rows_of
from drystone_metadata.logic.view import Decision, Moment, NeedRows, View
from drystone_metadata.store.ports import RowKey

OF_BUCKETS = (VERSION, NULL_AT, NAMED, UPLOAD, PART)
"""Kinds that a deleted bucket may leave behind (it has no current rows)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRows:
    """Remove those of these rows that nobody can reach. Only the metadata service itself makes one."""

    write_id: WriteId
    rows: tuple[RowKey, ...]
    bucket: str = ""
    """None: the rows may be of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseFloor:
    """Commit, if that raises the floor: else the blobs of a tablet that nobody writes to would never be dead (R7)."""

    write_id: WriteId
    bucket: str = ""


def raise_floor(_view: View, _mutation: RaiseFloor, _moment: Moment) -> Decision:
    """Nothing; the committer sees to the floor."""
    return Decision(Outcome(), {}, None)


def sweep_rows(view: View, mutation: SweepRows, _moment: Moment) -> Decision:
    """The rows that can go."""
    _need(view, [key for row in mutation.rows for key in reads_for(row)])
    changes: dict[RowKey, bytes | None] = {}
    for row in mutation.rows:
        if view.get(row) is not None and unreachable(view, row):
            changes[row] = None
    return Decision(Outcome(), changes, None)


def unreachable(view: View, row: RowKey) -> bool:
    """H1, H2, for a row that is there."""
    if row.kind in OF_BUCKETS and view.get(RowKey(BUCKET_NAME, row.key[:8])) is None:
        return True
    return row.kind == NAMED and not rows_of(view, row.key, Uid(row.seq))


def reads_for(row: RowKey) -> tuple[RowKey, ...]:
    """What judging a row asks for in any case."""
    name = RowKey(BUCKET_NAME, row.key[:8])
    return (row, name, RowKey(CURRENT, row.key)) if row.kind == NAMED else (row, name)


def _need(view: View, keys: list[RowKey]) -> None:
    missing = tuple(dict.fromkeys(key for key in keys if key not in view.rows))
    if missing:
        raise NeedRows(rows=missing)

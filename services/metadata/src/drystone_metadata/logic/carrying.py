# SPDX-License-Identifier: Apache-2.0
"""Buckets whose keys stand in several tablets: copies of their rows, and the end of a change that all tablets carry. Pure.

The first tablet decides what a bucket is; every other tablet decides about objects by its own copy of the bucket's row, made
when it first needs one (CarryBucket). A change is begun in the first tablet, carried to every tablet that has keys of
the bucket, from left to right, and ended in the first (EndChange); whoever finds one begun may end it.

Invariants
  Y1  A copy only grows newer: by (bucket id, generation). So one that comes late, or twice, changes nothing.
  Y2  A copy is closed only while the tablet has no current row of the bucket, and then takes none: the check and the closing
      are one decision. It stays closed, as a tombstone, until a newer generation of the bucket or a newer bucket of the name.
  Y3  A deletion is ended by removing the bucket only after every tablet with keys of it was closed at its generation; it is
      undone by a newer generation in the first tablet. Both are conditional on that generation, so one of them wins.
  Y4  What is under the id of a bucket that is gone is given up (BuryBucket) only when the first tablet has removed it.
  Y5  Nothing of this is in the feed but the end of a deletion, under the write id of whoever asked for it (R1).
"""

from dataclasses import dataclass, replace

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.row_keys import BUCKET, BUCKET_NAME, CURRENT
from drystone_core.formats.row_parts import encode_bucket
from drystone_core.formats.rowseal import seal
from drystone_core.ids import BucketId, WriteId
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket
from drystone_metadata.logic.buckets import removed_bucket
from drystone_metadata.logic.view import Changes, Decision, Moment, Under, View

_NOTHING = Decision(Outcome(), {}, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryBucket:
    """Make a tablet's copy of a bucket at least this new. Only the metadata service itself makes one, as the two below."""

    write_id: WriteId
    bucket: str
    value: Bucket
    """As the first tablet has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryBucket:
    """A bucket is gone from the first tablet: what is left under its id may be swept."""

    write_id: WriteId
    bucket: str
    bucket_id: BucketId


@dataclass(frozen=True, slots=True, kw_only=True)
class EndChange:
    """In the first tablet: a change is carried by all tablets (`done`), or its deletion is to be undone."""

    write_id: WriteId
    bucket: str
    bucket_id: BucketId
    generation: int
    done: bool


def carry_bucket(view: View, change: CarryBucket, _moment: Moment) -> Decision:
    """A newer copy; BucketNotEmpty when it is closed and this tablet has keys of the bucket."""
    given, name = replace(change.value, pending=b""), change.bucket.encode()
    present = view.copy(change.bucket)
    if view.first or (present is not None and _age(present) >= _age(given)):
        return _NOTHING
    by_id = given.bucket_id.to_bytes(8, "big")
    if given.closed and not view.empty(Under(CURRENT, by_id)):
        raise Refused(ErrorCode.BUCKET_NOT_EMPTY, BucketName=change.bucket)
    changes = Changes()
    if present is not None and present.bucket_id != given.bucket_id:
        changes.delete(BUCKET_NAME, present.bucket_id.to_bytes(8, "big"))  # another of the name has come: it is gone
    changes.put(BUCKET, name, b"", encode_bucket(given))
    changes.put(BUCKET_NAME, by_id, b"", seal(BUCKET_NAME, by_id, b"", name))
    return Decision(Outcome(), changes.rows, None, (change.bucket, given))


def bury_bucket(view: View, change: BuryBucket, _moment: Moment) -> Decision:
    """The tombstone stays, the name of the id goes."""
    present = view.copy(change.bucket)
    if view.first or present is None or present.bucket_id != change.bucket_id or not present.closed:
        return _NOTHING
    changes = Changes()
    changes.delete(BUCKET_NAME, change.bucket_id.to_bytes(8, "big"))
    return Decision(Outcome(), changes.rows, None)


def end_change(view: View, change: EndChange, _moment: Moment) -> Decision:
    """Remove, reopen or release the bucket, if the change still stands."""
    present = view.copy(change.bucket)
    if (
        not view.first
        or present is None
        or (present.bucket_id, present.generation) != (change.bucket_id, change.generation)
        or not present.pending
    ):
        return _NOTHING
    if present.closed and change.done:
        return removed_bucket(present, WriteId(present.pending))
    after = replace(present, pending=b"")
    if present.closed:
        after = replace(after, closed=False, generation=present.generation + 1)
    changes = Changes()
    changes.put(BUCKET, change.bucket.encode(), b"", encode_bucket(after))
    return Decision(Outcome(), changes.rows, None, (change.bucket, after))


def _age(bucket: Bucket) -> tuple[int, int]:
    """Y1."""
    return bucket.bucket_id, bucket.generation

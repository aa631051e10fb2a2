# SPDX-License-Identifier: Apache-2.0
"""Ending an internal upload whose writer is gone. Pure; decided like any mutation, so that it is exact at the head.

A PUT that takes long has its blobs named by an internal upload of the same key (R7), and renews it every few minutes by
putting one of its parts again. Who judges that the writer is gone stands outside (abandoned.py): here is only decided
that the upload still is as it was when that was judged.

Invariants
  X1  Only internal uploads end here, and only while no row of theirs changed since the mark was taken: a renewal or a
      further blob that was committed meanwhile keeps the upload.
  X2  It ends as by AbortUpload: all rows in one decision, its blobs in the feed as removed.
"""

import hashlib
from dataclasses import dataclass

from drystone_core.formats.feed import Operation, encode_outcome
from drystone_core.formats.row_keys import BUCKET_NAME, PART
from drystone_core.formats.row_parts import decode_upload
from drystone_core.ids import BucketId, WriteId
from drystone_core.mutations import Outcome
from drystone_metadata.logic.registered import AFTER_PARTS, MOST_PARTS, drop_upload
from drystone_metadata.logic.view import NO_UID, Changes, Decision, Moment, Span, View
from drystone_metadata.store.ports import RowKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireUpload:
    """End an internal upload that still is as `mark` says. Only the metadata service itself makes one."""

    write_id: WriteId
    row: RowKey
    """Its UPLOAD row."""
    mark: bytes
    """`upload_mark` of it when its writer was judged to be gone."""
    bucket: str = ""
    """None: the row may be of any."""


def expire_upload(view: View, mutation: ExpireUpload, _moment: Moment) -> Decision:
    """Drop the upload and its parts, or nothing."""
    row = mutation.row
    value = view.get(row)
    nothing = Decision(Outcome(), {}, None)
    if value is None or view.get(RowKey(BUCKET_NAME, row.key[:8])) is None:
        return nothing  # a bucket that is gone is the sweeper's
    upload = decode_upload(row.key, row.seq, value)
    if not upload.internal or upload_mark(view, row, value) != mutation.mark:
        return nothing
    changes = Changes()
    drop_upload(view, changes, row.key, upload.upload_id)
    outcome = Outcome(upload_id=upload.upload_id)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.ABORT_UPLOAD,
        bucket_id=BucketId(int.from_bytes(row.key[:8], "big")),
        key=upload.key,
        uid=NO_UID,
        write_id=mutation.write_id,
    )


def upload_mark(view: View, row: RowKey, value: bytes) -> bytes:
    """16 bytes that change with every change of an upload's row or parts; `value` is the UPLOAD row's."""
    digest = hashlib.blake2b(value, digest_size=16)
    for part, body in view.all(parts_span(row), MOST_PARTS):
        digest.update(part.seq + body)
    return digest.digest()


def parts_span(upload: RowKey) -> Span:
    """All PART rows of an UPLOAD row."""
    return Span(PART, upload.key, upload.seq, upload.seq + AFTER_PARTS)

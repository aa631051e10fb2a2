# SPDX-License-Identifier: Apache-2.0
"""Uploads as sets of rows: reading all parts of one, and dropping one whole.

Invariants
  U1  A part row is named by a NAMED row (uid → upload) as long as the upload lives.
  U2  Dropping an upload removes the upload row, every part row and every such name in one decision.
"""

from collections.abc import Iterable

from drystone_core.extents import BlobRef
from drystone_core.formats.row_keys import NAMED, PART, UPLOAD, parse_upload, part_seq
from drystone_core.formats.row_parts import decode_part
from drystone_core.ids import BlobId, UploadId
from drystone_core.objects import Part
from drystone_metadata.logic.view import Changes, Span, View

MOST_PARTS = 0x10000
"""More than part numbers can tell apart."""
AFTER_PARTS = b"\xff\xff\xff"
"""Appended to an upload's seq: above all its part rows."""


def upload_parts(view: View, address: bytes, upload: bytes) -> list[Part]:
    """All parts of an upload by number."""
    rows = view.all(Span(PART, address, upload, upload + AFTER_PARTS), MOST_PARTS)
    return [decode_part(address, row.seq, value) for row, value in rows]


def drop_upload(
    view: View, changes: Changes, address: bytes, upload_id: UploadId, *, keep: Iterable[BlobRef] = ()
) -> list[BlobId]:
    """Remove an upload's rows; returns the ids of all blobs its parts named. Those not in `keep` are removed blobs."""
    upload = parse_upload(upload_id)
    if upload is None:
        return []
    parts = upload_parts(view, address, upload)
    kept = {ref.blob_id for ref in keep}
    named = [ref.blob_id for part in parts for ref in part.blobs]
    changes.delete(UPLOAD, address, upload)
    for part in parts:
        changes.delete(PART, address, part_seq(upload, part.number))
        changes.delete(NAMED, address, part.uid)
    changes.removed.extend(blob for blob in named if blob not in kept)
    return named

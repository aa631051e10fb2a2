# SPDX-License-Identifier: Apache-2.0
"""The geometry of a stripe: how long its fragments are and what lies before them. Pure arithmetic.

  pack    whole small blobs, greedily into the least filled of the k fragments, each BLOB_ALIGN-aligned
          (drystone_datapath.pack.build_pack)
  piece   up to PIECE_LIMIT bytes of one blob (and at its end the trailer) split evenly into k fragments
The record span and `payload_at` are equal in all k+m slots, so the slots of a volume stay parallel.
"""

from typing import NamedTuple

from drystone_core.extents import BLOB_ALIGN, BLOCK, RECORD_ALIGN

HEAD_BYTES = 128
"""Fixed part of a record's head; the block CRCs follow."""


class Geometry(NamedTuple):
    """Where the parts of a record lie, from its start."""

    fragment_length: int
    blocks: int
    """CRC32C entries in the head."""
    table_at: int
    payload_at: int
    span: int
    """Bytes from this record to the next."""


def align(value: int, to: int) -> int:
    """`value` rounded up to a multiple of `to` (a power of two)."""
    return (value + to - 1) & -to


def geometry(*, fragment_length: int, table_length: int, page_aligned: bool) -> Geometry:
    """The geometry of a stripe; `page_aligned` puts the payload on a 4 KiB boundary (pieces)."""
    blocks = (fragment_length + BLOCK - 1) // BLOCK
    table_at = HEAD_BYTES + 4 * blocks
    payload_at = align(table_at + table_length, RECORD_ALIGN if page_aligned else BLOB_ALIGN)
    return Geometry(fragment_length, blocks, table_at, payload_at, align(payload_at + fragment_length, RECORD_ALIGN))


def piece_fragment_length(total: int, k: int) -> int:
    """Fragment length of a piece of `total` bytes (payload and trailer).

    Whole pages: the record's span is rounded up to them anyway, and a write of whole aligned pages may pass by the page
    cache (drystone_runtime.disks).
    """
    return align(max(1, (total + k - 1) // k), RECORD_ALIGN)

# SPDX-License-Identifier: Apache-2.0
"""Preconditions on the current version, and the floor that blobs being named must not be below (R7).

A current delete marker counts as absent. Sources: S3 conditional writes and deletes; data-plane R7.
"""

from collections.abc import Iterable

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.extents import BlobRef
from drystone_core.formats.rows import ObjectHead, head_etag
from drystone_core.ids import BlobId
from drystone_core.mutations import NO_CONDITIONS, Preconditions
from drystone_metadata.logic.view import Moment

AHEAD_US = 5_000_000
"""A stamp this far ahead of our clock is refused: it could outlive every floor."""


def check_conditions(conditions: Preconditions, head: ObjectHead | None, value: bytes | None) -> None:
    """Raise NoSuchKey or PreconditionFailed unless the conditions hold for the current row."""
    if conditions is NO_CONDITIONS or conditions == NO_CONDITIONS:
        return
    absent = head is None or value is None or head.delete_marker
    if conditions.if_none_match and not absent:
        raise _failed("If-None-Match")
    wanted = conditions.if_match
    size, modified_ms = conditions.if_match_size, conditions.if_match_modified_ms
    if not wanted and size is None and modified_ms is None:
        return
    if head is None or value is None or absent:
        raise Refused(ErrorCode.NO_SUCH_KEY)
    if wanted and wanted not in ("*", head_etag(head, value)):
        raise _failed("If-Match")
    if size is not None and size != head.size:
        raise _failed("x-amz-if-match-size")
    if modified_ms is not None and modified_ms // 1000 != head.modified_ms // 1000:
        raise _failed("x-amz-if-match-last-modified-time")


def check_floor(blobs: Iterable[BlobRef], moment: Moment, named: Iterable[BlobId] = ()) -> None:
    """R7: raise Unavailable if a blob was stamped before the floor, unless a row of the same key names it already."""
    floor, top = moment.floor_us, moment.now_us + AHEAD_US
    for ref in blobs:
        stamp = int.from_bytes(ref.blob_id[:8], "big")
        if floor <= stamp <= top:
            continue
        if ref.blob_id not in set(named):
            raise Unavailable("blob stamped outside the window in which it may be named")


def _failed(condition: str) -> Refused:
    return Refused(ErrorCode.PRECONDITION_FAILED, Condition=condition)

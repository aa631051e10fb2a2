# SPDX-License-Identifier: Apache-2.0
"""The decision machine: (view, mutation, moment) → decision, or a refusal raised. Pure; knows nothing of storages.

`reads` names the rows a decision will surely ask for, so that one bulk read serves a whole batch; what else it needs it
asks for by NeedRows. Batches compose: each decision is accepted into the view before the next mutation is decided.
"""

from collections.abc import Callable
from typing import Any

from drystone_core.formats.row_keys import CURRENT, UPLOAD, object_address, parse_upload, part_seq
from drystone_core.formats.row_keys import PART as PART_ROW
from drystone_core.mutations import (
    AbortUpload,
    CompleteUpload,
    ConfigureBucket,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Mutation,
    PutObject,
    PutPart,
    ReplaceMetadata,
    SwapBlobs,
)
from drystone_core.objects import Bucket
from drystone_metadata.logic.buckets import configure_bucket, create_bucket, delete_bucket
from drystone_metadata.logic.carrying import (
    BuryBucket,
    CarryBucket,
    EndChange,
    bury_bucket,
    carry_bucket,
    end_change,
)
from drystone_metadata.logic.expiry import ExpireUpload, expire_upload
from drystone_metadata.logic.housekeeping import RaiseFloor, SweepRows, raise_floor, sweep_rows
from drystone_metadata.logic.names import swap_blobs
from drystone_metadata.logic.objects import delete_object, put_object, replace_metadata
from drystone_metadata.logic.uploads import abort_upload, complete_upload, create_upload, put_part
from drystone_metadata.logic.view import Decision, Moment, View
from drystone_metadata.store.ports import RowKey

Internal = SweepRows | RaiseFloor | ExpireUpload | CarryBucket | BuryBucket | EndChange
"""What only the metadata service itself asks for."""
OfBuckets = CreateBucket | DeleteBucket | ConfigureBucket
"""Decided in the first tablet."""
Change = Mutation | ConfigureBucket | Internal

_DECIDERS: dict[type, Callable[[View, Any, Moment], Decision]] = {
    CreateBucket: create_bucket,
    DeleteBucket: delete_bucket,
    ConfigureBucket: configure_bucket,
    PutObject: put_object,
    ReplaceMetadata: replace_metadata,
    DeleteObject: delete_object,
    CreateUpload: create_upload,
    PutPart: put_part,
    CompleteUpload: complete_upload,
    AbortUpload: abort_upload,
    SwapBlobs: swap_blobs,
    SweepRows: sweep_rows,
    RaiseFloor: raise_floor,
    ExpireUpload: expire_upload,
    CarryBucket: carry_bucket,
    BuryBucket: bury_bucket,
    EndChange: end_change,
}


def decide(view: View, mutation: Change, moment: Moment) -> Decision:
    """What `mutation` does to `view`; raises its refusal, or NeedRows."""
    return _DECIDERS[type(mutation)](view, mutation, moment)


def reads(mutation: Change, bucket: Bucket) -> list[RowKey]:
    """Rows the decision asks for in any case."""
    if isinstance(mutation, OfBuckets | Internal):
        return []
    address = object_address(bucket.bucket_id, mutation.key)
    if isinstance(mutation, CreateUpload):
        return []
    if isinstance(mutation, PutPart):
        upload = parse_upload(mutation.upload_id)
        if upload is None:
            return []
        return [RowKey(UPLOAD, address, upload), RowKey(PART_ROW, address, part_seq(upload, mutation.part.number))]
    return [RowKey(CURRENT, address)]

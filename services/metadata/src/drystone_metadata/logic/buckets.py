# SPDX-License-Identifier: Apache-2.0
"""Deciding about buckets: create, delete, configure.

Invariants
  K1  A bucket has a BUCKET row by name, a BUCKET_NAME row by id and a BUCKET_OWNER row, made and removed together.
  K2  R2: every change of a bucket's state raises its generation (and the tablet's, which is part of every commit).
  K3  A bucket id is never given twice; rows left under the id of a deleted bucket are dead.
  K4  Where other tablets have keys of the bucket, a change is only begun here (`pending`), and a deletion closes the bucket:
      it is ended by logic/carrying.py when all of them carry it. A deletion is begun only when nothing else is: undone, it
      leaves a bucket whose state all tablets carry already.
"""

from dataclasses import replace

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.feed import Operation, encode_outcome
from drystone_core.formats.row_keys import (
    BUCKET,
    BUCKET_NAME,
    BUCKET_OWNER,
    CURRENT,
    make_bucket_id,
    owner_address,
)
from drystone_core.formats.row_parts import encode_bucket
from drystone_core.formats.rowseal import seal
from drystone_core.ids import Key, WriteId
from drystone_core.mutations import ConfigureBucket, CreateBucket, DeleteBucket, Outcome
from drystone_core.objects import Bucket, Versioning
from drystone_metadata.logic.view import NO_UID, BucketChanging, Changes, Decision, Moment, Under, View
from drystone_metadata.store.ports import RowKey


def create_bucket(view: View, mutation: CreateBucket, moment: Moment) -> Decision:
    """A new empty bucket; BucketAlreadyOwnedByYou or BucketAlreadyExists."""
    present = view.find_bucket(mutation.bucket)
    if present is not None and present.closed:
        raise BucketChanging(present)
    if present is not None:
        mine = present.owner == mutation.owner
        code = ErrorCode.BUCKET_ALREADY_OWNED_BY_YOU if mine else ErrorCode.BUCKET_ALREADY_EXISTS
        raise Refused(code, BucketName=mutation.bucket)
    bucket = Bucket(
        bucket_id=make_bucket_id(moment.sequence, moment.position),
        name=mutation.bucket,
        owner=mutation.owner,
        created_ms=moment.now_ms,
        region=mutation.region,
    )
    name = mutation.bucket.encode()
    by_id, by_owner = bucket.bucket_id.to_bytes(8, "big"), owner_address(bucket.owner, bucket.name)
    changes = Changes()
    changes.put(BUCKET, name, b"", encode_bucket(bucket))
    changes.put(BUCKET_NAME, by_id, b"", seal(BUCKET_NAME, by_id, b"", name))
    changes.put(BUCKET_OWNER, by_owner, b"", seal(BUCKET_OWNER, by_owner, b"", b""))
    outcome = Outcome(modified_ms=moment.now_ms)
    return _decided(changes, bucket, bucket, outcome, Operation.CREATE_BUCKET, mutation.write_id)


def delete_bucket(view: View, mutation: DeleteBucket, _moment: Moment) -> Decision:
    """BucketNotEmpty while any key has a version or delete marker (each such key has a current row)."""
    bucket = view.bucket(mutation.bucket)
    by_id = bucket.bucket_id.to_bytes(8, "big")
    if not view.empty(Under(CURRENT, by_id)):
        raise Refused(ErrorCode.BUCKET_NOT_EMPTY, BucketName=mutation.bucket)
    if not view.holds_all_of(by_id):
        if bucket.pending:
            raise BucketChanging(bucket)
        closed = replace(bucket, generation=bucket.generation + 1, closed=True, pending=mutation.write_id)
        row = RowKey(BUCKET, bucket.name.encode())
        return Decision(BucketChanging(closed), {row: encode_bucket(closed)}, None, (bucket.name, closed))
    return removed_bucket(bucket, mutation.write_id)


def removed_bucket(bucket: Bucket, write_id: WriteId) -> Decision:
    """The bucket's rows go."""
    changes = Changes()
    changes.delete(BUCKET, bucket.name.encode())
    changes.delete(BUCKET_NAME, bucket.bucket_id.to_bytes(8, "big"))
    changes.delete(BUCKET_OWNER, owner_address(bucket.owner, bucket.name))
    return _decided(changes, bucket, None, Outcome(), Operation.DELETE_BUCKET, write_id)


def configure_bucket(view: View, mutation: ConfigureBucket, _moment: Moment) -> Decision:
    """New versioning state or documents."""
    bucket = view.bucket(mutation.bucket)
    versioning = bucket.versioning if mutation.versioning is None else mutation.versioning
    if versioning is Versioning.NEVER and bucket.versioning is not Versioning.NEVER:
        raise Refused(ErrorCode.INVALID_BUCKET_STATE, BucketName=mutation.bucket)
    config = {name: body for name, body in {**bucket.config, **mutation.documents}.items() if body}
    pending = b"" if view.holds_all_of(bucket.bucket_id.to_bytes(8, "big")) else mutation.write_id
    changed = replace(bucket, generation=bucket.generation + 1, versioning=versioning, config=config, pending=pending)
    changes = Changes()
    changes.put(BUCKET, bucket.name.encode(), b"", encode_bucket(changed))
    return _decided(changes, bucket, changed, Outcome(), Operation.CONFIGURE_BUCKET, mutation.write_id)


def _decided(
    changes: Changes,
    bucket: Bucket,
    after: Bucket | None,
    outcome: Outcome,
    operation: Operation,
    write_id: WriteId,
) -> Decision:
    decision = changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=operation,
        bucket_id=bucket.bucket_id,
        key=Key(bucket.name.encode()),
        uid=NO_UID,
        write_id=write_id,
    )
    return decision._replace(bucket=(bucket.name, after))

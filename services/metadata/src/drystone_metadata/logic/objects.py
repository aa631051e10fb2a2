# SPDX-License-Identifier: Apache-2.0
"""Deciding about objects: put, delete, replace metadata, swap blobs.

Invariants
  O1  A key with any version has exactly one CURRENT row, its newest version or delete marker; others are VERSION rows.
  O2  A VERSION row is named by a NAMED row under its uid, and NULL_AT names the null version when it is a VERSION row.
  O3  A bucket that was never versioned has only null versions, hence no VERSION rows.
  O4  Orders of a key only grow younger; modified_ms of a key never goes back.
"""

from collections.abc import Iterable
from dataclasses import replace

from drystone_core.errors import ErrorCode, Refused, Stale
from drystone_core.formats.feed import Operation, encode_outcome
from drystone_core.formats.row_keys import (
    CURRENT,
    NAMED,
    NULL_AT,
    VERSION,
    make_order,
    object_address,
    parse_version,
)
from drystone_core.formats.row_parts import IN_VERSION, encode_place
from drystone_core.formats.rows import (
    ObjectHead,
    StoredObject,
    blob_ids,
    decode_object,
    encode_object,
    moved,
    object_head,
)
from drystone_core.formats.rowseal import seal, unseal
from drystone_core.ids import NULL_VERSION, BlobId, Key, Uid, UploadId, VersionId
from drystone_core.mutations import DeleteObject, Outcome, PutObject, ReplaceMetadata
from drystone_core.objects import Bucket, ObjectVersion, Versioning
from drystone_metadata.logic.conditions import check_conditions, check_floor
from drystone_metadata.logic.registered import drop_upload
from drystone_metadata.logic.view import NO_UID, Changes, Decision, Moment, Span, View
from drystone_metadata.store.ports import RowKey

Present = tuple[bytes | None, ObjectHead | None]
"""A key's current row and its head."""


def put_object(view: View, mutation: PutObject, moment: Moment) -> Decision:
    """Name bytes: the key's new current version."""
    bucket = view.bucket(mutation.bucket, mutation.bucket_id)
    address = object_address(bucket.bucket_id, mutation.key)
    value, head = current(view, address)
    check_conditions(mutation.conditions, head, value)
    _check_expected(mutation, head)
    changes = Changes()
    named: Iterable[BlobId] = ()
    if mutation.registered is not None:
        named = drop_upload(view, changes, address, mutation.registered, keep=mutation.blobs)
    elif value is not None and head is not None and mutation.uid == head.uid:
        named = blob_ids(value)
    check_floor(mutation.blobs, moment, named)
    if mutation.manifest is not None:
        check_floor((mutation.manifest,), moment, named)
    null = bucket.versioning is not Versioning.ENABLED
    order = make_order(moment.sequence, moment.position, moment.random8)
    modified = moment.now_ms if head is None else max(moment.now_ms, head.modified_ms)
    version = ObjectVersion(
        key=mutation.key,
        uid=mutation.uid,
        version_id=NULL_VERSION if null else VersionId(order.hex()),
        modified_ms=modified,
        size=mutation.size,
        etag=mutation.etag,
        headers=mutation.headers,
        metadata=mutation.metadata,
        storage_class=mutation.storage_class,
        checksum=mutation.checksum,
        parts=mutation.parts,
        parts_count=mutation.parts_count,
        blobs=mutation.blobs,
        manifest=mutation.manifest,
        tags=mutation.tags,
    )
    place_version(view, changes, address, (value, head), StoredObject(version, order, None))
    outcome = Outcome(
        version_id=None if bucket.versioning is Versioning.NEVER else version.version_id,
        modified_ms=modified,
        etag=mutation.etag,
    )
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.PUT_OBJECT,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=mutation.uid,
        write_id=mutation.write_id,
    )


def _check_expected(mutation: PutObject, head: ObjectHead | None) -> None:
    """R6: a copy of a key onto itself replaces what it was made of, nothing newer."""
    if mutation.expected_uid is None:
        return
    if head is None or head.uid != mutation.expected_uid or mutation.expected_ms not in (None, head.modified_ms):
        raise Stale("the object changed meanwhile")


def delete_object(view: View, mutation: DeleteObject, moment: Moment) -> Decision:
    """DELETE, with or without a version id."""
    bucket = view.bucket(mutation.bucket)
    address = object_address(bucket.bucket_id, mutation.key)
    value, head = current(view, address)
    check_conditions(mutation.conditions, head, value)
    changes = Changes()
    uid = NO_UID
    if mutation.version_id is not None:
        outcome, uid = _delete_version(view, changes, address, mutation.version_id)
    elif bucket.versioning is not Versioning.NEVER:
        outcome, uid = _add_marker(view, changes, bucket, address, (value, head), moment)
    elif value is not None and head is not None:
        outcome, uid = Outcome(), head.uid
        forget(changes, address, CURRENT, b"", value, head)
        changes.delete(CURRENT, address)
    else:
        outcome = Outcome()
    if not changes.rows:
        return Decision(outcome, {}, None)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.DELETE_OBJECT,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=uid,
        write_id=mutation.write_id,
    )


def _add_marker(
    view: View, changes: Changes, bucket: Bucket, address: bytes, present: Present, moment: Moment
) -> tuple[Outcome, Uid]:
    head = present[1]
    order = make_order(moment.sequence, moment.position, moment.random8)
    null = bucket.versioning is not Versioning.ENABLED
    marker = ObjectVersion(
        key=Key(address[8:]),
        uid=Uid(order),
        version_id=NULL_VERSION if null else VersionId(order.hex()),
        modified_ms=moment.now_ms if head is None else max(moment.now_ms, head.modified_ms),
        delete_marker=True,
    )
    place_version(view, changes, address, present, StoredObject(marker, order, None))
    outcome = Outcome(version_id=marker.version_id, delete_marker=True, modified_ms=marker.modified_ms)
    return outcome, marker.uid


def _delete_version(view: View, changes: Changes, address: bytes, version_id: VersionId) -> tuple[Outcome, Uid]:
    """Remove one version for good; the next one becomes current when it was current."""
    found = find_version(view, address, version_id)
    if found is None:
        return Outcome(version_id=version_id), NO_UID
    kind, seq, value, head = found
    forget(changes, address, kind, seq, value, head)
    if kind == VERSION:
        changes.delete(VERSION, address, seq)
        changes.delete(NAMED, address, head.uid)
        if head.null:
            changes.delete(NULL_AT, address)
    else:
        _promote(view, changes, address)
    return Outcome(version_id=version_id, delete_marker=head.delete_marker), head.uid


def _promote(view: View, changes: Changes, address: bytes) -> None:
    """The current row goes: the newest of the others takes its place."""
    following = view.first_of(Span(VERSION, address))
    if following is None:
        changes.delete(CURRENT, address)
        return
    row, value = following
    head = object_head(VERSION, address, row.seq, value)
    changes.put(CURRENT, address, b"", moved(value, kind=CURRENT, address=address, seq=b""))
    changes.delete(VERSION, address, row.seq)
    changes.delete(NAMED, address, head.uid)
    if head.null:
        changes.delete(NULL_AT, address)


def replace_metadata(view: View, mutation: ReplaceMetadata, moment: Moment) -> Decision:
    """R6: new headers and metadata, the same uid and bytes."""
    bucket = view.bucket(mutation.bucket)
    address = object_address(bucket.bucket_id, mutation.key)
    value, head = current(view, address)
    check_conditions(mutation.conditions, head, value)
    if value is None or head is None or head.delete_marker:
        raise Refused(ErrorCode.NO_SUCH_KEY)
    if head.uid != mutation.expected_uid or bucket.versioning is not Versioning.NEVER:
        raise Stale("the object or its bucket changed meanwhile")
    stored = decode_object(CURRENT, address, b"", value)
    version = replace(
        stored.version,
        headers=mutation.headers,
        metadata=mutation.metadata,
        storage_class=mutation.storage_class,
        checksum=mutation.checksum or stored.version.checksum,
        tags=stored.version.tags if mutation.tags is None else mutation.tags,
        modified_ms=max(moment.now_ms, head.modified_ms + 1),  # later: all that tells it from what it replaces
    )
    changes = Changes()
    changes.put(CURRENT, address, b"", encode_object(CURRENT, address, stored._replace(version=version)))
    outcome = Outcome(modified_ms=version.modified_ms, etag=version.etag)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.REPLACE_METADATA,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=head.uid,
        write_id=mutation.write_id,
    )


def current(view: View, address: bytes) -> Present:
    """The key's current row and its head."""
    value = view.get(RowKey(CURRENT, address))
    return value, None if value is None else object_head(CURRENT, address, b"", value)


def find_version(view: View, address: bytes, version_id: VersionId) -> tuple[int, bytes, bytes, ObjectHead] | None:
    """(kind, seq, value, head) of a version by its id."""
    value, head = current(view, address)
    if value is None or head is None:
        return None
    if head.version_id == version_id:
        return CURRENT, b"", value, head
    if version_id == NULL_VERSION:
        order = null_order(view, address)
    else:
        order = parse_version(version_id)
    if order is None:
        return None
    value = view.get(RowKey(VERSION, address, order))
    if value is None:
        return None
    head = object_head(VERSION, address, order, value)
    if head.version_id != version_id:
        return None
    return VERSION, order, value, head


def null_order(view: View, address: bytes) -> bytes | None:
    """Where the null version is among the VERSION rows."""
    value = view.get(RowKey(NULL_AT, address))
    return None if value is None else unseal(NULL_AT, address, b"", value)


def place_version(view: View, changes: Changes, address: bytes, present: Present, stored: StoredObject) -> None:
    """Make `stored` current; what was current is retired or, being the null version a null one replaces, removed."""
    value, head = present
    if value is not None and head is not None:
        replaces = stored.version.version_id == NULL_VERSION
        if replaces and head.null:
            forget(changes, address, CURRENT, b"", value, head)
        else:
            _retire(changes, address, value, head)
            if replaces:
                _remove_null(view, changes, address)
    changes.put(CURRENT, address, b"", encode_object(CURRENT, address, stored))


def _retire(changes: Changes, address: bytes, value: bytes, head: ObjectHead) -> None:
    """The current row becomes history; R3: its uid now leads to its order."""
    order = head.order
    changes.put(VERSION, address, order, moved(value, kind=VERSION, address=address, seq=order))
    changes.put(NAMED, address, head.uid, encode_place(address, head.uid, IN_VERSION, order))
    if head.null:
        changes.put(NULL_AT, address, b"", seal(NULL_AT, address, b"", order))


def _remove_null(view: View, changes: Changes, address: bytes) -> None:
    """A suspended bucket's new null version replaces the old one wherever it is."""
    order = null_order(view, address)
    if order is None:
        return
    value = view.get(RowKey(VERSION, address, order))
    if value is not None:
        head = object_head(VERSION, address, order, value)
        forget(changes, address, VERSION, order, value, head)
        changes.delete(VERSION, address, order)
        changes.delete(NAMED, address, head.uid)
    changes.delete(NULL_AT, address)


def forget(changes: Changes, address: bytes, kind: int, seq: bytes, value: bytes, head: ObjectHead) -> None:
    """Note the blobs a row going away named, and drop the names of its parts."""
    changes.removed.extend(blob_ids(value))
    if head.parts_count:
        for part in decode_object(kind, address, seq, value).version.parts:
            changes.delete(NAMED, address, part.uid)


def completed_from(value: bytes, address: bytes) -> UploadId | None:
    """The upload the current row was completed from."""
    return decode_object(CURRENT, address, b"", value).upload_id

# SPDX-License-Identifier: Apache-2.0
"""Deciding about multipart uploads: create, part, complete, abort.

Invariants
  M1  Parts are seen only through ListParts until Complete makes all of them one version, in one decision.
  M2  A repeated Complete of the upload whose object is current gets the first outcome; after Abort nothing is left.
  M3  After Complete a part's uid leads to the object's uid, so that its blobs' only name stays the one they were given.
"""

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.feed import Operation, encode_outcome
from drystone_core.formats.row_keys import (
    NAMED,
    PART,
    UPLOAD,
    make_order,
    make_upload_id,
    object_address,
    parse_upload,
    part_seq,
)
from drystone_core.formats.row_parts import (
    IN_OBJECT,
    IN_UPLOAD,
    decode_part,
    decode_upload,
    encode_part,
    encode_place,
    encode_upload,
)
from drystone_core.formats.rows import ObjectHead, StoredObject, head_etag
from drystone_core.ids import NULL_VERSION, BlobId, UploadId, VersionId
from drystone_core.mutations import AbortUpload, CompleteUpload, CreateUpload, Outcome, PutPart
from drystone_core.objects import Bucket, ObjectVersion, Part, Upload, Versioning
from drystone_metadata.logic.conditions import check_conditions, check_floor
from drystone_metadata.logic.objects import completed_from, current, place_version
from drystone_metadata.logic.registered import drop_upload, upload_parts
from drystone_metadata.logic.view import NO_UID, Changes, Decision, Moment, View
from drystone_metadata.store.ports import RowKey


def create_upload(view: View, mutation: CreateUpload, moment: Moment) -> Decision:
    """A new upload; its id is given here."""
    bucket = view.bucket(mutation.bucket, mutation.bucket_id)
    address = object_address(bucket.bucket_id, mutation.key)
    upload = Upload(
        key=mutation.key,
        upload_id=make_upload_id(moment.sequence, moment.position, moment.random8),
        initiated_ms=moment.now_ms,
        owner=mutation.owner,
        headers=mutation.headers,
        metadata=mutation.metadata,
        storage_class=mutation.storage_class,
        checksum_algorithm=mutation.checksum_algorithm,
        checksum_type=mutation.checksum_type,
        internal=mutation.internal,
    )
    changes = Changes()
    changes.put(UPLOAD, address, bytes.fromhex(upload.upload_id), encode_upload(address, upload))
    outcome = Outcome(upload_id=upload.upload_id, modified_ms=moment.now_ms)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.CREATE_UPLOAD,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=NO_UID,
        write_id=mutation.write_id,
    )


def put_part(view: View, mutation: PutPart, moment: Moment) -> Decision:
    """Add or replace a part."""
    bucket = view.bucket(mutation.bucket, mutation.bucket_id)
    address = object_address(bucket.bucket_id, mutation.key)
    upload, _ = _find_upload(view, address, mutation.upload_id)
    part = mutation.part
    seq = part_seq(upload, part.number)
    changes = Changes()
    replaced = view.get(RowKey(PART, address, seq))
    named: tuple[BlobId, ...] = ()
    if replaced is not None:
        old = decode_part(address, seq, replaced)
        if old.uid != part.uid:
            changes.delete(NAMED, address, old.uid)
        else:
            named = tuple(ref.blob_id for ref in old.blobs)
        kept = {ref.blob_id for ref in part.blobs}
        changes.removed.extend(ref.blob_id for ref in old.blobs if ref.blob_id not in kept)
    check_floor(part.blobs, moment, named)
    stored = Part(
        number=part.number,
        size=part.size,
        etag=part.etag,
        modified_ms=moment.now_ms,
        uid=part.uid,
        checksum=part.checksum,
        blobs=part.blobs,
    )
    changes.put(PART, address, seq, encode_part(address, seq, stored))
    changes.put(NAMED, address, part.uid, encode_place(address, part.uid, IN_UPLOAD, upload))
    outcome = Outcome(modified_ms=moment.now_ms, etag=part.etag)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.PUT_PART,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=part.uid,
        write_id=mutation.write_id,
    )


def complete_upload(view: View, mutation: CompleteUpload, moment: Moment) -> Decision:
    """Parts become the key's new current version."""
    bucket = view.bucket(mutation.bucket)
    address = object_address(bucket.bucket_id, mutation.key)
    value, head = current(view, address)
    seq = parse_upload(mutation.upload_id)
    row = None if seq is None else view.get(RowKey(UPLOAD, address, seq))
    if row is None or seq is None:
        return _repeated(bucket, mutation, address, value, head)
    check_conditions(mutation.conditions, head, value)
    upload = decode_upload(address, seq, row)
    chosen = _chosen(mutation, upload_parts(view, address, seq))
    changes = Changes()
    blobs = tuple(ref for part in chosen for ref in part.blobs)
    if mutation.manifest is not None:
        check_floor((mutation.manifest,), moment)
    drop_upload(view, changes, address, mutation.upload_id, keep=blobs)
    for part in chosen:
        if part.uid == mutation.uid:
            continue
        changes.put(NAMED, address, part.uid, encode_place(address, part.uid, IN_OBJECT, mutation.uid))
    order = make_order(moment.sequence, moment.position, moment.random8)
    null = bucket.versioning is not Versioning.ENABLED
    inline = mutation.manifest is None
    version = ObjectVersion(
        key=mutation.key,
        uid=mutation.uid,
        version_id=NULL_VERSION if null else VersionId(order.hex()),
        modified_ms=moment.now_ms if head is None else max(moment.now_ms, head.modified_ms),
        size=mutation.size,
        etag=mutation.etag,
        headers=upload.headers,
        metadata=upload.metadata,
        storage_class=upload.storage_class,
        checksum=mutation.checksum,
        parts=tuple(_without_blobs(part) for part in chosen) if inline else (),
        parts_count=len(chosen),
        blobs=blobs if inline else (),
        manifest=mutation.manifest,
    )
    place_version(view, changes, address, (value, head), StoredObject(version, order, mutation.upload_id))
    outcome = Outcome(
        version_id=None if bucket.versioning is Versioning.NEVER else version.version_id,
        modified_ms=version.modified_ms,
        etag=version.etag,
        upload_id=mutation.upload_id,
    )
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.COMPLETE_UPLOAD,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=mutation.uid,
        write_id=mutation.write_id,
    )


def abort_upload(view: View, mutation: AbortUpload, _moment: Moment) -> Decision:
    """Drop the upload and its parts."""
    bucket = view.bucket(mutation.bucket)
    address = object_address(bucket.bucket_id, mutation.key)
    _find_upload(view, address, mutation.upload_id)
    changes = Changes()
    drop_upload(view, changes, address, mutation.upload_id)
    outcome = Outcome(upload_id=mutation.upload_id)
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.ABORT_UPLOAD,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=NO_UID,
        write_id=mutation.write_id,
    )


def _find_upload(view: View, address: bytes, upload_id: UploadId) -> tuple[bytes, bytes]:
    """(seq, stored value) of an upload in progress; NoSuchUpload."""
    seq = parse_upload(upload_id)
    value = None if seq is None else view.get(RowKey(UPLOAD, address, seq))
    if seq is None or value is None:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=upload_id)
    return seq, value


def _repeated(
    bucket: Bucket, mutation: CompleteUpload, address: bytes, value: bytes | None, head: ObjectHead | None
) -> Decision:
    """The upload is gone: the first outcome when the key's current version came from it, else NoSuchUpload."""
    if value is None or head is None or not head.parts_count:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=mutation.upload_id)
    if completed_from(value, address) != mutation.upload_id:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=mutation.upload_id)
    outcome = Outcome(
        version_id=None if bucket.versioning is Versioning.NEVER else head.version_id,
        modified_ms=head.modified_ms,
        etag=head_etag(head, value),
        upload_id=mutation.upload_id,
    )
    return Decision(outcome, {}, None)


def _chosen(mutation: CompleteUpload, parts: list[Part]) -> list[Part]:
    """The parts Complete names, checked against the rows."""
    by_number = {part.number: part for part in parts}
    chosen: list[Part] = []
    last = 0
    for wanted in mutation.parts:
        if wanted.number <= last:
            raise Refused(ErrorCode.INVALID_PART_ORDER, UploadId=mutation.upload_id)
        last = wanted.number
        part = by_number.get(wanted.number)
        if part is None or part.uid != wanted.uid or part.etag != wanted.etag:
            raise Refused(ErrorCode.INVALID_PART, UploadId=mutation.upload_id, PartNumber=str(wanted.number))
        chosen.append(part)
    if not chosen or sum(part.size for part in chosen) != mutation.size:
        raise Refused(ErrorCode.INVALID_PART, UploadId=mutation.upload_id)
    return chosen


def _without_blobs(part: Part) -> Part:
    return Part(
        number=part.number,
        size=part.size,
        etag=part.etag,
        modified_ms=part.modified_ms,
        uid=part.uid,
        checksum=part.checksum,
    )

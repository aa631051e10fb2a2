# SPDX-License-Identifier: Apache-2.0
"""Mutations and their outcomes to and from messages. A test sends one of every kind with every field set there and back."""

from typing import assert_never

from drystone.metadata.v1 import mutations_pb2
from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import BlobId, BucketId, Key, Uid, UploadId, VersionId, WriteId
from drystone_core.mutations import (
    NO_CONDITIONS,
    AbortUpload,
    CompletePart,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Mutation,
    Outcome,
    Preconditions,
    PutObject,
    PutPart,
    ReplaceMetadata,
    SwapBlobs,
)
from drystone_runtime.rpc.blob_messages import blob_message, blob_messages, blob_value, blob_values
from drystone_runtime.rpc.object_messages import (
    checksum_message,
    checksum_type_message,
    checksum_type_value,
    checksum_value,
    part_message,
    part_value,
)

_M = mutations_pb2


def mutation_message(value: Mutation) -> _M.Mutation:
    """To the wire."""
    match value:
        case PutObject():
            return _M.Mutation(write_id=value.write_id, put_object=_put_object(value))
        case DeleteObject():
            change = _M.DeleteObject(
                bucket=value.bucket,
                key=value.key,
                version_id=value.version_id,
                conditions=_conditions(value.conditions),
            )
            return _M.Mutation(write_id=value.write_id, delete_object=change)
        case PutPart():
            part = _M.PutPart(
                bucket=value.bucket,
                key=value.key,
                upload_id=value.upload_id,
                part=part_message(value.part),
                bucket_id=value.bucket_id,
            )
            return _M.Mutation(write_id=value.write_id, put_part=part)
        case CreateUpload():
            return _M.Mutation(write_id=value.write_id, create_upload=_create_upload(value))
        case CompleteUpload():
            return _M.Mutation(write_id=value.write_id, complete_upload=_complete_upload(value))
        case AbortUpload():
            abort = _M.AbortUpload(bucket=value.bucket, key=value.key, upload_id=value.upload_id)
            return _M.Mutation(write_id=value.write_id, abort_upload=abort)
        case ReplaceMetadata():
            return _M.Mutation(write_id=value.write_id, replace_metadata=_replace_metadata(value))
        case SwapBlobs():
            swap = _M.SwapBlobs(
                bucket=value.bucket, key=value.key, uid=value.uid, old=value.old, new=blob_messages(value.new)
            )
            return _M.Mutation(write_id=value.write_id, swap_blobs=swap)
        case CreateBucket():
            create = _M.CreateBucket(bucket=value.bucket, owner=value.owner, region=value.region)
            return _M.Mutation(write_id=value.write_id, create_bucket=create)
        case DeleteBucket():
            return _M.Mutation(write_id=value.write_id, delete_bucket=_M.DeleteBucket(bucket=value.bucket))
        case _:
            assert_never(value)


def mutation_value(message: _M.Mutation) -> Mutation:
    """From the wire."""
    write_id = WriteId(message.write_id)
    kind = message.WhichOneof("change")
    if kind == "put_object":
        return _put_object_value(write_id, message.put_object)
    if kind == "delete_object":
        d = message.delete_object
        return DeleteObject(
            write_id=write_id,
            bucket=d.bucket,
            key=Key(d.key),
            version_id=VersionId(d.version_id) if d.HasField("version_id") else None,
            conditions=_conditions_value(d.conditions) if d.HasField("conditions") else NO_CONDITIONS,
        )
    if kind == "put_part":
        p = message.put_part
        return PutPart(
            write_id=write_id,
            bucket=p.bucket,
            key=Key(p.key),
            upload_id=UploadId(p.upload_id),
            part=part_value(p.part),
            bucket_id=_bucket_id(p),
        )
    if kind == "create_upload":
        return _create_upload_value(write_id, message.create_upload)
    if kind == "complete_upload":
        return _complete_upload_value(write_id, message.complete_upload)
    if kind == "abort_upload":
        a = message.abort_upload
        return AbortUpload(write_id=write_id, bucket=a.bucket, key=Key(a.key), upload_id=UploadId(a.upload_id))
    if kind == "replace_metadata":
        return _replace_metadata_value(write_id, message.replace_metadata)
    if kind == "swap_blobs":
        s = message.swap_blobs
        return SwapBlobs(
            write_id=write_id,
            bucket=s.bucket,
            key=Key(s.key),
            uid=Uid(s.uid),
            old=tuple(BlobId(blob_id) for blob_id in s.old),
            new=blob_values(s.new),
        )
    if kind == "create_bucket":
        c = message.create_bucket
        return CreateBucket(write_id=write_id, bucket=c.bucket, owner=c.owner, region=c.region)
    if kind == "delete_bucket":
        return DeleteBucket(write_id=write_id, bucket=message.delete_bucket.bucket)
    raise Refused(ErrorCode.INVALID_ARGUMENT, "a mutation has a kind of a newer release")


def outcome_message(value: Outcome) -> _M.Outcome:
    """To the wire (`replaced` is not carried)."""
    return _M.Outcome(
        version_id=value.version_id,
        delete_marker=value.delete_marker,
        modified_ms=value.modified_ms,
        upload_id=value.upload_id,
        etag=value.etag,
    )


def outcome_value(message: _M.Outcome) -> Outcome:
    """From the wire."""
    return Outcome(
        version_id=VersionId(message.version_id) if message.HasField("version_id") else None,
        delete_marker=message.delete_marker,
        modified_ms=message.modified_ms,
        upload_id=UploadId(message.upload_id) if message.HasField("upload_id") else None,
        etag=message.etag,
    )


def _conditions(value: Preconditions) -> _M.Preconditions | None:
    if value == NO_CONDITIONS:
        return None
    return _M.Preconditions(
        if_match=value.if_match,
        if_none_match=value.if_none_match,
        if_match_size=value.if_match_size,
        if_match_modified_ms=value.if_match_modified_ms,
    )


def _conditions_value(message: _M.Preconditions) -> Preconditions:
    return Preconditions(
        if_match=message.if_match,
        if_none_match=message.if_none_match,
        if_match_size=message.if_match_size if message.HasField("if_match_size") else None,
        if_match_modified_ms=message.if_match_modified_ms if message.HasField("if_match_modified_ms") else None,
    )


def _put_object(value: PutObject) -> _M.PutObject:
    return _M.PutObject(
        bucket=value.bucket,
        key=value.key,
        uid=value.uid,
        size=value.size,
        etag=value.etag,
        headers=dict(value.headers),
        metadata=dict(value.metadata),
        blobs=blob_messages(value.blobs),
        storage_class=value.storage_class,
        checksum=checksum_message(value.checksum),
        conditions=_conditions(value.conditions),
        manifest=blob_message(value.manifest) if value.manifest is not None else None,
        parts=[part_message(part) for part in value.parts],
        parts_count=value.parts_count,
        tags=dict(value.tags),
        registered=value.registered or "",
        bucket_id=value.bucket_id,
        expected_uid=value.expected_uid or b"",
        expected_ms=value.expected_ms,
    )


def _put_object_value(write_id: WriteId, p: _M.PutObject) -> PutObject:
    return PutObject(
        write_id=write_id,
        bucket=p.bucket,
        key=Key(p.key),
        uid=Uid(p.uid),
        size=p.size,
        etag=p.etag,
        headers=dict(p.headers),
        metadata=dict(p.metadata),
        blobs=blob_values(p.blobs),
        storage_class=p.storage_class,
        checksum=checksum_value(p.checksum) if p.HasField("checksum") else None,
        conditions=_conditions_value(p.conditions) if p.HasField("conditions") else NO_CONDITIONS,
        manifest=blob_value(p.manifest) if p.HasField("manifest") else None,
        parts=tuple(part_value(part) for part in p.parts),
        parts_count=p.parts_count,
        tags=dict(p.tags),
        registered=UploadId(p.registered) if p.registered else None,
        bucket_id=_bucket_id(p),
        expected_uid=Uid(p.expected_uid) if p.expected_uid else None,
        expected_ms=p.expected_ms if p.HasField("expected_ms") else None,
    )


def _bucket_id(message: _M.PutObject | _M.CreateUpload | _M.PutPart) -> BucketId | None:
    return BucketId(message.bucket_id) if message.HasField("bucket_id") else None


def _create_upload(value: CreateUpload) -> _M.CreateUpload:
    return _M.CreateUpload(
        bucket=value.bucket,
        key=value.key,
        owner=value.owner,
        headers=dict(value.headers),
        metadata=dict(value.metadata),
        storage_class=value.storage_class,
        checksum_algorithm=value.checksum_algorithm,
        checksum_type=checksum_type_message(value.checksum_type),
        internal=value.internal,
        bucket_id=value.bucket_id,
    )


def _create_upload_value(write_id: WriteId, c: _M.CreateUpload) -> CreateUpload:
    return CreateUpload(
        write_id=write_id,
        bucket=c.bucket,
        key=Key(c.key),
        owner=c.owner,
        headers=dict(c.headers),
        metadata=dict(c.metadata),
        storage_class=c.storage_class,
        checksum_algorithm=c.checksum_algorithm,
        checksum_type=checksum_type_value(c.checksum_type),
        internal=c.internal,
        bucket_id=_bucket_id(c),
    )


def _complete_upload(value: CompleteUpload) -> _M.CompleteUpload:
    return _M.CompleteUpload(
        bucket=value.bucket,
        key=value.key,
        upload_id=value.upload_id,
        uid=value.uid,
        parts=[_M.CompletePart(number=part.number, etag=part.etag, uid=part.uid) for part in value.parts],
        etag=value.etag,
        size=value.size,
        checksum=checksum_message(value.checksum),
        manifest=blob_message(value.manifest) if value.manifest is not None else None,
        conditions=_conditions(value.conditions),
    )


def _complete_upload_value(write_id: WriteId, c: _M.CompleteUpload) -> CompleteUpload:
    return CompleteUpload(
        write_id=write_id,
        bucket=c.bucket,
        key=Key(c.key),
        upload_id=UploadId(c.upload_id),
        uid=Uid(c.uid),
        parts=tuple(CompletePart(number=part.number, etag=part.etag, uid=Uid(part.uid)) for part in c.parts),
        etag=c.etag,
        size=c.size,
        checksum=checksum_value(c.checksum) if c.HasField("checksum") else None,
        manifest=blob_value(c.manifest) if c.HasField("manifest") else None,
        conditions=_conditions_value(c.conditions) if c.HasField("conditions") else NO_CONDITIONS,
    )


def _replace_metadata(value: ReplaceMetadata) -> _M.ReplaceMetadata:
    return _M.ReplaceMetadata(
        bucket=value.bucket,
        key=value.key,
        expected_uid=value.expected_uid,
        headers=dict(value.headers),
        metadata=dict(value.metadata),
        storage_class=value.storage_class,
        checksum=checksum_message(value.checksum),
        tags=_M.TagSet(tags=dict(value.tags)) if value.tags is not None else None,
        conditions=_conditions(value.conditions),
    )


def _replace_metadata_value(write_id: WriteId, r: _M.ReplaceMetadata) -> ReplaceMetadata:
    return ReplaceMetadata(
        write_id=write_id,
        bucket=r.bucket,
        key=Key(r.key),
        expected_uid=Uid(r.expected_uid),
        headers=dict(r.headers),
        metadata=dict(r.metadata),
        storage_class=r.storage_class,
        checksum=checksum_value(r.checksum) if r.HasField("checksum") else None,
        tags=dict(r.tags.tags) if r.HasField("tags") else None,
        conditions=_conditions_value(r.conditions) if r.HasField("conditions") else NO_CONDITIONS,
    )

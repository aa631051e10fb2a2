# SPDX-License-Identifier: Apache-2.0
"""Buckets, object versions, uploads, parts and listing pages to and from messages."""

from collections.abc import Mapping
from types import MappingProxyType

from drystone.metadata.v1 import metadata_pb2, values_pb2
from drystone_core.ids import BucketId, ContentId, Key, Uid, UploadId, VersionId
from drystone_core.listing import ListedObject, ListedVersion, ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.objects import Bucket, Checksum, ChecksumType, ObjectVersion, Part, Upload, Versioning
from drystone_runtime.rpc.blob_messages import blob_message, blob_messages, blob_value, blob_values

_V = values_pb2
_VERSIONING: Mapping[Versioning, _V.Versioning] = MappingProxyType(
    {
        Versioning.NEVER: _V.VERSIONING_UNSPECIFIED,
        Versioning.ENABLED: _V.VERSIONING_ENABLED,
        Versioning.SUSPENDED: _V.VERSIONING_SUSPENDED,
    }
)
_VERSIONING_OF = MappingProxyType({number: value for value, number in _VERSIONING.items()})
_CHECKSUM_TYPES: Mapping[ChecksumType, _V.ChecksumType] = MappingProxyType(
    {
        ChecksumType.FULL_OBJECT: _V.CHECKSUM_TYPE_FULL_OBJECT,
        ChecksumType.COMPOSITE: _V.CHECKSUM_TYPE_COMPOSITE,
    }
)


def checksum_type_message(value: ChecksumType) -> _V.ChecksumType:
    """To the wire."""
    return _CHECKSUM_TYPES[value]


def checksum_type_value(number: int) -> ChecksumType:
    """From the wire."""
    return ChecksumType.COMPOSITE if number == _V.CHECKSUM_TYPE_COMPOSITE else ChecksumType.FULL_OBJECT


def checksum_message(value: Checksum | None) -> _V.Checksum | None:
    """To the wire."""
    if value is None:
        return None
    return _V.Checksum(algorithm=value.algorithm, value=value.value, type=checksum_type_message(value.type))


def checksum_value(message: _V.Checksum) -> Checksum:
    """From the wire."""
    return Checksum(message.algorithm, message.value, checksum_type_value(message.type))


def bucket_message(value: Bucket) -> _V.Bucket:
    """To the wire."""
    return _V.Bucket(
        bucket_id=value.bucket_id,
        name=value.name,
        owner=value.owner,
        created_ms=value.created_ms,
        region=value.region,
        generation=value.generation,
        versioning=_VERSIONING[value.versioning],
        config=dict(value.config),
        closed=value.closed,
        pending=value.pending,
    )


def bucket_value(message: _V.Bucket) -> Bucket:
    """From the wire."""
    return Bucket(
        bucket_id=BucketId(message.bucket_id),
        name=message.name,
        owner=message.owner,
        created_ms=message.created_ms,
        region=message.region,
        generation=message.generation,
        versioning=_VERSIONING_OF[message.versioning],
        config=dict(message.config),
        closed=message.closed,
        pending=message.pending,
    )


def part_message(value: Part) -> _V.Part:
    """To the wire."""
    return _V.Part(
        number=value.number,
        size=value.size,
        etag=value.etag,
        modified_ms=value.modified_ms,
        uid=value.uid,
        checksum=checksum_message(value.checksum),
        blobs=blob_messages(value.blobs),
    )


def part_value(message: _V.Part) -> Part:
    """From the wire."""
    return Part(
        number=message.number,
        size=message.size,
        etag=message.etag,
        modified_ms=message.modified_ms,
        uid=Uid(message.uid),
        checksum=checksum_value(message.checksum) if message.HasField("checksum") else None,
        blobs=blob_values(message.blobs),
    )


def version_message(value: ObjectVersion) -> _V.ObjectVersion:
    """To the wire."""
    return _V.ObjectVersion(
        key=value.key,
        uid=value.uid,
        version_id=value.version_id,
        modified_ms=value.modified_ms,
        delete_marker=value.delete_marker,
        size=value.size,
        etag=value.etag,
        headers=dict(value.headers),
        metadata=dict(value.metadata),
        storage_class=value.storage_class,
        checksum=checksum_message(value.checksum),
        parts=[part_message(part) for part in value.parts],
        parts_count=value.parts_count,
        blobs=blob_messages(value.blobs),
        manifest=blob_message(value.manifest) if value.manifest is not None else None,
        content_id=value.content_id,
        envelope=value.envelope,
        tags=dict(value.tags),
    )


def version_value(message: _V.ObjectVersion) -> ObjectVersion:
    """From the wire."""
    return ObjectVersion(
        key=Key(message.key),
        uid=Uid(message.uid),
        version_id=VersionId(message.version_id),
        modified_ms=message.modified_ms,
        delete_marker=message.delete_marker,
        size=message.size,
        etag=message.etag,
        headers=dict(message.headers),
        metadata=dict(message.metadata),
        storage_class=message.storage_class,
        checksum=checksum_value(message.checksum) if message.HasField("checksum") else None,
        parts=tuple(part_value(part) for part in message.parts),
        parts_count=message.parts_count,
        blobs=blob_values(message.blobs),
        manifest=blob_value(message.manifest) if message.HasField("manifest") else None,
        content_id=ContentId(message.content_id),
        envelope=message.envelope,
        tags=dict(message.tags),
    )


def upload_message(value: Upload) -> _V.Upload:
    """To the wire."""
    return _V.Upload(
        key=value.key,
        upload_id=value.upload_id,
        initiated_ms=value.initiated_ms,
        owner=value.owner,
        headers=dict(value.headers),
        metadata=dict(value.metadata),
        storage_class=value.storage_class,
        checksum_algorithm=value.checksum_algorithm,
        checksum_type=checksum_type_message(value.checksum_type),
        internal=value.internal,
    )


def upload_value(message: _V.Upload) -> Upload:
    """From the wire."""
    return Upload(
        key=Key(message.key),
        upload_id=UploadId(message.upload_id),
        initiated_ms=message.initiated_ms,
        owner=message.owner,
        headers=dict(message.headers),
        metadata=dict(message.metadata),
        storage_class=message.storage_class,
        checksum_algorithm=message.checksum_algorithm,
        checksum_type=checksum_type_value(message.checksum_type),
        internal=message.internal,
    )


def object_page_message(page: ObjectPage) -> metadata_pb2.ListObjectsResponse:
    """To the wire."""
    rows = [metadata_pb2.ListedObject(**row._asdict()) for row in page.objects]
    return metadata_pb2.ListObjectsResponse(
        objects=rows, common_prefixes=page.common_prefixes, truncated=page.truncated, next_after=page.next_after
    )


def object_page_value(message: metadata_pb2.ListObjectsResponse) -> ObjectPage:
    """From the wire."""
    rows = [
        ListedObject(
            Key(row.key),
            row.size,
            row.etag,
            row.modified_ms,
            row.storage_class,
            row.checksum_algorithm,
            row.checksum_type,
        )
        for row in message.objects
    ]
    return ObjectPage(
        objects=rows,
        common_prefixes=list(message.common_prefixes),
        truncated=message.truncated,
        next_after=message.next_after,
    )


def version_page_message(page: VersionPage) -> metadata_pb2.ListVersionsResponse:
    """To the wire."""
    rows = [metadata_pb2.ListedVersion(**row._asdict()) for row in page.versions]
    return metadata_pb2.ListVersionsResponse(
        versions=rows,
        common_prefixes=page.common_prefixes,
        truncated=page.truncated,
        next_key=page.next_key,
        next_version=page.next_version,
    )


def version_page_value(message: metadata_pb2.ListVersionsResponse) -> VersionPage:
    """From the wire."""
    rows = [
        ListedVersion(
            Key(row.key),
            VersionId(row.version_id),
            row.is_latest,
            row.delete_marker,
            row.size,
            row.etag,
            row.modified_ms,
            row.storage_class,
            row.checksum_algorithm,
            row.checksum_type,
        )
        for row in message.versions
    ]
    return VersionPage(
        versions=rows,
        common_prefixes=list(message.common_prefixes),
        truncated=message.truncated,
        next_key=message.next_key,
        next_version=message.next_version,
    )


def upload_page_message(page: UploadPage) -> metadata_pb2.ListUploadsResponse:
    """To the wire."""
    return metadata_pb2.ListUploadsResponse(
        uploads=[upload_message(upload) for upload in page.uploads],
        common_prefixes=page.common_prefixes,
        truncated=page.truncated,
        next_key=page.next_key,
        next_upload=page.next_upload,
    )


def upload_page_value(message: metadata_pb2.ListUploadsResponse) -> UploadPage:
    """From the wire."""
    return UploadPage(
        uploads=[upload_value(upload) for upload in message.uploads],
        common_prefixes=list(message.common_prefixes),
        truncated=message.truncated,
        next_key=message.next_key,
        next_upload=UploadId(message.next_upload) if message.HasField("next_upload") else None,
    )


def part_page_message(page: PartPage) -> metadata_pb2.ListPartsResponse:
    """To the wire."""
    return metadata_pb2.ListPartsResponse(
        upload=upload_message(page.upload),
        parts=[part_message(part) for part in page.parts],
        truncated=page.truncated,
        next_part=page.next_part,
    )


def part_page_value(message: metadata_pb2.ListPartsResponse) -> PartPage:
    """From the wire."""
    return PartPage(
        upload=upload_value(message.upload),
        parts=[part_value(part) for part in message.parts],
        truncated=message.truncated,
        next_part=message.next_part,
    )

from drystone.common.v1 import blobs_pb2 as _blobs_pb2
from drystone.metadata.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Preconditions(_message.Message):
    __slots__ = ("if_match", "if_none_match", "if_match_size", "if_match_modified_ms")
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    if_match: str
    if_none_match: bool
    if_match_size: int
    if_match_modified_ms: int
    def __init__(self, if_match: _Optional[str] = ..., if_none_match: _Optional[bool] = ..., if_match_size: _Optional[int] = ..., if_match_modified_ms: _Optional[int] = ...) -> None: ...

class CreateBucket(_message.Message):
    __slots__ = ("bucket", "owner", "region")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    owner: str
    region: str
    def __init__(self, bucket: _Optional[str] = ..., owner: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class DeleteBucket(_message.Message):
    __slots__ = ("bucket",)
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    def __init__(self, bucket: _Optional[str] = ...) -> None: ...

class PutObject(_message.Message):
    __slots__ = ("bucket", "key", "uid", "size", "etag", "headers", "metadata", "blobs", "storage_class", "checksum", "conditions", "manifest", "parts", "parts_count", "tags", "registered", "bucket_id", "expected_uid", "expected_ms")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PARTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_UID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MS_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    uid: bytes
    size: int
    etag: str
    headers: _containers.ScalarMap[str, str]
    metadata: _containers.ScalarMap[str, str]
    blobs: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    storage_class: str
    checksum: _values_pb2.Checksum
    conditions: Preconditions
    manifest: _blobs_pb2.BlobRef
    parts: _containers.RepeatedCompositeFieldContainer[_values_pb2.Part]
    parts_count: int
    tags: _containers.ScalarMap[str, str]
    registered: str
    bucket_id: int
    expected_uid: bytes
    expected_ms: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., blobs: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ..., storage_class: _Optional[str] = ..., checksum: _Optional[_Union[_values_pb2.Checksum, _Mapping]] = ..., conditions: _Optional[_Union[Preconditions, _Mapping]] = ..., manifest: _Optional[_Union[_blobs_pb2.BlobRef, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[_values_pb2.Part, _Mapping]]] = ..., parts_count: _Optional[int] = ..., tags: _Optional[_Mapping[str, str]] = ..., registered: _Optional[str] = ..., bucket_id: _Optional[int] = ..., expected_uid: _Optional[bytes] = ..., expected_ms: _Optional[int] = ...) -> None: ...

class TagSet(_message.Message):
    __slots__ = ("tags",)
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.ScalarMap[str, str]
    def __init__(self, tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ReplaceMetadata(_message.Message):
    __slots__ = ("bucket", "key", "expected_uid", "headers", "metadata", "storage_class", "checksum", "tags", "conditions")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_UID_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    expected_uid: bytes
    headers: _containers.ScalarMap[str, str]
    metadata: _containers.ScalarMap[str, str]
    storage_class: str
    checksum: _values_pb2.Checksum
    tags: TagSet
    conditions: Preconditions
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., expected_uid: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., storage_class: _Optional[str] = ..., checksum: _Optional[_Union[_values_pb2.Checksum, _Mapping]] = ..., tags: _Optional[_Union[TagSet, _Mapping]] = ..., conditions: _Optional[_Union[Preconditions, _Mapping]] = ...) -> None: ...

class DeleteObject(_message.Message):
    __slots__ = ("bucket", "key", "version_id", "conditions")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    version_id: str
    conditions: Preconditions
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., version_id: _Optional[str] = ..., conditions: _Optional[_Union[Preconditions, _Mapping]] = ...) -> None: ...

class CreateUpload(_message.Message):
    __slots__ = ("bucket", "key", "owner", "headers", "metadata", "storage_class", "checksum_algorithm", "checksum_type", "internal", "bucket_id")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_TYPE_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    owner: str
    headers: _containers.ScalarMap[str, str]
    metadata: _containers.ScalarMap[str, str]
    storage_class: str
    checksum_algorithm: str
    checksum_type: _values_pb2.ChecksumType
    internal: bool
    bucket_id: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., owner: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., storage_class: _Optional[str] = ..., checksum_algorithm: _Optional[str] = ..., checksum_type: _Optional[_Union[_values_pb2.ChecksumType, str]] = ..., internal: _Optional[bool] = ..., bucket_id: _Optional[int] = ...) -> None: ...

class PutPart(_message.Message):
    __slots__ = ("bucket", "key", "upload_id", "part", "bucket_id")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    upload_id: str
    part: _values_pb2.Part
    bucket_id: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., upload_id: _Optional[str] = ..., part: _Optional[_Union[_values_pb2.Part, _Mapping]] = ..., bucket_id: _Optional[int] = ...) -> None: ...

class CompletePart(_message.Message):
    __slots__ = ("number", "etag", "uid")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    number: int
    etag: str
    uid: bytes
    def __init__(self, number: _Optional[int] = ..., etag: _Optional[str] = ..., uid: _Optional[bytes] = ...) -> None: ...

class CompleteUpload(_message.Message):
    __slots__ = ("bucket", "key", "upload_id", "uid", "parts", "etag", "size", "checksum", "manifest", "conditions")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    upload_id: str
    uid: bytes
    parts: _containers.RepeatedCompositeFieldContainer[CompletePart]
    etag: str
    size: int
    checksum: _values_pb2.Checksum
    manifest: _blobs_pb2.BlobRef
    conditions: Preconditions
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., upload_id: _Optional[str] = ..., uid: _Optional[bytes] = ..., parts: _Optional[_Iterable[_Union[CompletePart, _Mapping]]] = ..., etag: _Optional[str] = ..., size: _Optional[int] = ..., checksum: _Optional[_Union[_values_pb2.Checksum, _Mapping]] = ..., manifest: _Optional[_Union[_blobs_pb2.BlobRef, _Mapping]] = ..., conditions: _Optional[_Union[Preconditions, _Mapping]] = ...) -> None: ...

class AbortUpload(_message.Message):
    __slots__ = ("bucket", "key", "upload_id")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    upload_id: str
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., upload_id: _Optional[str] = ...) -> None: ...

class SwapBlobs(_message.Message):
    __slots__ = ("bucket", "key", "uid", "old", "new")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    uid: bytes
    old: _containers.RepeatedScalarFieldContainer[bytes]
    new: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., old: _Optional[_Iterable[bytes]] = ..., new: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ...) -> None: ...

class Mutation(_message.Message):
    __slots__ = ("write_id", "create_bucket", "delete_bucket", "put_object", "replace_metadata", "delete_object", "create_upload", "put_part", "complete_upload", "abort_upload", "swap_blobs")
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    DELETE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    PUT_OBJECT_FIELD_NUMBER: _ClassVar[int]
    REPLACE_METADATA_FIELD_NUMBER: _ClassVar[int]
    DELETE_OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATE_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    PUT_PART_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    ABORT_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    SWAP_BLOBS_FIELD_NUMBER: _ClassVar[int]
    write_id: bytes
    create_bucket: CreateBucket
    delete_bucket: DeleteBucket
    put_object: PutObject
    replace_metadata: ReplaceMetadata
    delete_object: DeleteObject
    create_upload: CreateUpload
    put_part: PutPart
    complete_upload: CompleteUpload
    abort_upload: AbortUpload
    swap_blobs: SwapBlobs
    def __init__(self, write_id: _Optional[bytes] = ..., create_bucket: _Optional[_Union[CreateBucket, _Mapping]] = ..., delete_bucket: _Optional[_Union[DeleteBucket, _Mapping]] = ..., put_object: _Optional[_Union[PutObject, _Mapping]] = ..., replace_metadata: _Optional[_Union[ReplaceMetadata, _Mapping]] = ..., delete_object: _Optional[_Union[DeleteObject, _Mapping]] = ..., create_upload: _Optional[_Union[CreateUpload, _Mapping]] = ..., put_part: _Optional[_Union[PutPart, _Mapping]] = ..., complete_upload: _Optional[_Union[CompleteUpload, _Mapping]] = ..., abort_upload: _Optional[_Union[AbortUpload, _Mapping]] = ..., swap_blobs: _Optional[_Union[SwapBlobs, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("version_id", "delete_marker", "modified_ms", "upload_id", "etag")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    DELETE_MARKER_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    delete_marker: bool
    modified_ms: int
    upload_id: str
    etag: str
    def __init__(self, version_id: _Optional[str] = ..., delete_marker: _Optional[bool] = ..., modified_ms: _Optional[int] = ..., upload_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

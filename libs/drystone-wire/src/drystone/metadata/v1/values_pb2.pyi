from drystone.common.v1 import blobs_pb2 as _blobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Versioning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERSIONING_UNSPECIFIED: _ClassVar[Versioning]
    VERSIONING_ENABLED: _ClassVar[Versioning]
    VERSIONING_SUSPENDED: _ClassVar[Versioning]

class ChecksumType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKSUM_TYPE_UNSPECIFIED: _ClassVar[ChecksumType]
    CHECKSUM_TYPE_FULL_OBJECT: _ClassVar[ChecksumType]
    CHECKSUM_TYPE_COMPOSITE: _ClassVar[ChecksumType]
VERSIONING_UNSPECIFIED: Versioning
VERSIONING_ENABLED: Versioning
VERSIONING_SUSPENDED: Versioning
CHECKSUM_TYPE_UNSPECIFIED: ChecksumType
CHECKSUM_TYPE_FULL_OBJECT: ChecksumType
CHECKSUM_TYPE_COMPOSITE: ChecksumType

class Checksum(_message.Message):
    __slots__ = ("algorithm", "value", "type")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    value: str
    type: ChecksumType
    def __init__(self, algorithm: _Optional[str] = ..., value: _Optional[str] = ..., type: _Optional[_Union[ChecksumType, str]] = ...) -> None: ...

class Bucket(_message.Message):
    __slots__ = ("bucket_id", "name", "owner", "created_ms", "region", "generation", "versioning", "config", "closed", "pending")
    class ConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSIONING_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    bucket_id: int
    name: str
    owner: str
    created_ms: int
    region: str
    generation: int
    versioning: Versioning
    config: _containers.ScalarMap[str, bytes]
    closed: bool
    pending: bytes
    def __init__(self, bucket_id: _Optional[int] = ..., name: _Optional[str] = ..., owner: _Optional[str] = ..., created_ms: _Optional[int] = ..., region: _Optional[str] = ..., generation: _Optional[int] = ..., versioning: _Optional[_Union[Versioning, str]] = ..., config: _Optional[_Mapping[str, bytes]] = ..., closed: _Optional[bool] = ..., pending: _Optional[bytes] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("number", "size", "etag", "modified_ms", "uid", "checksum", "blobs")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    number: int
    size: int
    etag: str
    modified_ms: int
    uid: bytes
    checksum: Checksum
    blobs: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    def __init__(self, number: _Optional[int] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., modified_ms: _Optional[int] = ..., uid: _Optional[bytes] = ..., checksum: _Optional[_Union[Checksum, _Mapping]] = ..., blobs: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ...) -> None: ...

class ObjectVersion(_message.Message):
    __slots__ = ("key", "uid", "version_id", "modified_ms", "delete_marker", "size", "etag", "headers", "metadata", "storage_class", "checksum", "parts", "parts_count", "blobs", "manifest", "content_id", "envelope", "tags")
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
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    DELETE_MARKER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PARTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    uid: bytes
    version_id: str
    modified_ms: int
    delete_marker: bool
    size: int
    etag: str
    headers: _containers.ScalarMap[str, str]
    metadata: _containers.ScalarMap[str, str]
    storage_class: str
    checksum: Checksum
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    parts_count: int
    blobs: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    manifest: _blobs_pb2.BlobRef
    content_id: bytes
    envelope: bytes
    tags: _containers.ScalarMap[str, str]
    def __init__(self, key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., version_id: _Optional[str] = ..., modified_ms: _Optional[int] = ..., delete_marker: _Optional[bool] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., storage_class: _Optional[str] = ..., checksum: _Optional[_Union[Checksum, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., parts_count: _Optional[int] = ..., blobs: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ..., manifest: _Optional[_Union[_blobs_pb2.BlobRef, _Mapping]] = ..., content_id: _Optional[bytes] = ..., envelope: _Optional[bytes] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("key", "upload_id", "initiated_ms", "owner", "headers", "metadata", "storage_class", "checksum_algorithm", "checksum_type", "internal")
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
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    INITIATED_MS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_TYPE_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    upload_id: str
    initiated_ms: int
    owner: str
    headers: _containers.ScalarMap[str, str]
    metadata: _containers.ScalarMap[str, str]
    storage_class: str
    checksum_algorithm: str
    checksum_type: ChecksumType
    internal: bool
    def __init__(self, key: _Optional[bytes] = ..., upload_id: _Optional[str] = ..., initiated_ms: _Optional[int] = ..., owner: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., storage_class: _Optional[str] = ..., checksum_algorithm: _Optional[str] = ..., checksum_type: _Optional[_Union[ChecksumType, str]] = ..., internal: _Optional[bool] = ...) -> None: ...

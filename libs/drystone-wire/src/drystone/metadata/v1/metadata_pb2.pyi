from drystone.common.v1 import blobs_pb2 as _blobs_pb2
from drystone.common.v1 import errors_pb2 as _errors_pb2
from drystone.metadata.v1 import mutations_pb2 as _mutations_pb2
from drystone.metadata.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("tablets", "moves", "changes")
    TABLETS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    tablets: int
    moves: int
    changes: int
    def __init__(self, tablets: _Optional[int] = ..., moves: _Optional[int] = ..., changes: _Optional[int] = ...) -> None: ...

class MutateRequest(_message.Message):
    __slots__ = ("mutations",)
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    mutations: _containers.RepeatedCompositeFieldContainer[_mutations_pb2.Mutation]
    def __init__(self, mutations: _Optional[_Iterable[_Union[_mutations_pb2.Mutation, _Mapping]]] = ...) -> None: ...

class MutateResult(_message.Message):
    __slots__ = ("outcome", "error")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    outcome: _mutations_pb2.Outcome
    error: _errors_pb2.ErrorDetail
    def __init__(self, outcome: _Optional[_Union[_mutations_pb2.Outcome, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class MutateResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[MutateResult]
    def __init__(self, results: _Optional[_Iterable[_Union[MutateResult, _Mapping]]] = ...) -> None: ...

class GetBucketRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetBucketResponse(_message.Message):
    __slots__ = ("bucket",)
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    bucket: _values_pb2.Bucket
    def __init__(self, bucket: _Optional[_Union[_values_pb2.Bucket, _Mapping]] = ...) -> None: ...

class ListBucketsRequest(_message.Message):
    __slots__ = ("owner", "prefix", "after", "limit")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    prefix: str
    after: str
    limit: int
    def __init__(self, owner: _Optional[str] = ..., prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListBucketsResponse(_message.Message):
    __slots__ = ("buckets",)
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Bucket]
    def __init__(self, buckets: _Optional[_Iterable[_Union[_values_pb2.Bucket, _Mapping]]] = ...) -> None: ...

class ObjectId(_message.Message):
    __slots__ = ("bucket", "key", "version_id")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    version_id: str
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., version_id: _Optional[str] = ...) -> None: ...

class GetObjectsRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedCompositeFieldContainer[ObjectId]
    def __init__(self, ids: _Optional[_Iterable[_Union[ObjectId, _Mapping]]] = ...) -> None: ...

class ObjectResult(_message.Message):
    __slots__ = ("version", "error")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    version: _values_pb2.ObjectVersion
    error: _errors_pb2.ErrorDetail
    def __init__(self, version: _Optional[_Union[_values_pb2.ObjectVersion, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class GetObjectsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ObjectResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ObjectResult, _Mapping]]] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ("bucket", "prefix", "delimiter", "after", "limit")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    prefix: bytes
    delimiter: bytes
    after: bytes
    limit: int
    def __init__(self, bucket: _Optional[str] = ..., prefix: _Optional[bytes] = ..., delimiter: _Optional[bytes] = ..., after: _Optional[bytes] = ..., limit: _Optional[int] = ...) -> None: ...

class ListedObject(_message.Message):
    __slots__ = ("key", "size", "etag", "modified_ms", "storage_class", "checksum_algorithm", "checksum_type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_TYPE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str
    checksum_type: str
    def __init__(self, key: _Optional[bytes] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., modified_ms: _Optional[int] = ..., storage_class: _Optional[str] = ..., checksum_algorithm: _Optional[str] = ..., checksum_type: _Optional[str] = ...) -> None: ...

class ListObjectsResponse(_message.Message):
    __slots__ = ("objects", "common_prefixes", "truncated", "next_after")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    COMMON_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[ListedObject]
    common_prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    truncated: bool
    next_after: bytes
    def __init__(self, objects: _Optional[_Iterable[_Union[ListedObject, _Mapping]]] = ..., common_prefixes: _Optional[_Iterable[bytes]] = ..., truncated: _Optional[bool] = ..., next_after: _Optional[bytes] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("bucket", "prefix", "delimiter", "after_key", "after_version", "limit")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    AFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    prefix: bytes
    delimiter: bytes
    after_key: bytes
    after_version: str
    limit: int
    def __init__(self, bucket: _Optional[str] = ..., prefix: _Optional[bytes] = ..., delimiter: _Optional[bytes] = ..., after_key: _Optional[bytes] = ..., after_version: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListedVersion(_message.Message):
    __slots__ = ("key", "version_id", "is_latest", "delete_marker", "size", "etag", "modified_ms", "storage_class", "checksum_algorithm", "checksum_type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    IS_LATEST_FIELD_NUMBER: _ClassVar[int]
    DELETE_MARKER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_TYPE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    version_id: str
    is_latest: bool
    delete_marker: bool
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str
    checksum_type: str
    def __init__(self, key: _Optional[bytes] = ..., version_id: _Optional[str] = ..., is_latest: _Optional[bool] = ..., delete_marker: _Optional[bool] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., modified_ms: _Optional[int] = ..., storage_class: _Optional[str] = ..., checksum_algorithm: _Optional[str] = ..., checksum_type: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "common_prefixes", "truncated", "next_key", "next_version")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    COMMON_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    NEXT_VERSION_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[ListedVersion]
    common_prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    truncated: bool
    next_key: bytes
    next_version: str
    def __init__(self, versions: _Optional[_Iterable[_Union[ListedVersion, _Mapping]]] = ..., common_prefixes: _Optional[_Iterable[bytes]] = ..., truncated: _Optional[bool] = ..., next_key: _Optional[bytes] = ..., next_version: _Optional[str] = ...) -> None: ...

class ListUploadsRequest(_message.Message):
    __slots__ = ("bucket", "prefix", "delimiter", "after_key", "after_upload", "limit")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    AFTER_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    prefix: bytes
    delimiter: bytes
    after_key: bytes
    after_upload: str
    limit: int
    def __init__(self, bucket: _Optional[str] = ..., prefix: _Optional[bytes] = ..., delimiter: _Optional[bytes] = ..., after_key: _Optional[bytes] = ..., after_upload: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListUploadsResponse(_message.Message):
    __slots__ = ("uploads", "common_prefixes", "truncated", "next_key", "next_upload")
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    COMMON_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    NEXT_UPLOAD_FIELD_NUMBER: _ClassVar[int]
    uploads: _containers.RepeatedCompositeFieldContainer[_values_pb2.Upload]
    common_prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    truncated: bool
    next_key: bytes
    next_upload: str
    def __init__(self, uploads: _Optional[_Iterable[_Union[_values_pb2.Upload, _Mapping]]] = ..., common_prefixes: _Optional[_Iterable[bytes]] = ..., truncated: _Optional[bool] = ..., next_key: _Optional[bytes] = ..., next_upload: _Optional[str] = ...) -> None: ...

class ListPartsRequest(_message.Message):
    __slots__ = ("bucket", "key", "upload_id", "after", "limit")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    upload_id: str
    after: int
    limit: int
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., upload_id: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListPartsResponse(_message.Message):
    __slots__ = ("upload", "parts", "truncated", "next_part")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PART_FIELD_NUMBER: _ClassVar[int]
    upload: _values_pb2.Upload
    parts: _containers.RepeatedCompositeFieldContainer[_values_pb2.Part]
    truncated: bool
    next_part: int
    def __init__(self, upload: _Optional[_Union[_values_pb2.Upload, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[_values_pb2.Part, _Mapping]]] = ..., truncated: _Optional[bool] = ..., next_part: _Optional[int] = ...) -> None: ...

class GetDeadBlobsRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobName]
    def __init__(self, names: _Optional[_Iterable[_Union[_blobs_pb2.BlobName, _Mapping]]] = ...) -> None: ...

class GetDeadBlobsResponse(_message.Message):
    __slots__ = ("dead",)
    DEAD_FIELD_NUMBER: _ClassVar[int]
    dead: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, dead: _Optional[_Iterable[bool]] = ...) -> None: ...

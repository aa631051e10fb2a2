from drystone.common.v1 import blobs_pb2 as _blobs_pb2
from drystone.common.v1 import errors_pb2 as _errors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BlobKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOB_KIND_UNSPECIFIED: _ClassVar[BlobKind]
    BLOB_KIND_DATA: _ClassVar[BlobKind]
    BLOB_KIND_MANIFEST: _ClassVar[BlobKind]
    BLOB_KIND_NAME: _ClassVar[BlobKind]
    BLOB_KIND_CHECKPOINT: _ClassVar[BlobKind]

class DiskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISK_STATE_UNSPECIFIED: _ClassVar[DiskState]
    DISK_STATE_HEALTHY: _ClassVar[DiskState]
    DISK_STATE_SUSPECT: _ClassVar[DiskState]
    DISK_STATE_FAILED: _ClassVar[DiskState]
BLOB_KIND_UNSPECIFIED: BlobKind
BLOB_KIND_DATA: BlobKind
BLOB_KIND_MANIFEST: BlobKind
BLOB_KIND_NAME: BlobKind
BLOB_KIND_CHECKPOINT: BlobKind
DISK_STATE_UNSPECIFIED: DiskState
DISK_STATE_HEALTHY: DiskState
DISK_STATE_SUSPECT: DiskState
DISK_STATE_FAILED: DiskState

class LocateVolumesRequest(_message.Message):
    __slots__ = ("volumes",)
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    volumes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, volumes: _Optional[_Iterable[int]] = ...) -> None: ...

class VolumePlace(_message.Message):
    __slots__ = ("disks",)
    DISKS_FIELD_NUMBER: _ClassVar[int]
    disks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, disks: _Optional[_Iterable[str]] = ...) -> None: ...

class LocateVolumesResponse(_message.Message):
    __slots__ = ("places",)
    PLACES_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[VolumePlace]
    def __init__(self, places: _Optional[_Iterable[_Union[VolumePlace, _Mapping]]] = ...) -> None: ...

class AppendItem(_message.Message):
    __slots__ = ("bucket_id", "key", "uid", "part", "offset", "kind", "payload", "trailer", "disk_class")
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    bucket_id: int
    key: bytes
    uid: bytes
    part: int
    offset: int
    kind: BlobKind
    payload: bytes
    trailer: bytes
    disk_class: str
    def __init__(self, bucket_id: _Optional[int] = ..., key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., part: _Optional[int] = ..., offset: _Optional[int] = ..., kind: _Optional[_Union[BlobKind, str]] = ..., payload: _Optional[bytes] = ..., trailer: _Optional[bytes] = ..., disk_class: _Optional[str] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[AppendItem]
    def __init__(self, items: _Optional[_Iterable[_Union[AppendItem, _Mapping]]] = ...) -> None: ...

class AppendResult(_message.Message):
    __slots__ = ("blob", "error")
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    blob: _blobs_pb2.BlobRef
    error: _errors_pb2.ErrorDetail
    def __init__(self, blob: _Optional[_Union[_blobs_pb2.BlobRef, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AppendResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AppendResult, _Mapping]]] = ...) -> None: ...

class AppendPieceRequest(_message.Message):
    __slots__ = ("bucket_id", "key", "uid", "part", "offset", "kind", "blob_id", "piece_offset", "trailer", "last", "payload", "disk_class")
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    PIECE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    bucket_id: int
    key: bytes
    uid: bytes
    part: int
    offset: int
    kind: BlobKind
    blob_id: bytes
    piece_offset: int
    trailer: bytes
    last: bool
    payload: bytes
    disk_class: str
    def __init__(self, bucket_id: _Optional[int] = ..., key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., part: _Optional[int] = ..., offset: _Optional[int] = ..., kind: _Optional[_Union[BlobKind, str]] = ..., blob_id: _Optional[bytes] = ..., piece_offset: _Optional[int] = ..., trailer: _Optional[bytes] = ..., last: _Optional[bool] = ..., payload: _Optional[bytes] = ..., disk_class: _Optional[str] = ...) -> None: ...

class AppendPieceResponse(_message.Message):
    __slots__ = ("extent",)
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    extent: _blobs_pb2.StripedExtent
    def __init__(self, extent: _Optional[_Union[_blobs_pb2.StripedExtent, _Mapping]] = ...) -> None: ...

class ShortRange(_message.Message):
    __slots__ = ("blobs", "start", "length")
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    start: int
    length: int
    def __init__(self, blobs: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ReadShortRequest(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[ShortRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[ShortRange, _Mapping]]] = ...) -> None: ...

class ShortResult(_message.Message):
    __slots__ = ("bytes", "error")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    bytes: bytes
    error: _errors_pb2.ErrorDetail
    def __init__(self, bytes: _Optional[bytes] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class ReadShortResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ShortResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ShortResult, _Mapping]]] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("blobs", "start", "length")
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobRef]
    start: int
    length: int
    def __init__(self, blobs: _Optional[_Iterable[_Union[_blobs_pb2.BlobRef, _Mapping]]] = ..., start: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("bytes",)
    BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: bytes
    def __init__(self, bytes: _Optional[bytes] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiskStatus(_message.Message):
    __slots__ = ("disk_id", "label", "state", "total_bytes", "free_bytes", "disk_class")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    label: str
    state: DiskState
    total_bytes: int
    free_bytes: int
    disk_class: str
    def __init__(self, disk_id: _Optional[str] = ..., label: _Optional[str] = ..., state: _Optional[_Union[DiskState, str]] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., disk_class: _Optional[str] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("disks", "open_volumes", "closed_volumes", "degraded_volumes", "profile")
    DISKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    CLOSED_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    disks: _containers.RepeatedCompositeFieldContainer[DiskStatus]
    open_volumes: int
    closed_volumes: int
    degraded_volumes: int
    profile: str
    def __init__(self, disks: _Optional[_Iterable[_Union[DiskStatus, _Mapping]]] = ..., open_volumes: _Optional[int] = ..., closed_volumes: _Optional[int] = ..., degraded_volumes: _Optional[int] = ..., profile: _Optional[str] = ...) -> None: ...

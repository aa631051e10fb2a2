from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PackedExtent(_message.Message):
    __slots__ = ("volume", "record", "payload_at", "fragment", "position", "length", "crc")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_AT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CRC_FIELD_NUMBER: _ClassVar[int]
    volume: int
    record: int
    payload_at: int
    fragment: int
    position: int
    length: int
    crc: int
    def __init__(self, volume: _Optional[int] = ..., record: _Optional[int] = ..., payload_at: _Optional[int] = ..., fragment: _Optional[int] = ..., position: _Optional[int] = ..., length: _Optional[int] = ..., crc: _Optional[int] = ...) -> None: ...

class StripedExtent(_message.Message):
    __slots__ = ("volume", "record", "stride", "count", "payload_at", "fragment_length", "piece")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_AT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    volume: int
    record: int
    stride: int
    count: int
    payload_at: int
    fragment_length: int
    piece: int
    def __init__(self, volume: _Optional[int] = ..., record: _Optional[int] = ..., stride: _Optional[int] = ..., count: _Optional[int] = ..., payload_at: _Optional[int] = ..., fragment_length: _Optional[int] = ..., piece: _Optional[int] = ...) -> None: ...

class Extent(_message.Message):
    __slots__ = ("packed", "striped")
    PACKED_FIELD_NUMBER: _ClassVar[int]
    STRIPED_FIELD_NUMBER: _ClassVar[int]
    packed: PackedExtent
    striped: StripedExtent
    def __init__(self, packed: _Optional[_Union[PackedExtent, _Mapping]] = ..., striped: _Optional[_Union[StripedExtent, _Mapping]] = ...) -> None: ...

class BlobRef(_message.Message):
    __slots__ = ("blob_id", "length", "extents")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    EXTENTS_FIELD_NUMBER: _ClassVar[int]
    blob_id: bytes
    length: int
    extents: _containers.RepeatedCompositeFieldContainer[Extent]
    def __init__(self, blob_id: _Optional[bytes] = ..., length: _Optional[int] = ..., extents: _Optional[_Iterable[_Union[Extent, _Mapping]]] = ...) -> None: ...

class BlobName(_message.Message):
    __slots__ = ("blob_id", "bucket_id", "key", "uid", "part", "offset")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    blob_id: bytes
    bucket_id: int
    key: bytes
    uid: bytes
    part: int
    offset: int
    def __init__(self, blob_id: _Optional[bytes] = ..., bucket_id: _Optional[int] = ..., key: _Optional[bytes] = ..., uid: _Optional[bytes] = ..., part: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

from drystone.common.v1 import blobs_pb2 as _blobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Wound(_message.Message):
    __slots__ = ("volume", "slot", "spare", "size", "reason")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    volume: int
    slot: int
    spare: int
    size: int
    reason: str
    def __init__(self, volume: _Optional[int] = ..., slot: _Optional[int] = ..., spare: _Optional[int] = ..., size: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListWoundsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWoundsResponse(_message.Message):
    __slots__ = ("wounds", "waiting")
    WOUNDS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    wounds: _containers.RepeatedCompositeFieldContainer[Wound]
    waiting: int
    def __init__(self, wounds: _Optional[_Iterable[_Union[Wound, _Mapping]]] = ..., waiting: _Optional[int] = ...) -> None: ...

class HealRequest(_message.Message):
    __slots__ = ("wound", "bytes_per_second", "token")
    WOUND_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    wound: Wound
    bytes_per_second: int
    token: int
    def __init__(self, wound: _Optional[_Union[Wound, _Mapping]] = ..., bytes_per_second: _Optional[int] = ..., token: _Optional[int] = ...) -> None: ...

class HealResponse(_message.Message):
    __slots__ = ("bytes_written",)
    BYTES_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    bytes_written: int
    def __init__(self, bytes_written: _Optional[int] = ...) -> None: ...

class ListVolumesToScrubRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVolumesToScrubResponse(_message.Message):
    __slots__ = ("volumes",)
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    volumes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, volumes: _Optional[_Iterable[int]] = ...) -> None: ...

class ScrubRequest(_message.Message):
    __slots__ = ("volume", "bytes_per_second", "token")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    volume: int
    bytes_per_second: int
    token: int
    def __init__(self, volume: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., token: _Optional[int] = ...) -> None: ...

class ScrubResponse(_message.Message):
    __slots__ = ("bytes_read", "fragments", "slots_damaged", "slots_unread", "stripes_incomplete")
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    FRAGMENTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_DAMAGED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_UNREAD_FIELD_NUMBER: _ClassVar[int]
    STRIPES_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    bytes_read: int
    fragments: int
    slots_damaged: int
    slots_unread: int
    stripes_incomplete: int
    def __init__(self, bytes_read: _Optional[int] = ..., fragments: _Optional[int] = ..., slots_damaged: _Optional[int] = ..., slots_unread: _Optional[int] = ..., stripes_incomplete: _Optional[int] = ...) -> None: ...

class ListClosedVolumesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListClosedVolumesResponse(_message.Message):
    __slots__ = ("volumes",)
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    volumes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, volumes: _Optional[_Iterable[int]] = ...) -> None: ...

class GetVolumeNamesRequest(_message.Message):
    __slots__ = ("volume",)
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    volume: int
    def __init__(self, volume: _Optional[int] = ...) -> None: ...

class StripeNames(_message.Message):
    __slots__ = ("record", "stored", "names", "droppable", "freed")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    DROPPABLE_FIELD_NUMBER: _ClassVar[int]
    FREED_FIELD_NUMBER: _ClassVar[int]
    record: int
    stored: int
    names: _containers.RepeatedCompositeFieldContainer[_blobs_pb2.BlobName]
    droppable: bool
    freed: bool
    def __init__(self, record: _Optional[int] = ..., stored: _Optional[int] = ..., names: _Optional[_Iterable[_Union[_blobs_pb2.BlobName, _Mapping]]] = ..., droppable: _Optional[bool] = ..., freed: _Optional[bool] = ...) -> None: ...

class GetVolumeNamesResponse(_message.Message):
    __slots__ = ("stripes", "complete")
    STRIPES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    stripes: _containers.RepeatedCompositeFieldContainer[StripeNames]
    complete: bool
    def __init__(self, stripes: _Optional[_Iterable[_Union[StripeNames, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class FreeStripesRequest(_message.Message):
    __slots__ = ("volume", "records", "token")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    volume: int
    records: _containers.RepeatedScalarFieldContainer[int]
    token: int
    def __init__(self, volume: _Optional[int] = ..., records: _Optional[_Iterable[int]] = ..., token: _Optional[int] = ...) -> None: ...

class FreeStripesResponse(_message.Message):
    __slots__ = ("bytes_freed",)
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    bytes_freed: int
    def __init__(self, bytes_freed: _Optional[int] = ...) -> None: ...

class RetireVolumeRequest(_message.Message):
    __slots__ = ("volume", "token")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    volume: int
    token: int
    def __init__(self, volume: _Optional[int] = ..., token: _Optional[int] = ...) -> None: ...

class RetireVolumeResponse(_message.Message):
    __slots__ = ("bytes_freed",)
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    bytes_freed: int
    def __init__(self, bytes_freed: _Optional[int] = ...) -> None: ...

class LookAgainRequest(_message.Message):
    __slots__ = ("volume", "healed")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    HEALED_FIELD_NUMBER: _ClassVar[int]
    volume: int
    healed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, volume: _Optional[int] = ..., healed: _Optional[_Iterable[int]] = ...) -> None: ...

class LookAgainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

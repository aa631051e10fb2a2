from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiskError(_message.Message):
    __slots__ = ("number", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: int
    text: str
    def __init__(self, number: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("disk_id", "name", "create", "exclusive")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    name: str
    create: bool
    exclusive: bool
    def __init__(self, disk_id: _Optional[str] = ..., name: _Optional[str] = ..., create: _Optional[bool] = ..., exclusive: _Optional[bool] = ...) -> None: ...

class OpenResponse(_message.Message):
    __slots__ = ("handle", "error")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    handle: int
    error: DiskError
    def __init__(self, handle: _Optional[int] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    def __init__(self, handle: _Optional[int] = ...) -> None: ...

class CloseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadAtRequest(_message.Message):
    __slots__ = ("handle", "offset", "length")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    length: int
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ReadAtResponse(_message.Message):
    __slots__ = ("bytes", "error")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    bytes: bytes
    error: DiskError
    def __init__(self, bytes: _Optional[bytes] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("handle", "offset", "durable", "read_at", "read_length", "bytes")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    READ_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    durable: bool
    read_at: int
    read_length: int
    bytes: bytes
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., durable: _Optional[bool] = ..., read_at: _Optional[int] = ..., read_length: _Optional[int] = ..., bytes: _Optional[bytes] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("bytes", "error")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    bytes: bytes
    error: DiskError
    def __init__(self, bytes: _Optional[bytes] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    def __init__(self, handle: _Optional[int] = ...) -> None: ...

class SyncResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: DiskError
    def __init__(self, error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class AllocateRequest(_message.Message):
    __slots__ = ("handle", "offset", "length")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    length: int
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class AllocateResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: DiskError
    def __init__(self, error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class PunchRequest(_message.Message):
    __slots__ = ("handle", "offset", "length")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    length: int
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class PunchResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: DiskError
    def __init__(self, error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class GetSizeRequest(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    def __init__(self, handle: _Optional[int] = ...) -> None: ...

class GetSizeResponse(_message.Message):
    __slots__ = ("size", "error")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    size: int
    error: DiskError
    def __init__(self, size: _Optional[int] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class RenameRequest(_message.Message):
    __slots__ = ("disk_id", "old", "new")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    old: str
    new: str
    def __init__(self, disk_id: _Optional[str] = ..., old: _Optional[str] = ..., new: _Optional[str] = ...) -> None: ...

class RenameResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: DiskError
    def __init__(self, error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class UnlinkRequest(_message.Message):
    __slots__ = ("disk_id", "name")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    name: str
    def __init__(self, disk_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class UnlinkResponse(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: DiskError
    def __init__(self, error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("disk_id", "folder")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    folder: str
    def __init__(self, disk_id: _Optional[str] = ..., folder: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("names", "error")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    error: DiskError
    def __init__(self, names: _Optional[_Iterable[str]] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

class GetSpaceRequest(_message.Message):
    __slots__ = ("disk_id",)
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    def __init__(self, disk_id: _Optional[str] = ...) -> None: ...

class GetSpaceResponse(_message.Message):
    __slots__ = ("free", "total", "error")
    FREE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    free: int
    total: int
    error: DiskError
    def __init__(self, free: _Optional[int] = ..., total: _Optional[int] = ..., error: _Optional[_Union[DiskError, _Mapping]] = ...) -> None: ...

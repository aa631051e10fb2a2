from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Retry(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRY_UNSPECIFIED: _ClassVar[Retry]
    RETRY_NEVER: _ClassVar[Retry]
    RETRY_SAME: _ClassVar[Retry]
    RETRY_AFTER_REFRESH: _ClassVar[Retry]
    RETRY_LATER: _ClassVar[Retry]

class ErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_KIND_UNSPECIFIED: _ClassVar[ErrorKind]
    ERROR_KIND_REFUSED: _ClassVar[ErrorKind]
    ERROR_KIND_BUSY: _ClassVar[ErrorKind]
    ERROR_KIND_UNAVAILABLE: _ClassVar[ErrorKind]
    ERROR_KIND_STALE: _ClassVar[ErrorKind]
    ERROR_KIND_DAMAGED: _ClassVar[ErrorKind]
RETRY_UNSPECIFIED: Retry
RETRY_NEVER: Retry
RETRY_SAME: Retry
RETRY_AFTER_REFRESH: Retry
RETRY_LATER: Retry
ERROR_KIND_UNSPECIFIED: ErrorKind
ERROR_KIND_REFUSED: ErrorKind
ERROR_KIND_BUSY: ErrorKind
ERROR_KIND_UNAVAILABLE: ErrorKind
ERROR_KIND_STALE: ErrorKind
ERROR_KIND_DAMAGED: ErrorKind

class ErrorDetail(_message.Message):
    __slots__ = ("code", "message", "details", "retry", "kind")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    details: _containers.ScalarMap[str, str]
    retry: Retry
    kind: ErrorKind
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., retry: _Optional[_Union[Retry, str]] = ..., kind: _Optional[_Union[ErrorKind, str]] = ...) -> None: ...

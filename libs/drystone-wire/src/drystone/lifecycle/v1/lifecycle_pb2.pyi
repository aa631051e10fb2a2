from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("running", "passes", "volumes_freed", "stripes_freed", "bytes_freed", "failures", "stripes_waiting")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FREED_FIELD_NUMBER: _ClassVar[int]
    STRIPES_FREED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    STRIPES_WAITING_FIELD_NUMBER: _ClassVar[int]
    running: bool
    passes: int
    volumes_freed: int
    stripes_freed: int
    bytes_freed: int
    failures: int
    stripes_waiting: int
    def __init__(self, running: _Optional[bool] = ..., passes: _Optional[int] = ..., volumes_freed: _Optional[int] = ..., stripes_freed: _Optional[int] = ..., bytes_freed: _Optional[int] = ..., failures: _Optional[int] = ..., stripes_waiting: _Optional[int] = ...) -> None: ...

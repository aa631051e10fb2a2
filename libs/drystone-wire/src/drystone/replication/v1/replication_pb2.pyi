from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("running", "slots_pending", "slots_repaired", "bytes_repaired", "failures")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_PENDING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    BYTES_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    running: bool
    slots_pending: int
    slots_repaired: int
    bytes_repaired: int
    failures: int
    def __init__(self, running: _Optional[bool] = ..., slots_pending: _Optional[int] = ..., slots_repaired: _Optional[int] = ..., bytes_repaired: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...

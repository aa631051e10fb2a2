from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ScrubPass(_message.Message):
    __slots__ = ("running", "began", "finished", "next_begins", "volumes", "done", "unclean", "bytes_read", "slots_damaged", "seconds_left")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEGINS_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    UNCLEAN_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    SLOTS_DAMAGED_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    running: bool
    began: int
    finished: int
    next_begins: int
    volumes: int
    done: int
    unclean: int
    bytes_read: int
    slots_damaged: int
    seconds_left: int
    def __init__(self, running: _Optional[bool] = ..., began: _Optional[int] = ..., finished: _Optional[int] = ..., next_begins: _Optional[int] = ..., volumes: _Optional[int] = ..., done: _Optional[int] = ..., unclean: _Optional[int] = ..., bytes_read: _Optional[int] = ..., slots_damaged: _Optional[int] = ..., seconds_left: _Optional[int] = ...) -> None: ...

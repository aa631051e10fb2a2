from drystone.common.v1 import scrub_pb2 as _scrub_pb2
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
    __slots__ = ("running", "slots_pending", "slots_repaired", "bytes_repaired", "failures", "bytes_pending", "volumes_endangered", "slots_hopeless", "seconds_left", "scrub_pass", "slots_waiting", "nodes_unasked")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_PENDING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    BYTES_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PENDING_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_ENDANGERED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_HOPELESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    SCRUB_PASS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_WAITING_FIELD_NUMBER: _ClassVar[int]
    NODES_UNASKED_FIELD_NUMBER: _ClassVar[int]
    running: bool
    slots_pending: int
    slots_repaired: int
    bytes_repaired: int
    failures: int
    bytes_pending: int
    volumes_endangered: int
    slots_hopeless: int
    seconds_left: int
    scrub_pass: _scrub_pb2.ScrubPass
    slots_waiting: int
    nodes_unasked: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, running: _Optional[bool] = ..., slots_pending: _Optional[int] = ..., slots_repaired: _Optional[int] = ..., bytes_repaired: _Optional[int] = ..., failures: _Optional[int] = ..., bytes_pending: _Optional[int] = ..., volumes_endangered: _Optional[int] = ..., slots_hopeless: _Optional[int] = ..., seconds_left: _Optional[int] = ..., scrub_pass: _Optional[_Union[_scrub_pb2.ScrubPass, _Mapping]] = ..., slots_waiting: _Optional[int] = ..., nodes_unasked: _Optional[_Iterable[str]] = ...) -> None: ...

class StartScrubRequest(_message.Message):
    __slots__ = ("anew",)
    ANEW_FIELD_NUMBER: _ClassVar[int]
    anew: bool
    def __init__(self, anew: _Optional[bool] = ...) -> None: ...

class StartScrubResponse(_message.Message):
    __slots__ = ("began",)
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    began: bool
    def __init__(self, began: _Optional[bool] = ...) -> None: ...

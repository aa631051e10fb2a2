from drystone.common.v1 import errors_pb2 as _errors_pb2
from drystone.metadata.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StepMoved(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEP_MOVED_UNSPECIFIED: _ClassVar[StepMoved]
    STEP_MOVED_RANGE: _ClassVar[StepMoved]
    STEP_MOVED_TABLET: _ClassVar[StepMoved]
STEP_MOVED_UNSPECIFIED: StepMoved
STEP_MOVED_RANGE: StepMoved
STEP_MOVED_TABLET: StepMoved

class CarryBucket(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _values_pb2.Bucket
    def __init__(self, value: _Optional[_Union[_values_pb2.Bucket, _Mapping]] = ...) -> None: ...

class BuryBucket(_message.Message):
    __slots__ = ("bucket", "bucket_id")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    bucket_id: int
    def __init__(self, bucket: _Optional[str] = ..., bucket_id: _Optional[int] = ...) -> None: ...

class EndChange(_message.Message):
    __slots__ = ("bucket", "bucket_id", "generation", "done")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    bucket_id: int
    generation: int
    done: bool
    def __init__(self, bucket: _Optional[str] = ..., bucket_id: _Optional[int] = ..., generation: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class EndBegun(_message.Message):
    __slots__ = ("bucket", "bucket_id", "generation")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    bucket_id: int
    generation: int
    def __init__(self, bucket: _Optional[str] = ..., bucket_id: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("tablet", "write_id", "carry", "bury", "end", "end_begun")
    TABLET_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CARRY_FIELD_NUMBER: _ClassVar[int]
    BURY_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    END_BEGUN_FIELD_NUMBER: _ClassVar[int]
    tablet: bytes
    write_id: bytes
    carry: CarryBucket
    bury: BuryBucket
    end: EndChange
    end_begun: EndBegun
    def __init__(self, tablet: _Optional[bytes] = ..., write_id: _Optional[bytes] = ..., carry: _Optional[_Union[CarryBucket, _Mapping]] = ..., bury: _Optional[_Union[BuryBucket, _Mapping]] = ..., end: _Optional[_Union[EndChange, _Mapping]] = ..., end_begun: _Optional[_Union[EndBegun, _Mapping]] = ...) -> None: ...

class TakeStepsRequest(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ...) -> None: ...

class StepTaken(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StepElsewhere(_message.Message):
    __slots__ = ("owner",)
    OWNER_FIELD_NUMBER: _ClassVar[int]
    owner: str
    def __init__(self, owner: _Optional[str] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("taken", "elsewhere", "moved", "error")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    taken: StepTaken
    elsewhere: StepElsewhere
    moved: StepMoved
    error: _errors_pb2.ErrorDetail
    def __init__(self, taken: _Optional[_Union[StepTaken, _Mapping]] = ..., elsewhere: _Optional[_Union[StepElsewhere, _Mapping]] = ..., moved: _Optional[_Union[StepMoved, str]] = ..., error: _Optional[_Union[_errors_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class TakeStepsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[StepResult]
    def __init__(self, results: _Optional[_Iterable[_Union[StepResult, _Mapping]]] = ...) -> None: ...

from drystone.common.v1 import scrub_pb2 as _scrub_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_UNSPECIFIED: _ClassVar[Health]
    HEALTH_OK: _ClassVar[Health]
    HEALTH_WARN: _ClassVar[Health]
    HEALTH_ERROR: _ClassVar[Health]
HEALTH_UNSPECIFIED: Health
HEALTH_OK: Health
HEALTH_WARN: Health
HEALTH_ERROR: Health

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthReason(_message.Message):
    __slots__ = ("code", "severity", "summary", "next_step")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: Health
    summary: str
    next_step: str
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[_Union[Health, str]] = ..., summary: _Optional[str] = ..., next_step: _Optional[str] = ...) -> None: ...

class Disk(_message.Message):
    __slots__ = ("disk_id", "path", "state", "total_bytes", "free_bytes", "disk_class")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    path: str
    state: str
    total_bytes: int
    free_bytes: int
    disk_class: str
    def __init__(self, disk_id: _Optional[str] = ..., path: _Optional[str] = ..., state: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., disk_class: _Optional[str] = ...) -> None: ...

class StorageClass(_message.Message):
    __slots__ = ("name", "disk_class")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    name: str
    disk_class: str
    def __init__(self, name: _Optional[str] = ..., disk_class: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("path", "role", "head", "lag", "reason")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    path: str
    role: str
    head: int
    lag: int
    reason: str
    def __init__(self, path: _Optional[str] = ..., role: _Optional[str] = ..., head: _Optional[int] = ..., lag: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("role", "pid", "restarts", "uptime_seconds")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    role: str
    pid: int
    restarts: int
    uptime_seconds: int
    def __init__(self, role: _Optional[str] = ..., pid: _Optional[int] = ..., restarts: _Optional[int] = ..., uptime_seconds: _Optional[int] = ...) -> None: ...

class CellProcess(_message.Message):
    __slots__ = ("role", "name", "endpoint", "zone", "state", "part", "clock_fault", "tablets")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FAULT_FIELD_NUMBER: _ClassVar[int]
    TABLETS_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    endpoint: str
    zone: str
    state: str
    part: str
    clock_fault: str
    tablets: TabletCounts
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[str] = ..., part: _Optional[str] = ..., clock_fault: _Optional[str] = ..., tablets: _Optional[_Union[TabletCounts, _Mapping]] = ...) -> None: ...

class TabletCounts(_message.Message):
    __slots__ = ("tablets", "moves", "changes")
    TABLETS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    tablets: int
    moves: int
    changes: int
    def __init__(self, tablets: _Optional[int] = ..., moves: _Optional[int] = ..., changes: _Optional[int] = ...) -> None: ...

class RpcMethod(_message.Message):
    __slots__ = ("method", "calls", "failures", "seconds")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    method: str
    calls: int
    failures: int
    seconds: float
    def __init__(self, method: _Optional[str] = ..., calls: _Optional[int] = ..., failures: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Scrub(_message.Message):
    __slots__ = ("volumes", "verified", "passes", "bytes_read", "slots_damaged", "stripes_incomplete")
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    SLOTS_DAMAGED_FIELD_NUMBER: _ClassVar[int]
    STRIPES_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    volumes: int
    verified: int
    passes: int
    bytes_read: int
    slots_damaged: int
    stripes_incomplete: int
    def __init__(self, volumes: _Optional[int] = ..., verified: _Optional[int] = ..., passes: _Optional[int] = ..., bytes_read: _Optional[int] = ..., slots_damaged: _Optional[int] = ..., stripes_incomplete: _Optional[int] = ...) -> None: ...

class Background(_message.Message):
    __slots__ = ("repair_running", "slots_pending", "slots_repaired", "bytes_repaired", "bytes_freed", "repair_failures", "bytes_pending", "volumes_endangered", "slots_hopeless", "repair_seconds_left", "reclaim_running", "reclaim_passes", "volumes_freed", "stripes_freed", "stripes_waiting", "reclaim_failures", "answers", "slots_waiting", "nodes_unasked")
    REPAIR_RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_PENDING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    BYTES_REPAIRED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FAILURES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PENDING_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_ENDANGERED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_HOPELESS_FIELD_NUMBER: _ClassVar[int]
    REPAIR_SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_PASSES_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FREED_FIELD_NUMBER: _ClassVar[int]
    STRIPES_FREED_FIELD_NUMBER: _ClassVar[int]
    STRIPES_WAITING_FIELD_NUMBER: _ClassVar[int]
    RECLAIM_FAILURES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_WAITING_FIELD_NUMBER: _ClassVar[int]
    NODES_UNASKED_FIELD_NUMBER: _ClassVar[int]
    repair_running: bool
    slots_pending: int
    slots_repaired: int
    bytes_repaired: int
    bytes_freed: int
    repair_failures: int
    bytes_pending: int
    volumes_endangered: int
    slots_hopeless: int
    repair_seconds_left: int
    reclaim_running: bool
    reclaim_passes: int
    volumes_freed: int
    stripes_freed: int
    stripes_waiting: int
    reclaim_failures: int
    answers: bool
    slots_waiting: int
    nodes_unasked: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, repair_running: _Optional[bool] = ..., slots_pending: _Optional[int] = ..., slots_repaired: _Optional[int] = ..., bytes_repaired: _Optional[int] = ..., bytes_freed: _Optional[int] = ..., repair_failures: _Optional[int] = ..., bytes_pending: _Optional[int] = ..., volumes_endangered: _Optional[int] = ..., slots_hopeless: _Optional[int] = ..., repair_seconds_left: _Optional[int] = ..., reclaim_running: _Optional[bool] = ..., reclaim_passes: _Optional[int] = ..., volumes_freed: _Optional[int] = ..., stripes_freed: _Optional[int] = ..., stripes_waiting: _Optional[int] = ..., reclaim_failures: _Optional[int] = ..., answers: _Optional[bool] = ..., slots_waiting: _Optional[int] = ..., nodes_unasked: _Optional[_Iterable[str]] = ...) -> None: ...

class Gateway(_message.Message):
    __slots__ = ("connections", "requests_now", "connections_total", "requests", "answers_4xx", "answers_5xx", "answers_503", "bytes_in", "bytes_out", "refused_connections", "refused_requests", "refused_bodies", "refused_heads", "slow_clients", "broken_answers", "failures")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_NOW_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_4XX_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_5XX_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_503_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BODIES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_HEADS_FIELD_NUMBER: _ClassVar[int]
    SLOW_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    BROKEN_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    connections: int
    requests_now: int
    connections_total: int
    requests: int
    answers_4xx: int
    answers_5xx: int
    answers_503: int
    bytes_in: int
    bytes_out: int
    refused_connections: int
    refused_requests: int
    refused_bodies: int
    refused_heads: int
    slow_clients: int
    broken_answers: int
    failures: int
    def __init__(self, connections: _Optional[int] = ..., requests_now: _Optional[int] = ..., connections_total: _Optional[int] = ..., requests: _Optional[int] = ..., answers_4xx: _Optional[int] = ..., answers_5xx: _Optional[int] = ..., answers_503: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., refused_connections: _Optional[int] = ..., refused_requests: _Optional[int] = ..., refused_bodies: _Optional[int] = ..., refused_heads: _Optional[int] = ..., slow_clients: _Optional[int] = ..., broken_answers: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("health", "reasons", "version", "cluster_id", "endpoint", "profile", "uptime_seconds", "disks", "open_volumes", "closed_volumes", "degraded_volumes", "members", "background", "processes", "metadata_writable", "metadata_term", "scrub", "gateway", "scrub_pass", "cell", "rpc", "storage_classes")
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    CLOSED_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    METADATA_WRITABLE_FIELD_NUMBER: _ClassVar[int]
    METADATA_TERM_FIELD_NUMBER: _ClassVar[int]
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SCRUB_PASS_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    STORAGE_CLASSES_FIELD_NUMBER: _ClassVar[int]
    health: Health
    reasons: _containers.RepeatedCompositeFieldContainer[HealthReason]
    version: str
    cluster_id: str
    endpoint: str
    profile: str
    uptime_seconds: int
    disks: _containers.RepeatedCompositeFieldContainer[Disk]
    open_volumes: int
    closed_volumes: int
    degraded_volumes: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    background: Background
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    metadata_writable: bool
    metadata_term: int
    scrub: Scrub
    gateway: Gateway
    scrub_pass: _scrub_pb2.ScrubPass
    cell: _containers.RepeatedCompositeFieldContainer[CellProcess]
    rpc: _containers.RepeatedCompositeFieldContainer[RpcMethod]
    storage_classes: _containers.RepeatedCompositeFieldContainer[StorageClass]
    def __init__(self, health: _Optional[_Union[Health, str]] = ..., reasons: _Optional[_Iterable[_Union[HealthReason, _Mapping]]] = ..., version: _Optional[str] = ..., cluster_id: _Optional[str] = ..., endpoint: _Optional[str] = ..., profile: _Optional[str] = ..., uptime_seconds: _Optional[int] = ..., disks: _Optional[_Iterable[_Union[Disk, _Mapping]]] = ..., open_volumes: _Optional[int] = ..., closed_volumes: _Optional[int] = ..., degraded_volumes: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., background: _Optional[_Union[Background, _Mapping]] = ..., processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., metadata_writable: _Optional[bool] = ..., metadata_term: _Optional[int] = ..., scrub: _Optional[_Union[Scrub, _Mapping]] = ..., gateway: _Optional[_Union[Gateway, _Mapping]] = ..., scrub_pass: _Optional[_Union[_scrub_pb2.ScrubPass, _Mapping]] = ..., cell: _Optional[_Iterable[_Union[CellProcess, _Mapping]]] = ..., rpc: _Optional[_Iterable[_Union[RpcMethod, _Mapping]]] = ..., storage_classes: _Optional[_Iterable[_Union[StorageClass, _Mapping]]] = ...) -> None: ...

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

class InspectObjectRequest(_message.Message):
    __slots__ = ("bucket", "key", "version_id")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: bytes
    version_id: str
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[bytes] = ..., version_id: _Optional[str] = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("slot", "disk", "state", "problem", "file", "offset", "length")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    slot: int
    disk: str
    state: str
    problem: str
    file: str
    offset: int
    length: int
    def __init__(self, slot: _Optional[int] = ..., disk: _Optional[str] = ..., state: _Optional[str] = ..., problem: _Optional[str] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Stripe(_message.Message):
    __slots__ = ("volume", "record", "profile", "form", "length", "fragments")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FRAGMENTS_FIELD_NUMBER: _ClassVar[int]
    volume: str
    record: int
    profile: str
    form: str
    length: int
    fragments: _containers.RepeatedCompositeFieldContainer[Fragment]
    def __init__(self, volume: _Optional[str] = ..., record: _Optional[int] = ..., profile: _Optional[str] = ..., form: _Optional[str] = ..., length: _Optional[int] = ..., fragments: _Optional[_Iterable[_Union[Fragment, _Mapping]]] = ...) -> None: ...

class InspectObjectResponse(_message.Message):
    __slots__ = ("version_id", "size", "etag", "stripes")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    STRIPES_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    size: int
    etag: str
    stripes: _containers.RepeatedCompositeFieldContainer[Stripe]
    def __init__(self, version_id: _Optional[str] = ..., size: _Optional[int] = ..., etag: _Optional[str] = ..., stripes: _Optional[_Iterable[_Union[Stripe, _Mapping]]] = ...) -> None: ...

class GetLayoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLayoutResponse(_message.Message):
    __slots__ = ("layout",)
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    layout: Layout
    def __init__(self, layout: _Optional[_Union[Layout, _Mapping]] = ...) -> None: ...

class PlanLayoutRequest(_message.Message):
    __slots__ = ("weights", "drain", "undrain", "level")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    UNDRAIN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.RepeatedCompositeFieldContainer[DiskWeight]
    drain: _containers.RepeatedScalarFieldContainer[str]
    undrain: _containers.RepeatedScalarFieldContainer[str]
    level: str
    def __init__(self, weights: _Optional[_Iterable[_Union[DiskWeight, _Mapping]]] = ..., drain: _Optional[_Iterable[str]] = ..., undrain: _Optional[_Iterable[str]] = ..., level: _Optional[str] = ...) -> None: ...

class DiskWeight(_message.Message):
    __slots__ = ("disk", "weight")
    DISK_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    disk: str
    weight: int
    def __init__(self, disk: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class PlanLayoutResponse(_message.Message):
    __slots__ = ("layout",)
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    layout: Layout
    def __init__(self, layout: _Optional[_Union[Layout, _Mapping]] = ...) -> None: ...

class ApplyLayoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ApplyLayoutResponse(_message.Message):
    __slots__ = ("layout",)
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    layout: Layout
    def __init__(self, layout: _Optional[_Union[Layout, _Mapping]] = ...) -> None: ...

class RevertLayoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevertLayoutResponse(_message.Message):
    __slots__ = ("layout",)
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    layout: Layout
    def __init__(self, layout: _Optional[_Union[Layout, _Mapping]] = ...) -> None: ...

class Layout(_message.Message):
    __slots__ = ("version", "level", "profile", "disks", "staged_version", "staged_level", "bytes_to_move", "warnings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    STAGED_VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    BYTES_TO_MOVE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    version: int
    level: str
    profile: str
    disks: _containers.RepeatedCompositeFieldContainer[LayoutDisk]
    staged_version: int
    staged_level: str
    bytes_to_move: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., level: _Optional[str] = ..., profile: _Optional[str] = ..., disks: _Optional[_Iterable[_Union[LayoutDisk, _Mapping]]] = ..., staged_version: _Optional[int] = ..., staged_level: _Optional[str] = ..., bytes_to_move: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class LayoutDisk(_message.Message):
    __slots__ = ("disk_id", "node", "zone", "rack", "disk_class", "state", "total_bytes", "free_bytes", "weight", "draining", "staged_weight", "staged_draining")
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    DISK_CLASS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    STAGED_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STAGED_DRAINING_FIELD_NUMBER: _ClassVar[int]
    disk_id: str
    node: str
    zone: str
    rack: str
    disk_class: str
    state: str
    total_bytes: int
    free_bytes: int
    weight: int
    draining: bool
    staged_weight: int
    staged_draining: bool
    def __init__(self, disk_id: _Optional[str] = ..., node: _Optional[str] = ..., zone: _Optional[str] = ..., rack: _Optional[str] = ..., disk_class: _Optional[str] = ..., state: _Optional[str] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., weight: _Optional[int] = ..., draining: _Optional[bool] = ..., staged_weight: _Optional[int] = ..., staged_draining: _Optional[bool] = ...) -> None: ...

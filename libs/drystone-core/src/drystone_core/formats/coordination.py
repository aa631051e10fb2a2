# SPDX-License-Identifier: Apache-2.0
"""What stands in the coordinator: keys, and the fields of their documents.

Format    docs/formats/coordination.md (v1): JSON objects with a `format`. Unknown fields are ignored and a field may be added
with a default; a reader refuses a later format. Documents are written whole, with the revision they were read at.
"""

import json
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from drystone_core.errors import Damaged
from drystone_core.ids import ClusterId, DiskId, VolumeId, volume_text

FORMAT = 1
D = TypeVar("D")

CELL = "cell"
NODES = "nodes/"
DISKS = "disks/"
VOLUMES = "volumes/"
LAYOUTS = "layout/"
LAYOUT = "layout/current"
LAYOUT_STAGED = "layout/staged"
ELECTIONS = "elections/"
REPLICATION = "replication"
"""The election whose leader orders repair and scrubbing."""
LIFECYCLE = "lifecycle"
"""The election whose leader orders freeing."""
CLOCKS = "clocks/"
CLOCK_QUESTIONS = "clock-questions/"


def node_key(role: str, node: str) -> str:
    """Of a NodeDocument."""
    return f"{NODES}{role}/{node}"


def disk_key(disk: DiskId) -> str:
    """Of a DiskDocument."""
    return f"{DISKS}{disk}"


def volume_key(volume: VolumeId) -> str:
    """Of an OpenVolume."""
    return f"{VOLUMES}{volume_text(volume)}"


def election_key(election: str) -> str:
    """Of a LeaderDocument."""
    return f"{ELECTIONS}{election}"


def clock_key(role: str, node: str) -> str:
    """Of a ClockDocument."""
    return f"{CLOCKS}{role}/{node}"


def question_key(incarnation: str) -> str:
    """Of a ClockQuestion."""
    return f"{CLOCK_QUESTIONS}{incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDocument:
    """Whose coordinator this is; written once, never changed."""

    cell: ClusterId
    created_us: int
    """Unix microseconds; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDocument:
    """One process of one role, for as long as it runs."""

    node: str
    """Unique in its role; chosen by the operator or the host's name."""
    role: str
    """gateway, metadata, storage-node, lifecycle or replication."""
    endpoint: str
    """Where its gRPC is reached: HOST:PORT."""
    claim: str
    """Random, kept in the node's state directory: a later start of the same node has the same one."""
    incarnation: str
    """Random, new with each registration (a start, or a return after a lost session): what was owned under another is not
    owned any more."""
    state: str = "serving"
    """serving, or draining: it takes nothing new (no tablets, no new volumes)."""
    zone: str = ""
    rack: str = ""
    version: str = ""
    """Of the program; for people."""
    wall_us: int = 0
    """Its clock when it wrote this, Unix microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskDocument:
    """One disk, for as long as its node serves it."""

    disk: DiskId
    node: str
    """The storage node that serves it."""
    incarnation: str
    """Of that node."""
    disk_class: str
    """As the operator named it: `ssd`, `hdd` …"""
    state: str
    """healthy, suspect, failed or draining."""
    total: int
    """Bytes."""
    free: int
    """Bytes beyond its reserve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVolume:
    """A volume somebody appends to, until it is closed on its slots and entered into the table of closed volumes."""

    volume: VolumeId
    profile: str
    disks: tuple[DiskId, ...]
    """The disk set: one a slot, in slot order; a slot that moves is a compare-and-set."""
    owner: str
    """The storage node that appends."""
    incarnation: str
    """Of the owner, when it opened the volume."""
    disk_class: str = ""


OWN_SIZE = -1
"""The weight of a disk that may take what its size allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutDisk:
    """A disk as the operator wants it."""

    disk: DiskId
    weight: int
    """Bytes it may take, those on it included; 0: nothing new; OWN_SIZE: its size."""
    draining: bool = False
    """It takes nothing new, and what lies on it is to leave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What placement may use, as an operator published it through any gateway."""

    version: int
    """One more with every change."""
    level: str
    """Failure domain slots are spread over: disk, node, rack or zone; empty: as each node is configured."""
    disks: tuple[LayoutDisk, ...] = ()
    """Those that are not as they say themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderDocument:
    """Who leads; the document's revision is the fencing token."""

    node: str
    incarnation: str = ""
    """Of the node."""
    since_us: int = field(default=0)
    """Unix microseconds by the leader's clock; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockQuestion:
    """Somebody asks others for their clocks; deleted by who asked, at the latest with its session."""

    asked: tuple[str, ...]
    """Who shall answer: keys of ClockDocuments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDocument:
    """A node's clock, as it told it when it was asked last."""

    wall_us: int
    """Unix microseconds, read after the question was seen."""
    heard: int
    """The revision of the newest question it had seen then."""
    fault: str = ""
    """How it differs from most of the others' clocks, as it found itself; empty: it does not."""


def encode(document: Any) -> bytes:
    """The document's bytes: compact JSON with sorted keys, so that equal documents are equal bytes."""
    plain = {"format": FORMAT} | _plain(document)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(kind: type[D], value: bytes, *, key: str) -> D:
    """The document; Damaged with the key and what is wrong."""
    try:
        plain = json.loads(value)
    except ValueError as error:
        raise Damaged(f"coordinator document {key}: not JSON") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        shown = plain.get("format") if isinstance(plain, dict) else None
        raise Damaged(f"coordinator document {key}: format {shown!r} is not one this version can use")
    try:
        return _build(kind, plain)
    except (TypeError, ValueError) as error:
        raise Damaged(f"coordinator document {key}: {error}") from error


def _plain(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in fields(document):
        value = getattr(document, each.name)
        if each.name == "volume":
            value = volume_text(value)
        elif isinstance(value, tuple):
            value = [part if isinstance(part, str) else _plain(part) for part in value]
        found[each.name] = value
    return found


def _build(kind: type[D], plain: Any) -> D:
    if not isinstance(plain, dict):
        raise ValueError(f"{kind.__name__} is not an object")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name in plain:
            values[each.name] = _value(each.name, hints[each.name], plain[each.name])
        elif each.default is MISSING:
            raise ValueError(f"{each.name} is missing")
    return kind(**values)


def _value(name: str, hint: Any, value: Any) -> Any:
    if name == "volume":
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{16}", value):
            raise ValueError("volume is not 16 hex characters")
        return VolumeId(int(value, 16))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            raise ValueError(f"{name} is not a list")
        if isinstance(inner, type) and is_dataclass(inner):
            return tuple(_build(inner, part) for part in value)
        return tuple(_value(name, inner, part) for part in value)
    wanted = getattr(hint, "__supertype__", hint)
    if type(value) is not wanted:
        raise ValueError(f"{name} is not {'a text' if wanted is str else f'of type {wanted.__name__}'}")
    return value

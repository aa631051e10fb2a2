# SPDX-License-Identifier: Apache-2.0
"""`drystone-known-disks.json`: which disks belong together, kept on each beside its identity. Pure.

Format    JSON with a `check` member, the SHA-256 of the rest in canonical form.
Invariants
  I1  A document that does not verify is never taken for one that says something else.
  I2  A later format version is refused with its number, never guessed at.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from drystone_core.formats.disk_identity import NAME as IDENTITY_NAME
from drystone_core.ids import ClusterId, DiskId
from drystone_core.ports import Buffer
from drystone_core.profiles import Profile

__all__ = ["IDENTITY_NAME", "KNOWN_NAME", "KnownDisk", "KnownDisks", "decode_known", "encode_known", "later_format"]

KNOWN_NAME = "drystone-known-disks.json"
VERSION = 1
DOCUMENT_LIMIT = 1 << 20
"""Bytes; a longer file is no document of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDisk:
    """A disk of the store as last seen."""

    disk_id: DiskId
    path: str
    mounted: bool
    """Was the directory a mount point when it was initialised? Tells a replaced disk from an unmounted one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDisks:
    """All disks of the store; kept on each; the highest generation counts."""

    cluster_id: ClusterId
    generation: int
    profile: Profile
    """Chosen at initialisation."""
    disks: tuple[KnownDisk, ...]


def encode_known(known: KnownDisks) -> bytes:
    """The file's bytes."""
    return _seal(
        {
            "kind": "drystone known disks",
            "cluster_id": known.cluster_id,
            "generation": known.generation,
            "profile": known.profile.name,
            "disks": [{"disk_id": d.disk_id, "path": d.path, "mounted": d.mounted} for d in known.disks],
        }
    )


def decode_known(data: Buffer) -> KnownDisks:
    """ValueError with a reason when it is none (I1, I2)."""
    found = _open(data, "drystone known disks")
    try:
        return KnownDisks(
            cluster_id=ClusterId(_text(found, "cluster_id")),
            generation=int(found["generation"]),
            profile=Profile.parse(_text(found, "profile")),
            disks=tuple(
                KnownDisk(disk_id=DiskId(d["disk_id"]), path=d["path"], mounted=d["mounted"] is True)
                for d in found["disks"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a member is missing: {error}") from error


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _digest(members: dict[str, Any]) -> str:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _seal(members: dict[str, Any]) -> bytes:
    members = {"format": VERSION, **members}
    return (json.dumps({**members, "check": _digest(members)}, indent=1, ensure_ascii=True) + "\n").encode()


def later_format(data: Buffer) -> object:
    """The format version of an identity another release wrote, None when the version is not what is wrong with it."""
    try:
        found = json.loads(bytes(data))
    except ValueError:
        return None
    version = found.get("format") if isinstance(found, dict) else None
    return version if isinstance(version, int) and version != VERSION else None


def _open(data: Buffer, kind: str) -> dict[str, Any]:
    try:
        found = json.loads(bytes(data))
    except ValueError as error:
        raise ValueError("not a JSON document") from error
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise ValueError(f"not a document of kind {kind!r}")
    version = found.get("format")
    if version != VERSION:
        raise ValueError(
            f"is of format version {version!r}, this release reads {VERSION}: use the release that wrote it"
        )
    check = found.pop("check", None)
    if check != _digest(found):
        raise ValueError("its checksum does not fit: the file was damaged or edited")
    return found

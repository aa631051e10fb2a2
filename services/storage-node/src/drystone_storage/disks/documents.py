# SPDX-License-Identifier: Apache-2.0
"""`drystone-known-disks.json`: which disks belong together, kept on each beside its identity. Pure.

Format    docs/formats/disk.md (v1), a sealed JSON document (sealed_json).
"""

import json
from dataclasses import dataclass
from typing import Any

from drystone_core.formats.disk_identity import NAME as IDENTITY_NAME
from drystone_core.formats.sealed_json import open_json, seal_json
from drystone_core.ids import ClusterId, DiskId
from drystone_core.ports import Buffer
from drystone_core.profiles import Profile
from drystone_core.storage_classes import DEFAULT_DISK_CLASS

__all__ = ["IDENTITY_NAME", "KNOWN_NAME", "KnownDisk", "KnownDisks", "decode_known", "encode_known", "later_format"]

KNOWN_NAME = "drystone-known-disks.json"
KIND = "drystone known disks"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDisk:
    """A disk of the store as last seen."""

    disk_id: DiskId
    path: str
    mounted: bool
    """Was the directory a mount point when it was initialised? Tells a replaced disk from an unmounted one."""
    disk_class: str = DEFAULT_DISK_CLASS
    """As in its identity, for when that is away."""


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
    return seal_json(
        KIND,
        VERSION,
        {
            "cluster_id": known.cluster_id,
            "generation": known.generation,
            "profile": known.profile.name,
            "disks": [_disk_entry(disk) for disk in known.disks],
        },
    )


def decode_known(data: Buffer) -> KnownDisks:
    """ValueError with a reason when it is none."""
    found = open_json(data, KIND, VERSION)
    try:
        return KnownDisks(
            cluster_id=ClusterId(_text(found, "cluster_id")),
            generation=int(found["generation"]),
            profile=Profile.parse(_text(found, "profile")),
            disks=tuple(
                KnownDisk(
                    disk_id=DiskId(d["disk_id"]),
                    path=d["path"],
                    mounted=d["mounted"] is True,
                    disk_class=d.get("class", DEFAULT_DISK_CLASS),
                )
                for d in found["disks"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a member is missing: {error}") from error


def _disk_entry(disk: KnownDisk) -> dict[str, Any]:
    entry: dict[str, Any] = {"disk_id": disk.disk_id, "path": disk.path, "mounted": disk.mounted}
    return entry if disk.disk_class == DEFAULT_DISK_CLASS else entry | {"class": disk.disk_class}


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def later_format(data: Buffer) -> object:
    """The format version of an identity another release wrote, None when the version is not what is wrong with it."""
    try:
        found = json.loads(bytes(data))
    except ValueError:
        return None
    version = found.get("format") if isinstance(found, dict) else None
    return version if isinstance(version, int) and version != VERSION else None

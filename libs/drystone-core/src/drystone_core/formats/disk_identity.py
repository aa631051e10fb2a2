# SPDX-License-Identifier: Apache-2.0
"""`drystone-disk.json`: what makes a directory a disk of a cell.

Format    docs/formats/disk.md (v1). A directory with a foreign cluster id, or one that was a mount point at
initialisation and is none now, is refused by whoever opens it; this module only says what the file means.
"""

import json
from dataclasses import dataclass

from drystone_core.errors import Damaged
from drystone_core.ids import ClusterId, DiskId
from drystone_core.profiles import Profile

NAME = "drystone-disk.json"
FORMAT = 1
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskIdentity:
    """Who a disk is; written once, when it is initialised."""

    cluster_id: ClusterId
    disk_id: DiskId
    disk_class: str
    """`ssd`, `hdd` … as the operator named it."""
    created: str
    """RFC 3339, UTC; for people."""
    profile: Profile
    """The store's profile when the disk was added."""
    mounted: bool
    """The directory was a mount point: an unmounted one must never be taken for an empty disk."""
    format: int = FORMAT


def encode_identity(identity: DiskIdentity) -> bytes:
    """The file's bytes."""
    document = {
        "format": identity.format,
        "cluster_id": identity.cluster_id,
        "disk_id": identity.disk_id,
        "class": identity.disk_class,
        "created": identity.created,
        "profile": identity.profile.name,
        "mounted": identity.mounted,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def decode_identity(data: bytes) -> DiskIdentity:
    """Raises Damaged with what is wrong; a later format, and a `must_understand` entry, are refused."""
    try:
        document = json.loads(data)
    except ValueError as exc:
        raise Damaged(f"{NAME}: not JSON") from exc
    if not isinstance(document, dict):
        raise Damaged(f"{NAME}: not an object")
    if document.get("format") != FORMAT or document.get("must_understand"):
        raise Damaged(f"{NAME}: format {document.get('format')!r} is not one this version can use")
    for name, kind in (("class", str), ("created", str), ("profile", str), ("mounted", bool)):
        if not isinstance(document.get(name), kind):
            raise Damaged(f"{NAME}: {name} is missing or of the wrong type")
    for name in ("cluster_id", "disk_id"):
        value = document.get(name)
        if not isinstance(value, str) or len(value) != 32 or not _HEX.issuperset(value):
            raise Damaged(f"{NAME}: {name} is not 32 hex characters")
    try:
        profile = Profile.parse(document["profile"])
    except ValueError as exc:
        raise Damaged(f"{NAME}: {exc}") from exc
    return DiskIdentity(
        cluster_id=ClusterId(document["cluster_id"]),
        disk_id=DiskId(document["disk_id"]),
        disk_class=document["class"],
        created=document["created"],
        profile=profile,
        mounted=document["mounted"],
    )

# SPDX-License-Identifier: Apache-2.0
"""Looking at a directory that is or may become a disk: blocking calls, run on the disk's lane."""

from dataclasses import dataclass
from enum import StrEnum

from drystone_core.errors import Damaged
from drystone_core.formats.disk_identity import DiskIdentity, decode_identity
from drystone_core.ids import DiskId
from drystone_core.ports import Disk
from drystone_datapath.volume import DiskUnit
from drystone_runtime.documents import TEMPORARY, read_document
from drystone_storage.disks.documents import (
    IDENTITY_NAME,
    KNOWN_NAME,
    KnownDisks,
    decode_known,
    later_format,
)
from drystone_storage.world import Place

_NOT_OURS_TO_MIND = ("lost+found",)


class Kind(StrEnum):
    """What a directory turned out to be."""

    ABSENT = "absent"
    EMPTY = "empty"
    """Nothing in it, or only what an initialisation that was cut short left."""
    DISK = "disk"
    LOST = "lost"
    """Files, but no identity among them."""
    BROKEN = "broken"
    """It cannot be read, or its identity does not verify: as good as missing."""
    LATER = "later"
    """A disk of a format this release does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A directory as it was met."""

    path: str
    kind: Kind
    mounted: bool = False
    identity: DiskIdentity | None = None
    known: KnownDisks | None = None
    reason: str = ""
    """Why BROKEN."""


def survey(place: Place) -> Found:
    """What is at `place`; never raises OSError, never changes anything."""
    path = place.root
    try:
        if not place.exists():
            return Found(path=path, kind=Kind.ABSENT)
        mounted = place.is_mount()
        entries = set(place.listdir(".")) - set(_NOT_OURS_TO_MIND)
        known = _known(place) if KNOWN_NAME in entries else None
        if IDENTITY_NAME not in entries:
            left = entries - {KNOWN_NAME, KNOWN_NAME + TEMPORARY, IDENTITY_NAME + TEMPORARY}
            return Found(path=path, kind=Kind.LOST if left else Kind.EMPTY, mounted=mounted, known=known)
        return _identified(path, read_document(place, IDENTITY_NAME), known, mounted=mounted)
    except OSError as error:
        return Found(path=path, kind=Kind.BROKEN, reason=f"cannot be read ({error.strerror or error})")


def _identified(path: str, data: bytes, known: KnownDisks | None, *, mounted: bool) -> Found:
    try:
        identity = decode_identity(data)
    except Damaged as error:
        version = later_format(data)
        if version is not None:
            reason = f"is a disk of format version {version}: use the release that wrote it"
            return Found(path=path, kind=Kind.LATER, reason=reason)
        return Found(path=path, kind=Kind.BROKEN, reason=f"has a damaged identity file ({error.message})")
    if known is not None and (
        known.cluster_id != identity.cluster_id or identity.disk_id not in {disk.disk_id for disk in known.disks}
    ):
        # A flipped digit would name another disk; the list beside it, under a checksum, always names its own.
        reason = f"has a damaged identity file (it does not agree with {KNOWN_NAME} beside it)"
        return Found(path=path, kind=Kind.BROKEN, reason=reason)
    return Found(path=path, kind=Kind.DISK, mounted=mounted, identity=identity, known=known)


def _known(place: Place) -> KnownDisks | None:
    try:
        return decode_known(read_document(place, KNOWN_NAME))
    except ValueError:
        return None


def look_at(unit: DiskUnit) -> tuple[int, int]:
    """(free, total) when the unit still is its disk; OSError or Damaged with why it is not. One call to another node."""
    return unit.disk.space() if unit.vouched else probe(unit.disk, unit.disk_id)


def probe(disk: Disk, disk_id: DiskId) -> tuple[int, int]:
    """(free, total) when the directory at the disk's path still is this disk; OSError or Damaged with why it is not."""
    identity = decode_identity(read_document(disk, IDENTITY_NAME))
    if identity.disk_id != disk_id:
        raise Damaged(f"another disk ({identity.disk_id}) stands at this path")
    return disk.space()

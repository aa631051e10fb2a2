# SPDX-License-Identifier: Apache-2.0
"""Who may call what: the one table, by full name of the method.

Invariants
  A1  Closed by default: a method that has no row here is refused to everybody. A test compares the rows with the
      descriptors of all contracts, so that a new method is a failing test, not an open door.
  A2  A row names callers by kind; which cell they belong to is judged before (callers.py), and the same for every method.
  A3  `OWNER` is whoever could open a unix socket of mode 0600: this process's user, or root.
  A4  `ANYONE` completed the handshake: for the health of a service, which load balancers of other cells may watch.
"""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_core.identity import ServiceKind

OWNER = "owner"
ANYONE = "anyone"
_GATEWAY, _LIFECYCLE, _REPLICATION = ServiceKind.GATEWAY, ServiceKind.LIFECYCLE, ServiceKind.REPLICATION
_ADMIN, _STORAGE, _METADATA = ServiceKind.ADMIN, ServiceKind.STORAGE_NODE, ServiceKind.METADATA
_EVERY_SERVICE = tuple(ServiceKind)

_ROWS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "drystone.metadata.v1.MetadataService": {
        "Mutate": (_GATEWAY,),
        "GetBucket": (_GATEWAY,),
        "ListBuckets": (_GATEWAY,),
        "GetObjects": (_GATEWAY,),
        "ListObjects": (_GATEWAY,),
        "ListVersions": (_GATEWAY,),
        "ListUploads": (_GATEWAY,),
        "ListParts": (_GATEWAY,),
        "GetDeadBlobs": (_LIFECYCLE,),
        "GetStatus": (_GATEWAY,),
    },
    "drystone.metadata.v1.PeerService": {"TakeSteps": (_METADATA,)},
    "drystone.storage.v1.StorageService": {
        "Append": (_GATEWAY,),
        "AppendPiece": (_GATEWAY,),
        "ReadShort": (_GATEWAY,),
        "Read": (_GATEWAY,),
        "LocateVolumes": (_GATEWAY,),
        "GetStatus": (_GATEWAY, _REPLICATION),
    },
    "drystone.storage.v1.UpkeepService": {
        "ListWounds": (_REPLICATION,),
        "Heal": (_REPLICATION,),
        "ListVolumesToScrub": (_REPLICATION,),
        "Scrub": (_REPLICATION,),
        "ListClosedVolumes": (_LIFECYCLE,),
        "GetVolumeNames": (_LIFECYCLE,),
        "FreeStripes": (_LIFECYCLE,),
        "RetireVolume": (_LIFECYCLE,),
        "LookAgain": (_LIFECYCLE, _REPLICATION),
    },
    "drystone.storage.v1.DiskService": dict.fromkeys(
        (
            "Open",
            "Close",
            "Read",
            "Write",
            "Sync",
            "Allocate",
            "Punch",
            "GetSize",
            "Rename",
            "Unlink",
            "List",
            "GetSpace",
        ),
        (_STORAGE,),
    ),
    "drystone.lifecycle.v1.LifecycleService": {"GetStatus": (_GATEWAY,)},
    "drystone.replication.v1.ReplicationService": {"GetStatus": (_GATEWAY,), "StartScrub": (_GATEWAY,)},
    "drystone.admin.v1.AdminService": {
        "GetStatus": (_ADMIN,),
        "InspectObject": (_ADMIN,),
        "StartScrub": (_ADMIN,),
        "GetLayout": (_ADMIN,),
        "PlanLayout": (_ADMIN,),
        "ApplyLayout": (_ADMIN,),
        "RevertLayout": (_ADMIN,),
    },
    "grpc.health.v1.Health": {"Check": (ANYONE,), "List": (ANYONE,), "Watch": (ANYONE,)},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _EVERY_SERVICE},
}

PERMISSIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        f"/{service}/{method}": frozenset((*callers, OWNER))
        for service, methods in _ROWS.items()
        for method, callers in methods.items()
    }
)


def allowed(method: str, caller: str) -> bool:
    """May this kind of caller call that method?"""
    return caller in PERMISSIONS.get(method, ())


def open_to_anyone(method: str) -> bool:
    """May everybody who completed the handshake call it?"""
    return ANYONE in PERMISSIONS.get(method, ())

# SPDX-License-Identifier: Apache-2.0
"""etcd's methods, and what the errors of their calls mean. The messages are ours (docs/adr/0501), the names on the wire etcd's."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import grpc

from drystone.etcd.v1 import etcd_pb2
from drystone_core.errors import (
    Busy,
    DrystoneError,
    ErrorCode,
    Refused,
    Stale,
    Unavailable,
    Unreachable,
)


@dataclass(frozen=True, slots=True)
class Method:
    """One of etcd's methods."""

    path: str
    answer: Callable[[bytes], Any]
    linear: bool = False
    """Its answer's revision is at least any that was seen anywhere before the call."""


RANGE = Method("/etcdserverpb.KV/Range", etcd_pb2.RangeResponse.FromString, linear=True)
TXN = Method("/etcdserverpb.KV/Txn", etcd_pb2.TxnResponse.FromString, linear=True)
GRANT = Method("/etcdserverpb.Lease/LeaseGrant", etcd_pb2.LeaseGrantResponse.FromString)
REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", etcd_pb2.LeaseRevokeResponse.FromString)
KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", etcd_pb2.LeaseKeepAliveResponse.FromString)
WATCH = Method("/etcdserverpb.Watch/Watch", etcd_pb2.WatchResponse.FromString)
AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", etcd_pb2.AuthenticateResponse.FromString)


def serialize(message: Any) -> bytes:
    """Of any request."""
    return bytes(message.SerializeToString())


class Verdict(Enum):
    """What to do after a failed call."""

    FINAL = auto()
    """The same everywhere: tell the caller."""
    TOKEN = auto()
    """Refused for its token: get a new one, then call again."""
    UNSENT = auto()
    """Surely nothing happened: another member may do it."""
    UNKNOWN = auto()
    """It may have happened: another member may answer what can be asked twice."""


_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")
_UNSENT = ("etcdserver: no leader", "etcdserver: too many requests", "etcdserver: not capable")
_S = grpc.StatusCode


def judge(error: grpc.aio.AioRpcError) -> Verdict:
    """By status, and by etcd's own words where one status means several things."""
    status, words = error.code(), error.details() or ""
    if any(each in words for each in _TOKEN):
        return Verdict.TOKEN
    if any(each in words for each in _UNSENT):
        return Verdict.UNSENT
    if status in (_S.UNAVAILABLE, _S.DEADLINE_EXCEEDED, _S.CANCELLED, _S.UNKNOWN, _S.INTERNAL, _S.ABORTED):
        return Verdict.UNKNOWN
    return Verdict.FINAL


def meaning(error: grpc.aio.AioRpcError, *, where: str) -> DrystoneError:
    """The error in the words of the core hierarchy; `where` is the member that said it."""
    status, words = error.code(), error.details() or ""
    if "requested lease not found" in words:
        return Stale("the session is over: etcd knows its lease no more", ErrorCode.FENCED)
    if "database space exceeded" in words:
        return Unavailable(
            "etcd takes no writes: it has no space left (alarm NOSPACE); compact, defragment, disarm the alarm"
        )
    if "too many requests" in words or status is _S.RESOURCE_EXHAUSTED:
        return Busy(f"etcd at {where}: {words}")
    if "request is too large" in words or "too many operations" in words:
        return Refused(ErrorCode.ENTITY_TOO_LARGE, f"etcd at {where}: {words}")
    if status in (_S.UNAUTHENTICATED, _S.PERMISSION_DENIED) or any(each in words for each in (*_NOT_ALLOWED, *_TOKEN)):
        return Refused(
            ErrorCode.ACCESS_DENIED,
            f"etcd at {where} does not let us in: {words}; see coordinator.user, coordinator.password_file and the user's role",
        )
    if judge(error) is Verdict.UNSENT:
        return Unreachable(f"etcd at {where}: {words}")
    if status is _S.DEADLINE_EXCEEDED:
        return Unavailable(f"etcd at {where} did not answer in time", ErrorCode.DEADLINE_EXCEEDED)
    if judge(error) is Verdict.UNKNOWN:
        return Unavailable(f"etcd at {where}: {words}")
    return DrystoneError(ErrorCode.INTERNAL_ERROR, f"etcd at {where}: {status.name}: {words}")


_NOT_ALLOWED = ("authentication failed", "authentication is not enabled")

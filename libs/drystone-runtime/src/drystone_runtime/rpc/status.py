# SPDX-License-Identifier: Apache-2.0
"""The one mapping between the error hierarchy and gRPC: total (a test walks ErrorCode) and lossless.

The status code is for people, proxies and load balancers; the truth is the ErrorDetail in the trailing metadata
`drystone-error-bin`, from which a client raises the very error the server raised.
"""

from collections.abc import Mapping
from types import MappingProxyType

import grpc

from drystone.common.v1 import errors_pb2
from drystone_core.errors import (
    Busy,
    Damaged,
    DrystoneError,
    ErrorCode,
    Refused,
    Retry,
    Stale,
    Unavailable,
    Unreachable,
)

DETAIL_KEY = "drystone-error-bin"
_S = grpc.StatusCode

_NOT_FOUND = frozenset(
    code for code in ErrorCode if code.name.startswith("NO_SUCH_") or code.name.endswith("_NOT_FOUND")
)
_BY_CODE: Mapping[ErrorCode, grpc.StatusCode] = MappingProxyType(
    {
        ErrorCode.ACCESS_DENIED: _S.PERMISSION_DENIED,
        ErrorCode.CORS_FORBIDDEN: _S.PERMISSION_DENIED,
        ErrorCode.METHOD_NOT_ALLOWED: _S.PERMISSION_DENIED,
        ErrorCode.PEER_DENIED: _S.PERMISSION_DENIED,
        ErrorCode.PEER_UNKNOWN: _S.UNAUTHENTICATED,
        ErrorCode.EXPIRED_TOKEN: _S.UNAUTHENTICATED,
        ErrorCode.INVALID_ACCESS_KEY_ID: _S.UNAUTHENTICATED,
        ErrorCode.INVALID_TOKEN: _S.UNAUTHENTICATED,
        ErrorCode.MISSING_SECURITY_HEADER: _S.UNAUTHENTICATED,
        ErrorCode.REQUEST_TIME_TOO_SKEWED: _S.UNAUTHENTICATED,
        ErrorCode.SIGNATURE_DOES_NOT_MATCH: _S.UNAUTHENTICATED,
        ErrorCode.BUCKET_ALREADY_EXISTS: _S.ALREADY_EXISTS,
        ErrorCode.BUCKET_ALREADY_OWNED_BY_YOU: _S.ALREADY_EXISTS,
        ErrorCode.BUCKET_NOT_EMPTY: _S.FAILED_PRECONDITION,
        ErrorCode.INVALID_BUCKET_STATE: _S.FAILED_PRECONDITION,
        ErrorCode.INVALID_OBJECT_STATE: _S.FAILED_PRECONDITION,
        ErrorCode.NOT_MODIFIED: _S.FAILED_PRECONDITION,
        ErrorCode.PRECONDITION_FAILED: _S.FAILED_PRECONDITION,
        ErrorCode.CONDITIONAL_REQUEST_CONFLICT: _S.ABORTED,
        ErrorCode.OPERATION_ABORTED: _S.ABORTED,
        ErrorCode.STALE: _S.ABORTED,
        ErrorCode.FENCED: _S.ABORTED,
        ErrorCode.INVALID_RANGE: _S.OUT_OF_RANGE,
        ErrorCode.INSUFFICIENT_STORAGE: _S.RESOURCE_EXHAUSTED,
        ErrorCode.SLOW_DOWN: _S.RESOURCE_EXHAUSTED,
        ErrorCode.TOO_MANY_BUCKETS: _S.RESOURCE_EXHAUSTED,
        ErrorCode.SERVICE_UNAVAILABLE: _S.UNAVAILABLE,
        ErrorCode.DEADLINE_EXCEEDED: _S.DEADLINE_EXCEEDED,
        ErrorCode.REQUEST_TIMEOUT: _S.DEADLINE_EXCEEDED,
        ErrorCode.NOT_IMPLEMENTED: _S.UNIMPLEMENTED,
        ErrorCode.INTERNAL_ERROR: _S.INTERNAL,
        ErrorCode.DAMAGED: _S.DATA_LOSS,
    }
)
_RETRIES: Mapping[Retry, int] = MappingProxyType(
    {
        Retry.NEVER: errors_pb2.RETRY_NEVER,
        Retry.SAME: errors_pb2.RETRY_SAME,
        Retry.AFTER_REFRESH: errors_pb2.RETRY_AFTER_REFRESH,
        Retry.LATER: errors_pb2.RETRY_LATER,
    }
)
_RETRY_OF = MappingProxyType({number: retry for retry, number in _RETRIES.items()})


def status_of(code: ErrorCode) -> grpc.StatusCode:
    """What gRPC calls this; malformed and over-large input is INVALID_ARGUMENT."""
    if code in _NOT_FOUND:
        return _S.NOT_FOUND
    return _BY_CODE.get(code, _S.INVALID_ARGUMENT)


def to_detail(error: DrystoneError) -> errors_pb2.ErrorDetail:
    """The error as a message."""
    return errors_pb2.ErrorDetail(
        code=error.code.value,
        message=error.message,
        details=dict(error.details),
        retry=errors_pb2.Retry.Name(_RETRIES[error.retry]),
        kind=errors_pb2.ErrorKind.Name(_kind(error)),
    )


def from_detail(detail: errors_pb2.ErrorDetail) -> DrystoneError:
    """The error again; a code of a newer release becomes InternalError with the code in its message."""
    details = dict(detail.details)
    try:
        code = ErrorCode(detail.code)
    except ValueError:
        return Refused(ErrorCode.INTERNAL_ERROR, f"unknown error code {detail.code!r}: {detail.message}")
    error: DrystoneError
    if detail.kind == errors_pb2.ERROR_KIND_BUSY:
        error = Busy(detail.message)
    elif detail.kind == errors_pb2.ERROR_KIND_UNAVAILABLE:
        error = Unavailable(detail.message, code)
    elif detail.kind == errors_pb2.ERROR_KIND_STALE:
        error = Stale(detail.message, code)
    elif detail.kind == errors_pb2.ERROR_KIND_DAMAGED:
        error = Damaged(detail.message)
    elif detail.kind == errors_pb2.ERROR_KIND_REFUSED:
        error = Refused(code, detail.message)
    else:
        error = DrystoneError(code, detail.message)
    error.details = MappingProxyType(details)
    retry = _RETRY_OF.get(detail.retry, error.retry)
    if retry is not error.retry:
        error.retry = retry
    return error


def from_rpc_error(error: grpc.aio.AioRpcError) -> DrystoneError:
    """What a failed call means: the server's own error when it said one, else what the transport tells."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAIL_KEY and isinstance(value, bytes):
            return from_detail(errors_pb2.ErrorDetail.FromString(value))
    status, text = error.code(), error.details() or ""
    if status is _S.DEADLINE_EXCEEDED:
        return Unavailable(text, ErrorCode.DEADLINE_EXCEEDED)
    if status is _S.RESOURCE_EXHAUSTED:
        return Busy(text)
    if status is _S.UNIMPLEMENTED:
        return Refused(ErrorCode.NOT_IMPLEMENTED, text)
    if status is _S.PERMISSION_DENIED:
        return Refused(ErrorCode.PEER_DENIED, text)
    if status is _S.UNAUTHENTICATED:
        return Refused(ErrorCode.PEER_UNKNOWN, text)
    if status in (_S.UNAVAILABLE, _S.CANCELLED):
        return Unreachable(text)
    return DrystoneError(ErrorCode.INTERNAL_ERROR, f"{status.name}: {text}")


def _kind(error: DrystoneError) -> int:
    for kind, number in (
        (Busy, errors_pb2.ERROR_KIND_BUSY),
        (Unavailable, errors_pb2.ERROR_KIND_UNAVAILABLE),
        (Stale, errors_pb2.ERROR_KIND_STALE),
        (Damaged, errors_pb2.ERROR_KIND_DAMAGED),
        (Refused, errors_pb2.ERROR_KIND_REFUSED),
    ):
        if isinstance(error, kind):
            return int(number)
    return int(errors_pb2.ERROR_KIND_UNSPECIFIED)

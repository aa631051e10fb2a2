# SPDX-License-Identifier: Apache-2.0
"""The one table from `ErrorCode` to what an S3 client sees, and the error document.

Invariants
  E1  The table is total: every ErrorCode has a row (a test walks the enum).
  E2  Codes that live inside the cell never reach a client: they show as InternalError, ServiceUnavailable or SlowDown,
      and nothing of their message or details is shown.
  E3  A HEAD answer, a 304 and a 204 carry no body (s3-surface §5 #20).
Source: S3 API reference, "Error responses". InsufficientStorage is 507: docs/adr/0301-full-store-answers-507.md.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from drystone_core.errors import DrystoneError, ErrorCode
from drystone_gateway.s3.escape import xml_text


class ErrorRow(NamedTuple):
    """What a client sees for one code."""

    code: str
    """S3's name."""
    status: int
    """HTTP status."""
    message: str
    """Shown unless the error brings its own."""
    internal: bool = False
    """E2."""


_C = ErrorCode
_INTERNAL = ErrorRow("InternalError", 500, "We encountered an internal error. Please try again.", True)
_UNAVAILABLE = ErrorRow("ServiceUnavailable", 503, "Service is unable to handle request.", True)
_NO_ENTITY = "configuration was not found"


def _row(code: ErrorCode, status: int, message: str) -> tuple[ErrorCode, ErrorRow]:
    return code, ErrorRow(code.value, status, message)


ERRORS: Mapping[ErrorCode, ErrorRow] = MappingProxyType(
    dict(
        (
            _row(_C.ACCESS_DENIED, 403, "Access Denied"),
            _row(_C.ACCESS_CONTROL_LIST_NOT_SUPPORTED, 400, "The bucket does not allow ACLs"),
            _row(
                _C.AUTHORIZATION_HEADER_MALFORMED,
                400,
                "The authorization header you provided is invalid.",
            ),
            _row(_C.AUTHORIZATION_QUERY_PARAMETERS_ERROR, 400, "The authorization query parameters are invalid."),
            _row(_C.BAD_DIGEST, 400, "The Content-MD5 or checksum value you specified did not match what we received."),
            _row(
                _C.BUCKET_ALREADY_EXISTS,
                409,
                "The requested bucket name is not available. The bucket namespace is shared by all users of the system."
                " Please select a different name and try again.",
            ),
            _row(
                _C.BUCKET_ALREADY_OWNED_BY_YOU,
                409,
                "Your previous request to create the named bucket succeeded and you already own it.",
            ),
            _row(_C.BUCKET_NOT_EMPTY, 409, "The bucket you tried to delete is not empty."),
            _row(
                _C.CONDITIONAL_REQUEST_CONFLICT,
                409,
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
            ),
            _row(
                _C.CONTENT_SHA256_MISMATCH,
                400,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            _row(_C.CORS_FORBIDDEN, 403, "CORSResponse: This CORS request is not allowed."),
            _row(_C.ENTITY_TOO_LARGE, 400, "Your proposed upload exceeds the maximum allowed size"),
            _row(_C.ENTITY_TOO_SMALL, 400, "Your proposed upload is smaller than the minimum allowed size"),
            _row(_C.EXPIRED_TOKEN, 400, "The provided token has expired."),
            _row(
                _C.ILLEGAL_LOCATION_CONSTRAINT,
                400,
                "The specified location constraint is incompatible for the region specific endpoint this request was"
                " sent to.",
            ),
            _row(
                _C.INCOMPLETE_BODY,
                400,
                "You did not provide the number of bytes specified by the Content-Length HTTP header.",
            ),
            _row(_C.INSUFFICIENT_STORAGE, 507, "There is not enough space to store what you sent. Nothing was stored."),
            (_C.INTERNAL_ERROR, _INTERNAL),
            _row(_C.INVALID_ACCESS_KEY_ID, 403, "The AWS Access Key Id you provided does not exist in our records."),
            _row(_C.INVALID_ARGUMENT, 400, "Invalid Argument"),
            _row(_C.INVALID_BUCKET_NAME, 400, "The specified bucket is not valid."),
            _row(_C.INVALID_BUCKET_STATE, 409, "The request is not valid with the current state of the bucket."),
            _row(_C.INVALID_DIGEST, 400, "The Content-MD5 you specified was invalid."),
            _row(_C.INVALID_LOCATION_CONSTRAINT, 400, "The specified location-constraint is not valid"),
            _row(_C.INVALID_OBJECT_STATE, 403, "The operation is not valid for the current state of the object."),
            _row(
                _C.INVALID_PART,
                400,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the"
                " specified entity tag may not match the part's entity tag.",
            ),
            _row(_C.INVALID_PART_NUMBER, 416, "The requested partnumber is not satisfiable"),
            _row(
                _C.INVALID_PART_ORDER,
                400,
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
            ),
            _row(_C.INVALID_RANGE, 416, "The requested range is not satisfiable"),
            _row(
                _C.INVALID_REDIRECT_LOCATION,
                400,
                "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
            ),
            _row(_C.INVALID_REQUEST, 400, "Invalid Request"),
            _row(_C.INVALID_STORAGE_CLASS, 400, "The storage class you specified is not valid"),
            _row(_C.INVALID_TAG, 400, "The tag provided was not a valid tag."),
            _row(_C.INVALID_TOKEN, 400, "The provided token is malformed or otherwise invalid."),
            _row(_C.INVALID_URI, 400, "Couldn't parse the specified URI."),
            _row(_C.KEY_TOO_LONG, 400, "Your key is too long"),
            _row(
                _C.MALFORMED_POST_REQUEST,
                400,
                "The body of your POST request is not well-formed multipart/form-data.",
            ),
            _row(
                _C.MALFORMED_TRAILER,
                400,
                "The request contained trailing data that was not well-formed or did not conform to our published"
                " schema.",
            ),
            _row(
                _C.MALFORMED_XML,
                400,
                "The XML you provided was not well-formed or did not validate against our published schema",
            ),
            _row(_C.MAX_MESSAGE_LENGTH_EXCEEDED, 400, "Your request was too big."),
            _row(_C.METADATA_TOO_LARGE, 400, "Your metadata headers exceed the maximum allowed metadata size"),
            _row(_C.METHOD_NOT_ALLOWED, 405, "The specified method is not allowed against this resource."),
            _row(_C.MISSING_CONTENT_LENGTH, 411, "You must provide the Content-Length HTTP header."),
            _row(_C.MISSING_REQUEST_BODY, 400, "Request body is empty."),
            _row(_C.MISSING_SECURITY_HEADER, 400, "Your request was missing a required header."),
            _row(_C.NO_SUCH_BUCKET, 404, "The specified bucket does not exist"),
            _row(_C.NO_SUCH_BUCKET_POLICY, 404, "The bucket policy does not exist"),
            _row(_C.NO_SUCH_CONFIGURATION, 404, "The specified configuration does not exist."),
            _row(_C.NO_SUCH_CORS_CONFIGURATION, 404, "The CORS configuration does not exist"),
            _row(_C.NO_SUCH_KEY, 404, "The specified key does not exist."),
            _row(_C.NO_SUCH_LIFECYCLE_CONFIGURATION, 404, "The lifecycle configuration does not exist"),
            _row(
                _C.NO_SUCH_OBJECT_LOCK_CONFIGURATION,
                404,
                "The specified object does not have a ObjectLock configuration",
            ),
            _row(_C.NO_SUCH_PUBLIC_ACCESS_BLOCK, 404, f"The public access block {_NO_ENTITY}"),
            _row(_C.NO_SUCH_TAG_SET, 404, "The TagSet does not exist"),
            _row(
                _C.NO_SUCH_UPLOAD,
                404,
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted"
                " or completed.",
            ),
            _row(_C.NO_SUCH_VERSION, 404, "The specified version does not exist."),
            _row(_C.NO_SUCH_WEBSITE_CONFIGURATION, 404, "The specified bucket does not have a website configuration"),
            _row(
                _C.NOT_IMPLEMENTED, 501, "A header or query you provided implies functionality that is not implemented"
            ),
            _row(_C.NOT_MODIFIED, 304, "Not Modified"),
            _row(
                _C.OBJECT_LOCK_CONFIGURATION_NOT_FOUND,
                404,
                "Object Lock configuration does not exist for this bucket",
            ),
            _row(
                _C.OPERATION_ABORTED,
                409,
                "A conflicting conditional operation is currently in progress against this resource. Try again.",
            ),
            _row(_C.OWNERSHIP_CONTROLS_NOT_FOUND, 404, "The bucket ownership controls were not found"),
            _row(_C.PRECONDITION_FAILED, 412, "At least one of the pre-conditions you specified did not hold"),
            _row(_C.REPLICATION_CONFIGURATION_NOT_FOUND, 404, f"The replication {_NO_ENTITY}"),
            _row(
                _C.REQUEST_HEADER_SECTION_TOO_LARGE,
                400,
                "Your request header section exceeds the maximum allowed request header section size.",
            ),
            _row(
                _C.REQUEST_TIME_TOO_SKEWED,
                403,
                "The difference between the request time and the current time is too large.",
            ),
            _row(
                _C.REQUEST_TIMEOUT,
                400,
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ),
            _row(
                _C.SERVER_SIDE_ENCRYPTION_CONFIGURATION_NOT_FOUND,
                404,
                f"The server side encryption {_NO_ENTITY}",
            ),
            _row(_C.SERVICE_UNAVAILABLE, 503, "Service is unable to handle request."),
            _row(
                _C.SIGNATURE_DOES_NOT_MATCH,
                403,
                "The request signature we calculated does not match the signature you provided. Check your key and"
                " signing method.",
            ),
            _row(_C.SLOW_DOWN, 503, "Please reduce your request rate."),
            _row(_C.TOO_MANY_BUCKETS, 400, "You have attempted to create more buckets than allowed"),
            _row(_C.URI_TOO_LONG, 414, "Your request URI exceeds the maximum allowed length."),
            (_C.STALE, _UNAVAILABLE),
            (_C.FENCED, _UNAVAILABLE),
            (_C.PEER_DENIED, _INTERNAL),
            (_C.PEER_UNKNOWN, _INTERNAL),
            (_C.DAMAGED, _INTERNAL),
            (_C.DEADLINE_EXCEEDED, ErrorRow("SlowDown", 503, "Please reduce your request rate.", True)),
        )
    )
)

_HIDDEN_DETAILS = frozenset({"Allow"})
"""Details that are headers, not elements."""


def render_error(
    *,
    request_id: str,
    host_id: str,
    error: BaseException | ErrorCode,
    resource: str = "",
    head: bool = False,
) -> tuple[int, bytes]:
    """(status, body) for a refused or failed request. Anything that is not a DrystoneError shows as InternalError.

    `resource` is the raw path as sent; `details` of the error become elements after the message.
    """
    message = ""
    details: Mapping[str, str] = {}
    if isinstance(error, DrystoneError):
        row = ERRORS[error.code]
        message, details = error.message, error.details
    elif isinstance(error, ErrorCode):
        row = ERRORS[error]
    else:
        row = _INTERNAL
    if head or row.status == 304:
        return row.status, b""
    if row.internal:
        message, details = "", {}
    elements = "".join(
        f"<{name}>{xml_text(value)}</{name}>" for name, value in details.items() if name not in _HIDDEN_DETAILS
    )
    if resource and "Resource" not in details:
        elements += f"<Resource>{xml_text(resource)}</Resource>"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{row.code}</Code>'
        f"<Message>{xml_text(message or row.message)}</Message>{elements}"
        f"<RequestId>{xml_text(request_id)}</RequestId><HostId>{xml_text(host_id)}</HostId></Error>"
    )
    return row.status, text.encode()


def status_of(error: BaseException | ErrorCode) -> int:
    """The HTTP status `render_error` answers with."""
    if isinstance(error, DrystoneError):
        return ERRORS[error.code].status
    return ERRORS[error].status if isinstance(error, ErrorCode) else 500


def error_head(error: BaseException | ErrorCode) -> bytes:
    """Header lines that go with the error: content type, Retry-After of 503, Allow of 405, Content-Range of 416, and
    the region of an error that names one (a HEAD has no body to name it in; SDKs follow it there)."""
    status = status_of(error)
    details = error.details if isinstance(error, DrystoneError) else {}
    lines = [] if status == 304 else [b"Content-Type: application/xml\r\n"]
    if "Region" in details and details["Region"].replace("-", "").isalnum():
        lines.append(b"x-amz-bucket-region: " + details["Region"].encode() + b"\r\n")
    if status == 503:
        lines.append(b"Retry-After: 1\r\n")
    elif status == 405 and details.get("Allow", "").replace(", ", "").isalpha():
        lines.append(b"Allow: " + details["Allow"].encode("ascii") + b"\r\n")
    elif status == 416 and details.get("ActualObjectSize", "").isdecimal():
        lines.append(b"Content-Range: bytes */" + details["ActualObjectSize"].encode("ascii") + b"\r\n")
    return b"".join(lines)

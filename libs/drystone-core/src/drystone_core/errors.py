# SPDX-License-Identifier: Apache-2.0
"""The one error hierarchy: meaning, not mechanism.

Every refusal a client can meet is a `Refused` with an `ErrorCode` whose value is the S3 error code where S3 has one.
Two total tables map codes onward and nothing else does: `drystone_runtime.rpc.status` (gRPC) and
`drystone_gateway.s3.errors` (S3 code, HTTP status, message). A test walks `ErrorCode` and asserts a row in both.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Retry(StrEnum):
    """What a caller may do with the failed call."""

    NEVER = "never"
    SAME = "same"
    AFTER_REFRESH = "after_refresh"
    LATER = "later"


class ErrorCode(StrEnum):
    """Names of refusals and failures; S3's own code where S3 has one."""

    ACCESS_DENIED = "AccessDenied"
    ACCESS_CONTROL_LIST_NOT_SUPPORTED = "AccessControlListNotSupported"
    AUTHORIZATION_HEADER_MALFORMED = "AuthorizationHeaderMalformed"
    AUTHORIZATION_QUERY_PARAMETERS_ERROR = "AuthorizationQueryParametersError"
    BAD_DIGEST = "BadDigest"
    BUCKET_ALREADY_EXISTS = "BucketAlreadyExists"
    BUCKET_ALREADY_OWNED_BY_YOU = "BucketAlreadyOwnedByYou"
    BUCKET_NOT_EMPTY = "BucketNotEmpty"
    CONDITIONAL_REQUEST_CONFLICT = "ConditionalRequestConflict"
    CONTENT_SHA256_MISMATCH = "XAmzContentSHA256Mismatch"
    CORS_FORBIDDEN = "AccessForbidden"
    ENTITY_TOO_LARGE = "EntityTooLarge"
    ENTITY_TOO_SMALL = "EntityTooSmall"
    EXPIRED_TOKEN = "ExpiredToken"
    ILLEGAL_LOCATION_CONSTRAINT = "IllegalLocationConstraintException"
    INCOMPLETE_BODY = "IncompleteBody"
    INSUFFICIENT_STORAGE = "InsufficientStorage"
    INTERNAL_ERROR = "InternalError"
    INVALID_ACCESS_KEY_ID = "InvalidAccessKeyId"
    INVALID_ARGUMENT = "InvalidArgument"
    INVALID_BUCKET_NAME = "InvalidBucketName"
    INVALID_BUCKET_STATE = "InvalidBucketState"
    INVALID_DIGEST = "InvalidDigest"
    INVALID_LOCATION_CONSTRAINT = "InvalidLocationConstraint"
    INVALID_OBJECT_STATE = "InvalidObjectState"
    INVALID_PART = "InvalidPart"
    INVALID_PART_NUMBER = "InvalidPartNumber"
    INVALID_PART_ORDER = "InvalidPartOrder"
    INVALID_RANGE = "InvalidRange"
    INVALID_REDIRECT_LOCATION = "InvalidRedirectLocation"
    INVALID_REQUEST = "InvalidRequest"
    INVALID_STORAGE_CLASS = "InvalidStorageClass"
    INVALID_TAG = "InvalidTag"
    INVALID_TOKEN = "InvalidToken"
    INVALID_URI = "InvalidURI"
    KEY_TOO_LONG = "KeyTooLongError"
    MALFORMED_POST_REQUEST = "MalformedPOSTRequest"
    MALFORMED_TRAILER = "MalformedTrailerError"
    MALFORMED_XML = "MalformedXML"
    MAX_MESSAGE_LENGTH_EXCEEDED = "MaxMessageLengthExceeded"
    METADATA_TOO_LARGE = "MetadataTooLarge"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    MISSING_CONTENT_LENGTH = "MissingContentLength"
    MISSING_REQUEST_BODY = "MissingRequestBodyError"
    MISSING_SECURITY_HEADER = "MissingSecurityHeader"
    NO_SUCH_BUCKET = "NoSuchBucket"
    NO_SUCH_BUCKET_POLICY = "NoSuchBucketPolicy"
    NO_SUCH_CONFIGURATION = "NoSuchConfiguration"
    NO_SUCH_CORS_CONFIGURATION = "NoSuchCORSConfiguration"
    NO_SUCH_KEY = "NoSuchKey"
    NO_SUCH_LIFECYCLE_CONFIGURATION = "NoSuchLifecycleConfiguration"
    NO_SUCH_OBJECT_LOCK_CONFIGURATION = "NoSuchObjectLockConfiguration"
    NO_SUCH_PUBLIC_ACCESS_BLOCK = "NoSuchPublicAccessBlockConfiguration"
    NO_SUCH_TAG_SET = "NoSuchTagSet"
    NO_SUCH_UPLOAD = "NoSuchUpload"
    NO_SUCH_VERSION = "NoSuchVersion"
    NO_SUCH_WEBSITE_CONFIGURATION = "NoSuchWebsiteConfiguration"
    NOT_IMPLEMENTED = "NotImplemented"
    NOT_MODIFIED = "NotModified"
    OBJECT_LOCK_CONFIGURATION_NOT_FOUND = "ObjectLockConfigurationNotFoundError"
    OPERATION_ABORTED = "OperationAborted"
    OWNERSHIP_CONTROLS_NOT_FOUND = "OwnershipControlsNotFoundError"
    PRECONDITION_FAILED = "PreconditionFailed"
    REPLICATION_CONFIGURATION_NOT_FOUND = "ReplicationConfigurationNotFoundError"
    REQUEST_HEADER_SECTION_TOO_LARGE = "RequestHeaderSectionTooLarge"
    REQUEST_TIME_TOO_SKEWED = "RequestTimeTooSkewed"
    REQUEST_TIMEOUT = "RequestTimeout"
    SERVER_SIDE_ENCRYPTION_CONFIGURATION_NOT_FOUND = "ServerSideEncryptionConfigurationNotFoundError"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    SIGNATURE_DOES_NOT_MATCH = "SignatureDoesNotMatch"
    SLOW_DOWN = "SlowDown"
    TOO_MANY_BUCKETS = "TooManyBuckets"
    URI_TOO_LONG = "URITooLong"
    # Inside the cell only; a client sees InternalError, ServiceUnavailable or SlowDown in their place.
    STALE = "Stale"
    FENCED = "Fenced"
    DAMAGED = "Damaged"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    PEER_DENIED = "PeerDenied"
    PEER_UNKNOWN = "PeerUnknown"


class DrystoneError(Exception):
    """Base of all expected failures.

    `details` become elements of the S3 error XML (or fields of the gRPC ErrorDetail); never put a secret there.
    """

    retry: Retry = Retry.NEVER

    def __init__(self, code: ErrorCode, message: str = "", **details: str) -> None:
        super().__init__(f"{code.value}: {message}" if message else code.value)
        self.code = code
        self.message = message
        """For people; empty = the table's default text."""
        self.details: Mapping[str, str] = MappingProxyType(details)


class Refused(DrystoneError):
    """The client's fault or a state it must know: NoSuchKey, PreconditionFailed, AccessDenied …"""


class Busy(DrystoneError):
    """Overload: back off and come again."""

    retry = Retry.LATER

    def __init__(self, message: str = "", **details: str) -> None:
        super().__init__(ErrorCode.SLOW_DOWN, message, **details)


class Unavailable(DrystoneError):
    """Not possible now (too few disks, members or nodes); the outcome may be unknown."""

    retry = Retry.LATER

    def __init__(self, message: str = "", code: ErrorCode = ErrorCode.SERVICE_UNAVAILABLE, **details: str) -> None:
        super().__init__(code, message, **details)


class Unreachable(Unavailable):
    """Nobody answers there: a process or host is away, as a rule just being replaced."""


class Stale(DrystoneError):
    """The caller's view (epoch, head, map) is old: refresh and try again."""

    retry = Retry.AFTER_REFRESH

    def __init__(self, message: str = "", code: ErrorCode = ErrorCode.STALE, **details: str) -> None:
        super().__init__(code, message, **details)


class Damaged(DrystoneError):
    """Bytes that should be there are not, or are wrong, beyond what redundancy can rebuild. Always counted and logged."""

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(ErrorCode.DAMAGED, message, **details)

# SPDX-License-Identifier: Apache-2.0
"""accepted = done: request headers whose engine does not exist are refused unless they ask for the default.

A header that is in no list here is either acted upon by the operation or has no effect in S3 either (a test asks
botocore's model). When an engine is built, its headers leave these tables in the same commit.
"""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_core.errors import ErrorCode, Refused
from drystone_core.storage_classes import StorageClasses
from drystone_gateway.s3.conditions import refuse_conditions
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.storage_class import HEADER as STORAGE_CLASS
from drystone_gateway.s3.storage_class import is_mapped

_ACL_DEFAULTS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_KNOWN_ACLS = _ACL_DEFAULTS | {
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "log-delivery-write",
}
_STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "OUTPOSTS",
        "GLACIER_IR",
        "SNOW",
        "EXPRESS_ONEZONE",
        "FSX_OPENZFS",
        "FSX_ONTAP",
    }
)

REFUSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "x-amz-acl": _ACL_DEFAULTS,
        STORAGE_CLASS: frozenset({"STANDARD"}),
        "x-amz-tagging": frozenset({""}),
        "x-amz-tagging-directive": frozenset({"COPY", "REPLACE"}),
        "x-amz-grant-full-control": frozenset(),
        "x-amz-grant-read": frozenset(),
        "x-amz-grant-read-acp": frozenset(),
        "x-amz-grant-write": frozenset(),
        "x-amz-grant-write-acp": frozenset(),
        "x-amz-server-side-encryption": frozenset(),
        "x-amz-server-side-encryption-aws-kms-key-id": frozenset(),
        "x-amz-server-side-encryption-context": frozenset(),
        "x-amz-server-side-encryption-bucket-key-enabled": frozenset({"false"}),
        "x-amz-server-side-encryption-customer-algorithm": frozenset(),
        "x-amz-server-side-encryption-customer-key": frozenset(),
        "x-amz-server-side-encryption-customer-key-md5": frozenset(),
        "x-amz-copy-source-server-side-encryption-customer-algorithm": frozenset(),
        "x-amz-copy-source-server-side-encryption-customer-key": frozenset(),
        "x-amz-copy-source-server-side-encryption-customer-key-md5": frozenset(),
        "x-amz-object-lock-mode": frozenset(),
        "x-amz-object-lock-retain-until-date": frozenset(),
        "x-amz-object-lock-legal-hold": frozenset({"OFF"}),
        "x-amz-object-lock-event-hold": frozenset({"OFF"}),
        "x-amz-bucket-object-lock-enabled": frozenset({"false"}),
        "x-amz-bypass-governance-retention": frozenset({"false", "true"}),
        "x-amz-object-ownership": frozenset({"BucketOwnerEnforced"}),
        "x-amz-bucket-namespace": frozenset({"global"}),
        "x-amz-write-offset-bytes": frozenset(),
        "x-amz-mfa": frozenset(),
        "x-amz-rename-source": frozenset(),
    }
)
"""Header → the values that mean the default (compared without regard to case); anything else is NotImplemented."""

FAMILIES = (
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-grant-",
)
"""Headers that begin so and are not in REFUSED belong to an engine that does not exist: no value of theirs is known."""

_UNCONDITIONAL = frozenset(
    {
        Operation.ABORT_MULTIPART_UPLOAD,
        Operation.CREATE_BUCKET,
        Operation.CREATE_MULTIPART_UPLOAD,
        Operation.DELETE_BUCKET,
        Operation.DELETE_OBJECTS,
        Operation.UPLOAD_PART,
        Operation.UPLOAD_PART_COPY,
    }
)
"""What changes something and takes no If-… header: whoever sends one means that the change must not be made else."""
_PUTS = frozenset({Operation.PUT_OBJECT, Operation.UPLOAD_PART})

_ALONE = StorageClasses()
_FOLDED = {name: frozenset(value.lower() for value in values) for name, values in REFUSED.items()}


def check_acceptable(headers: Mapping[str, str], operation: Operation, classes: StorageClasses = _ALONE) -> None:
    """NotImplemented (or InvalidArgument, InvalidStorageClass for values S3 does not know) for what has no engine.

    x-amz-bypass-governance-retention is harmless while no object can be locked. x-amz-mfa belongs to MFA delete.
    `classes`: those the operator mapped. A PUT with Content-Range means a part of the object (RFC 9110 §14.4): it must not replace the whole.
    """
    for name in headers:
        if name.startswith("x-amz-"):
            allowed = _FOLDED.get(name)
            if allowed is None:
                if name.startswith(FAMILIES):
                    raise _refusal(name, headers[name].strip(), operation)
            elif headers[name].strip().lower() not in allowed:
                if name == STORAGE_CLASS and is_mapped(headers[name].strip(), operation, classes):
                    continue
                raise _refusal(name, headers[name].strip(), operation)
    if operation in _UNCONDITIONAL:
        refuse_conditions(headers)
    if operation in _PUTS and "content-range" in headers:
        raise _refusal("content-range", headers["content-range"], operation)


def _refusal(name: str, value: str, operation: Operation) -> Refused:
    if name == "x-amz-acl" and value not in _KNOWN_ACLS:
        return Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName=name, ArgumentValue=value[:128])
    if name == STORAGE_CLASS and value not in _STORAGE_CLASSES:
        return Refused(ErrorCode.INVALID_STORAGE_CLASS, StorageClassRequested=value[:128])
    if name == "x-amz-server-side-encryption" and value not in ("AES256", "aws:kms", "aws:kms:dsse", "aws:fsx"):
        return Refused(
            ErrorCode.INVALID_ARGUMENT,
            "The encryption method specified is not supported",
            ArgumentName=name,
            ArgumentValue=value[:128],
        )
    return Refused(
        ErrorCode.NOT_IMPLEMENTED,
        "A header you provided implies functionality that is not implemented",
        Header=name,
        Operation=operation.value,
    )

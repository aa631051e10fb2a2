# SPDX-License-Identifier: Apache-2.0
"""x-amz-storage-class: which storage class a new object, copy or upload asks for. Pure."""

from collections.abc import Mapping

from drystone_core.storage_classes import STANDARD, StorageClasses
from drystone_gateway.s3.operation import Operation

HEADER = "x-amz-storage-class"
NAMING = frozenset({Operation.PUT_OBJECT, Operation.COPY_OBJECT, Operation.CREATE_MULTIPART_UPLOAD})
"""What makes an object of the class it names; parts belong to their upload's."""


def storage_class(headers: Mapping[str, str]) -> str:
    """The class asked for; STANDARD when none is, which a copy does not take over from its source either."""
    said = headers.get(HEADER, "").strip()
    return STANDARD if said.upper() in ("", STANDARD) else said


def is_mapped(said: str, operation: Operation, classes: StorageClasses) -> bool:
    """May the operation name this class here?"""
    return operation in NAMING and classes.disk_class(said) is not None

# SPDX-License-Identifier: Apache-2.0
"""x-amz-copy-source: which object a copy reads (s3-surface §5 #40). Keys obey the same rules as request paths."""

import re
from typing import NamedTuple

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import Key, VersionId
from drystone_gateway.s3.bucket_name import check_addressed_bucket
from drystone_gateway.s3.escape import uri_decode
from drystone_gateway.s3.route import KEY_LIMIT

_VERSION = re.compile(r"[A-Za-z0-9_.\-]{1,1024}\Z")


class CopySource(NamedTuple):
    """A source object; `version_id` None = the current version."""

    bucket: str
    key: Key
    version_id: VersionId | None


def parse_copy_source(text: str) -> CopySource:
    """The source a header names. The literal `?versionId=` is split off before the path is decoded, once.

    InvalidArgument when it names no object or a malformed versionId; NotImplemented for access point ARNs.
    """
    path, mark, version_text = text.partition("?versionId=")
    if not mark and "?" in path:
        raise _invalid(text)
    path = path.removeprefix("/")
    if path.startswith(("arn:", "arn%3A")):
        raise Refused(ErrorCode.NOT_IMPLEMENTED, "Access points are not offered as a copy source.")
    try:
        decoded = uri_decode(path)
        decoded.decode("utf-8")
    except (ValueError, UnicodeEncodeError):
        raise _invalid(text) from None
    raw_bucket, slash, key = decoded.partition(b"/")
    if not slash or not key or b"\0" in raw_bucket:
        raise _invalid(text)
    bucket = raw_bucket.decode("utf-8")
    check_addressed_bucket(bucket)
    if len(key) > KEY_LIMIT:
        raise Refused(ErrorCode.KEY_TOO_LONG, Size=str(len(key)), MaxSizeAllowed=str(KEY_LIMIT))
    return CopySource(bucket, Key(key), parse_version_id(version_text) if mark else None)


def parse_version_id(text: str) -> VersionId:
    """A version id as clients send it; empty or malformed → InvalidArgument; `null` is NULL_VERSION (#55)."""
    if _VERSION.match(text) is None:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "Version id cannot be the empty string" if not text else "Invalid version id specified",
            ArgumentName="versionId",
            ArgumentValue=text[:128],
        )
    return VersionId(text)


def _invalid(text: str) -> Refused:
    return Refused(
        ErrorCode.INVALID_ARGUMENT,
        "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        ArgumentName="x-amz-copy-source",
        ArgumentValue=text[:1100],
    )

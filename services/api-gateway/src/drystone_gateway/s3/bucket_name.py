# SPDX-License-Identifier: Apache-2.0
"""Bucket names: strict rules for creating one, lax ones for addressing one.

Source: S3 user guide, "General purpose bucket naming rules" (s3-surface §5 #70).
"""

import re

from drystone_core.errors import ErrorCode, Refused

_ADDRESSED = re.compile(r"[A-Za-z0-9._\-]{1,255}\Z")
_CREATED = re.compile(r"[a-z0-9](?:[a-z0-9.\-]{1,61})[a-z0-9]\Z")
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\Z")
_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_addressed_bucket(name: str) -> None:
    """InvalidBucketName for what can never have been a bucket (and could confuse a log or a document)."""
    if _ADDRESSED.match(name) is None or name in (".", ".."):
        raise Refused(ErrorCode.INVALID_BUCKET_NAME, BucketName=name[:255])


def check_new_bucket(name: str) -> None:
    """InvalidBucketName unless `name` obeys all rules of AWS for general purpose buckets."""
    if (
        _CREATED.match(name) is None
        or ".." in name
        or ".-" in name
        or "-." in name
        or _IPV4.match(name)
        or name.startswith(_PREFIXES)
        or name.endswith(_SUFFIXES)
    ):
        raise Refused(ErrorCode.INVALID_BUCKET_NAME, BucketName=name[:255])

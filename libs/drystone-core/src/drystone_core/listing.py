# SPDX-License-Identifier: Apache-2.0
"""Listing requests and pages. Order is by UTF-8 bytes; a page costs O(entries returned), common prefixes are sought past."""

from dataclasses import dataclass
from typing import NamedTuple

from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.objects import Part, Upload


class ListedObject(NamedTuple):
    """A row of a listing, kept light: a page has a thousand."""

    key: Key
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str
    """Empty when none."""
    checksum_type: str


class ListedVersion(NamedTuple):
    key: Key
    version_id: VersionId
    is_latest: bool
    delete_marker: bool
    size: int
    etag: str
    modified_ms: int
    storage_class: str
    checksum_algorithm: str
    checksum_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPage:
    """`next_after` continues the listing as a new `start_after` (it may be a common prefix: everything under it is then skipped)."""

    objects: list[ListedObject]
    common_prefixes: list[bytes]
    truncated: bool
    next_after: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    versions: list[ListedVersion]
    common_prefixes: list[bytes]
    truncated: bool
    next_key: bytes
    next_version: str
    """Empty with a next_key that is a common prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPage:
    uploads: list[Upload]
    common_prefixes: list[bytes]
    truncated: bool
    next_key: bytes
    next_upload: UploadId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPage:
    upload: Upload
    parts: list[Part]
    truncated: bool
    next_part: int

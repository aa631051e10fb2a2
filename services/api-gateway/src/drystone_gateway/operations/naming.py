# SPDX-License-Identifier: Apache-2.0
"""What bytes on their way in will be named."""

from collections.abc import Mapping
from dataclasses import dataclass

from drystone_core.ids import BucketId, Key, Uid
from drystone_core.storage_classes import ANY_DISK, STANDARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What the bytes will be named, as far as it is known before they came."""

    bucket_id: BucketId
    bucket: str
    key: Key
    uid: Uid
    part: int = 0
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    storage_class: str = STANDARD
    disk_class: str = ANY_DISK
    """Class of the disks the bytes go to."""
    owner: str

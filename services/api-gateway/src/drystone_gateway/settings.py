# SPDX-License-Identifier: Apache-2.0
"""What of the gateway can be set. Built once by the command line, passed by value of the part needed."""

from dataclasses import dataclass, field

from drystone_core.check import check
from drystone_core.storage_classes import StorageClasses

MIB = 1024 * 1024
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of S3 and of this process."""

    bodies: int = 2048
    """Request bodies being received at once; beyond it SlowDown."""
    put_bytes: int = 5 * GIB
    """Of a single PUT, of a part and of a copied object."""
    object_bytes: int = 5 * TIB
    part_bytes: int = 5 * MIB
    """Least size of every part but the last."""
    parts: int = 10_000

    def __post_init__(self) -> None:
        check(self.bodies > 0 and self.parts > 0, "limits are positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The gateway's own."""

    region: str = "us-east-1"
    account: str = "000000000001"
    """The root account's id, 12 digits."""
    domains: tuple[str, ...] = ()
    """Suffixes of virtual-host addressing: `bucket.DOMAIN`."""
    unsigned_needs_tls: bool = False
    """Refuse bodies over plain HTTP that no signature covers (UNSIGNED-PAYLOAD, unsigned trailers)."""
    presigned_v2: bool = True
    """Accept presigned URLs of Signature Version 2 (docs/adr/0302-presigned-version-two.md)."""
    classes: StorageClasses = StorageClasses()
    """On which disks the objects of each storage class lie."""
    limits: Limits = field(default_factory=Limits)
    long_put_seconds: float = 3600.0
    """A body received for longer than this has its blobs registered, so that they may still be named (R7)."""
    copy_patience_seconds: float = 10.0
    """A copy that takes longer begins its answer, and adds a blank to it as often (s3-surface §5 #43)."""
    renew_seconds: float = 600.0
    """Between two signs of life of such a body's registration: many fit into the metadata service's `upload_silence`."""
    bucket_age: float = 1.0
    """Seconds for which a gateway of a cell may take a bucket as it saw it last (R2 of the metadata design)."""
    hash_slice: int = 256 * 1024
    """Bytes hashed in a helper thread at a time, at least."""
    inline_extents: int = 8192
    """Encoded bytes of extents and parts a row may hold; beyond it they stand in a manifest blob."""

    def __post_init__(self) -> None:
        check(len(self.account) == 12 and self.account.isdecimal(), "an account id has 12 digits")

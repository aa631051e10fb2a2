# SPDX-License-Identifier: Apache-2.0
"""What can be set: one frozen dataclass per section, each field with its parser and its sentence of help.

The sections of a cell of many processes stand in config_cell.py, how values are spelled in config_values.py.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Self

from drystone_core.slowness import SlownessSettings
from drystone_core.storage_classes import StorageClasses, is_disk_class, not_a_disk_class
from drystone_runtime.addresses import host_port, rpc_address, rpc_target
from drystone_runtime.config_cell import CassandraSettings, EtcdSettings, NodeSettings
from drystone_runtime.config_values import (
    GIB,
    KIB,
    MIB,
    choice,
    duration,
    number,
    pairs,
    profile,
    setting,
    size,
    text,
    texts,
    truth,
    whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The S3 endpoint."""

    listen: str = setting("127.0.0.1:9000", host_port, "where S3 is served")
    tls_cert: str = setting("", text, "PEM file with the certificate chain; empty = plain HTTP")
    tls_key: str = setting("", text, "PEM file with the certificate's private key")
    region: str = setting("us-east-1", text, "the region clients sign for")
    account: str = setting("000000000001", text, "the root account's id, 12 digits")
    domains: tuple[str, ...] = setting((), texts, "suffixes of virtual-host addressing (bucket.DOMAIN)")
    presigned_v2: bool = setting(True, truth, "accept presigned URLs of Signature Version 2 (boto3's default)")
    unsigned_needs_tls: bool = setting(
        False, truth, "refuse bodies whose bytes nobody signed unless they come over TLS"
    )
    drain: float = setting(20.0, duration, "how long requests in flight may go on after SIGTERM")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = []
        if bool(self.tls_cert) != bool(self.tls_key):
            found.append("server: tls_cert and tls_key go together; set both or neither")
        for name, path in (("tls_cert", self.tls_cert), ("tls_key", self.tls_key)):
            if path and not os.access(path, os.R_OK):
                found.append(f"server.{name}: {path} cannot be read")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.region):
            found.append(f"server.region: {self.region!r} is not a region (lower-case letters, digits, hyphens)")
        if not re.fullmatch(r"\d{12}", self.account):
            found.append(f"server.account: {self.account!r} is not 12 digits")
        found += [
            f"server.domains: {domain!r} is not a domain name"
            for domain in self.domains
            if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", domain)
        ]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Disks and volumes."""

    profile: str = setting("", profile, "rs-K-M or none; empty = by the number of disks; fixed at first start")
    disk_classes: tuple[tuple[str, str], ...] = setting(
        (), pairs, "DIR = class of that disk, e.g. hdd; DIR may be a pattern like /mnt/cold*; others: standard"
    )
    classes: tuple[tuple[str, str], ...] = setting(
        (), pairs, "storage class = class of the disks it lies on; empty = STANDARD alone, on all disks"
    )
    volume_size: int = setting(8 * GIB, size, "logical bytes after which a volume is closed")
    reserve: int = setting(0, size, "free bytes a disk keeps; 0 = 2 % of it, 64MiB to 4GiB")
    append_deadline: float = setting(2.0, duration, "a slot later than this closes its volume")
    slow_factor: float = setting(
        8.0, number, "a disk so many times slower than its peers, for good, is left; 0 = never"
    )
    slow_floor: float = setting(0.05, duration, "a disk whose writes take less than this is never slow")
    lost_after: float = setting(
        600.0, duration, "a disk (in a cell also a node) away for so long is taken for lost: its fragments are rebuilt"
    )
    repair_rate: int = setting(64 * MIB, size, "bytes a second repair may write")
    scrub_period: float = setting(
        14 * 86400.0, duration, "every closed fragment is read once in this time; 0 = only when asked"
    )
    scrub_rate: int = setting(32 * MIB, size, "bytes a second scrubbing may read")

    def slowness(self) -> SlownessSettings:
        """When a disk is slow by habit: the same for its volumes and for the metadata on it."""
        return SlownessSettings(factor=self.slow_factor, floor=self.slow_floor)

    def storage_classes(self) -> StorageClasses:
        """The mapping."""
        return StorageClasses(self.classes)

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = [f"storage.classes: {sentence}" for sentence in self.storage_classes().problems()]
        found += [
            f"storage.disk_classes: {not_a_disk_class(name)}"
            for _, name in self.disk_classes
            if not is_disk_class(name)
        ]
        if self.volume_size < 64 * MIB:
            found.append("storage.volume_size: at least 64MiB")
        if self.append_deadline < 0.05:
            found.append("storage.append_deadline: at least 50ms")
        if self.slow_factor and self.slow_factor < 2:
            found.append("storage.slow_factor: 0, or at least 2")
        if self.lost_after < 1:
            found.append("storage.lost_after: at least 1s")
        if self.repair_rate < MIB:
            found.append("storage.repair_rate: at least 1MiB")
        if self.scrub_rate < MIB:
            found.append("storage.scrub_rate: at least 1MiB")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """Names and the trash."""

    grace: float = setting(86400.0, duration, "deleted bytes wait this long before they are freed")
    feed_size: int = setting(GIB, size, "the change feed is trimmed beyond it (never within retry_window)")
    feed_age: float = setting(7 * 86400.0, duration, "change feed records are kept this long at most")
    retry_window: float = setting(900.0, duration, "a client's own retry is recognised for so long")
    tablet_rows: int = setting(100_000, whole, "in a cell: a tablet with more rows is split …")
    tablet_size: int = setting(64 * MIB, size, "… or with more bytes of them")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = ["metadata.grace: at least 15m"] if self.grace < 900 else []
        if self.feed_size < 64 * KIB:
            found.append("metadata.feed_size: at least 64KiB")
        if self.feed_age < 1 or self.retry_window < 1:
            found.append("metadata.feed_age and metadata.retry_window: at least 1s")
        if self.tablet_rows < 16 or self.tablet_size < 4 * KIB:
            found.append("metadata.tablet_rows: at least 16; metadata.tablet_size: at least 4KiB")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The operator's door: gRPC on STATE/admin.sock, open to the owner of the file."""

    reflection: bool = setting(True, truth, "grpcurl may ask for the contracts")

    def problems(self) -> list[str]:
        """Nothing beyond types."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """gRPC between services that are processes of their own; a standalone store needs none of it."""

    listen: str = setting("", rpc_address, "HOST:PORT or unix:/path; empty = the service's own port on the loopback")
    tls_ca: str = setting("", text, "PEM file: the authorities that vouch for services of this cell")
    tls_cert: str = setting("", text, "PEM file: this service's certificate, spiffe://CELL/SERVICE/NAME")
    tls_key: str = setting("", text, "PEM file: the certificate's private key")
    plaintext_loopback: bool = setting(False, truth, "no TLS on the loopback: for tests; every user here is let in")
    metadata: str = setting("127.0.0.1:9100", rpc_target, "the metadata services: one name, or IP:PORT with commas")
    storage_node: str = setting("127.0.0.1:9200", rpc_target, "the storage node")
    drain: float = setting(10.0, duration, "how long calls in progress may go on after SIGTERM")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        given = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(given) and not all(given):
            return ["rpc: tls_ca, tls_cert and tls_key go together; set all three or none"]
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSettings:
    """What replaces a process that died or hangs."""

    watchdog: float = setting(5.0, duration, "a process without a sign of life for this long is replaced")
    start: float = setting(60.0, duration, "a starting process may be silent for this long")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        return ["supervisor.watchdog: at least 2s"] if self.watchdog < 2 else []


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Log lines on standard error."""

    level: str = setting("info", choice("debug", "info", "warning", "error"), "the least severity written")
    format: str = setting("auto", choice("auto", "text", "json"), "auto = text on a terminal, else json")
    access: str = setting("errors", choice("all", "errors", "none"), "a line per request: errors = answers of 5xx only")

    def problems(self) -> list[str]:
        """Nothing beyond types."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSettings:
    """The root credential given by the environment; wins over the store's file and is never written anywhere."""

    access_key: str = field(default="", repr=False, metadata=MappingProxyType({"parse": text, "help": "access key id"}))
    secret_key: str = field(default="", repr=False, metadata=MappingProxyType({"parse": text, "help": "secret key"}))

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        if bool(self.access_key) != bool(self.secret_key):
            return ["root: DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY go together; set both or neither"]
        found = []
        if self.access_key and not re.fullmatch(r"[A-Za-z0-9_.-]{3,128}", self.access_key):
            found.append("DRYSTONE_ROOT_ACCESS_KEY: 3 to 128 letters, digits, `_`, `.` or `-`")
        if self.secret_key and len(self.secret_key) < 8:
            found.append("DRYSTONE_ROOT_SECRET_KEY: at least 8 characters")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set; parts are passed by value to those who need them."""

    server: ServerSettings = field(default_factory=ServerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    metadata: MetadataSettings = field(default_factory=MetadataSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    rpc: RpcSettings = field(default_factory=RpcSettings)
    supervisor: SupervisorSettings = field(default_factory=SupervisorSettings)
    log: LogSettings = field(default_factory=LogSettings)
    node: NodeSettings = field(default_factory=NodeSettings)
    coordinator: EtcdSettings = field(default_factory=EtcdSettings)
    cassandra: CassandraSettings = field(default_factory=CassandraSettings)
    root: RootSettings = field(default_factory=RootSettings)

    def problems(self) -> list[str]:
        """Of all sections."""
        return [sentence for what in fields(self) for sentence in getattr(self, what.name).problems()]

    def as_mapping(self, *, secrets: bool = False) -> dict[str, Any]:
        """Plain values by section; the root credential only when asked for (to hand it to a child through a pipe)."""
        plain = asdict(self)
        if not secrets:
            plain["root"] = {key: "…" if value else "" for key, value in plain["root"].items()}
        return plain

    @classmethod
    def from_mapping(cls, plain: Mapping[str, Mapping[str, Any]]) -> Self:
        """The inverse of `as_mapping(secrets=True)`, also after a trip through JSON."""
        parts = {}
        for name, section in SECTIONS.items():
            given = {key: _frozen(value) for key, value in plain[name].items()}
            parts[name] = section(**given)
        return cls(**parts)


def _frozen(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


SECTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "server": ServerSettings,
        "storage": StorageSettings,
        "metadata": MetadataSettings,
        "admin": AdminSettings,
        "rpc": RpcSettings,
        "supervisor": SupervisorSettings,
        "log": LogSettings,
        "node": NodeSettings,
        "coordinator": EtcdSettings,
        "cassandra": CassandraSettings,
        "root": RootSettings,
    }
)
ENVIRONMENT_ONLY = frozenset({"root"})

# SPDX-License-Identifier: Apache-2.0
"""What can be set of a cell of many processes: this node, the coordinator, the metadata store.

Passwords are in files of their own, never in the configuration: what is shown or handed on holds no secret.
"""

import os
import re
import socket
from dataclasses import dataclass

from drystone_runtime.addresses import host_port
from drystone_runtime.config_values import choice, duration, setting, text, texts, whole

_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
LEVELS = ("disk", "node", "rack", "zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The section `node`: this process among others of its kind."""

    name: str = setting("", text, "unique among processes of one kind; empty = the host's name")
    endpoint: str = setting("", text, "HOST:PORT where others reach its gRPC; empty = where it listens")
    state: str = setting("", text, "directory where it remembers who it is over restarts")
    zone: str = setting("", text, "where it stands: copies are spread over zones")
    rack: str = setting("", text, "where it stands inside the zone")
    level: str = setting(
        "node",
        choice(*LEVELS),
        "what slots of a volume are spread over, where no layout says: disk, node, rack or zone",
    )

    def named(self) -> str:
        """The name, or the host's."""
        return self.name or socket.gethostname().lower()

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = []
        if self.name and not _NODE.fullmatch(self.name):
            found.append(
                f"node.name: {self.name!r} is not a name (lower-case letters, digits, dots, hyphens; at most 63)"
            )
        if self.endpoint:
            try:
                host_port(self.endpoint)
            except ValueError as error:
                found.append(f"node.endpoint: {error}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """The section `coordinator`."""

    endpoints: tuple[str, ...] = setting(
        (), texts, "etcd's members, HOST:PORT each; empty = embedded, one machine only"
    )
    prefix: str = setting("/drystone/", text, "all keys begin with it; a cell that shares an etcd needs one of its own")
    user: str = setting("", text, "etcd user; empty = none (a client certificate may name one)")
    password_file: str = setting("", text, "file with the user's password (its last line break is no part of it)")
    tls_ca: str = setting("", text, "PEM file with the authorities that signed etcd's certificates; empty = no TLS")
    tls_cert: str = setting("", text, "PEM file with this process's certificate chain, when etcd asks for one")
    tls_key: str = setting("", text, "PEM file with that certificate's private key")
    timeout: float = setting(
        5.0, duration, "a call that has no answer by then fails; members that do not answer are left sooner"
    )
    session: float = setting(10.0, duration, "a node that is silent for so long counts as gone")
    progress: float = setting(2.0, duration, "watches ask for a sign of life so often")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = []
        for endpoint in self.endpoints:
            try:
                host_port(endpoint)
            except ValueError as error:
                found.append(f"coordinator.endpoints: {error}")
        if len(set(self.endpoints)) != len(self.endpoints):
            found.append("coordinator.endpoints: names one twice")
        if not self.prefix.endswith("/"):
            found.append("coordinator.prefix: ends with a slash, so that no other prefix begins with it")
        if bool(self.user) != bool(self.password_file):
            found.append("coordinator: user and password_file go together; set both or neither")
        if bool(self.tls_cert) != bool(self.tls_key):
            found.append("coordinator: tls_cert and tls_key go together; set both or neither")
        if self.tls_cert and not self.tls_ca:
            found.append("coordinator.tls_ca: needed with tls_cert")
        for name in ("password_file", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                found.append(f"coordinator.{name}: {path} cannot be read")
        if self.timeout < 0.5:
            found.append("coordinator.timeout: at least 500ms")
        if self.session < 2:
            found.append("coordinator.session: at least 2s, etcd gives no shorter lease")
        if self.progress < 0.1:
            found.append("coordinator.progress: at least 100ms")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CassandraSettings:
    """The section `cassandra`: where a cell of many processes keeps its metadata."""

    contact_points: tuple[str, ...] = setting(
        (), texts, "hosts of the home datacentre to ask first; empty = no Cassandra"
    )
    port: int = setting(9042, whole, "the native protocol's port")
    keyspace: str = setting("drystone", text, "one cell has one keyspace")
    datacentre: str = setting("", text, "the cell's home; empty = the only one the keyspace is replicated to")
    replication: int = setting(3, whole, "copies of each row, when `drystone cell init` creates the keyspace")
    user: str = setting("", text, "Cassandra role; empty = none")
    password_file: str = setting("", text, "file with the role's password (its last line break is no part of it)")
    tls_ca: str = setting(
        "", text, "PEM file with the authorities that signed Cassandra's certificates; empty = no TLS"
    )
    tls_cert: str = setting("", text, "PEM file with this process's certificate, when Cassandra asks for one")
    tls_key: str = setting("", text, "PEM file with that certificate's private key")

    def problems(self) -> list[str]:
        """What fits its type and is wrong all the same."""
        found = []
        if not _KEYSPACE.fullmatch(self.keyspace):
            found.append("cassandra.keyspace: lower-case letters, digits and `_`, at most 48, a letter first")
        if not 0 < self.port < 65536:
            found.append("cassandra.port: 1 to 65535")
        if not 1 <= self.replication <= 9:
            found.append("cassandra.replication: 1 to 9")
        if bool(self.user) != bool(self.password_file):
            found.append("cassandra: user and password_file go together; set both or neither")
        if bool(self.tls_cert) != bool(self.tls_key):
            found.append("cassandra: tls_cert and tls_key go together; set both or neither")
        if self.tls_cert and not self.tls_ca:
            found.append("cassandra.tls_ca: needed with tls_cert")
        for name in ("password_file", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                found.append(f"cassandra.{name}: {path} cannot be read")
        return found

    def password(self) -> str:
        """From its file; OSError when it cannot be read."""
        if not self.password_file:
            return ""
        with open(self.password_file, encoding="utf-8") as file:
            return file.read().removesuffix("\n")

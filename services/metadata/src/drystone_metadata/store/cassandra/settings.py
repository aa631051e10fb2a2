# SPDX-License-Identifier: Apache-2.0
"""What a process must know to use a Cassandra cluster as its cell's metadata store; limits and times."""

import re
from dataclasses import dataclass, field

from drystone_core.check import check
from drystone_runtime import config_cell

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class CassandraSettings:
    """Built once at start."""

    contact_points: tuple[str, ...]
    """Hosts of the home datacentre to ask first; the others are learnt from them."""
    port: int = 9042
    keyspace: str = "drystone"
    """One cell has one keyspace: lower-case letters, digits and `_`."""
    datacentre: str = ""
    """The cell's home (R9). Empty: the only datacentre the keyspace is replicated to."""
    replication_factor: int = 3
    """Of a keyspace that `migrate` creates; an existing keyspace keeps its own."""
    migrate: bool = False
    """Create the keyspace and bring its schema up to this release's; otherwise both are only checked."""

    username: str = ""
    password: str = field(default="", repr=False)
    tls_ca: str = ""
    """PEM file of the authority that signed the nodes' certificates; empty: no TLS. Names are checked."""
    tls_certificate: str = ""
    """PEM file of our own certificate, where nodes ask for one …"""
    tls_key: str = ""
    """… and of its key."""

    connect_timeout: float = 5.0
    """Seconds for one connection."""
    commit_timeout: float = 5.0
    """Seconds an answer to a conditional batch or SERIAL read is waited for; more than the server's own timeouts, so that
    as a rule the server says what is unknown."""
    read_timeout: float = 5.0
    hedge_after: float = 0.5
    """Seconds after which a plain read is asked of a second node as well."""
    heartbeat: float = 5.0
    """Seconds of silence on a connection before it is probed, and again before it is given up."""
    reconnect_after: float = 1.0
    """Seconds between attempts to reach a node that is away."""
    schema_timeout: float = 60.0
    """Seconds for one change of the schema, and for another process's migration to end."""

    concurrent: int = 256
    """Statements under way at once; further ones wait."""
    waiting: int = 16384
    """Statements that wait; beyond it callers get Busy."""
    read_rows: int = 256
    """Rows asked for by one statement of a bulk read."""
    scan_rows: int = 1000
    """Rows of one page of a scan."""
    feed_rows: int = 128
    """Records of one page of the feed (each up to some 100 KiB)."""
    known_tablets: int = 65536
    """Tablets whose range is remembered."""

    def __post_init__(self) -> None:
        check(_NAME.match(self.keyspace) is not None, "a keyspace is lower-case letters, digits and _")
        check(bool(self.contact_points), "Cassandra needs at least one contact point")
        check(bool(self.tls_certificate) == bool(self.tls_key), "a TLS certificate and its key come together")


def chosen(section: config_cell.CassandraSettings, *, migrate: bool = False) -> CassandraSettings:
    """The store's own settings from what was configured; OSError when the password's file cannot be read."""
    return CassandraSettings(
        contact_points=section.contact_points,
        port=section.port,
        keyspace=section.keyspace,
        datacentre=section.datacentre,
        replication_factor=section.replication,
        migrate=migrate,
        username=section.user,
        password=section.password(),
        tls_ca=section.tls_ca,
        tls_certificate=section.tls_cert,
        tls_key=section.tls_key,
    )

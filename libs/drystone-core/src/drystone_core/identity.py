# SPDX-License-Identifier: Apache-2.0
"""Who a service is: `spiffe://CELL/SERVICE/NAME`, as it stands in its certificate.

Invariants
  N1  A certificate names exactly one identity (one URI): whoever carries two is nobody.
  N2  The server name of an identity tells the cell and the kind of service, not the name: a client that calls "a
      metadata service of this cell" asks TLS for that name, and any service of that kind may answer.
Source: SPIFFE ID and X509-SVID specifications (https://github.com/spiffe/spiffe/tree/main/standards); the role in a DNS name of
the certificate as in Consul's `server.DATACENTER.DOMAIN`. docs/adr/0503-service-identity.md.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

DOMAIN = "drystone.internal"
_CELL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


class ServiceKind(StrEnum):
    """What may call and be called inside a cell."""

    GATEWAY = "gateway"
    METADATA = "metadata"
    STORAGE_NODE = "storage-node"
    LIFECYCLE = "lifecycle"
    REPLICATION = "replication"
    ADMIN = "admin"
    """A person or a tool that operates the cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One service of one cell."""

    cell: str
    """A DNS label."""
    kind: ServiceKind
    name: str
    """Which one of its kind: at most 63 of a-z, 0-9, `.`, `_`, `-`."""

    def __post_init__(self) -> None:
        if not _CELL.fullmatch(self.cell):
            raise ValueError(f"{self.cell!r} is not a cell's name: 1 to 63 of a-z, 0-9 and `-`, no `-` at either end")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a service's name: 1 to 63 of a-z, 0-9, `.`, `_` and `-`")

    @classmethod
    def parse(cls, uri: str) -> Self:
        """From its URI; ValueError in words otherwise."""
        scheme, _, rest = uri.partition("://")
        cell, *path = rest.split("/")
        if scheme != "spiffe" or len(path) != 2:
            raise ValueError(f"{uri!r} is not spiffe://CELL/SERVICE/NAME")
        return cls(cell=cell, kind=service_kind(path[0]), name=path[1])

    @property
    def uri(self) -> str:
        """As it stands in a certificate."""
        return f"spiffe://{self.cell}/{self.kind.value}/{self.name}"

    @property
    def server_name(self) -> str:
        """The DNS name its certificate carries beside the URI."""
        return server_name(self.cell, self.kind)

    def __str__(self) -> str:
        return self.uri


def server_name(cell: str, kind: ServiceKind) -> str:
    """What a client asks TLS for when it calls any service of this kind (N2)."""
    return f"{kind.value}.{cell}.{DOMAIN}"


def service_kind(text: str) -> ServiceKind:
    """From its name; ValueError in words otherwise."""
    try:
        return ServiceKind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a kind of service: {', '.join(ServiceKind)}") from None

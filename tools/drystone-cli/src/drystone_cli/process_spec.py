# SPDX-License-Identifier: Apache-2.0
"""What the supervisor tells a child through its standard input: settings, directories, sockets, the credential."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from drystone_runtime.config_sections import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """Everything a child needs to know."""

    settings: Settings
    state: str
    disks: tuple[str, ...]
    add_disks: bool
    """Take in empty directories that are not among the store's disks."""
    endpoint: str
    """e.g. http://127.0.0.1:9000"""
    listen_fd: int
    """The listening socket, inherited."""
    admin_socket: str
    """Path: AdminService, for people."""
    node_socket: str
    """Path: MetadataService and StorageService, for the background process."""
    background_socket: str
    """Path: LifecycleService and ReplicationService, served by the background process."""
    access_key: str
    secret_key: str = field(repr=False)

    def encode(self) -> bytes:
        """For a pipe; holds the secret."""
        plain = {name: value for name, value in asdict(self).items() if name != "settings"}
        plain["settings"] = self.settings.as_mapping(secrets=True)
        return json.dumps(plain).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse."""
        plain = json.loads(data)
        plain["settings"] = Settings.from_mapping(plain["settings"])
        plain["disks"] = tuple(plain["disks"])
        return cls(**plain)

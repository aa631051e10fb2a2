# SPDX-License-Identifier: Apache-2.0
"""The services as verbs: `drystone metadata` is `python -m drystone_metadata`, and so on."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

ROLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "gateway": ("drystone_gateway", "run a gateway of a cell: S3 over HTTP"),
        "metadata": ("drystone_metadata", "run a metadata service: names, versions, listings"),
        "storage-node": ("drystone_storage", "run a storage node: disks and volumes"),
        "lifecycle": ("drystone_lifecycle", "run the lifecycle service: frees what is dead"),
        "replication": ("drystone_replication", "run the replication service: repairs and scrubs"),
    }
)
"""Verb → package, and what it does."""


def run(role: str, arguments: Sequence[str]) -> int:
    """The service's whole life; returns its exit code."""
    module = import_module(f"{ROLES[role][0]}.__main__")
    code: int = module.main(arguments, program=f"drystone {role}")
    return code

# SPDX-License-Identifier: Apache-2.0
"""`drystone storage-node DIR…` and `python -m drystone_storage DIR…`: a storage node on these disks, over gRPC."""

import argparse
import sys
from collections.abc import Sequence

from drystone_core.identity import ServiceKind
from drystone_runtime.rpc.process import Process, Role, Started, run_service
from drystone_storage.node import build
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service
from drystone_storage.settings import chosen
from drystone_storage.world import real_world


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(
        kind=ServiceKind.STORAGE_NODE,
        port=9200,
        arguments=_arguments,
        flags={"storage.profile": "rs-K-M for a new node, or none for a single copy"},
        start=start,
    )
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("disks", metavar="DIR", nargs="+", help="directories that are disks")


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Open the disks."""
    node = build(chosen(process.settings.storage, tuple(given.disks)), real_world())
    await node.start()
    return Started(
        services=(storage_service(node, node.status), upkeep_service(node.healer, node.freer, node.scrubs)),
        stop=node.stop,
    )


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_storage"))

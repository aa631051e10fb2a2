# SPDX-License-Identifier: Apache-2.0
"""`python -m drystone_storage DIR…`: a storage node on these disks, over gRPC."""

import argparse
import sys

from drystone_core.profiles import Profile
from drystone_runtime.rpc.process import Started, run_service
from drystone_storage.node import build
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service
from drystone_storage.settings import StorageSettings
from drystone_storage.world import real_world


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("disks", metavar="DIR", nargs="+", help="directories that are disks")
    parser.add_argument("--profile", type=Profile.parse, help="rs-K-M, for a new node")


async def start(given: argparse.Namespace) -> Started:
    """Open the disks."""
    world = real_world()
    node = build(StorageSettings(paths=tuple(given.disks), profile=given.profile), world)
    await node.start()
    return Started(
        services=(storage_service(node, node.status), upkeep_service(node.healer, node.freer, node.scrubs)),
        stop=node.stop,
    )


if __name__ == "__main__":
    sys.exit(run_service(name="storage", port=9200, arguments=arguments, start=start))

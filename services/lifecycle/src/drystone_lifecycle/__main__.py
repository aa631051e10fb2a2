# SPDX-License-Identifier: Apache-2.0
"""`python -m drystone_lifecycle --node ADDRESS --metadata ADDRESS`: frees what is dead on a storage node, over gRPC."""

import argparse
import sys

from drystone_lifecycle.reclaim.reclaimer import Reclaimer
from drystone_lifecycle.rpc.server import lifecycle_service
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.metadata_client import RpcMetadata
from drystone_runtime.rpc.process import Started, local_address, run_service
from drystone_runtime.rpc.upkeep_client import RpcUpkeep


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--node", type=local_address, default="127.0.0.1:9200", help="the storage node's address")
    parser.add_argument("--metadata", type=local_address, default="127.0.0.1:9100", help="the metadata service's")


async def start(given: argparse.Namespace) -> Started:
    """Begin to look for what is dead."""
    clock = SystemClock()
    background = Background(clock=clock)
    node, metadata = open_channel(given.node), open_channel(given.metadata)
    reclaimer = Reclaimer(
        node=RpcUpkeep(node),
        metadata=RpcMetadata(channel=metadata, background=background),
        clock=clock,
        background=background,
    )
    reclaimer.start()

    async def stop() -> None:
        await background.stop()
        await node.close()
        await metadata.close()

    return Started(services=(lifecycle_service(reclaimer.status),), stop=stop)


if __name__ == "__main__":
    sys.exit(run_service(name="lifecycle", port=9300, arguments=arguments, start=start))

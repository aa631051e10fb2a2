# SPDX-License-Identifier: Apache-2.0
"""`python -m drystone_replication --node ADDRESS`: repairs the volumes of a storage node, over gRPC."""

import argparse
import sys

from drystone_replication.repair import Repairer, Scrubber
from drystone_replication.rpc.server import replication_service
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.process import Started, local_address, run_service
from drystone_runtime.rpc.upkeep_client import RpcUpkeep


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--node", type=local_address, default="127.0.0.1:9200", help="the storage node's address")


async def start(given: argparse.Namespace) -> Started:
    """Begin to look for wounds."""
    clock = SystemClock()
    background, channel = Background(clock=clock), open_channel(given.node)
    node = RpcUpkeep(channel)
    repairer = Repairer(node=node, clock=clock, background=background)
    repairer.start()
    scrubber = Scrubber(node=node, clock=clock, background=background, found=repairer.poke)
    scrubber.start()

    async def stop() -> None:
        await background.stop()
        await channel.close()

    return Started(services=(replication_service(repairer, scrubber),), stop=stop)


if __name__ == "__main__":
    sys.exit(run_service(name="replication", port=9400, arguments=arguments, start=start))

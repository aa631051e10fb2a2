# SPDX-License-Identifier: Apache-2.0
"""`drystone replication` and `python -m drystone_replication`: repairs the volumes of a storage node, over gRPC."""

import argparse
import sys
from collections.abc import Sequence

from drystone_core.identity import ServiceKind
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_replication.rpc.server import replication_service
from drystone_runtime.rpc.process import Process, Role, Started, run_service
from drystone_runtime.rpc.upkeep_client import RpcUpkeep


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(
        kind=ServiceKind.REPLICATION,
        port=9400,
        arguments=_arguments,
        flags={"rpc.storage_node": "the storage node to repair (default 127.0.0.1:9200)"},
        calls=("rpc.storage_node",),
        start=start,
    )
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing beside settings."""


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Begin to look for wounds."""
    settings, background = process.settings.storage, process.background
    link = process.needs(process.settings.rpc.storage_node, ServiceKind.STORAGE_NODE)
    node = RpcUpkeep(link)
    repairer = Repairer(
        node=node,
        clock=process.clock,
        background=background,
        settings=RepairSettings(bytes_per_second=settings.repair_rate),
    )
    scrubber = Scrubber(
        node=node,
        clock=process.clock,
        background=background,
        found=repairer.poke,
        settings=ScrubSettings(period=settings.scrub_period, bytes_per_second=settings.scrub_rate),
    )
    repairer.start()
    scrubber.start()

    async def stop() -> None:
        await background.stop()
        await link.close()

    return Started(services=(replication_service(repairer, scrubber),), stop=stop)


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_replication"))

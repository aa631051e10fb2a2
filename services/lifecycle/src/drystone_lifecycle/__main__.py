# SPDX-License-Identifier: Apache-2.0
"""`drystone lifecycle` and `python -m drystone_lifecycle`: frees what is dead on a storage node, over gRPC."""

import argparse
import sys
from collections.abc import Sequence

from drystone_core.identity import ServiceKind
from drystone_lifecycle.reclaim.reclaimer import Reclaimer, ReclaimSettings
from drystone_lifecycle.rpc.server import lifecycle_service
from drystone_runtime.rpc.metadata_client import RpcMetadata
from drystone_runtime.rpc.process import Process, Role, Started, run_service
from drystone_runtime.rpc.upkeep_client import RpcUpkeep


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(
        kind=ServiceKind.LIFECYCLE,
        port=9300,
        arguments=_arguments,
        flags={
            "rpc.storage_node": "the storage node to reclaim on (default 127.0.0.1:9200)",
            "rpc.metadata": "the metadata services (default 127.0.0.1:9100)",
        },
        calls=("rpc.storage_node", "rpc.metadata"),
        start=start,
    )
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing beside settings."""


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Begin to look for what is dead."""
    settings, background = process.settings, process.background
    node = process.needs(settings.rpc.storage_node, ServiceKind.STORAGE_NODE)
    metadata = process.needs(settings.rpc.metadata, ServiceKind.METADATA, balance=True)
    reclaimer = Reclaimer(
        node=RpcUpkeep(node),
        metadata=RpcMetadata(channel=metadata, background=background, retries=process.retries()),
        clock=process.clock,
        background=background,
        settings=ReclaimSettings(grace=settings.metadata.grace),
    )
    reclaimer.start()

    async def stop() -> None:
        await background.stop()
        await node.close()
        await metadata.close()

    return Started(services=(lifecycle_service(reclaimer.status),), stop=stop)


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_lifecycle"))

# SPDX-License-Identifier: Apache-2.0
"""`drystone lifecycle` and `python -m drystone_lifecycle`: frees what is dead on storage nodes, over gRPC: on all of a cell
while it leads, or on the one it is told of."""

import argparse
import sys
from collections.abc import Sequence

from drystone_core.formats.coordination import LIFECYCLE, NodeDocument
from drystone_core.identity import ServiceKind
from drystone_lifecycle.reclaim.reclaimer import Reclaimer, ReclaimSettings
from drystone_lifecycle.rpc.server import lifecycle_service
from drystone_lifecycle.term import AnyMetadata, LifecycleTerms
from drystone_runtime.coordination.directory import NodeDirectory
from drystone_runtime.rpc.leading import keep_leading
from drystone_runtime.rpc.links import Link
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
    if process.in_cell:
        return await start_in_cell(process)
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


async def start_in_cell(process: Process) -> Started:
    """Wait to lead."""
    settings, background = process.settings, process.background
    place = process.place(ServiceKind.LIFECYCLE.value)
    await place.open(settings.coordinator)

    def reach(node: NodeDocument) -> tuple[Link, RpcMetadata]:
        link = process.dial.open(node.endpoint, ServiceKind.METADATA)
        return link, RpcMetadata(channel=link, background=background)

    metadata = NodeDirectory(
        cache=place.cache,
        role=ServiceKind.METADATA.value,
        open_client=reach,
        close_client=_close,
        clock=process.clock,
        background=background,
    )
    terms = LifecycleTerms(
        clock=process.clock,
        metadata=AnyMetadata(lambda: [one.client[1] for one in metadata.nodes(draining=True)]),
        settings=ReclaimSettings(grace=settings.metadata.grace),
    )

    async def enter() -> None:
        await place.enter()
        background.keep("leading", lambda: keep_leading(process, place, LIFECYCLE, terms.serve))

    async def stop() -> None:
        await background.stop()
        await metadata.close()
        await place.close()

    return Started(services=(lifecycle_service(terms.status),), enter=enter, leave=place.leave, stop=stop)


async def _close(reached: tuple[Link, RpcMetadata]) -> None:
    await reached[0].close()


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_lifecycle"))

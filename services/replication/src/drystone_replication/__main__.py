# SPDX-License-Identifier: Apache-2.0
"""`drystone replication` and `python -m drystone_replication`: repairs the volumes of storage nodes, over gRPC: of all of a
cell while it leads, or of the one it is told of."""

import argparse
import sys
from collections.abc import Sequence

from drystone_core.formats.coordination import REPLICATION
from drystone_core.identity import ServiceKind
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_replication.rpc.server import replication_service
from drystone_replication.term import ReplicationTerms
from drystone_runtime.rpc.leading import keep_leading
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
    if process.in_cell:
        return await start_in_cell(process)
    background = process.background
    link = process.needs(process.settings.rpc.storage_node, ServiceKind.STORAGE_NODE)
    node = RpcUpkeep(link)
    repairer = Repairer(
        node=node,
        clock=process.clock,
        background=background,
        settings=_repair(process),
    )
    scrubber = Scrubber(
        node=node,
        clock=process.clock,
        background=background,
        found=repairer.poke,
        settings=_scrub(process),
    )
    repairer.start()
    scrubber.start()

    async def stop() -> None:
        await background.stop()
        await link.close()

    return Started(services=(replication_service(repairer, scrubber),), stop=stop)


async def start_in_cell(process: Process) -> Started:
    """Wait to lead."""
    place = process.place(ServiceKind.REPLICATION.value)
    await place.open(process.settings.coordinator)
    terms = ReplicationTerms(clock=process.clock, repair=_repair(process), scrub=_scrub(process))

    async def enter() -> None:
        await place.enter()
        process.background.keep("leading", lambda: keep_leading(process, place, REPLICATION, terms.serve))

    async def stop() -> None:
        await process.background.stop()
        await place.close()

    return Started(
        services=(replication_service(terms.repair, terms.scrub),), enter=enter, leave=place.leave, stop=stop
    )


def _repair(process: Process) -> RepairSettings:
    return RepairSettings(bytes_per_second=process.settings.storage.repair_rate)


def _scrub(process: Process) -> ScrubSettings:
    storage = process.settings.storage
    return ScrubSettings(period=storage.scrub_period, bytes_per_second=storage.scrub_rate)


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_replication"))

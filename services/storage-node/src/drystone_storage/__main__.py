# SPDX-License-Identifier: Apache-2.0
"""`drystone storage-node DIR…` and `python -m drystone_storage DIR…`: a storage node on these disks, over gRPC."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from drystone_core.identity import ServiceKind
from drystone_runtime.coordination.place import claim_of, reach_cell
from drystone_runtime.rpc.process import Process, Role, Started, run_service
from drystone_storage.cell.member import CellMember, MemberSettings
from drystone_storage.node import build
from drystone_storage.rpc.disks import disk_service
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service
from drystone_storage.settings import StorageSettings, chosen
from drystone_storage.world import real_world


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(
        kind=ServiceKind.STORAGE_NODE,
        port=9200,
        arguments=_arguments,
        flags={
            "storage.profile": "rs-K-M for a new node, or none for a single copy",
            "storage.disk_classes": "DIR=CLASS,…: classes of disks, e.g. hdd; DIR may be a pattern like '/mnt/cold*'",
        },
        start=start,
    )
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("disks", metavar="DIR", nargs="+", help="directories that are disks")
    parser.add_argument(
        "--add-disks", action="store_true", help="take in empty directories beside those that are disks already"
    )


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Open the disks; in a cell, among those of other nodes."""
    if process.in_cell:
        return await start_in_cell(given, process)
    node = build(_storage(given, process), real_world())
    await node.start()
    return Started(
        services=(storage_service(node, node.status), upkeep_service(node.healer, node.freer, node.scrubs)),
        stop=node.stop,
    )


async def start_in_cell(given: argparse.Namespace, process: Process) -> Started:
    """A node among others: it is found, finds their disks, and opens volumes over all of them."""
    settings, world = process.settings, real_world()
    coordinator, cell = await reach_cell(settings=settings.coordinator, clock=process.clock, entropy=process.entropy)
    member = CellMember(
        settings=MemberSettings(
            node=settings.node.named(),
            endpoint=process.endpoint,
            claim=claim_of(settings.node.state, process.entropy),
            zone=settings.node.zone,
            rack=settings.node.rack,
            level=settings.node.level,
            ttl=settings.coordinator.session,
        ),
        storage=replace(_storage(given, process), cell=cell),
        world=world,
        coordinator=coordinator,
        dial=lambda endpoint: process.dial.open_blocking(endpoint, ServiceKind.STORAGE_NODE),
    )
    node, upkeep = member.node, member.upkeep

    async def stop() -> None:
        await member.stop()
        await process.background.stop()
        await coordinator.close()

    return Started(
        services=(
            storage_service(node, node.status),
            upkeep_service(upkeep, upkeep, upkeep, look=upkeep.look_again, fence=member.fences),
            disk_service(world, member.local_units),
        ),
        enter=member.start,
        leave=member.leave,
        stop=stop,
    )


def _storage(given: argparse.Namespace, process: Process) -> StorageSettings:
    return replace(chosen(process.settings.storage, tuple(given.disks)), add_disks=given.add_disks)


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_storage"))

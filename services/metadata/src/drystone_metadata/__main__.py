# SPDX-License-Identifier: Apache-2.0
"""`drystone metadata DIR…` and `python -m drystone_metadata DIR…`: the metadata service with its members there, over gRPC."""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Sequence

from drystone_core.identity import ServiceKind
from drystone_core.ids import DiskId
from drystone_metadata.rpc.server import metadata_service
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import chosen
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET
from drystone_runtime.disks import RealDisk
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_runtime.rpc.process import Process, Role, Started, run_service


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(kind=ServiceKind.METADATA, port=9100, arguments=_arguments, flags={}, start=start)
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", help="directories for members, each on a disk of its own"
    )
    parser.add_argument("--cluster-id", type=_cluster_id, required=True, help="32 hex digits; never change them")
    parser.add_argument("--create", action="store_true", help="a cell with nothing in any directory is new")


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Find the newest state and own it; up to two of the directories may be missing (one of two, none of one)."""
    clock, entropy, lanes, background = process.clock, process.entropy, LoopLanes(), process.background
    storage = EmbeddedStorage(
        units=[_unit(path) for path in given.directories],
        cluster_id=given.cluster_id,
        m=min(2, len(given.directories) - 1),
        lanes=lanes,
        clock=clock,
        entropy=entropy,
        settings=EmbeddedSettings(slow=process.settings.storage.slowness()),
    )
    await storage.open(create=given.create)
    metadata = LocalMetadata(
        storage=storage,
        tablet=CELL_TABLET,
        clock=clock,
        entropy=entropy,
        settings=chosen(process.settings.metadata),
    )
    await metadata.start()
    background.keep("metadata.commit", metadata.run)
    background.keep("metadata.upkeep", metadata.upkeep.run)

    async def stop() -> None:
        await background.stop()
        await storage.close()

    return Started(services=(metadata_service(metadata),), stop=stop)


def _unit(path: str) -> MemberUnit:
    root = os.path.abspath(path)
    disk = RealDisk(root)
    disk.make()
    name = root.rpartition("/")[2]
    return MemberUnit(
        disk_id=DiskId(hashlib.sha256(os.fsencode(root)).hexdigest()[:32]),
        path=root,
        disk=disk,
        lane=ThreadLane(f"journal-{name}"),
        db_lane=ThreadLane(f"rows-{name}"),
    )


def _cluster_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 32 lower-case hex digits")
    return text


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_metadata"))

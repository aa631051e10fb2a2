# SPDX-License-Identifier: Apache-2.0
"""`drystone metadata` and `python -m drystone_metadata`: the metadata service over gRPC.

In a cell (`coordinator.endpoints`) its tablets are in Cassandra, and whichever process the ring names owns each; alone, with
DIR…, its members are in these directories.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.formats.coordination import NodeDocument
from drystone_core.identity import ServiceKind
from drystone_core.ids import ClusterId, DiskId
from drystone_core.ports import Clock
from drystone_metadata.owned import OwnedMetadata
from drystone_metadata.rpc.server import metadata_service
from drystone_metadata.rpc.steps import RpcPeer, peer_service
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import chosen
from drystone_metadata.standing import Standing
from drystone_metadata.store.cassandra import OpenCell, check_identity, open_cell
from drystone_metadata.store.cassandra.settings import chosen as cassandra_settings
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET, TabletId, TabletStorage
from drystone_metadata.tablets.handing import Step
from drystone_runtime.coordination.cache import OwnerRing
from drystone_runtime.coordination.directory import NodeDirectory
from drystone_runtime.disks import RealDisk
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_runtime.rpc.health import Dependency
from drystone_runtime.rpc.links import Link
from drystone_runtime.rpc.process import Process, Role, Started, run_service

LOOK_SECONDS = 2.0
"""Between two looks at Cassandra."""


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(kind=ServiceKind.METADATA, port=9100, arguments=_arguments, flags={}, start=start)
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories", metavar="DIR", nargs="*", help="alone: directories for members, each on a disk of its own"
    )
    parser.add_argument("--cluster-id", type=_cluster_id, help="with DIR: 32 hex digits; never change them")
    parser.add_argument("--create", action="store_true", help="a cell with nothing in any directory is new")


async def start(given: argparse.Namespace, process: Process) -> Started:
    """In a cell or alone."""
    if process.in_cell and not given.directories:
        return await start_in_cell(process)
    if process.in_cell or not given.directories or not given.cluster_id:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "either give DIR… and --cluster-id, or set coordinator.endpoints and cassandra.contact_points",
        )
    return await start_alone(given, process)


async def start_in_cell(process: Process) -> Started:
    """Read any tablet, own those the ring of metadata processes gives us."""
    if not process.settings.cassandra.contact_points:
        raise Refused(ErrorCode.INVALID_REQUEST, "set cassandra.contact_points: a cell keeps its metadata there")
    clock, entropy, background = process.clock, process.entropy, process.background
    place = process.place(ServiceKind.METADATA.value)
    await place.open(process.settings.coordinator)
    try:
        store = await _open_store(process, place.cell)
    except BaseException:
        await place.close()
        raise
    background.keep("health.cassandra", partial(_follow, store.storage, process.health.depend("cassandra"), clock))
    ring, session = OwnerRing(cache=place.cache), process.settings.coordinator.session

    def owns(tablet: TabletId) -> bool:
        return metadata.tablets.owns(tablet)

    def open_peer(node: NodeDocument) -> tuple[Link, RpcPeer]:
        link = process.dial.open(node.endpoint, ServiceKind.METADATA)
        return link, RpcPeer(channel=link, background=background, timeout=session)

    peers = NodeDirectory(
        cache=place.cache,
        role=ServiceKind.METADATA.value,
        open_client=open_peer,
        close_client=_close_peer,
        clock=clock,
        background=background,
    )

    async def ask(name: str, tablet: TabletId, step: Step) -> None:
        peer = peers.get(name)
        if peer is None:
            raise Unavailable("the tablet's owner is not known here yet")
        await peer.client[1].take(tablet, step)

    standing = Standing(name=place.name, ring=ring.name, registered=lambda: place.registered, owns=owns)
    metadata = OwnedMetadata(
        storage=store.storage,
        name=place.name,
        owner=standing,
        ask=ask,
        registered=lambda: place.registered,
        lease=session,
        clock=clock,
        entropy=entropy,
        settings=chosen(process.settings.metadata),
    )

    async def enter() -> None:
        await place.enter()
        background.keep("metadata.own", metadata.run)

    async def leave() -> None:
        await place.leave()
        await metadata.let_go()

    async def stop() -> None:
        await background.stop()
        await place.close()
        await peers.close()
        await store.close()

    services = metadata_service(metadata), peer_service(metadata.take)
    return Started(services=services, enter=enter, leave=leave, stop=stop)


async def _close_peer(reached: tuple[Link, RpcPeer]) -> None:
    await reached[0].close()


async def _open_store(process: Process, cell: ClusterId) -> OpenCell:
    """The keyspace of that cell; Refused when it is another's."""
    settings = cassandra_settings(process.settings.cassandra)
    store = await open_cell(settings, clock=process.clock, entropy=process.entropy)
    try:
        check_identity(settings.keyspace, await store.identity(), cell)
    except BaseException:
        await store.close()
        raise
    return store


async def _follow(storage: TabletStorage, cassandra: Dependency, clock: Clock) -> None:
    """Ready while the first tablet can be read."""
    while True:
        try:
            await storage.state(CELL_TABLET)
            cassandra.up()
        except DrystoneError as error:
            cassandra.down(error.message or error.code.value)
        await clock.sleep(LOOK_SECONDS)


async def start_alone(given: argparse.Namespace, process: Process) -> Started:
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

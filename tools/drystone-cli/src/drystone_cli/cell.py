# SPDX-License-Identifier: Apache-2.0
"""`drystone cell init`: what must stand before the services of a cell can start.

Writes the cell's identity into the coordinator and into Cassandra (each only when none is there, and compares otherwise),
creates the keyspace, runs the migrations of this release, makes the first tablet. All of it may be repeated.
"""

import asyncio
import json
import re

from drystone_cli.exits import FAILED, OK, USAGE, Failure
from drystone_core.coordination import Coordinator
from drystone_core.errors import DrystoneError, Refused
from drystone_core.formats.coordination import CELL, CellDocument, decode
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock, Entropy
from drystone_metadata.store.cassandra import check_identity, open_cell
from drystone_metadata.store.cassandra.settings import chosen
from drystone_metadata.store.ports import CELL_TABLET
from drystone_runtime.clock import SystemClock
from drystone_runtime.config_sections import Settings
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.logs import configure

HELP = "drystone cell init --help"


def init(settings: Settings, *, cluster_id: str | None, as_json: bool) -> int:
    """Make what is missing; Failure when something is there that is another cell's."""
    problems = []
    if not settings.coordinator.endpoints:
        problems.append("set coordinator.endpoints: etcd's members")
    if not settings.cassandra.contact_points:
        problems.append("set cassandra.contact_points: where the cell keeps its metadata")
    if cluster_id is not None and not re.fullmatch(r"[0-9a-f]{32}", cluster_id):
        problems.append(f"--cluster-id: {cluster_id!r} is not 32 lower-case hex digits")
    if problems:
        raise Failure("; ".join(problems), HELP, USAGE)
    configure(level=settings.log.level, style=settings.log.format, role="cell")
    try:
        cell = asyncio.run(_init(settings, ClusterId(cluster_id) if cluster_id else None))
    except (DrystoneError, OSError) as error:
        message = (error.message or error.code.value) if isinstance(error, DrystoneError) else str(error)
        raise Failure(f"the cell is not ready: {message}", "see the message; init may be repeated", FAILED) from error
    if as_json:
        print(json.dumps({"ok": True, "cluster_id": cell, "keyspace": settings.cassandra.keyspace}))
    else:
        print(f"cell {cell}: identity in the coordinator, keyspace {settings.cassandra.keyspace} up to date")
    return OK


async def _init(settings: Settings, wanted: ClusterId | None) -> ClusterId:
    clock, entropy = SystemClock(), SystemEntropy()
    # The keyspace first: a cell whose identity stands is one whose services may start.
    store = await open_cell(chosen(settings.cassandra, migrate=True), clock=clock, entropy=entropy)
    try:
        known = await store.identity()
        if known is not None and wanted is not None:
            check_identity(settings.cassandra.keyspace, known, wanted)  # before anything is written
        coordinator = await _coordinator(settings, wanted or known, clock, entropy)
        try:
            found = await coordinator.get(CELL)
            assert found is not None
            cell = decode(CellDocument, found.value, key=CELL).cell
        finally:
            await coordinator.close()
        await store.claim(cell)
        await store.storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    finally:
        await store.close()
    return cell


async def _coordinator(settings: Settings, cell: ClusterId | None, clock: Clock, entropy: Entropy) -> Coordinator:
    """Of that cell, or of the one that is there; a new one where there is none."""
    etcd = settings.coordinator
    if cell is None:
        try:
            return await connect(settings=etcd, cell=None, clock=clock, entropy=entropy)
        except Refused:  # it holds no cell, or refuses us, which the next attempt says
            cell = ClusterId(entropy.token(16).hex())
    return await connect(settings=etcd, cell=cell, create=True, clock=clock, entropy=entropy)

# SPDX-License-Identifier: Apache-2.0
"""Work that one process of a kind does for the whole cell: while it leads, over the storage nodes that are registered.

Invariants
  T1  A term's work, its tasks and its clients end with the leadership; the next term begins with nothing of it.
  T2  Every order carries the term's token, and is not sent once the leadership is over.
  T3  Who does not lead waits to; a lost session is a new campaign.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from drystone_core.errors import Busy, Stale, Unavailable
from drystone_core.formats.coordination import LeaderDocument, NodeDocument
from drystone_core.identity import ServiceKind
from drystone_core.upkeep import UpkeepNode
from drystone_runtime.background import Background
from drystone_runtime.coordination.cell_upkeep import CellUpkeep
from drystone_runtime.coordination.directory import NodeDirectory
from drystone_runtime.coordination.election import Leadership, lead
from drystone_runtime.coordination.place import Place
from drystone_runtime.coordination.session import RETRY
from drystone_runtime.rpc.links import Link
from drystone_runtime.rpc.process import Process
from drystone_runtime.rpc.upkeep_client import RpcUpkeep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term of leading."""

    leadership: Leadership
    upkeep: CellUpkeep
    """All storage nodes of the cell."""
    background: Background
    """Of this term's tasks."""


@dataclass(frozen=True, slots=True)
class _Reached:
    link: Link
    upkeep: RpcUpkeep


async def keep_leading(process: Process, place: Place, election: str, work: Callable[[Term], Awaitable[None]]) -> None:
    """Campaign and work, for ever. `work` begins its tasks and then waits; it is cancelled when the term is over.

    Refused when another start took this process's place.
    """
    while True:
        registration = place.registration
        leader = LeaderDocument(node=place.name, incarnation=registration.incarnation, since_us=process.clock.wall_us())
        try:
            registration.check()
            await lead(
                coordinator=place.coordinator,
                session=registration.session,
                election=election,
                leader=leader,
                clock=process.clock,
                work=partial(_serve_term, process, place, work),
            )
        except (Stale, Unavailable, Busy) as error:
            log.info("leading.waits", extra={"election": election, "reason": str(error)})
        await process.clock.sleep(RETRY)


async def _serve_term(
    process: Process, place: Place, work: Callable[[Term], Awaitable[None]], leadership: Leadership
) -> None:
    background = Background(clock=process.clock)

    def token() -> int:
        leadership.check()
        return leadership.token

    def reach(node: NodeDocument) -> _Reached:
        link = process.dial.open(node.endpoint, ServiceKind.STORAGE_NODE)
        return _Reached(link, RpcUpkeep(link, token=token))

    directory = NodeDirectory(
        cache=place.cache,
        role=ServiceKind.STORAGE_NODE.value,
        open_client=reach,
        close_client=_close,
        clock=process.clock,
        background=background,
    )

    def nodes() -> Mapping[str, UpkeepNode]:
        return {one.name: one.client.upkeep for one in directory.nodes(draining=True)}

    upkeep = CellUpkeep(nodes=nodes, check=leadership.check)
    try:
        await work(Term(leadership=leadership, upkeep=upkeep, background=background))
    finally:
        await background.stop()
        await directory.close()


async def _close(reached: _Reached) -> None:
    await reached.link.close()

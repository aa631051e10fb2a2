# SPDX-License-Identifier: Apache-2.0
"""A process's place in its cell: the coordinator, what is registered there, and its own registration.

Invariants
  P1  A process joins the cell its certificate names; without a certificate (loopback, tests) whichever is there.
  P2  Its claim is kept in its state directory, so that a later start is known for the same process; without one each start
      is a new process, and waits until its predecessor's session is over.
"""

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from drystone_core.coordination import Coordinator
from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.formats.coordination import CELL, CellDocument, NodeDocument, decode
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock, Entropy
from drystone_runtime.config_cell import EtcdSettings, NodeSettings
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.coordination.registration import Registration

log = logging.getLogger(__name__)
_CLAIM = re.compile(r"[0-9a-f]{32}")
CLAIM_NAME = "claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a process has once it stands in a cell."""

    cell: ClusterId
    coordinator: Coordinator
    cache: CoordinatorCache
    """Everything that is registered in the cell."""

    async def close(self) -> None:
        """Follow no more."""
        await self.cache.close()
        await self.coordinator.close()


async def take_place(*, settings: EtcdSettings, cell: ClusterId | None, clock: Clock, entropy: Entropy) -> Place:
    """Connect and read what is there. Refused for another cell, Unavailable when the coordinator does not answer."""
    coordinator = await connect(settings=settings, cell=cell, clock=clock, entropy=entropy)
    try:
        found = await coordinator.get(CELL)
        if found is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "the cell's identity is gone from the coordinator")
        cache = CoordinatorCache(coordinator=coordinator, prefix="", clock=clock)
        await cache.start(within=settings.session)
    except BaseException:
        await coordinator.close()
        raise
    there = decode(CellDocument, found.value, key=CELL).cell
    return Place(cell=there, coordinator=coordinator, cache=cache)


def describe(settings: NodeSettings, *, role: str, endpoint: str, claim: str, version: str = "") -> NodeDocument:
    """This process as it is registered; its incarnation is filled in by the registration."""
    return NodeDocument(
        node=settings.named(), role=role, endpoint=settings.endpoint or endpoint, claim=claim, incarnation="",
        zone=settings.zone, rack=settings.rack, version=version,
    )  # fmt: skip


def claim_of(state: str, entropy: Entropy) -> str:
    """The process's own random name, kept in its state directory; without one a new name at each start. Refused: unusable."""
    if not state:
        return entropy.token(16).hex()
    path = Path(state) / CLAIM_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            found = path.read_text().strip()
            if not _CLAIM.fullmatch(found):
                raise Refused(ErrorCode.INVALID_REQUEST, f"{path} is damaged: remove it while no process uses {state}")
            return found
        made = entropy.token(16).hex()
        temporary = path.with_name(f"{CLAIM_NAME}.new")
        with open(temporary, "w") as file:
            file.write(f"{made}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Refused(
            ErrorCode.INVALID_REQUEST, f"node.state: {error.filename}: {error.strerror}: give a directory of its own"
        ) from error
    return made


async def drain_in(registration: Registration, document: NodeDocument) -> None:
    """Tell the others that nothing new should come here; best effort, the end of the session says it as well."""
    try:
        await registration.tell(node=replace(document, state="draining"))
    except DrystoneError as error:
        log.info("registration.draining_not_told", extra={"reason": str(error)})

# SPDX-License-Identifier: Apache-2.0
"""A process's place in its cell: the coordinator, what is registered there, and its own registration.

Invariants
  P1  The cell is the one whose identity the coordinator holds; who may speak to whom is a matter of certificates.
  P2  A process's claim is kept in its state directory, so that a later start is known for the same process; without one each
      start is a new process, and waits until its predecessor's session is over.
  P3  A process registers after it takes calls, and says that it drains before it stops taking them.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path

from drystone_core.check import check
from drystone_core.coordination import Coordinator
from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.formats.coordination import CELL, CellDocument, NodeDocument, decode
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock, Entropy
from drystone_runtime.config_cell import EtcdSettings, NodeSettings
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.coordination.registration import Registration
from drystone_runtime.disks import RealDisk
from drystone_runtime.documents import write_document

log = logging.getLogger(__name__)
_CLAIM = re.compile(r"[0-9a-f]{32}")
CLAIM_NAME = "claim"


async def reach_cell(*, settings: EtcdSettings, clock: Clock, entropy: Entropy) -> tuple[Coordinator, ClusterId]:
    """The coordinator and whose it is. Refused when it holds no cell, Unavailable when it does not answer."""
    coordinator = await connect(settings=settings, cell=None, clock=clock, entropy=entropy)
    try:
        found = await coordinator.get(CELL)
        if found is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "the cell's identity is gone from the coordinator")
        return coordinator, decode(CellDocument, found.value, key=CELL).cell
    except BaseException:
        await coordinator.close()
        raise


class Place:
    """A registered process that follows everything registered in its cell. `open`, `enter`, `leave`, `close`, in this order."""

    def __init__(
        self, *, node: NodeSettings, role: str, endpoint: str, session: float, clock: Clock, entropy: Entropy
    ) -> None:
        """`endpoint`: where others reach it. `session`: seconds after which it counts as gone when it is silent."""
        self._settings, self._role, self._endpoint = node, role, endpoint
        self._session, self._clock, self._entropy = session, clock, entropy
        self._coordinator: Coordinator | None = None
        self._cache: CoordinatorCache | None = None
        self._registration: Registration | None = None
        self._claim = ""
        self.name = node.named()
        """Of this process, unique in its role."""
        self.cell = ClusterId("")
        """Known once it is open."""

    async def open(self, settings: EtcdSettings) -> None:
        """Connect and read what is there. Refused, Unavailable."""
        self._claim = claim_of(self._settings.state, self._entropy)
        self._coordinator, self.cell = await reach_cell(settings=settings, clock=self._clock, entropy=self._entropy)
        self._cache = CoordinatorCache(coordinator=self._coordinator, prefix="", clock=self._clock)
        await self._cache.start(within=self._session)

    @property
    def coordinator(self) -> Coordinator:
        """After `open`."""
        check(self._coordinator is not None, "the place is open")
        assert self._coordinator is not None
        return self._coordinator

    @property
    def cache(self) -> CoordinatorCache:
        """Everything that is registered, as last known."""
        check(self._cache is not None, "the place is open")
        assert self._cache is not None
        return self._cache

    @property
    def registration(self) -> Registration:
        """After `enter`."""
        check(self._registration is not None, "the place is taken")
        assert self._registration is not None
        return self._registration

    @property
    def registered(self) -> bool:
        """Whether the others still count on this process, as far as it can know."""
        if self._registration is None:
            return False
        try:
            self._registration.check()
        except DrystoneError:
            return False
        return True

    async def enter(self) -> None:
        """Register: from now on the others send calls here. Refused when the name is another's."""
        self._registration = Registration(
            coordinator=self.coordinator,
            node=self._document(),
            ttl=self._session,
            clock=self._clock,
            entropy=self._entropy,
        )
        await self._registration.start()
        await self.cache.reached(self._registration.revision)

    async def leave(self) -> None:
        """Say that nothing new should come here."""
        if self._registration is None:
            return
        try:
            await self._registration.tell(node=replace(self._document(), state="draining"))
        except DrystoneError as error:  # the end of the session says it as well
            log.info("registration.draining_not_told", extra={"reason": str(error)})

    async def close(self) -> None:
        """Vanish."""
        if self._registration is not None:
            await self._registration.stop()
        if self._cache is not None:
            await self._cache.close()
        if self._coordinator is not None:
            await self._coordinator.close()

    def _document(self) -> NodeDocument:
        settings = self._settings
        return NodeDocument(
            node=self.name, role=self._role, endpoint=self._endpoint, claim=self._claim,
            incarnation="", zone=settings.zone, rack=settings.rack,
        )  # fmt: skip


def claim_of(state: str, entropy: Entropy) -> str:
    """The process's own random name, kept in its state directory; without one a new name each time. Refused: unusable."""
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
        write_document(RealDisk(str(path.parent.absolute())), CLAIM_NAME, f"{made}\n".encode())
        return made
    except OSError as error:
        raise Refused(
            ErrorCode.INVALID_REQUEST, f"node.state: {error.filename}: {error.strerror}: give a directory of its own"
        ) from error

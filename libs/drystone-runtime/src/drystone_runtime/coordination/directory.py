# SPDX-License-Identifier: Apache-2.0
"""The processes of one role that serve now, each with a client that is made once.

Invariants
  D1  A client lives as long as its process keeps its endpoint, over any number of registrations; it is closed some time after
      the process has left, so that calls under way can end.
  D2  While the coordinator is away those last known are told: a client that cannot reach its process says so at each call.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from drystone_core.coordination import Revision
from drystone_core.errors import DrystoneError
from drystone_core.formats.coordination import NODES, NodeDocument, decode
from drystone_core.ports import Clock
from drystone_runtime.background import Background
from drystone_runtime.coordination.cache import CoordinatorCache

log = logging.getLogger(__name__)
C = TypeVar("C")
LINGER_SECONDS = 60.0
"""From the end of a registration to the closing of its client."""


@dataclass(slots=True, eq=False)
class Listed(Generic[C]):
    """A process and how it is called."""

    document: NodeDocument
    client: C

    @property
    def name(self) -> str:
        """Unique in its role."""
        return self.document.node


class NodeDirectory(Generic[C]):
    """`nodes()` is cheap: it looks again only when the cache has changed."""

    def __init__(
        self,
        *,
        cache: CoordinatorCache,
        role: str,
        open_client: Callable[[NodeDocument], C],
        close_client: Callable[[C], Awaitable[None]],
        clock: Clock,
        background: Background,
    ) -> None:
        """`cache` must cover the nodes of that role."""
        self._cache, self._prefix = cache, f"{NODES}{role}/"
        self._open, self._close = open_client, close_client
        self._clock, self._background = clock, background
        self._seen: Revision | None = None
        self._listed: dict[tuple[str, str], Listed[C]] = {}
        """By name and endpoint."""
        self._now: list[Listed[C]] = []

    def nodes(self, *, draining: bool = False) -> list[Listed[C]]:
        """Those that serve, by name; with `draining` also those that take nothing new. Do not change the list."""
        if self._seen != self._cache.revision:
            self._look()
        return self._now if draining else [one for one in self._now if one.document.state == "serving"]

    def get(self, name: str) -> Listed[C] | None:
        """The process of that name, when it is registered."""
        return next((one for one in self.nodes(draining=True) if one.name == name), None)

    async def close(self) -> None:
        """Close all clients."""
        for one in self._listed.values():
            await self._close(one.client)
        self._listed.clear()

    def _look(self) -> None:
        self._seen, now = self._cache.revision, []
        for key, document in sorted(self._cache.documents.items()):
            if not key.startswith(self._prefix):
                continue
            try:
                node = decode(NodeDocument, document.value, key=key)
            except DrystoneError as error:
                log.warning("cell.document_unreadable", extra={"reason": str(error)})
                continue
            listed = self._listed.get((node.node, node.endpoint))
            if listed is None:
                listed = self._listed[node.node, node.endpoint] = Listed(node, self._open(node))
            listed.document = node
            now.append(listed)
        gone = [key for key, one in self._listed.items() if one not in now and one in self._now]
        self._now = now
        for place in gone:
            self._background.once("directory.close", self._close_later(place))

    async def _close_later(self, place: tuple[str, str]) -> None:
        await self._clock.sleep(LINGER_SECONDS)
        listed = self._listed.get(place)
        if listed is not None and listed not in self._now:
            del self._listed[place]
            await self._close(listed.client)

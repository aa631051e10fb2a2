# SPDX-License-Identifier: Apache-2.0
"""A map of the documents under a prefix, kept current by a watch; it goes on serving what it last knew.

Invariants
  C1  After `start` there is always content; no failure of the coordinator takes it away.
  C2  Readers never see half a commit: the map changes between two of their steps.
  C3  `age` never says less than the time since the content was last known to be all there was.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from drystone_core.coordination import Changes, Coordinator, Document, Resync, Revision, Watch, Written
from drystone_core.errors import Unavailable
from drystone_core.formats.coordination import NODES, NodeDocument, decode
from drystone_core.ports import Clock
from drystone_core.ring import Ring
from drystone_runtime.background import Background

D = TypeVar("D")


class CoordinatorCache:
    """Documents of one prefix."""

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        prefix: str,
        clock: Clock,
        on_change: Callable[[Changes | Resync], None] | None = None,
    ) -> None:
        """`on_change` is called after each change of the map; it must not raise."""
        self._coordinator, self._prefix, self._clock = coordinator, prefix, clock
        self._on_change = on_change
        self._documents: dict[str, Document] = {}
        self._revision: Revision | None = None
        self._watch: Watch | None = None
        self._seen = -math.inf
        self._moved = asyncio.Event()
        self._background = Background(clock=clock)

    async def start(self, *, within: float) -> None:
        """Begin to follow and wait for the first content; Unavailable when it does not come `within` seconds."""
        self._background.keep(f"coordination.cache {self._prefix}", self._follow)
        try:
            async with asyncio.timeout(within):
                while self._revision is None:
                    await self._moved.wait()
        except TimeoutError as error:
            await self.close()
            raise Unavailable(f"the coordinator did not answer within {within:g} s") from error

    @property
    def documents(self) -> Mapping[str, Document]:
        """By key; a view that changes with the map."""
        return MappingProxyType(self._documents)

    @property
    def revision(self) -> Revision:
        """Every change up to here is in the map."""
        return self._revision if self._revision is not None else Revision(0)

    def get(self, key: str) -> Document | None:
        """One document."""
        return self._documents.get(key)

    def decoded(self, kind: type[D], prefix: str) -> list[D]:
        """The documents under a prefix, in order of their keys; Damaged when one cannot be read."""
        return [
            decode(kind, self._documents[key].value, key=key)
            for key in sorted(self._documents)
            if key.startswith(prefix)
        ]

    def age(self) -> float:
        """Seconds since the map was known to be all there was: how stale it may be. Infinite before the first content."""
        seen = max(self._seen, self._watch.seen_at()) if self._watch is not None else self._seen
        return max(0.0, self._clock.monotonic() - seen)

    async def reached(self, revision: Revision) -> None:
        """Wait until the map holds what was committed at that revision (only for revisions that changed this prefix)."""
        while self.revision < revision:
            await self._moved.wait()

    async def close(self) -> None:
        """Follow no more; the content stays."""
        await self._background.stop()

    async def _follow(self) -> None:
        watch = self._watch = self._coordinator.watch(self._prefix, after=self._revision)
        try:
            while True:
                self._apply(await watch.next())
        finally:
            self._seen, self._watch = max(self._seen, watch.seen_at()), None
            await watch.close()

    def _apply(self, change: Changes | Resync) -> None:
        if isinstance(change, Resync):
            # In place, so that a mapping handed out stays true.
            self._documents.clear()
            self._documents.update((document.key, document) for document in change.snapshot.documents)
            self._revision = change.snapshot.revision
        else:
            for event in change.events:
                if isinstance(event, Written):
                    self._documents[event.document.key] = event.document
                else:
                    self._documents.pop(event.key, None)
            self._revision = change.revision
        self._moved.set()
        self._moved = asyncio.Event()
        if self._on_change is not None:
            self._on_change(change)


class OwnerRing:
    """The ring of tablets' owners, as the registry of serving metadata nodes gives it; built anew only when that changes."""

    def __init__(self, *, cache: CoordinatorCache, role: str = "metadata") -> None:
        """`cache` must cover the nodes of that role."""
        self._cache, self._prefix = cache, f"{NODES}{role}/"
        self._built: Revision | None = None
        self._nodes: dict[str, NodeDocument] = {}
        self._ring = Ring(())

    def owner(self, tablet: bytes) -> NodeDocument | None:
        """The node that should own it; None when none serves."""
        self._refresh()
        name = self._ring.owner(tablet)
        return self._nodes[name] if name is not None else None

    def name(self, tablet: bytes) -> str | None:
        """The name of the node that should own it."""
        self._refresh()
        return self._ring.owner(tablet)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the nodes in the ring."""
        self._refresh()
        return self._ring.members

    def _refresh(self) -> None:
        if self._built == self._cache.revision:
            return
        nodes = self._cache.decoded(NodeDocument, self._prefix)
        self._nodes = {node.node: node for node in nodes if node.state == "serving"}
        if self._ring.members != tuple(sorted(self._nodes)):
            self._ring = Ring(self._nodes)
        self._built = self._cache.revision

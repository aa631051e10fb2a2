# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a small read lie: the storage node that holds the fragment, so that it is asked and asks no other.

Invariants
  P1  A hint only: whichever node is asked finds the bytes. What is not known yet, or has moved, costs a hop and no error.
  P2  Nobody waits for it: an unknown volume is looked up beside the read that met it, once.
  P3  At most `limit` volumes are remembered, each for `age` seconds.
A volume that is open stands in the coordinator's documents; one that was closed is asked for at a storage node.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from drystone_core.errors import DrystoneError
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.formats.coordination import DiskDocument, OpenVolume, decode, disk_key, volume_key
from drystone_core.ids import DiskId, VolumeId
from drystone_core.ports import Clock
from drystone_runtime.background import Background
from drystone_runtime.coordination.cache import CoordinatorCache

Locate = Callable[[Sequence[VolumeId]], Awaitable[list[tuple[DiskId | None, ...]]]]
AT_ONCE = 256
"""Volumes of one call."""


class _Known(NamedTuple):
    disks: tuple[DiskId | None, ...]
    until: float


class VolumePlaces:
    """Volumes and their disks, as last heard."""

    def __init__(
        self,
        *,
        cache: CoordinatorCache,
        locate: Locate,
        clock: Clock,
        background: Background,
        limit: int = 100_000,
        age: float = 60.0,
    ) -> None:
        """`locate` asks any storage node."""
        self._cache, self._locate, self._clock, self._background = cache, locate, clock, background
        self._limit, self._age = limit, age
        self._known: OrderedDict[VolumeId, _Known] = OrderedDict()
        self._wanted: set[VolumeId] = set()
        self._asking = False
        self._nodes: dict[DiskId, tuple[int, str]] = {}
        """Disk → revision of its document, and the node it names."""

    def node_of(self, blobs: Sequence[BlobRef]) -> str | None:
        """The node that holds the bytes of a packed blob, when that is known."""
        if len(blobs) != 1 or len(blobs[0].extents) != 1:
            return None
        extent = blobs[0].extents[0]
        if type(extent) is not PackedExtent:
            return None
        known = self._known.get(extent.volume)
        if known is None or known.until < self._clock.monotonic():
            known = self._open(extent.volume) or known
        if known is None or extent.fragment >= len(known.disks):
            return None
        disk = known.disks[extent.fragment]
        return self._node(disk) if disk is not None else None

    def _open(self, volume: VolumeId) -> _Known | None:
        """From the coordinator's document; asked for elsewhere, beside, when there is none."""
        document = self._cache.get(volume_key(volume))
        if document is not None:
            try:
                return self._learn(volume, decode(OpenVolume, document.value, key=document.key).disks)
            except DrystoneError:
                return None
        self._wanted.add(volume)
        if not self._asking:
            self._asking = True
            self._background.once("places.locate", self._ask())
        return None

    def _learn(self, volume: VolumeId, disks: tuple[DiskId | None, ...]) -> _Known:
        if len(self._known) >= self._limit:
            self._known.popitem(last=False)
        known = self._known[volume] = _Known(disks, self._clock.monotonic() + self._age)
        return known

    async def _ask(self) -> None:
        try:
            while self._wanted:
                asked = [self._wanted.pop() for _ in range(min(AT_ONCE, len(self._wanted)))]
                for volume, disks in zip(asked, await self._locate(asked), strict=True):
                    self._learn(volume, disks)
        except DrystoneError:
            self._wanted.clear()  # the next read that misses it asks again
        finally:
            self._asking = False

    def _node(self, disk: DiskId) -> str | None:
        document = self._cache.get(disk_key(disk))
        if document is None:
            return None
        known = self._nodes.get(disk)
        if known is None or known[0] != document.revision:
            known = document.revision, decode(DiskDocument, document.value, key=document.key).node
            self._nodes[disk] = known
        return known[1]

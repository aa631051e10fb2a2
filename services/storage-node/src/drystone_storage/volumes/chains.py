# SPDX-License-Identifier: Apache-2.0
"""The chains of open volumes, two for each disk class that is written to: one for packs, one for pieces.

Invariants
  C1  A class costs nothing before it is first written to, and a class of no disk never gets a chain.
  C2  A blob of one class never goes to a volume of another: there is no way from chain to chain.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drystone_core.errors import Unavailable
from drystone_core.storage_classes import ANY_DISK, class_unavailable
from drystone_datapath.volume import Volume
from drystone_storage.volumes.open_volumes import OpenVolumes


@dataclass(frozen=True, slots=True)
class Chains:
    """Of one disk class."""

    packs: OpenVolumes
    pieces: OpenVolumes

    async def _both(self, act: Callable[[OpenVolumes], Awaitable[None]]) -> None:
        for chain in (self.packs, self.pieces):
            await act(chain)

    async def stop(self) -> None:
        """Take nothing more; close what is open."""
        await self._both(OpenVolumes.stop)

    async def leave(self, volume: Volume) -> None:
        """Close this volume when it is a present one."""
        await self._both(lambda chain: chain.leave(volume))

    def tick(self) -> None:
        """Now and then, and when something happened to a disk."""
        self.packs.tick()
        self.pieces.tick()


class ClassChains:
    """By disk class."""

    def __init__(self, *, make: Callable[[str, str], OpenVolumes], known: Callable[[str], bool]) -> None:
        """`make(name, disk_class)`: a chain. `known`: is there a disk of that class?"""
        self._make, self._known = make, known
        self._stopped = False
        self.by_class: dict[str, Chains] = {}
        """Those in use; looked into on the hot path."""

    def of(self, disk_class: str) -> Chains:
        """The chains of a class, made at first use; Unavailable when no disk is of that class."""
        found = self.by_class.get(disk_class)
        if found is not None:
            return found
        if self._stopped:
            raise Unavailable("the storage node is stopping")
        if disk_class != ANY_DISK and not self._known(disk_class):
            raise class_unavailable(f"no disk of class {disk_class} is known", disk_class)
        suffix = f".{disk_class}" if disk_class != ANY_DISK else ""
        made = Chains(
            packs=self._make(f"packs{suffix}", disk_class),
            pieces=self._make(f"pieces{suffix}", disk_class),
        )
        self.by_class[disk_class] = made
        return made

    def tick(self) -> None:
        """All of them."""
        for chains in list(self.by_class.values()):
            chains.tick()

    async def stop(self) -> None:
        """All of them, for good."""
        self._stopped = True
        for chains in list(self.by_class.values()):
            await chains.stop()

    async def leave(self, volume: Volume) -> None:
        """Whichever has it."""
        for chains in list(self.by_class.values()):
            await chains.leave(volume)

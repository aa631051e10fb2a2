# SPDX-License-Identifier: Apache-2.0
"""What the keepers of a cell (repair, reclaim) and a storage node tell each other: values only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

from drystone_core.ids import VolumeId
from drystone_core.services import BlobName


@dataclass(frozen=True, slots=True, kw_only=True)
class Wound:
    """A slot of a volume that is missing or damaged and can be rebuilt now."""

    volume: VolumeId
    slot: int
    spare: int
    """How many more slots may be lost before bytes are: 0 = the next loss hurts; below 0 = not rebuildable now."""
    size: int
    """Bytes of a shard file, as far as known."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wounds(Sequence[Wound]):
    """The wounds there are, and how much that says: without any, all is whole only when nothing waits and all were asked."""

    found: tuple[Wound, ...] = ()
    waiting: int = 0
    """Slots (at least so many) that are missing or damaged and cannot be rebuilt now: their disk may come back, or there is
    no disk to rebuild on."""
    unasked: tuple[str, ...] = ()
    """Storage nodes that could not be asked."""

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Wound: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Wound, ...]: ...

    def __getitem__(self, index: int | slice) -> Wound | tuple[Wound, ...]:
        return self.found[index]


class RepairNode(Protocol):
    """What repair asks of a storage node."""

    async def wounds(self) -> Wounds:
        """Slots that are missing or damaged and for which a disk to rebuild on exists."""
        ...

    async def heal(self, wound: Wound, *, bytes_per_second: int) -> int:
        """Rebuild the slot: temporary file, fsync, verify, rename. Returns the bytes written; 0 when nothing was wrong."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """What reading a closed volume through found."""

    volume: VolumeId
    bytes_read: int
    fragments: int
    """Good ones."""
    slots_damaged: int
    """Slots that lack a good fragment of a stripe others have: wounds from now on."""
    slots_unread: int
    """Slots that are away or could not be read to the end."""
    stripes_incomplete: int
    """Stripes of which fewer than k fragments are good: torn by a crash and never acknowledged, or lost."""


class ScrubNode(Protocol):
    """What the scrubber asks of a storage node."""

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        """Closed volumes, those verified least often first."""
        ...

    async def scrub(self, volume: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        """Read all slots of a closed volume and check every fragment."""
        ...


class StripeNames(NamedTuple):
    """A stripe of a closed volume and the names of all blobs in it."""

    record: int
    """Offset of its record."""
    stored: int
    """Payload bytes over all slots: what punching gives back at most."""
    names: tuple[BlobName, ...]
    droppable: bool
    """False when it holds blobs whose liveness no row tells (names, checkpoints): never freed by the reclaimer."""
    freed: bool
    """Its payload was punched already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeNames:
    """All stripes of a closed volume."""

    volume: VolumeId
    stripes: tuple[StripeNames, ...]
    complete: bool
    """Every byte between the first record and the end was accounted for: only then may the volume be deleted whole."""


class ReclaimNode(Protocol):
    """What reclaim asks of a storage node. Every call checks again that the volume is closed."""

    async def closed_volumes(self) -> Sequence[VolumeId]: ...

    async def volume_names(self, volume: VolumeId) -> VolumeNames:
        """Walk the blob tables of a closed volume."""
        ...

    async def free_stripes(self, volume: VolumeId, records: Sequence[int]) -> int:
        """Punch these stripes' payloads after the free map that names them is durable on every slot (R8); bytes given back."""
        ...

    async def retire(self, volume: VolumeId) -> int:
        """Delete a closed volume on all disks, remembered durably first; bytes given back."""
        ...


class UpkeepNode(RepairNode, ScrubNode, ReclaimNode, Protocol):
    """A storage node among others, as the keepers of a cell see it."""

    async def look_again(self, volume: VolumeId, healed: Sequence[int]) -> None:
        """Another node did something to the volume: see what the disks say. `healed`: slots that were rebuilt."""
        ...

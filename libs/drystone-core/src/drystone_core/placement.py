# SPDX-License-Identifier: Apache-2.0
"""Which disks a new volume lies on: a pure function of what is known about the disks and of a draw.

Invariants
  P1  Never two slots on one disk; at most m slots in one failure domain when the domains can satisfy that.
  P2  Never a disk that is not usable (failed, suspect, draining, below its reserve).
  P3  With fewer usable disks than k+m: the same m and a smaller k (R4); below m+1 nothing can be opened.
Weights are free space, capped at what partners can match (a disk is in a volume at most once). Drawn by systematic
sampling (Madow 1949) over disks in random order, domains kept together: a disk's chance is exactly its share, so that
unequal disks fill evenly, and neighbours in a domain are rarely drawn together. After CRUSH and Swift's weighted ring.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drystone_core.ids import DiskId
from drystone_core.profiles import Profile, degraded_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskChoice:
    """A disk as placement sees it."""

    disk_id: DiskId
    free: int
    """Bytes beyond its reserve."""
    usable: bool
    """Healthy, not draining, enough free space for a shard file."""
    domain: str = ""
    """Failure domain at the stored level; empty = the disk itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a new volume lies."""

    profile: Profile
    disks: tuple[DiskId, ...]
    """One a slot, in slot order."""


def place_volume(profile: Profile, disks: Sequence[DiskChoice], draw: Callable[[], float]) -> Placement | None:
    """A disk set for a new volume, or None below m+1 usable disks. `draw` gives numbers in (0, 1)."""
    usable = sorted((disk for disk in disks if disk.usable), key=lambda disk: disk.disk_id)
    narrowed = degraded_profile(profile, len(usable))
    if narrowed is None:
        return None
    order = _shuffled_by_domain(usable, draw)
    weights = capped_weights([disk.free for disk in order], narrowed.slots)
    step = sum(weights) / narrowed.slots
    threshold, reached = step * draw(), 0.0
    drawn: list[DiskChoice] = []
    left_out: list[DiskChoice] = []
    for disk, weight in zip(order, weights, strict=True):
        reached += weight
        if reached > threshold and len(drawn) < narrowed.slots:
            drawn.append(disk)
            threshold += step
        else:
            left_out.append(disk)
    ordered = drawn + left_out
    chosen = _spread(ordered, narrowed)
    # Which disk holds data and which parity is part of the draw, so that reads spread evenly too.
    turn = int(draw() * len(chosen)) % len(chosen)
    slots = chosen[turn:] + chosen[:turn]
    return Placement(profile=narrowed, disks=tuple(disk.disk_id for disk in slots))


def place_slot(disks: Sequence[DiskChoice], held: Sequence[str]) -> DiskId | None:
    """A disk for one lost slot, None when there is none; `held` are the domains of the surviving slots.

    The caller leaves the volume's holders out of `disks`. Fewest of its slots in the domain first, then most free.
    """
    counts = Counter(domain for domain in held if domain)
    candidates = [disk for disk in disks if disk.usable]
    if not candidates:
        return None
    return min(candidates, key=lambda disk: (counts[disk.domain], -disk.free, disk.disk_id)).disk_id


def capped_weights(free: Sequence[int], slots: int) -> list[float]:
    """Free space, no disk above a `slots`-th of the capped sum: more it could not fill, being in a volume only once."""
    weights = [float(max(1, amount)) for amount in free]
    rest = sum(weights)
    cap = max(weights)
    for above, weight in enumerate(sorted(weights, reverse=True)[: slots - 1]):
        cap = rest / (slots - above)
        if weight <= cap:
            break
        rest -= weight
    else:
        cap = rest
    return [min(weight, cap) for weight in weights]


def _shuffled_by_domain(disks: Sequence[DiskChoice], draw: Callable[[], float]) -> list[DiskChoice]:
    ranks = {domain: draw() for domain in sorted({disk.domain or disk.disk_id for disk in disks})}
    keyed = [(ranks[disk.domain or disk.disk_id], draw(), disk.disk_id, disk) for disk in disks]
    return [entry[3] for entry in sorted(keyed, key=lambda entry: entry[:3])]


def _spread(ordered: Sequence[DiskChoice], profile: Profile) -> list[DiskChoice]:
    """The first k+m in order with at most m in one domain; when that cannot be, with the least crowding that can."""
    for most in range(max(1, profile.m), profile.slots + 1):
        counts: Counter[str] = Counter()
        chosen = []
        for disk in ordered:
            domain = disk.domain or disk.disk_id
            if counts[domain] < most:
                counts[domain] += 1
                chosen.append(disk)
                if len(chosen) == profile.slots:
                    return chosen
    return list(ordered[: profile.slots])

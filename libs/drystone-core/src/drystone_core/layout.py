# SPDX-License-Identifier: Apache-2.0
"""The operator's layout of a cell: what a change of it means, and whether volumes can still be placed. Pure.

Invariants
  L1  A layout names only disks that are not as they say themselves; the order is that of their ids.
  L2  No change is accepted that takes away the last way to place a volume of the cell's profile with at most m slots in one
      failure domain. Where there was none before, it is accepted as long as it makes nothing worse, with a warning.
  L3  What a change was based on stands in its version: one more than the layout in effect.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.coordination import OWN_SIZE, Layout, LayoutDisk
from drystone_core.ids import DiskId
from drystone_core.profiles import Profile
from drystone_core.storage_classes import ANY_DISK

LEVELS = ("disk", "node", "rack", "zone")
"""What the slots of a volume may be spread over, from the smallest."""
NODE_PREFIX = "node:"
"""Before the name of a node where all of its disks are meant."""
AWAY = "away"
"""State of a disk that the layout names and no node serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlace:
    """One disk of the cell and where it stands."""

    disk: DiskId
    node: str = ""
    zone: str = ""
    rack: str = ""
    disk_class: str = ""
    state: str = AWAY
    """healthy, suspect, failed, draining, or AWAY."""
    total: int = 0
    """Bytes; 0 while it is away."""
    free: int = 0

    @property
    def used(self) -> int:
        """Bytes that lie on it, of whatever kind."""
        return max(0, self.total - self.free)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutChange:
    """What the operator asks for. Disks are ids or unique beginnings of ids, or `node:NAME` for all disks of a node."""

    weights: tuple[tuple[str, int], ...] = ()
    """Disk → bytes it may take; 0: nothing new; OWN_SIZE: its size."""
    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    level: str = ""
    """One of LEVELS; empty = as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRow:
    """A disk in a report: as it is, and as it would be."""

    place: DiskPlace
    weight: int = OWN_SIZE
    draining: bool = False
    staged_weight: int = OWN_SIZE
    """As `weight` when nothing is staged."""
    staged_draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutReport:
    """The layout in effect beside the staged one."""

    version: int
    """0: none was published yet."""
    level: str
    """In effect."""
    profile: str
    """The cell's; empty: nobody said."""
    disks: tuple[LayoutRow, ...]
    """By zone, rack, node and id."""
    staged_version: int = 0
    """0: nothing is staged."""
    staged_level: str = ""
    bytes_to_move: int = 0
    """On disks that drain, as the staged layout has it, else as the one in effect."""
    warnings: tuple[str, ...] = ()
    """Sentences."""


def failure_domain(level: str, *, disk: DiskId, node: str, rack: str, zone: str) -> str:
    """The failure domain of a disk at that level; a node without a rack or zone is one of its own."""
    if level == "disk":
        return disk
    return {"rack": rack, "zone": zone}.get(level, "") or node


def changed(base: Layout, change: LayoutChange, places: Iterable[DiskPlace]) -> Layout:
    """The base with the change; its version is the base's. Refused: an unknown or ambiguous disk, a contradiction."""
    known = {place.disk: place for place in places}
    known |= {each.disk: DiskPlace(disk=each.disk) for each in base.disks if each.disk not in known}
    drain = {disk for name in change.drain for disk in _named(name, known)}
    undrain = {disk for name in change.undrain for disk in _named(name, known)}
    if both := sorted(drain & undrain):
        raise _refused(f"disk {both[0][:8]} cannot be drained and not drained at once")
    if change.level and change.level not in LEVELS:
        raise _refused(f"level {change.level!r} is none of {', '.join(LEVELS)}")
    entries = {each.disk: each for each in base.disks}

    def entry(disk: DiskId) -> LayoutDisk:
        return entries.get(disk, LayoutDisk(disk=disk, weight=OWN_SIZE))

    weighed: dict[DiskId, int] = {}
    for name, weight in change.weights:
        if weight < OWN_SIZE:
            raise _refused(f"a weight of {weight} bytes is not possible")
        for disk in _named(name, known):
            if weighed.setdefault(disk, weight) != weight:
                raise _refused(f"disk {disk[:8]} cannot have two weights")
            entries[disk] = replace(entry(disk), weight=weight)
    for disk in drain | undrain:
        entries[disk] = replace(entry(disk), draining=disk in drain)
    disks = (each for each in entries.values() if each.draining or each.weight != OWN_SIZE)
    return replace(base, level=change.level or base.level, disks=tuple(sorted(disks, key=lambda each: each.disk)))


def same(one: Layout, other: Layout) -> bool:
    """Do they say the same, whatever their versions?"""
    return (one.level, one.disks) == (other.level, other.disks)


def slots_at_most(layout: Layout, places: Iterable[DiskPlace], profile: Profile, level: str) -> int:
    """Slots of one new volume that find a disk with at most m (at least one) in a failure domain, space aside."""
    wanted = {each.disk: each for each in layout.disks}
    counts = Counter(
        failure_domain(level, disk=place.disk, node=place.node, rack=place.rack, zone=place.zone)
        for place in places
        if place.state not in (AWAY, "failed") and _takes(wanted.get(place.disk), place)
    )
    return sum(min(count, max(1, profile.m)) for count in counts.values())


def judge(
    current: Layout,
    wanted: Layout,
    places: Sequence[DiskPlace],
    profile: Profile,
    configured: str,
    disk_classes: Sequence[str] = (),
) -> list[str]:
    """Warnings about the wanted layout; Refused by L2. `configured`: the level of a layout that names none.

    `disk_classes`: those that volumes keep to, each judged by itself; none: volumes lie on disks of any class.
    """
    found = []
    for disk_class in disk_classes or (ANY_DISK,):
        among = [place for place in places if disk_class in (ANY_DISK, place.disk_class)]
        found += _judged(current, wanted, among, profile, configured, disk_class)
    by_id = {place.disk: place for place in places}
    for each in wanted.disks:
        place = by_id.get(each.disk)
        if place is None or place.state == AWAY:
            found.append(f"disk {each.disk[:8]} is not in service now")
        elif each.weight > place.total:
            found.append(f"disk {each.disk[:8]}: its weight is more than its size, which is what counts")
        elif 0 < each.weight <= place.used:
            found.append(f"disk {each.disk[:8]} holds more than its weight already: it takes nothing new")
    return found


def _judged(
    current: Layout, wanted: Layout, places: Sequence[DiskPlace], profile: Profile, configured: str, disk_class: str
) -> list[str]:
    """L2 for the disks of one class."""
    level = wanted.level or configured
    before = slots_at_most(current, places, profile, current.level or configured)
    after = slots_at_most(wanted, places, profile, level)
    if after >= profile.slots:
        return []
    of_class = f" of class {disk_class}" if disk_class != ANY_DISK else ""
    sentence = (
        f"a new volume of {profile.name} needs {profile.slots} disks{of_class} that take new data, at most "
        f"{max(1, profile.m)} of them in one {level}: there would be {after}"
    )
    if after < before:
        raise _refused(f"{sentence} (now {before}); add disks first, drain fewer, or choose another level")
    return [f"{sentence}, as now: volumes are narrower, or crowd their failure domains, until there are more"]


def report(
    *,
    current: Layout,
    staged: Layout | None,
    places: Iterable[DiskPlace],
    profile: str,
    configured: str,
    warnings: Sequence[str] = (),
) -> LayoutReport:
    """Both layouts over the disks there are, and those that only they know."""
    now, then = ({each.disk: each for each in one.disks} for one in (current, staged or current))
    known = {place.disk: place for place in places}
    known |= {disk: DiskPlace(disk=disk) for disk in (*now, *then) if disk not in known}
    rows = []
    for disk, place in known.items():
        plain = LayoutDisk(disk=disk, weight=OWN_SIZE)
        one, other = now.get(disk, plain), then.get(disk, plain)
        rows.append(
            LayoutRow(
                place=place,
                weight=one.weight,
                draining=one.draining,
                staged_weight=other.weight,
                staged_draining=other.draining,
            )
        )
    return LayoutReport(
        version=current.version,
        level=current.level or configured,
        profile=profile,
        disks=tuple(sorted(rows, key=lambda row: (row.place.zone, row.place.rack, row.place.node, row.place.disk))),
        staged_version=staged.version if staged else 0,
        staged_level=(staged.level or configured) if staged else "",
        bytes_to_move=sum(row.place.used for row in rows if row.staged_draining),
        warnings=tuple(warnings),
    )


def _takes(wanted: LayoutDisk | None, place: DiskPlace) -> bool:
    if wanted is None:
        return True
    return not wanted.draining and (wanted.weight == OWN_SIZE or wanted.weight > place.used)


def _named(name: str, known: dict[DiskId, DiskPlace]) -> list[DiskId]:
    """The disks a name means; Refused when there is none, or a beginning is not enough."""
    if name.startswith(NODE_PREFIX):
        node = name.removeprefix(NODE_PREFIX)
        found = [disk for disk, place in known.items() if node and place.node == node]
        if not found:
            raise _refused(f"no disk is in service at a storage node {node!r}")
        return found
    found = [disk for disk in known if name and disk.startswith(name)]
    if not found:
        raise _refused(
            f"no disk {name!r} is known; `drystone layout show` names them, `{NODE_PREFIX}NAME` means a node's"
        )
    if len(found) > 1:
        shown = ", ".join(disk[:12] for disk in sorted(found)[:4])
        raise _refused(f"{len(found)} disks begin with {name!r} ({shown} …): give more of the id")
    return found


def _refused(sentence: str) -> Refused:
    return Refused(ErrorCode.INVALID_REQUEST, sentence)

# SPDX-License-Identifier: Apache-2.0
"""Which of the given directories make the store: decided from what was found, without touching anything. Pure.

Invariants
  A1  A directory is initialised or adopted only when empty; one that was a disk and lost its identity is refused.
  A2  An empty directory at a known disk's path is a replacement only when it is a mount point exactly if the disk was
      one; otherwise it counts as an unmounted disk and the store runs without it.
  A3  With more than m disks missing or replaced at once nothing starts: more would be lost than redundancy can give back.
All problems are found before the first is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import ClusterId, DiskId
from drystone_core.profiles import Profile
from drystone_storage.disks.classes import DiskClasses
from drystone_storage.disks.documents import IDENTITY_NAME, KnownDisk, KnownDisks
from drystone_storage.disks.survey import Found, Kind


class DisksRefused(Refused):
    """The directories cannot be used as given; each problem is a sentence that says what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, "\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDisk:
    """A disk of the store that is not at hand."""

    disk: KnownDisk
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDisk:
    """A directory that becomes a disk."""

    path: str
    disk_class: str


@dataclass(slots=True, kw_only=True)
class Assembly:
    """The store as it will run."""

    cluster_id: ClusterId
    profile: Profile
    before: KnownDisks
    """The list now on the disks."""
    present: list[KnownDisk] = field(default_factory=list)
    adopt: list[NewDisk] = field(default_factory=list)
    """What gets a new identity."""
    replaced: list[DiskId] = field(default_factory=list)
    """Disks whose place was taken by an adopted directory."""
    missing: list[MissingDisk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the log and the terminal."""


def is_new(found: Sequence[Found]) -> bool:
    """No directory is a disk yet: the store may be initialised."""
    return all(f.kind in (Kind.ABSENT, Kind.EMPTY) for f in found)


def refuse_initialisation(found: Sequence[Found], classes: DiskClasses | None = None) -> None:
    """DisksRefused with all reasons why these directories cannot become a new store, of these classes."""
    problems = [p for f in found if (p := _why_not_new(f))]
    paths = [f.path for f in found]
    problems += (classes or DiskClasses()).problems(paths)
    problems += [
        f"{path} is given twice: give each directory once" for path in sorted({p for p in paths if paths.count(p) > 1})
    ]
    if problems:
        raise DisksRefused(problems)


def _why_not_new(found: Found) -> str:
    match found.kind:
        case Kind.DISK:
            cluster = found.identity.cluster_id if found.identity else ""
            return f"{found.path} already is a disk of cluster {cluster}: start that store with its own directories"
        case Kind.LOST:
            return (
                f"{found.path} is not empty and has no {IDENTITY_NAME}: if it is a mount point, mount its disk; "
                "otherwise give an empty directory"
            )
        case Kind.BROKEN | Kind.LATER:
            return f"{found.path} {found.reason}: repair it or give another directory"
        case _:
            return ""


def assemble(
    found: Sequence[Found],
    *,
    cell: ClusterId | None = None,
    add_disks: bool,
    classes: DiskClasses | None = None,
) -> Assembly:
    """The store these directories make; DisksRefused with every problem (A1 to A3).

    `cell`: they are some disks of that cell. Then A3 is not judged here: other nodes hold the other slots. `classes`: those
    the operator gave the disks.
    """
    classes = classes or DiskClasses()
    problems = classes.problems([f.path for f in found])
    disks = _our_disks(found, cell, problems)
    if not disks:
        raise DisksRefused(problems or ["none of the given directories is a disk of a store"])
    knowns = [f.known for f in disks if f.known is not None and f.known.cluster_id == _cluster(f)]
    if not knowns:
        raise DisksRefused(
            [*problems, "no disk carries a readable list of the store's disks (drystone-known-disks.json)"]
        )
    known = max(knowns, key=lambda k: k.generation)
    assembly = Assembly(cluster_id=known.cluster_id, profile=known.profile, before=known)
    by_id = {disk.disk_id: disk for disk in known.disks}
    here = {f.identity.disk_id for f in disks if f.identity}
    by_path = {disk.path: disk for disk in known.disks if disk.disk_id not in here}
    for f in disks:
        disk_id = _disk(f)
        before = by_id.get(disk_id)
        if before is None:
            assembly.notes.append(f"{f.path}: disk {disk_id} had been replaced and is back; it is used again")
        mounted = f.mounted if before is None or before.path != f.path else before.mounted
        assert f.identity is not None
        disk_class = f.identity.disk_class
        if sentence := classes.disagreement(f.path, disk_class):
            problems.append(sentence)
        assembly.present.append(KnownDisk(disk_id=disk_id, path=f.path, mounted=mounted, disk_class=disk_class))
    _others(found, by_path, assembly, problems, classes, add_disks=add_disks)
    gone = {m.disk.disk_id for m in assembly.missing} | set(assembly.replaced)
    for disk in known.disks:
        if disk.disk_id not in here and disk.disk_id not in gone:
            assembly.missing.append(MissingDisk(disk=disk, reason=f"{disk.path} was not given"))
            gone.add(disk.disk_id)
    if cell is None and len(gone) > known.profile.m:
        problems.append(
            f"{len(gone)} of the store's {len(known.disks)} disks are missing or empty, but {known.profile.name} bears "
            f"the loss of {known.profile.m}: "
            + "; ".join([m.reason for m in assembly.missing] + [f"{new.path} is empty" for new in assembly.adopt])
            + ". Bring back disks until at most that many are missing"
        )
    if problems:
        raise DisksRefused(problems)
    assembly.notes += [f"running without disk {m.disk.disk_id}: {m.reason}" for m in assembly.missing]
    return assembly


def _our_disks(found: Sequence[Found], cell: ClusterId | None, problems: list[str]) -> list[Found]:
    """Directories with an identity, of the cell or the cluster most of them belong to; the others are problems."""
    disks = [f for f in found if f.kind is Kind.DISK and f.identity]
    clusters = [_cluster(f) for f in disks]
    ours = cell or (max(sorted(set(clusters)), key=clusters.count) if clusters else None)
    seen: dict[DiskId, str] = {}
    kept = []
    for f in disks:
        if _cluster(f) != ours:
            problems.append(
                f"{f.path} belongs to cluster {_cluster(f)}, not to {ours}: start each store with its own directories"
            )
        elif _disk(f) in seen:
            problems.append(
                f"{f.path} and {seen[_disk(f)]} carry the same disk id {_disk(f)}: one is a copy or given twice; leave it out"
            )
        else:
            seen[_disk(f)] = f.path
            kept.append(f)
    return kept


def _others(
    found: Sequence[Found],
    by_path: dict[str, KnownDisk],
    assembly: Assembly,
    problems: list[str],
    classes: DiskClasses,
    *,
    add_disks: bool,
) -> None:
    """Directories without an identity: replacements, missing ones, new ones, mistakes."""
    for f in found:
        disk = by_path.get(f.path)
        match f.kind:
            case Kind.DISK:
                continue
            case Kind.LOST if disk is not None and disk.mounted and not f.mounted:
                reason = f"{f.path} was a mount point, now it is a plain directory: its disk is not mounted"
                assembly.missing.append(MissingDisk(disk=disk, reason=reason))
            case Kind.LOST:
                problems.append(
                    f"{f.path} holds files but has no {IDENTITY_NAME}: "
                    + (
                        f"it was disk {disk.disk_id} of this store. Mount the disk if it is not mounted, or bring the file "
                        "back; to give the disk up, empty the directory and it is rebuilt"
                        if disk
                        else "mount its disk if it is a mount point, or give an empty directory"
                    )
                )
            case Kind.EMPTY if disk is not None and f.mounted == disk.mounted:
                disk_class = classes.of_new(f.path, disk.disk_class)
                assembly.adopt.append(NewDisk(path=f.path, disk_class=disk_class))
                assembly.replaced.append(disk.disk_id)
                assembly.notes.append(f"{f.path} is empty: taken as the replacement of disk {disk.disk_id} and rebuilt")
            case Kind.EMPTY if disk is not None:
                was = (
                    "a mount point, now it is an empty directory: its disk is not mounted"
                    if disk.mounted
                    else ("a plain directory, now an empty disk is mounted over it")
                )
                assembly.missing.append(MissingDisk(disk=disk, reason=f"{f.path} was {was}"))
            case Kind.EMPTY | Kind.ABSENT if disk is None:
                if add_disks:
                    new = NewDisk(path=f.path, disk_class=classes.of_new(f.path))
                    assembly.adopt.append(new)
                    assembly.notes.append(f"{f.path} is added to the store, as a disk of class {new.disk_class}")
                else:
                    problems.append(f"{f.path} is not one of this store's disks: say --add-disks to take it in")
            case Kind.ABSENT if disk is not None:
                assembly.missing.append(MissingDisk(disk=disk, reason=f"{f.path} does not exist"))
            case _:
                if disk is not None and f.kind is Kind.BROKEN:
                    assembly.missing.append(MissingDisk(disk=disk, reason=f"{f.path} {f.reason}"))
                else:
                    problems.append(f"{f.path} {f.reason}; or leave the directory out")


def _cluster(found: Found) -> ClusterId:
    assert found.identity is not None
    return found.identity.cluster_id


def _disk(found: Found) -> DiskId:
    assert found.identity is not None
    return found.identity.disk_id

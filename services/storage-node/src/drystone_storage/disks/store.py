# SPDX-License-Identifier: Apache-2.0
"""Initialising and opening the disks of a store: looks at all at once, decides (`assemble`), then writes what was decided.

A disk that does not answer within the deadline counts as missing: one hung disk does not keep a store from starting.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from drystone_core.formats.disk_identity import DiskIdentity, encode_identity
from drystone_core.ids import ClusterId, DiskId
from drystone_core.ports import Lane
from drystone_core.profiles import Profile, default_profile
from drystone_datapath.volume import DiskState, DiskUnit
from drystone_runtime.documents import write_document
from drystone_storage.disks.assemble import Assembly, DisksRefused, assemble, is_new, refuse_initialisation
from drystone_storage.disks.classes import DiskClasses
from drystone_storage.disks.documents import (
    IDENTITY_NAME,
    KNOWN_NAME,
    KnownDisk,
    KnownDisks,
    encode_known,
)
from drystone_storage.disks.survey import Found, Kind, survey
from drystone_storage.world import Place, World

log = logging.getLogger(__name__)
SURVEY_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class StoreDisk:
    """One disk of the store, at hand or not."""

    known: KnownDisk
    place: Place
    unit: DiskUnit


@dataclass(slots=True, kw_only=True)
class Store:
    """The disks of one store, opened."""

    cluster_id: ClusterId
    profile: Profile
    generation: int
    disks: list[StoreDisk]
    """All known ones; those not at hand are FAILED until they return."""
    replaced: list[DiskId]
    notes: list[str]
    """What the operator should read."""
    classes: DiskClasses
    """Those the operator gave the disks."""

    @property
    def units(self) -> list[DiskUnit]:
        return [disk.unit for disk in self.disks]


class _Directories:
    """The given directories with a lane each, while a store is initialised or opened."""

    def __init__(self, world: World, paths: Sequence[str]) -> None:
        self.world = world
        self.places = [world.place(path) for path in paths]
        self.lanes = [world.lane(path.rstrip("/").rpartition("/")[2]) for path in paths]

    async def survey(self) -> list[Found]:
        deadline = self.world.clock.monotonic() + SURVEY_SECONDS
        calls = [(lane, _survey_of(place)) for place, lane in zip(self.places, self.lanes, strict=True)]
        results = await self.world.lanes.scatter(calls, deadline=deadline)
        return [
            r if isinstance(r, Found) else Found(path=p.root, kind=Kind.BROKEN, reason=f"does not answer ({r!r})")
            for r, p in zip(results, self.places, strict=True)
        ]

    def at(self, path: str) -> tuple[Place, Lane]:
        """The place and lane of a path; of a path that was not given, new ones."""
        for place, lane in zip(self.places, self.lanes, strict=True):
            if place.root == path:
                return place, lane
        return self.world.place(path), self.world.lane(path.rstrip("/").rpartition("/")[2])


async def open_store(
    world: World,
    paths: Sequence[str],
    *,
    profile: Profile | None = None,
    cell: ClusterId | None = None,
    add_disks: bool = False,
    create: bool = True,
    classes: DiskClasses | None = None,
    apart: Sequence[str] = (),
) -> Store:
    """The store on these directories, initialised first when all are empty (and `create`). DisksRefused otherwise.

    `profile` is used at initialisation only (None: the default for that many disks). `cell`: these are some of the disks of
    that cell. `classes`: those the operator gave the disks. `apart`: the classes that volumes keep to; the default profile
    is then that of the smallest of them.
    """
    directories = _Directories(world, paths)
    classes = classes or DiskClasses()
    found = await directories.survey()
    if create and is_new(found):
        refuse_initialisation(found, classes)
        made = {f.path: classes.of_new(f.path) for f in found}
        chosen = profile or _default_profile(tuple(made.values()), apart)
        await _initialise(directories, found, chosen, cell, made)
        found = await directories.survey()
    elif not any(f.kind is Kind.DISK for f in found):
        refuse_initialisation(found)
        raise DisksRefused(
            ["the store was initialised before, but none of its directories holds a disk of it: mount its disks"]
        )
    assembly = assemble(found, cell=cell, add_disks=add_disks, classes=classes)
    return await _apply(directories, assembly, classes)


def _default_profile(made: Sequence[str], apart: Sequence[str]) -> Profile:
    """For disks of these classes, volumes keeping to each class of `apart`; DisksRefused when a class has one disk."""
    counts = {name: made.count(name) for name in apart if name in made}
    smallest = min(counts, key=lambda name: counts[name], default="")
    try:
        return default_profile(counts.get(smallest, len(made)))
    except ValueError as error:
        raise DisksRefused([f"class {smallest}: {error}" if smallest else str(error)]) from error


async def _initialise(
    directories: _Directories,
    found: Sequence[Found],
    chosen: Profile,
    cell: ClusterId | None,
    classes: Mapping[str, str],
) -> None:
    """The list of disks on every disk first, identities last: an identity says that the rest is there.

    `classes`: path → class.
    """
    world = directories.world
    if cell is None and len(found) < chosen.m + 1:
        raise DisksRefused([f"profile {chosen.name} needs at least {chosen.m + 1} disks, {len(found)} were given"])
    cluster = cell or ClusterId(world.entropy.token(16).hex())
    created = world.clock.wall_us()
    made = await _on_all(directories, [_make(place) for place in directories.places])
    disks = tuple(
        KnownDisk(
            disk_id=DiskId(world.entropy.token(16).hex()),
            path=f.path,
            mounted=bool(mounted),
            disk_class=classes[f.path],
        )
        for f, mounted in zip(found, made, strict=True)
    )
    known = KnownDisks(cluster_id=cluster, generation=1, profile=chosen, disks=disks)
    listed = encode_known(known)
    await _on_all(directories, [_write(place, KNOWN_NAME, listed) for place in directories.places])
    await _on_all(
        directories,
        [
            _write(place, IDENTITY_NAME, encode_identity(_identity(known, disk, created)))
            for place, disk in zip(directories.places, disks, strict=True)
        ],
    )
    log.info("store.initialised", extra={"cluster": cluster, "profile": chosen.name, "disks": len(disks)})


async def _apply(directories: _Directories, assembly: Assembly, classes: DiskClasses) -> Store:
    """Give adopted directories their identity, tell all disks who belongs together, build the units."""
    world = directories.world
    disks: list[StoreDisk] = []
    adopted: list[KnownDisk] = []
    for new in assembly.adopt:
        path = new.path
        place, lane = directories.at(path)
        disk_id = DiskId(world.entropy.token(16).hex())
        disk = KnownDisk(disk_id=disk_id, path=path, mounted=False, disk_class=new.disk_class)
        try:
            mounted = await world.lanes.run(lane, _make(place), deadline=_soon(world))
        except (OSError, TimeoutError) as error:
            assembly.notes.append(f"{path} cannot be taken into use: {error}")
            continue
        disk = replace(disk, mounted=mounted)
        adopted.append(disk)
        disks.append(StoreDisk(disk, place, _unit(disk, place, lane)))
    for disk in assembly.present:
        place, lane = directories.at(disk.path)
        disks.append(StoreDisk(disk, place, _unit(disk, place, lane)))
    members = [d.known for d in disks] + [m.disk for m in assembly.missing]
    known = assembly.before
    if sorted(members, key=_by_id) != sorted(known.disks, key=_by_id):
        known = replace(known, generation=known.generation + 1, disks=tuple(members))
        await _publish_all(directories.world, disks, known, adopted, assembly.notes)
    for missing in assembly.missing:
        place, lane = directories.at(missing.disk.path)
        unit = _unit(missing.disk, place, lane)
        unit.state = DiskState.FAILED
        disks.append(StoreDisk(missing.disk, place, unit))
    for note in assembly.notes:
        log.warning("store.note", extra={"note": note})
    return Store(
        cluster_id=known.cluster_id,
        profile=known.profile,
        generation=known.generation,
        disks=disks,
        replaced=assembly.replaced,
        notes=assembly.notes,
        classes=classes,
    )


def _unit(disk: KnownDisk, place: Place, lane: Lane) -> DiskUnit:
    return DiskUnit(disk.disk_id, place, lane, label=disk.path, disk_class=disk.disk_class)


async def adopt_online(world: World, store: Store, disk: StoreDisk) -> StoreDisk | None:
    """Take the empty directory now at a failed disk's path as its replacement (A2); None when it may not be."""
    found = await world.lanes.run(disk.unit.lane, _survey_of(disk.place), deadline=_soon(world))
    if found.kind is not Kind.EMPTY or found.mounted != disk.known.mounted:
        return None
    fresh = KnownDisk(
        disk_id=DiskId(world.entropy.token(16).hex()),
        path=disk.known.path,
        mounted=found.mounted,
        disk_class=store.classes.of_new(disk.known.path, disk.known.disk_class),
    )
    unit = _unit(fresh, disk.place, disk.unit.lane)
    taken = StoreDisk(fresh, disk.place, unit)
    disks = [taken if d is disk else d for d in store.disks]
    known = KnownDisks(
        cluster_id=store.cluster_id,
        generation=store.generation + 1,
        profile=store.profile,
        disks=tuple(d.known for d in disks),
    )
    identity = _identity(known, fresh, world.clock.wall_us())
    await world.lanes.run(unit.lane, _publish(disk.place, known, identity), deadline=_soon(world))
    store.disks, store.generation = disks, known.generation
    store.replaced.append(disk.known.disk_id)
    others = [d for d in disks if d is not taken and d.unit.state is not DiskState.FAILED]
    await world.lanes.scatter([(d.unit.lane, _publish(d.place, known, None)) for d in others], deadline=_soon(world))
    log.warning("store.disk_replaced", extra={"path": fresh.path, "old": disk.known.disk_id, "new": fresh.disk_id})
    return taken


async def _publish_all(
    world: World, disks: Sequence[StoreDisk], known: KnownDisks, adopted: Sequence[KnownDisk], notes: list[str]
) -> None:
    identities = {d.disk_id: _identity(known, d, world.clock.wall_us()) for d in adopted}
    calls = [(d.unit.lane, _publish(d.place, known, identities.get(d.known.disk_id))) for d in disks]
    results = await world.lanes.scatter(calls, deadline=_soon(world))
    for disk, result in zip(disks, results, strict=True):
        if isinstance(result, BaseException):
            disk.unit.state = DiskState.FAILED if disk.known in adopted else DiskState.SUSPECT
            notes.append(f"{disk.known.path} cannot be written ({result}): nothing is placed on it for now")


def _by_id(disk: KnownDisk) -> str:
    return disk.disk_id


def _soon(world: World) -> float:
    return world.clock.monotonic() + SURVEY_SECONDS


def _identity(known: KnownDisks, disk: KnownDisk, created_us: int) -> DiskIdentity:
    return DiskIdentity(
        cluster_id=known.cluster_id,
        disk_id=disk.disk_id,
        disk_class=disk.disk_class,
        created=datetime.fromtimestamp(created_us // 1_000_000, tz=UTC).isoformat(),
        profile=known.profile,
        mounted=disk.mounted,
    )


async def _on_all(directories: _Directories, calls: Sequence[Callable[[], object]]) -> list[object]:
    world = directories.world
    pairs = list(zip(directories.lanes, calls, strict=True))
    results = await world.lanes.scatter(pairs, deadline=_soon(world) + SURVEY_SECONDS)
    problems = [
        f"{place.root} cannot be initialised: {result}"
        for place, result in zip(directories.places, results, strict=True)
        if isinstance(result, BaseException)
    ]
    if problems:
        raise DisksRefused(problems)
    return results


def _survey_of(place: Place) -> Callable[[], Found]:
    return partial(survey, place)


def _make(place: Place) -> Callable[[], bool]:
    def call() -> bool:
        if not place.exists():
            place.make()
        return place.is_mount()

    return call


def _write(place: Place, name: str, data: bytes) -> Callable[[], None]:
    return partial(write_document, place, name, data)


def _publish(place: Place, known: KnownDisks, identity: DiskIdentity | None) -> Callable[[], None]:
    def call() -> None:
        write_document(place, KNOWN_NAME, encode_known(known))
        if identity is not None:
            write_document(place, IDENTITY_NAME, encode_identity(identity))

    return call

# SPDX-License-Identifier: Apache-2.0
"""The start of an embedded cell: look at every disk, conclude (recovery.py), make ready what goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.formats.journal import RecordKind
from drystone_core.ports import Clock, Lane, Lanes
from drystone_metadata.store.embedded.member import Member, Standing
from drystone_metadata.store.embedded.overlay import Layer, Stamp, replay
from drystone_metadata.store.embedded.recovery import Conclusion, Seen, conclude, genesis
from drystone_metadata.store.embedded.units import EmbeddedSettings, is_disk_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the storage goes on."""

    stamp: Stamp
    """The last record that all members hold."""
    term: int
    members: list[Member]
    layers: list[Layer]
    base: int
    """The layers hold what comes after this index."""
    backlog: list[tuple[RecordKind, bytes]]
    """Records after the stamp: already in the last layer, to be appended again."""
    rebuild: list[Member]
    """Members whose file has to be made, or whose rebuild has to go on."""


async def open_cell(
    members: Sequence[Member], *, m: int, lanes: Lanes, clock: Clock, settings: EmbeddedSettings, create: bool
) -> Found:
    """Raises Unavailable or Damaged when the newest state is not certain to be here."""
    deadline = clock.monotonic() + settings.disk_deadline
    results = await lanes.scatter([(member.unit.background, member.inspect) for member in members], deadline=deadline)
    seen: list[Seen] = []
    for member, result in zip(members, results, strict=True):
        if isinstance(result, Seen):
            seen.append(result)
        elif isinstance(result, DrystoneError):
            raise result
        else:
            member.standing, member.reason = Standing.FAILED, f"not readable at the start: {result!r}"
            member.failed_at = clock.monotonic()
    try:
        conclusion = conclude(seen, disks=len(members), m=m, accept_loss=settings.accept_loss)
        if conclusion.fresh and not create:
            raise Unavailable("no metadata on any disk: a new cell must be asked for")
    except BaseException:
        for member in members:
            member.drop_db()
        raise
    by_id = {member.disk_id: member for member in members}
    if conclusion.fresh:
        chosen = [member for member in members if member.standing is not Standing.FAILED][: m + 1]
    else:
        chosen = [by_id[disk] for disk in sorted(conclusion.trusted)]
    await _make_files(chosen, conclusion, lanes=lanes, deadline=deadline)
    for member in members:
        if member not in chosen:
            member.drop_db()
            member.journal.forget()
    chosen = [member for member in chosen if member.standing is not Standing.FAILED]
    chosen.sort(key=lambda member: not member.serves)
    for member in chosen:
        member.standing = Standing.MEMBER
    stamp, layers, backlog = _layers(conclusion)
    return Found(
        stamp=stamp,
        term=conclusion.term,
        members=chosen,
        layers=layers,
        base=conclusion.base.index,
        backlog=backlog,
        rebuild=[member for member in chosen if not member.serves],
    )


async def _make_files(chosen: Sequence[Member], conclusion: Conclusion, *, lanes: Lanes, deadline: float) -> None:
    """Reserve space; make empty files for a new cell (or one whose journals go back to its beginning)."""
    start = conclusion.base
    for member in chosen:
        if member.disk_id not in conclusion.usable:
            member.drop_db()
    new = [member for member in chosen if member.db is None and start.hash == genesis().hash]
    calls: list[tuple[Lane, Callable[[], None]]] = [
        (member.unit.background, partial(member.create_db, start)) for member in new
    ]
    calls += [(member.unit.background, member.hold_reserve) for member in chosen]
    results = await lanes.scatter(calls, deadline=deadline)
    for member, result in zip([*new, *chosen], results, strict=True):
        if isinstance(result, BaseException) and is_disk_fault(result):
            member.standing, member.reason = Standing.FAILED, f"cannot be made ready: {result!r}"


def _layers(conclusion: Conclusion) -> tuple[Stamp, list[Layer], list[tuple[RecordKind, bytes]]]:
    base = conclusion.base
    stamp = Stamp(base.index, base.hash, base.term, base.members)
    layer = Layer(base.state)
    layers: list[Layer] = []
    backlog: list[tuple[RecordKind, bytes]] = []
    for record in conclusion.path:
        if record.index > conclusion.common:
            if not backlog and stamp.index > base.index:
                layer.stamp = stamp
                layers.append(layer)
                layer = Layer(layer.state)
            if record.kind is not RecordKind.TERM:
                backlog.append((record.kind, record.payload))
        else:
            stamp = Stamp(record.index, record.hash, record.term, conclusion.sets.get(record.term, ()))
        replay(layer, record)
    layers.append(layer)
    return stamp, layers, backlog

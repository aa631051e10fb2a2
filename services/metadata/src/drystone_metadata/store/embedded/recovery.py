# SPDX-License-Identifier: Apache-2.0
"""What a start concludes from the disks it sees: pure, no I/O (R5).

Invariants
  R1  Every acknowledged record is in the journal or the SQLite file of every member of the newest set, and that set has
      m+1 members: with at most m of the cell's disks missing, one of them is here: the highest term seen is the newest.
  R2  The tip is the record of the highest term, then index. It counts only when the chain of hashes leads from it
      back to what some complete SQLite file has applied; a gap is damage to be told, never a shorter log.
  R3  What not all future members hold is written again in the new term (`again`), so that nothing is applied which a
      later start might not find.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from drystone_core.errors import Damaged, Unavailable
from drystone_core.formats.journal import GENESIS, Record
from drystone_core.ids import DiskId
from drystone_metadata.store.embedded.database import Applied
from drystone_metadata.store.embedded.segments import Segment


def genesis() -> Applied:
    """The empty state every cell began with."""
    return Applied(cluster="", disk=DiskId(""), index=0, term=0, hash=GENESIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One readable disk."""

    disk_id: DiskId
    segments: Sequence[Segment] = ()
    applied: Applied | None = None
    """None: no SQLite file, or one that cannot be used."""

    @property
    def empty(self) -> bool:
        """Nothing was ever committed here (a first start that was cut short counts)."""
        return not self.segments and (self.applied is None or self.applied.index == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """How to start."""

    fresh: bool = False
    """Nothing anywhere: a new cell."""
    term: int = 0
    """The highest seen."""
    members: tuple[DiskId, ...] = ()
    """The newest set."""
    base: Applied = field(default_factory=genesis)
    """The complete file that is least far among those on the chain: the layers start there."""
    path: list[Record] = field(default_factory=list)
    """Records from the base to the tip."""
    common: int = 0
    """The last index that all present members of the newest set hold; what follows in `path` is written again."""
    usable: frozenset[DiskId] = frozenset()
    """Disks whose SQLite file is on the chain (complete, or a rebuild that can go on)."""
    holders: frozenset[DiskId] = frozenset()
    """Members of the newest set that are present."""
    trusted: frozenset[DiskId] = frozenset()
    """Disks the new set is made of first: the holders, or with no complete file among them whoever leads to the tip."""
    sets: dict[int, tuple[DiskId, ...]] = field(default_factory=dict)
    """Member set of each term seen."""


def conclude(seen: Sequence[Seen], *, disks: int, m: int, accept_loss: bool) -> Conclusion:
    """Decide from what is there; Unavailable when too much is missing, Damaged when the chain has a gap."""
    missing = disks - len(seen)
    if missing > m and not accept_loss:
        raise Unavailable(f"{missing} of the cell's {disks} disks are missing, at most {m} may be")
    if all(one.empty for one in seen):
        if missing:
            raise Unavailable("no metadata on the disks that are here, and others are missing")
        return Conclusion(fresh=True)
    sets = _sets(seen)
    term = max(sets)
    members = sets[term]
    holders = frozenset(one.disk_id for one in seen if one.disk_id in members and not one.empty)
    if not holders and not accept_loss:
        raise Unavailable("no member of the newest metadata set is here")
    trusted = [one for one in seen if one.disk_id in holders]
    base_of = _bases(trusted)
    if not base_of:
        trusted = list(seen)
        base_of = _bases(seen) or {GENESIS: genesis()}
    chain = _chain(seen, base_of, accept_loss=accept_loss)
    start = base_of[chain[0].previous] if chain else max(base_of.values(), key=lambda one: (one.term, one.index))
    positions = {start.hash: start.index} | {record.hash: record.index for record in chain}
    reaches = [reach for one in trusted if (reach := _reach(one, positions)) >= start.index]
    common = min(reaches, default=start.index)
    usable = frozenset(
        one.disk_id
        for one in trusted
        if one.applied is not None
        and positions.get(one.applied.hash) == one.applied.index
        and one.applied.index <= common
    )
    return Conclusion(
        term=term,
        members=members,
        base=start,
        path=chain,
        common=common,
        usable=usable,
        holders=holders,
        trusted=holders | usable,
        sets=sets,
    )


def _bases(seen: Sequence[Seen]) -> dict[bytes, Applied]:
    return {one.applied.hash: one.applied for one in seen if one.applied is not None and one.applied.complete}


def _sets(seen: Sequence[Seen]) -> dict[int, tuple[DiskId, ...]]:
    """Terms of which there is proof, and their members."""
    sets = {one.applied.term: one.applied.members for one in seen if one.applied is not None}
    return sets | {segment.header.term: segment.header.members for one in seen for segment in one.segments}


def _chain(seen: Sequence[Seen], base_of: dict[bytes, Applied], *, accept_loss: bool) -> list[Record]:
    """Records from the least advanced base that leads to the tip, in order; empty when a base is the tip."""
    records = {record.hash: record for one in seen for segment in one.segments for record in segment.records}
    tips: list[tuple[int, int, bytes]] = [(record.term, record.index, record.hash) for record in records.values()]
    tips += [(applied.term, applied.index, applied.hash) for applied in base_of.values()]
    for _term, _index, tip in sorted(tips, reverse=True):
        path: list[Record] = []
        reached = -1
        at = tip
        while True:
            if at in base_of:
                reached = len(path)
            record = records.get(at)
            if record is None:
                break
            path.append(record)
            at = record.previous
        if reached >= 0:
            return path[:reached][::-1]
        if not accept_loss:
            raise Damaged("the metadata journal has a gap before its newest record")
    return []


def _reach(one: Seen, positions: dict[bytes, int]) -> int:
    """The last index of the chain that a disk holds, in its journal or its file; -1 = none of it.

    A journal's records are on the chain one after the other, save where one is rotten: what follows does not count.
    """
    held = {record.hash for segment in one.segments for record in segment.records}
    if one.applied is not None:
        held.add(one.applied.hash)
    reach = -1
    for digest, index in sorted(positions.items(), key=lambda item: item[1]):
        if (one.applied is not None and digest == one.applied.hash) or (digest in held and (reach in (-1, index - 1))):
            reach = index
    return reach

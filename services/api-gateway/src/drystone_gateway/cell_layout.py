# SPDX-License-Identifier: Apache-2.0
"""The layout of a cell, as its operator shows, stages and publishes it: documents of the coordinator. Any gateway does it.

Invariants
  Y1  A layout is published as the successor of the one it was made from, or not at all: both documents are compared in the
      commit that publishes one and removes the other. No leader is needed for that.
  Y2  Documents are read from the coordinator, never from the cache; disks and nodes, which only advise, from the cache.
  Y3  A commit whose outcome is unknown is settled by reading: what stands there as we wrote it was done.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from drystone_core.coordination import ABSENT, Change, Coordinator, Delete, Document, Put, Require, Revision
from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable, Unreachable
from drystone_core.formats.coordination import (
    DISKS,
    LAYOUT,
    LAYOUT_STAGED,
    LAYOUTS,
    VOLUMES,
    DiskDocument,
    Layout,
    NodeDocument,
    OpenVolume,
    decode,
    encode,
    node_key,
)
from drystone_core.identity import ServiceKind
from drystone_core.layout import DiskPlace, LayoutChange, LayoutReport, changed, judge, report, same
from drystone_core.profiles import Profile
from drystone_runtime.coordination.cache import CoordinatorCache

_UNSAID = Layout(version=0, level="")
_AGAIN = "the layout changed meanwhile, by somebody else; see `drystone layout show`, then ask again"


@dataclass(frozen=True, slots=True)
class _Standing:
    """Both documents and the revisions they had at one moment."""

    current: Layout
    current_at: Revision
    staged: Layout | None
    staged_at: Revision


class CellLayout:
    """Answers `drystone layout`. Calls raise Refused, Unavailable, Damaged (a document that cannot be read)."""

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        cache: CoordinatorCache,
        level: str,
        profile: Callable[[], Awaitable[str]],
        disk_classes: Sequence[str] = (),
    ) -> None:
        """`level`: the configured one. `profile`: the cell's; empty while no storage node says. `disk_classes`: those
        volumes keep to."""
        self._disk_classes = disk_classes
        self._coordinator, self._cache = coordinator, cache
        self._level, self._profile = level, profile

    async def show(self) -> LayoutReport:
        """What is in effect, and what is staged."""
        standing, places, profile = await self._standing(), self._places(), await self._profile()
        warnings: list[str] = []
        if standing.staged is not None and profile:
            try:
                warnings = self._judged(standing.staged, standing.current, places, profile)
            except Refused as error:
                warnings = [f"it would be refused now: {error.message}"]
        return self._report(standing.current, standing.staged, places, profile, warnings)

    async def plan(self, change: LayoutChange) -> LayoutReport:
        """Stage a change on top of what is staged, else of what is in effect."""
        standing, places, profile = await self._standing(), self._places(), await self._known_profile()
        base = standing.staged or standing.current
        made = replace(changed(base, change, places), version=standing.current.version + 1)
        if same(made, base):
            raise _refused("nothing to change: the layout says so already")
        if same(made, standing.current):
            raise _refused(
                "nothing would differ from the layout in effect: drystone layout revert drops what is staged"
            )
        warnings = self._judged(made, standing.current, places, profile)
        await self._commit(
            Require(key=LAYOUT, expected=standing.current_at),
            Put(key=LAYOUT_STAGED, value=encode(made), expected=standing.staged_at),
        )
        return self._report(standing.current, made, places, profile, warnings)

    async def apply(self) -> LayoutReport:
        """Publish what is staged."""
        standing, places, profile = await self._standing(), self._places(), await self._known_profile()
        staged = standing.staged
        if staged is None:
            raise _refused(f"nothing is staged (in effect: version {standing.current.version}): drystone layout plan")
        warnings = self._judged(staged, standing.current, places, profile)
        await self._commit(
            Put(key=LAYOUT, value=encode(staged), expected=standing.current_at),
            Delete(key=LAYOUT_STAGED, expected=standing.staged_at),
        )
        return self._report(staged, None, places, profile, warnings)

    async def revert(self) -> LayoutReport:
        """Drop what is staged."""
        found = await self._coordinator.get(LAYOUT_STAGED)  # not decoded: what cannot be read can be dropped
        if found is None:
            raise _refused("nothing is staged")
        await self._commit(Delete(key=LAYOUT_STAGED, expected=found.revision))
        return await self.show()

    def _report(
        self, current: Layout, staged: Layout | None, places: list[DiskPlace], profile: str, warnings: list[str]
    ) -> LayoutReport:
        return report(
            current=current,
            staged=staged,
            places=places,
            profile=profile,
            configured=self._level,
            warnings=warnings,
        )

    def _judged(self, wanted: Layout, current: Layout, places: list[DiskPlace], profile: str) -> list[str]:
        warnings = judge(current, wanted, places, Profile.parse(profile), self._level, self._disk_classes)
        draining = {each.disk for each in wanted.disks if each.draining}
        volumes = self._cache.decoded(OpenVolume, VOLUMES)
        count = sum(not draining.isdisjoint(volume.disks) for volume in volumes)
        if count:
            warnings.append(
                f"{count} open volumes have slots on disks that drain: they are filled as before, then closed"
            )
        return warnings

    async def _standing(self) -> _Standing:
        snapshot = await self._coordinator.snapshot(LAYOUTS)
        found = {document.key: document for document in snapshot.documents}
        current, staged = found.get(LAYOUT), found.get(LAYOUT_STAGED)
        standing = _Standing(
            current=_layout(current) if current is not None else _UNSAID,
            current_at=current.revision if current is not None else ABSENT,
            staged=_layout(staged) if staged is not None else None,
            staged_at=staged.revision if staged is not None else ABSENT,
        )
        if standing.staged is not None and standing.staged.version != standing.current.version + 1:
            raise _refused(
                f"the staged layout was made from version {standing.staged.version - 1}, in effect is "
                f"{standing.current.version}: drystone layout revert, then plan anew"
            )
        return standing

    async def _known_profile(self) -> str:
        profile = await self._profile()
        if not profile:
            raise Unavailable("no storage node answers, so that the cell's profile is not known")
        return profile

    def _places(self) -> list[DiskPlace]:
        nodes = {
            node.node: node for node in self._cache.decoded(NodeDocument, node_key(ServiceKind.STORAGE_NODE.value, ""))
        }
        found = []
        for disk in self._cache.decoded(DiskDocument, DISKS):
            node = nodes.get(disk.node)
            found.append(
                DiskPlace(
                    disk=disk.disk,
                    node=disk.node,
                    zone=node.zone if node is not None else "",
                    rack=node.rack if node is not None else "",
                    disk_class=disk.disk_class,
                    state=disk.state,
                    total=disk.total,
                    free=disk.free,
                )
            )
        return found

    async def _commit(self, *changes: Change) -> None:
        try:
            await self._coordinator.commit(*changes)
        except Stale as error:
            raise _refused(_AGAIN) from error
        except Unreachable:
            raise
        except Unavailable:
            if not await self._done(changes):
                raise

    async def _done(self, changes: tuple[Change, ...]) -> bool:
        """Does everything stand as the changes say? Then they, or their like, were made."""
        for change in changes:
            found = await self._coordinator.get(change.key)
            if isinstance(change, Put) and (found is None or found.value != change.value):
                return False
            if isinstance(change, Delete) and found is not None:
                return False
        return True


def _layout(document: Document) -> Layout:
    return decode(Layout, document.value, key=document.key)


def _refused(sentence: str) -> Refused:
    return Refused(ErrorCode.INVALID_REQUEST, sentence)

# SPDX-License-Identifier: Apache-2.0
"""A storage node among others: registered, its disks announced, those of its peers in use, abandoned volumes closed.

Invariants
  M1  Volumes are opened only while registered, and closed by others only after the registration has ended: the lease orders
      them, the close flags make it safe.
  M2  Of an abandoned volume every node knows which one closes it (a ring over the registered nodes), so that not all do.
      Another one may do it as well: closing is idempotent.
  M3  A claim goes when the flags are durable on the slots at hand, never while no slot could be reached.
  M4  While the coordinator is away, what was known goes on: reads, repair, and appends to the volumes already open.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drystone_core.check import check
from drystone_core.coordination import Coordinator
from drystone_core.errors import DrystoneError
from drystone_core.formats.coordination import DiskDocument, NodeDocument, OpenVolume, election_key
from drystone_core.ids import DiskId, VolumeId, volume_text
from drystone_core.ring import Ring
from drystone_datapath.volume import DiskState, DiskUnit, VolumeState
from drystone_runtime.coordination.cache import CoordinatorCache
from drystone_runtime.coordination.registration import Registration
from drystone_runtime.rpc.channel import blocking_channel
from drystone_storage.cell.claims import CoordinatedClaims
from drystone_storage.cell.fences import Fences
from drystone_storage.cell.peers import Dial, PeerDisks
from drystone_storage.cell.upkeep import NodeUpkeep
from drystone_storage.cell.view import ROLE, CellView, view_of
from drystone_storage.disks.watch import Watched
from drystone_storage.node import StorageNode, build
from drystone_storage.settings import StorageSettings
from drystone_storage.world import World

log = logging.getLogger(__name__)
_MEET_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """How this node stands among others."""

    node: str
    """Unique among the storage nodes."""
    endpoint: str
    """Where peers and gateways reach its gRPC: HOST:PORT."""
    claim: str
    """Random, kept in the node's state directory."""
    zone: str = ""
    rack: str = ""
    level: str = "node"
    """Failure domain of placement where the layout names none: disk, node, rack or zone."""
    ttl: float = 10.0
    """Seconds after which a silent node counts as gone."""
    announce: float = 10.0
    """Between two announcements of its disks' free space."""
    tend: float = 2.0
    """Between two looks for abandoned volumes."""
    meet: float = 5.0
    """A start waits so long at most for the disks of others."""


class CellMember:
    """The node and its place in the cell. `start()` and `stop()` once."""

    def __init__(
        self,
        *,
        settings: MemberSettings,
        storage: StorageSettings,
        world: World,
        coordinator: Coordinator,
        dial: Dial = blocking_channel,
    ) -> None:
        self._settings, self._world, self._coordinator = settings, world, coordinator
        self._claims = CoordinatedClaims(coordinator=coordinator, node=settings.node, clock=world.clock)
        self.node: StorageNode = build(storage, world, self._claims)
        self._peers = PeerDisks(world=world, watch=self.node.watch, dial=dial, node=settings.node, level=settings.level)
        self._cache = CoordinatorCache(
            coordinator=coordinator, prefix="", clock=world.clock, on_change=lambda _: self._moved.set()
        )
        self._moved = asyncio.Event()
        self._registration: Registration | None = None
        self._open: frozenset[VolumeId] = frozenset()
        check(storage.cell is not None, "a member of a cell knows which one")
        assert storage.cell is not None
        self.fences = Fences(world=world, cell=storage.cell, units=self._local, leads=self._leads)
        self.upkeep = NodeUpkeep(self.node, self._claimed, world.clock)
        """What the cell's keepers are given."""

    async def start(self) -> None:
        """Open the disks, register, meet the peers, find the volumes. DisksRefused, Refused, Unavailable."""
        await self.node.open_disks()
        await self.fences.load()
        await self.node.watch.look()
        self._registration = registration = Registration(
            coordinator=self._coordinator,
            node=self._document(),
            disks=self._disks(),
            ttl=self._settings.ttl,
            clock=self._world.clock,
            entropy=self._world.entropy,
        )
        await registration.start()
        self._claims.registration = registration
        await self._cache.start(within=self._settings.ttl)
        self._follow()
        await self.node.start()
        background = self._world.background
        background.keep("cell.claims", self._claims.run)
        background.keep("cell.follow", self._run_follow)
        background.keep("cell.announce", self._run_announce)
        background.keep("cell.tend", self._run_tend)
        await self._meet()

    async def _meet(self) -> None:
        """Look until every disk that is registered answers, for a while: who says that it is ready can open volumes."""
        until = self._world.clock.monotonic() + self._settings.meet
        while any(watched.unit.state is DiskState.FAILED for watched in self.node.watch.disks):
            if self._world.clock.monotonic() >= until:
                log.info(
                    "cell.met_not_all",
                    extra={
                        "disks": [
                            watched.unit.label
                            for watched in self.node.watch.disks
                            if watched.unit.state is DiskState.FAILED
                        ]
                    },
                )
                return
            await self._world.clock.sleep(_MEET_PAUSE)
            await self.node.watch.look()

    async def leave(self) -> None:
        """Tell the others that nothing new should come here, then drain."""
        if self._registration is not None:
            try:
                await self._registration.tell(node=replace(self._document(), state="draining"))
            except DrystoneError as error:  # the end of the session says it as well
                log.info("registration.draining_not_told", extra={"reason": str(error)})
        await self.drain()

    async def drain(self) -> None:
        """Take no more blobs; the open volumes are closed and their claims given back."""
        await self.node.drain()

    async def stop(self) -> None:
        """Drain and leave the cell."""
        await self.node.drain()
        if self._registration is not None:
            await self._registration.stop()
        await self._cache.close()
        await self.node.stop()
        self._peers.close()

    @property
    def view(self) -> CellView:
        """The cell as last known."""
        return view_of(self._cache.documents.values())

    def local_units(self) -> Mapping[DiskId, DiskUnit]:
        """The disks this node serves to others: none before they are opened, failed ones neither."""
        return {unit.disk_id: unit for unit in self._local()}

    def _local(self) -> list[DiskUnit]:
        store = self.node.store
        return [unit for unit in store.units if unit.state is not DiskState.FAILED] if store is not None else []

    def _claimed(self) -> Iterable[OpenVolume]:
        return self.view.volumes.values()

    def _leads(self, election: str) -> int:
        """The token of who leads it, as last known; 0 = nobody."""
        document = self._cache.get(election_key(election))
        return document.created if document is not None else 0

    def _document(self) -> NodeDocument:
        settings = self._settings
        return NodeDocument(
            node=settings.node, role=ROLE, endpoint=settings.endpoint, claim=settings.claim, incarnation="",
            zone=settings.zone, rack=settings.rack,
        )  # fmt: skip

    def _disks(self) -> list[DiskDocument]:
        store = self.node.store
        assert store is not None
        local = {unit.disk_id for unit in store.units}
        return [
            DiskDocument(
                disk=watched.unit.disk_id,
                node=self._settings.node,
                incarnation="",
                disk_class=watched.unit.disk_class,
                state=_told(watched),
                total=watched.total,
                free=watched.free,
            )
            for watched in self.node.watch.disks
            if watched.unit.disk_id in local
        ]

    def _follow(self) -> CellView:
        view = self.view
        for sentence in view.unreadable:
            log.warning("cell.document_unreadable", extra={"reason": sentence})
        self._peers.follow(view)
        return view

    async def _run_follow(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            view = self._follow()
            gone, self._open = self._open - set(view.volumes), frozenset(view.volumes)
            for volume_id in sorted(gone):
                # So that repair and scrubbing know it, with all its slots: some may have been made after we looked last.
                await self.node.look_again(volume_id)
                self.node.registry.closed_elsewhere(volume_id)

    async def _run_announce(self) -> None:
        told: list[DiskDocument] = []
        while True:
            await self._world.clock.sleep(self._settings.announce)
            disks = self._disks()
            if self._registration is not None and disks != told:
                try:
                    await self._registration.tell(disks=disks)
                    told = disks
                except DrystoneError as error:
                    log.info("cell.announcement_waits", extra={"reason": str(error)})

    async def _run_tend(self) -> None:
        """Close what abandoned volumes fall to this node (M2); look again for volumes nobody could tell about; forget disks
        that were replaced."""
        while True:
            await self._world.clock.sleep(self._settings.tend)
            view = self.view
            for unit in self._peers.forget_replaced(view):
                self.node.registry.forget_disk(unit)
            abandoned = view.abandoned()
            ring = Ring(view.nodes if abandoned else ())
            for claim in abandoned:
                volume = self.node.registry.get(claim.volume)
                if volume is not None and volume.state is VolumeState.OPEN:
                    # Ours, from before our registration was lost (we were paused, or the coordinator was away).
                    await self.node.leave_volume(volume)
                elif ring.owner(volume_text(claim.volume).encode()) == self._settings.node:
                    await self._close(claim.volume)
            for volume in self.node.registry.volumes():
                if volume.state is VolumeState.ELSEWHERE and volume.volume_id not in view.volumes:
                    await self._close(volume.volume_id)

    async def _close(self, volume_id: VolumeId) -> None:
        """Looking for it asks again who owns it, and closes it when nobody does."""
        volume = await self.node.find(volume_id)
        log.info(
            "cell.abandoned_volume",
            extra={"volume": volume_text(volume_id), "state": volume.state.value if volume else "not found"},
        )
        every = all(watched.unit.state is not DiskState.FAILED for watched in self.node.watch.disks)
        if every and volume_id in self.node.registry.absent:
            self.node.registry.absent.discard(volume_id)
            await self._claims.release(volume_id)  # it was never made: every disk answers and none has it


def _told(watched: Watched) -> str:
    """The state others are told: a draining disk that fails is a failed one."""
    state = watched.unit.state
    return "draining" if watched.draining and state is DiskState.HEALTHY else state.value

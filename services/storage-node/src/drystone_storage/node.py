# SPDX-License-Identifier: Apache-2.0
"""The storage node: durable blobs in, verified bytes out, whatever single disks do. The direct form of StorageService.

Invariants
  N1  What was acknowledged is durable on all k+m slots of its volume; a failing volume costs latency, not an error (R3).
  N2  A retry appends a new blob to another volume; what the broken volume holds of it is never named.
  N3  Retries are bounded; then Unavailable. Reads go on whatever happens to writes.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Generator, Sequence
from typing import Any

from drystone_core.cell import DiskStatus, NodeStatus
from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.extents import BlobRef, StripedExtent
from drystone_core.ids import BlobId, DiskId, VolumeId, make_blob_id, volume_text
from drystone_core.ports import Buffer
from drystone_core.services import BlobHeader, BlobWriter, ReadChunk, SmallBlob
from drystone_datapath.buffers import PIECE_BYTES, READ_BYTES, BufferPool, PooledBuffer
from drystone_datapath.codec import Codecs
from drystone_datapath.faults import DamagedFragment, VolumeBroken, VolumeUnusable
from drystone_datapath.pack import Piece
from drystone_datapath.read import Reader
from drystone_datapath.verify import trim
from drystone_datapath.volume import DiskState, DiskUnit, Volume, VolumeState
from drystone_datapath.write import StripedWriter
from drystone_storage.disks.store import Store, adopt_online, open_store
from drystone_storage.disks.watch import DiskWatch
from drystone_storage.freeing import Freer
from drystone_storage.healing import Healer
from drystone_storage.scrubbing import Scrubs
from drystone_storage.settings import StorageSettings
from drystone_storage.volumes.chains import ClassChains
from drystone_storage.volumes.claims import SoleNode, VolumeClaims
from drystone_storage.volumes.open_volumes import LatenessCap, OpenVolumes
from drystone_storage.volumes.opening import VolumeOpener
from drystone_storage.volumes.registry import Bad, LoadReport, SlotPlace, VolumeRegistry
from drystone_storage.world import World

log = logging.getLogger(__name__)
_TICK = 0.25
_LOOK = 1.0
_LOOKS = 4096
_PATIENCE = 10.0
"""Seconds a piece waits for a buffer."""
_OTHER_FILES = 512
"""Of the files the process may open, kept for connections, journals and the open volumes."""


def build(settings: StorageSettings, world: World, claims: VolumeClaims | None = None) -> "StorageNode":
    """A node that has touched nothing yet; `start()` opens its disks. Without `claims` it has them for itself."""
    return StorageNode(settings=settings, world=world, claims=claims or SoleNode())


class StorageNode:
    """StorageService in the same process."""

    def __init__(self, *, settings: StorageSettings, world: World, claims: VolumeClaims) -> None:
        self._settings, self._world, self._claims = settings, world, claims
        self.codecs = Codecs()
        share = (world.open_files - _OTHER_FILES) // max(1, len(settings.paths))
        self.registry = VolumeRegistry(
            lanes=world.lanes, clock=world.clock, claims=claims, open_files=max(16, min(settings.open_files, share))
        )
        self.watch = DiskWatch(
            lanes=world.lanes,
            clock=world.clock,
            settings=settings.watch,
            on_failed=self._disk_failed,
            on_returned=self._disk_returned,
            among_others=settings.cell is not None,
        )
        self._opener = VolumeOpener(
            world=world,
            watch=self.watch,
            registry=self.registry,
            codecs=self.codecs,
            claims=claims,
            settings=settings.open,
            append=settings.append,
        )
        self._cap = LatenessCap(settings.open.late_closings)
        self._chains = ClassChains(make=self._chain, known=self._has_class)
        self._piece_pool = BufferPool(size=PIECE_BYTES, count=settings.piece_buffers)
        self.reader = Reader(
            volumes=self.registry,
            lanes=world.lanes,
            clock=world.clock,
            codecs=self.codecs,
            buffers=BufferPool(size=READ_BYTES, count=settings.read_buffers),
            on_failure=self._read_failed,
        )
        self.read_now = self.reader.read_now
        """The reader's own method: the hot path pays no hop."""
        self.healer = Healer(
            world=world,
            registry=self.registry,
            watch=self.watch,
            reader=self.reader,
            leave=self.leave_volume,
            lost_after=settings.watch.lost_after,
            apart=bool(settings.apart),
        )
        """The RepairNode."""
        self.freer = Freer(
            world=world,
            registry=self.registry,
            watch=self.watch,
            lost_after=settings.watch.lost_after,
            pause=settings.scan_pause,
        )
        """The ReclaimNode."""
        self.scrubs = Scrubs(
            world=world,
            registry=self.registry,
            on_failure=self._read_failed,
            units=self._at_hand,
            look=self.look_again if settings.cell is not None else None,
        )
        """The ScrubNode."""
        self.store: Store | None = None
        self.loaded = LoadReport()
        self._draining = True
        self._looks: dict[VolumeId, tuple[float, asyncio.Task[Volume | None]]] = {}
        """Volume → when it was last looked for on all disks (monotonic), and that look."""

    async def open_disks(self) -> Store:
        """Open (or initialise) the disks; part of `start()`. Raises DisksRefused with everything that is wrong."""
        settings = self._settings
        self.store = await open_store(
            self._world,
            settings.paths,
            profile=settings.profile,
            cell=settings.cell,
            add_disks=settings.add_disks,
            create=settings.create,
            classes=settings.disk_classes,
            apart=settings.apart,
        )
        for unit in self.store.units:
            self.watch.add(unit)
        return self.store

    async def start(self) -> None:
        """Open the disks, find the volumes, close what was left open, begin to watch. Raises DisksRefused."""
        background = self._world.background
        if self.store is None:
            await self.open_disks()
        assert self.store is not None
        self._opener.profile = self.store.profile
        await self.watch.look()
        for unit in self.store.units:
            if unit.lane.busy_since() is not None:
                unit.state = DiskState.FAILED  # it hangs; the watch takes it in when it answers
        self.loaded = await self.registry.load([u for u in self.store.units if u.state is not DiskState.FAILED])
        background.keep("disks.watch", self.watch.run)
        background.keep("volumes.tick", self._run_ticks)
        background.once("volumes.trim", self._trim_left_open())
        self._draining = False

    async def _trim_left_open(self) -> None:
        """Give back at once what a crash left reserved: stores that are killed often would fill their disks."""
        for volume in self.loaded.left_open:
            await trim(volume, 0, lanes=self._world.lanes, clock=self._world.clock)

    async def drain(self) -> None:
        """Take no more blobs; close the open volumes. Reads go on."""
        self._draining = True
        await self._chains.stop()

    async def stop(self) -> None:
        """Drain, end the background tasks."""
        await self.drain()
        await self._world.background.stop()

    def append(self, blob: SmallBlob) -> Awaitable[BlobRef]:
        """Durable on all k+m slots when it returns. Begins at once, whether awaited yet or not."""
        chains = self._chains.by_class.get(blob.header.disk_class)
        appender = chains.packs.current if chains is not None else None
        if appender is not None:
            try:
                return _Appended(self, blob, appender.append(blob))
            except (VolumeBroken, VolumeUnusable):
                pass
        return self._append_slowly(blob)

    def writer(self, header: BlobHeader, *, expected: int) -> BlobWriter:
        """For a blob of more than PACK_LIMIT bytes."""
        if self._draining:
            raise Unavailable("the storage node is stopping")
        return StripedWriter(
            header=header,
            blob_id=make_blob_id(self._world.clock.wall_us(), self._world.entropy.token(8)),
            expected=expected,
            sink=self._append_piece,
            pool=self._piece_pool,
        )

    async def append_piece(
        self,
        header: BlobHeader,
        *,
        blob_id: BlobId,
        piece_offset: int,
        payload: Buffer,
        trailer: bytes = b"",
        last: bool = False,
    ) -> StripedExtent:
        """One piece that came from a gateway elsewhere, as one stripe, durable on all slots."""
        if self._draining:
            raise Unavailable("the storage node is stopping")
        buffer = await self._piece_pool.acquire(_PATIENCE)
        length = len(payload)
        buffer.view[:length] = payload
        piece = Piece(
            header=header, blob_id=blob_id, offset=piece_offset, view=buffer.view, length=length, trailer=trailer,
            last=last,
        )  # fmt: skip
        # In a task of its own: a caller that goes away leaves disk calls that read the buffer.
        stored = await asyncio.shield(self._world.background.once("append.piece", self._append_from(piece, buffer)))
        if isinstance(stored, DrystoneError):
            raise stored
        extent: StripedExtent = stored
        return extent

    async def _append_from(self, piece: Piece, buffer: PooledBuffer) -> StripedExtent | DrystoneError:
        """A refusal is an answer here, not a failed task."""
        try:
            return await self._append_piece(piece)
        except DrystoneError as error:
            return error
        finally:
            if piece.tainted:
                buffer.discard()
            else:
                buffer.release()

    def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Verified bytes in chunks of at most 1 MiB."""
        if self._settings.cell is None:
            return self.reader.read(blobs, start, length)
        return self._read_anywhere(blobs, start, length)

    async def _read_anywhere(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Other nodes make volumes and move slots: what is not known here well enough to be read is looked for."""
        for volume_id in sorted({extent.volume for blob in blobs for extent in blob.extents}):
            volume = self.registry.get(volume_id)
            if volume is None or sum(not _away(slot) for slot in volume.slots) < volume.profile.k:
                await self.find(volume_id)
        async for chunk in self.reader.read(blobs, start, length):
            yield chunk

    async def locate(self, volumes: Sequence[VolumeId]) -> list[tuple[DiskId | None, ...]]:
        """The disk of each slot; empty for a volume that no disk at hand knows."""
        found: list[tuple[DiskId | None, ...]] = []
        for volume_id in volumes:
            volume = self.registry.get(volume_id) or await self.find(volume_id)
            slots = volume.slots if volume is not None else ()
            found.append(tuple(slot.unit.disk_id if slot is not None else None for slot in slots))
        return found

    async def find(self, volume_id: VolumeId) -> Volume | None:
        """The volume, looked for on every disk that answers; at most once a second each."""
        now = self._world.clock.monotonic()
        began, look = self._looks.get(volume_id, (float("-inf"), None))
        if look is None or now - began >= _LOOK:
            if len(self._looks) > _LOOKS:
                self._looks.clear()
            units = self._at_hand()
            look = self._world.background.once("volume.find", self.registry.find(volume_id, units))
            self._looks[volume_id] = now, look
        await asyncio.shield(look)
        return self.registry.get(volume_id)

    async def look_again(self, volume_id: VolumeId, healed: Sequence[int] = ()) -> Volume | None:
        """What the disks say of a closed volume now, whatever was believed of it; `healed`: slots another node rebuilt."""
        for slot in healed:
            self.registry.bad.pop(SlotPlace(volume_id, slot), None)
        return await self.registry.find(volume_id, self._at_hand())

    def _at_hand(self) -> list[DiskUnit]:
        return [watched.unit for watched in self.watch.disks if watched.unit.state is not DiskState.FAILED]

    async def status(self) -> NodeStatus:
        """What `drystone status` shows of this node."""
        volumes = self.registry.volumes()
        open_volumes = sum(volume.state is VolumeState.OPEN for volume in volumes)
        damaged = {place.volume for place in self.registry.bad}
        # Of what another node appends to, only that one knows all slots, and tells of those it lacks.
        degraded = sum(
            v.state is not VolumeState.ELSEWHERE and (v.volume_id in damaged or any(_away(slot) for slot in v.slots))
            for v in volumes
        )
        return NodeStatus(
            profile=self._opener.profile.name,
            disks=tuple(
                DiskStatus(
                    disk_id=watched.unit.disk_id,
                    path=watched.unit.label,
                    state=watched.unit.state.value,
                    total_bytes=watched.total,
                    free_bytes=watched.free,
                    disk_class=watched.unit.disk_class,
                )
                for watched in self.watch.disks
            ),
            open_volumes=open_volumes,
            closed_volumes=len(volumes) - open_volumes,
            degraded_volumes=degraded,
            scrub=self.scrubs.status(),
        )

    async def leave_volume(self, volume: Volume) -> None:
        """Leave a volume that is open (repair asks: a slot of it is damaged); closed when this returns."""
        await self._chains.leave(volume)

    async def _append_slowly(self, blob: SmallBlob) -> BlobRef:
        """Append to whatever volume takes it; Unavailable after `tries` (N3)."""
        packs = self._chains.of(blob.header.disk_class).packs
        for _ in range(self._settings.open.tries):
            appender = await packs.usable()
            try:
                return await appender.append(blob)
            except (VolumeBroken, VolumeUnusable) as error:
                log.info("append.again", extra={"reason": str(error)})
        raise Unavailable("no volume took the blob; disks keep failing")

    async def _append_piece(self, piece: Piece) -> StripedExtent:
        pieces = self._chains.of(piece.header.disk_class).pieces
        for _ in range(self._settings.open.tries):
            pieces.tick()
            appender = await pieces.usable()
            try:
                return await appender.append_piece(piece)
            except (VolumeBroken, VolumeUnusable) as error:
                log.info("append.piece_again", extra={"reason": str(error)})
        raise Unavailable("no volume took the piece; disks keep failing")

    def _has_class(self, disk_class: str) -> bool:
        return any(watched.unit.disk_class == disk_class for watched in self.watch.disks)

    def _chain(self, name: str, disk_class: str) -> OpenVolumes:
        return OpenVolumes(
            name=name,
            disk_class=disk_class,
            world=self._world,
            opener=self._opener,
            registry=self.registry,
            watch=self.watch,
            cap=self._cap,
            claims=self._claims,
            settings=self._settings.open,
            volume_limit=self._settings.append.volume_limit,
        )

    async def _run_ticks(self) -> None:
        while True:
            self._chains.tick()
            await self._adopt_replacements()
            await self._world.clock.sleep(_TICK)

    async def _adopt_replacements(self) -> None:
        """A failed disk whose path shows an empty directory long enough is replaced by it (A2)."""
        patience, store = self._settings.watch.adopt_after, self.store
        if not patience or store is None:
            return
        # Only disks of its own: in a cell, whoever is away elsewhere says nothing about what stands at these paths.
        failed = sum(disk.unit.state is DiskState.FAILED for disk in store.disks)
        if not 0 < failed <= store.profile.m:
            return
        now = self._world.clock.monotonic()
        for watched in self.watch.disks:
            if watched.empty_since is None or now - watched.empty_since < patience:
                continue
            disk = next((d for d in store.disks if d.unit is watched.unit), None)
            taken = await adopt_online(self._world, store, disk) if disk is not None else None
            watched.empty_since = now
            if taken is not None and disk is not None:
                self.watch.remove(disk.unit)
                self.registry.forget_disk(disk.unit)
                self.watch.add(taken.unit)

    def _disk_failed(self, unit: DiskUnit) -> None:
        self._chains.tick()

    def _disk_returned(self, unit: DiskUnit) -> None:
        self.registry.disk_is_back(unit)
        ours = self.store is not None and unit in self.store.units
        self._world.background.once("registry.rejoin", self.registry.load([unit], sweep=ours))

    def _read_failed(self, volume: Volume, index: int, error: BaseException) -> None:
        """A fragment could not be read: damage is repair's, errors and lateness are the disk's."""
        slot = volume.slots[index]
        unreadable = isinstance(error, OSError) and error.errno in (errno.EIO, errno.ENOENT)
        if unreadable or isinstance(error, DamagedFragment):
            place = SlotPlace(volume.volume_id, index)
            if place not in self.registry.bad and self.registry.get(volume.volume_id) is volume:
                self.registry.bad[place] = Bad(str(error), slot.unit if slot else None, unreadable)
                log.warning(
                    "fragment.bad", extra={"volume": volume_text(place.volume), "slot": index, "why": str(error)}
                )
        if slot is not None and isinstance(error, OSError) and not isinstance(error, TimeoutError | FileNotFoundError):
            self.watch.failed(slot.unit, error)


class _Appended:
    """The appender's future; when it fails with the volume, the blob goes elsewhere, inside the waiting task."""

    __slots__ = ("_blob", "_future", "_node")

    def __init__(self, node: StorageNode, blob: SmallBlob, future: Any) -> None:
        self._node, self._blob, self._future = node, blob, future

    def __await__(self) -> Generator[Any, None, BlobRef]:
        try:
            found: BlobRef = yield from self._future.__await__()
            return found
        except (VolumeBroken, VolumeUnusable):
            pass
        return (yield from self._node._append_slowly(self._blob).__await__())


def _away(slot: Any) -> bool:
    return slot is None or slot.unit.state is DiskState.FAILED

# SPDX-License-Identifier: Apache-2.0
"""A store of simulated disks for the data path's tests, with a dict as its reference model."""

import random

from drystone_core.extents import BlobRef, StripedExtent
from drystone_core.ids import BlobId, BucketId, DiskId, Key, Uid, VolumeId, make_blob_id
from drystone_core.profiles import Profile
from drystone_core.services import BlobHeader, SmallBlob
from drystone_datapath.append import Appender, AppendSettings
from drystone_datapath.buffers import PIECE_BYTES, READ_BYTES, BufferPool
from drystone_datapath.codec import Codecs
from drystone_datapath.fragments import ReadSettings
from drystone_datapath.pack import Piece
from drystone_datapath.read import Reader
from drystone_datapath.volume import DiskState, DiskUnit, Volume
from drystone_datapath.volume_files import assemble_volume, create_volume, open_shard
from drystone_datapath.write import StripedWriter
from drystone_testing.sim_disk import SimDisk, SimLane, SimLanes
from drystone_testing.sim_world import LeapingClock, SeededEntropy

CODECS = Codecs()


class Rig:
    """Disks, volumes, a reader; `model` holds what was acknowledged."""

    def __init__(
        self, k: int = 4, m: int = 2, *, seed: int = 1, lanes: SimLanes | None = None, **settings: object
    ) -> None:
        self.profile = Profile(k, m)
        self.rng = random.Random(seed)
        self.clock, self.entropy = LeapingClock(), SeededEntropy(seed)
        self.lanes = lanes or SimLanes(seed=seed, clock=self.clock)
        self.units = [
            DiskUnit(DiskId(f"{index:032x}"), SimDisk(clock=self.clock), SimLane(), label=f"d{index}")
            for index in range(k + m)
        ]
        self.settings = AppendSettings(**{"allocate_step": 1 << 20, **settings})  # type: ignore[arg-type]
        self.volumes: dict[VolumeId, Volume] = {}
        self.broken: list[tuple[Volume, dict[int, BaseException]]] = []
        self.slow: list[tuple[int, ...]] = []
        self.failures: list[tuple[int, BaseException]] = []
        self.pieces = BufferPool(size=PIECE_BYTES, count=8)
        self.read_buffers = BufferPool(size=READ_BYTES, count=16)
        self.reader = self.make_reader()
        self.model: list[tuple[BlobRef, bytes]] = []

    def make_reader(self) -> Reader:
        return Reader(
            volumes=self.volumes, lanes=self.lanes, clock=self.clock, codecs=CODECS, buffers=self.read_buffers,
            on_failure=lambda volume, slot, error: self.failures.append((slot, error)), settings=ReadSettings(),
        )  # fmt: skip

    def disk(self, slot: int) -> SimDisk:
        disk = self.units[slot].disk
        assert isinstance(disk, SimDisk)
        return disk

    def lane(self, slot: int) -> SimLane:
        lane = self.units[slot].lane
        assert isinstance(lane, SimLane)
        return lane

    async def volume(self, number: int = 7) -> Volume:
        volume = await create_volume(
            volume_id=VolumeId(number), profile=self.profile, units=self.units, lanes=self.lanes, clock=self.clock,
            entropy=self.entropy,
        )  # fmt: skip
        self.volumes[volume.volume_id] = volume
        return volume

    def appender(self, volume: Volume) -> Appender:
        return Appender(
            volume=volume, codec=CODECS.get(self.profile), lanes=self.lanes, clock=self.clock, entropy=self.entropy,
            on_failure=lambda volume, failures: self.broken.append((volume, dict(failures))),
            on_slow=lambda volume, slots: self.slow.append(tuple(slots)), settings=self.settings,
        )  # fmt: skip

    async def open(self, number: int = 7) -> Appender:
        return self.appender(await self.volume(number))

    def blob(self, size: int, key: bytes = b"key") -> SmallBlob:
        header = BlobHeader(bucket_id=BucketId(3), key=Key(key), uid=Uid(self.rng.randbytes(16)))
        return SmallBlob(header=header, payload=self.rng.randbytes(size), trailer=b"t" * self.rng.randrange(100))

    async def put(self, appender: Appender, size: int) -> BlobRef:
        blob = self.blob(size)
        ref = await appender.append(blob)
        self.model.append((ref, bytes(blob.payload)))
        return ref

    async def put_large(self, appender: Appender, size: int, *, expected: int | None = None) -> BlobRef:
        header = BlobHeader(bucket_id=BucketId(3), key=Key(b"large"), uid=Uid(self.rng.randbytes(16)))

        async def sink(piece: Piece) -> StripedExtent:
            return await appender.append_piece(piece)

        writer = StripedWriter(
            header=header, blob_id=self.blob_id(), expected=size if expected is None else expected, sink=sink,
            pool=self.pieces,
        )  # fmt: skip
        body = self.rng.randbytes(size)
        at = 0
        while at < size:
            space = await writer.space()
            count = min(len(space), size - at)
            space[:count] = body[at : at + count]
            at += count
            await writer.write(count)
        ref = await writer.finish(b"trailer" * 9)
        self.model.append((ref, body))
        return ref

    def blob_id(self) -> BlobId:
        return make_blob_id(self.clock.wall_us(), self.entropy.token(8))

    async def read(self, blobs: list[BlobRef], start: int, length: int) -> bytes:
        out = bytearray()
        async for chunk in self.reader.read(blobs, start, length):
            assert len(chunk.data) <= READ_BYTES
            out += chunk.data
            chunk.release()
        return bytes(out)

    async def agree(self) -> None:
        """Everything acknowledged reads back as the model says; no pooled buffer is left out."""
        for ref, body in self.model:
            assert await self.read([ref], 0, len(body)) == body
            now = self.reader.read_now([ref], 0, len(body))
            assert now is None or bytes(now) == body
        assert self.read_buffers.used == 0
        assert self.pieces.used == 0

    def reopen(self, *, lost: tuple[int, ...] = ()) -> None:
        """What a restart does: open every shard file of the disks at hand."""
        for volume_id in list(self.volumes):
            shards = []
            for slot, unit in enumerate(self.units):
                if slot in lost:
                    continue
                shards.append((unit, open_shard(unit.disk, volume_id, slot)))
            self.volumes[volume_id] = assemble_volume(shards)
        self.reader = self.make_reader()

    def crash(self, seed: int) -> None:
        for slot in range(self.profile.slots):
            self.disk(slot).crash(seed * 31 + slot)
            self.units[slot].state = DiskState.HEALTHY

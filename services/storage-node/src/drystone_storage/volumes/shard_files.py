# SPDX-License-Identifier: Apache-2.0
"""Shard files on one disk: a bounded set kept open for reading, and the listing of a disk. Blocking calls, on the lane.

Invariants
  S1  At most `limit` files of a disk are open through the cache; one in use is closed only when its last user lets go.
  S2  A read on the loop (`nowait`) never opens a file: it says BlockingIOError.
  S3  An unknown or damaged file is reported and left alone, never deleted.
  S4  A rebuilt file gets its name only on a disk without another slot of its volume, and never once the volume is retired:
      looked at in the same turn of the lane, so that two nodes cannot both find the disk free.
"""

import errno
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from drystone_core.errors import Damaged
from drystone_core.formats.shard import parse_shard_name, shard_name
from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer, Disk, DiskFile
from drystone_datapath.volume_files import OpenedShard, open_shard

VOLUMES = "volumes"
RETIRED = "retired"
_VOLUME = re.compile("[0-9a-f]{16}")
PARTIAL = ".new"
"""Ending of a shard file being rebuilt."""


class FileCache:
    """Open files of one disk; opened on its lane only."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: deque[CachedFile] = deque()

    def hold(self, file: "CachedFile") -> None:
        """`file` was opened: let go of one that was not used lately when there are too many (second chance)."""
        held = self._held
        held.append(file)
        for _ in range(len(held)):
            if len(held) <= self._limit:
                return
            oldest = held.popleft()
            if oldest.touched and oldest is not file:
                oldest.touched = False
                held.append(oldest)
            else:
                oldest.let_go()
        while len(held) > self._limit:
            held.popleft().let_go()


class CachedFile:
    """A DiskFile opened when it is first needed; for closed volumes."""

    __slots__ = ("_cache", "_disk", "_file", "_name", "touched")

    def __init__(self, disk: Disk, name: str, cache: FileCache) -> None:
        self._disk, self._name, self._cache = disk, name, cache
        self._file: DiskFile | None = None
        self.touched = False

    def preadv(self, buffers: Sequence[memoryview], offset: int, *, nowait: bool = False) -> int:
        file = self._file
        if file is None:
            if nowait:
                raise BlockingIOError("not open")
            file = self._opened()
        self.touched = True
        return file.preadv(buffers, offset, nowait=nowait)

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool) -> None:
        self._opened().pwritev(buffers, offset, durable=durable)

    def write_then_read(self, buffers: Sequence[Buffer], offset: int, into: memoryview, at: int) -> int:
        return self._opened().write_then_read(buffers, offset, into, at)

    def sync(self) -> None:
        self._opened().sync()

    def allocate(self, offset: int, length: int) -> None:
        self._opened().allocate(offset, length)

    def punch(self, offset: int, length: int) -> None:
        self._opened().punch(offset, length)

    def size(self) -> int:
        return self._opened().size()

    def close(self) -> None:
        """Let go of the open file; a later call opens it again."""
        self.let_go()

    def let_go(self) -> None:
        """Forget the open file; it closes when nobody reads it any more (S1)."""
        self._file = None

    def _opened(self) -> DiskFile:
        file = self._file
        if file is None:
            file = self._disk.open(self._name)
            self._file = file
            self._cache.hold(self)
        return file


@dataclass(slots=True)
class Listing:
    """What a disk holds."""

    shards: list[OpenedShard] = field(default_factory=list)
    damaged: list[tuple[VolumeId, int, str]] = field(default_factory=list)
    """Files named like shards that are none: (volume, slot, why)."""
    headless: list[tuple[VolumeId, int, CachedFile]] = field(default_factory=list)
    """Of these, the files that can be read: their records may be good, and say so themselves (R2)."""
    retired: set[VolumeId] = field(default_factory=set)


def list_shards(disk: Disk, cache: FileCache, *, sweep: bool = True) -> Listing:
    """Headers, close flags and free maps of all shard files of the disk.

    `sweep`: remove what a cut rebuild left. Only the disk's own node does: another one's rebuild may be under way.
    """
    found = Listing()
    for name in disk.listdir(RETIRED):
        if _VOLUME.fullmatch(name):
            found.retired.add(VolumeId(int(name, 16)))
    for name in disk.listdir(VOLUMES):
        if name.endswith(PARTIAL):
            if sweep:
                disk.unlink(f"{VOLUMES}/{name}")
            continue
        parsed = parse_shard_name(name)
        if parsed is not None:
            _note_shard(disk, *parsed, cache, found)
    return found


def find_shards(disk: Disk, volume: VolumeId, cache: FileCache) -> Listing:
    """What of one volume the disk holds, as `list_shards` would tell it."""
    found = Listing()
    if f"{volume:016x}" in disk.listdir(RETIRED):
        found.retired.add(volume)
        return found
    for name in disk.listdir(VOLUMES):
        parsed = parse_shard_name(name)
        if parsed is not None and parsed[0] == volume:
            _note_shard(disk, *parsed, cache, found)
    return found


def _note_shard(disk: Disk, volume: VolumeId, slot: int, cache: FileCache, found: Listing) -> None:
    try:
        shard = open_shard(disk, volume, slot)
    except Damaged as error:
        found.damaged.append((volume, slot, error.message))
        found.headless.append((volume, slot, CachedFile(disk, shard_name(volume, slot), cache)))
        return
    except OSError as error:
        found.damaged.append((volume, slot, str(error)))
        return
    shard.file.close()
    found.shards.append(replace(shard, file=CachedFile(disk, shard_name(volume, slot), cache)))


def place_shard(disk: Disk, temporary: str, name: str) -> None:
    """Give a rebuilt file its name (S4); FileExistsError when the disk may not have it. What others left of it goes."""
    parsed = parse_shard_name(name)
    assert parsed is not None
    volume, slot = parsed
    if f"{volume:016x}" in disk.listdir(RETIRED):
        raise FileExistsError(errno.EEXIST, "the volume is retired", name)
    partials = []
    for other in disk.listdir(VOLUMES):
        there = parse_shard_name(other)
        if there is not None and there[0] == volume and there[1] != slot:
            raise FileExistsError(errno.EEXIST, "the disk holds another slot of the volume", name)
        if other.startswith(f"{volume:016x}.{slot}.") and other.endswith(PARTIAL):
            partials.append(f"{VOLUMES}/{other}")
    disk.rename(temporary, name)
    for each in partials:
        if each != temporary:
            try:
                disk.unlink(each)
            except FileNotFoundError:
                continue  # the disk's own node was faster


def remove_shard(disk: Disk, volume: VolumeId, slot: int) -> None:
    """Remove a retired volume's shard file and its free map, when there."""
    name = shard_name(volume, slot)
    for each in (name, name + ".free"):
        try:
            disk.unlink(each)
        except FileNotFoundError:
            continue


def note_retired(disk: Disk, volume: VolumeId) -> None:
    """Remember durably that the volume is retired."""
    disk.open(f"{RETIRED}/{volume:016x}", create=True).close()

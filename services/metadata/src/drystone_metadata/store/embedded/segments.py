# SPDX-License-Identifier: Apache-2.0
"""A member's journal files: `meta/journal/<term>-<segment>`, 16 and 8 hex digits. Format: docs/formats/journal.md.

Invariants
  S1  A segment's space is written (zeros) and synced before it is used: a durable overwrite converts no extent.
  S2  A segment is used again only when everything it holds is in the member's fsynced SQLite file.
  S3  A file is renamed to its new name before its first write under it; until its header is written it counts as empty.
`write` runs on the journal lane, `turn` and `ready` on the loop, everything else on the background lane.
"""

import re
from dataclasses import dataclass, field

from drystone_core.errors import Damaged
from drystone_core.formats.journal import (
    BLOCK,
    Record,
    SegmentHeader,
    decode_records,
    decode_segment,
)
from drystone_core.ports import Disk, DiskFile

FOLDER = "meta/journal"
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})")
_ZEROS = bytes(1 << 20)
_SPARES_KEPT = 2


def segment_name(term: int, segment: int) -> str:
    return f"{FOLDER}/{term:016x}-{segment:08x}"


@dataclass(slots=True)
class Segment:
    """A segment file with its valid records."""

    name: str
    header: SegmentHeader
    last_index: int
    records: list[Record] = field(default_factory=list)


def read_segments(disk: Disk, cluster: bytes) -> tuple[list[Segment], list[str]]:
    """(segments with a valid header of this cluster, in order; names of all other files). Syncs what it reads.

    What a process wrote just before it was killed may be readable and yet not durable: after this it is both.
    """
    segments: list[Segment] = []
    others: list[str] = []
    for name in disk.listdir(FOLDER):
        path = f"{FOLDER}/{name}"
        match = _NAME.fullmatch(name)
        handle = disk.open(path)
        try:
            header = _read_header(handle) if match else None
            if header is None or match is None:
                others.append(path)
                continue
            if header.cluster != cluster:
                raise Damaged(f"{path} belongs to another cluster")
            if (header.term, header.segment) != (int(match[1], 16), int(match[2], 16)):
                others.append(path)
                continue
            handle.sync()
            data = bytearray(handle.size())
            handle.preadv([memoryview(data)], 0)
        finally:
            handle.close()
        records = decode_records(bytes(data), header)
        segments.append(Segment(path, header, max((record.index for record in records), default=0), records))
    segments.sort(key=lambda segment: segment.name)
    return segments, others


def _read_header(handle: DiskFile) -> SegmentHeader | None:
    block = bytearray(BLOCK)
    if handle.preadv([memoryview(block)], 0) < BLOCK:
        return None
    return decode_segment(bytes(block))


class Journal:
    """The files of one member, this process's term and what earlier ones left."""

    __slots__ = ("_disk", "_file", "_name", "_next", "_old", "_ready", "_segment_bytes", "_serial", "_spares")

    def __init__(self, disk: Disk, *, segment_bytes: int) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._file: DiskFile | None = None
        self._name = ""
        self._next: DiskFile | None = None
        self._ready = ""
        """Name of `_next`."""
        self._old: list[tuple[str, int]] = []
        """(name, last index in it), closed."""
        self._spares: list[str] = []
        self._serial = 0

    def adopt(self, segments: list[Segment], others: list[str]) -> None:
        """What `read_segments` found."""
        self._old = [(segment.name, segment.last_index) for segment in segments]
        self._spares = list(others)

    def drop_older(self, term: int) -> None:
        """Unlink segments of terms before `term` that are not this journal's: left from before the disk was dropped."""
        own = {name for name, _ in self._old} | {*self._spares, self._name, self._ready}
        for name in self._disk.listdir(FOLDER):
            match = _NAME.fullmatch(name)
            if match and int(match[1], 16) < term and f"{FOLDER}/{name}" not in own:
                self._disk.unlink(f"{FOLDER}/{name}")

    def forget(self) -> None:
        """This disk is no member: its files stay as they are."""
        self._old, self._spares = [], []

    def open_term(self, term: int, last_index: int) -> None:
        """Make segment 0 of `term` the current file; the one before holds records up to `last_index`. Blocking."""
        self._close_current(last_index)
        self.prepare(term, 0)
        self._take()

    def prepare(self, term: int, segment: int) -> None:
        """Have the file of a coming segment ready."""
        name = segment_name(term, segment)
        if self._ready == name or name <= self._name:
            return  # done, or a late call for a segment that has become the current one
        if self._next is not None:
            self._next.close()
            self._next = None
            self._spares.append(self._ready)
            self._ready = ""
        if name in self._spares:  # left by a start that did not get as far as a header: the term's number comes again
            self._spares.remove(name)
            spare = name
        else:
            spare = self._spares.pop() if self._spares else self._make_spare()
        try:
            if spare != name:
                self._disk.rename(spare, name)
            handle = self._disk.open(name)
        except OSError:
            self._spares.append(spare)
            raise
        self._next, self._ready = handle, name

    def ready(self, term: int, segment: int) -> bool:
        return self._ready == segment_name(term, segment)

    def turn(self, last_index: int) -> None:
        """Go on in the prepared segment; the current one holds records up to `last_index`. Does not block."""
        if self._file is not None:
            self._old.append((self._name, last_index))
            self._retire(self._file)
        self._take()

    def write(self, block: bytes, offset: int, header: bytes) -> None:
        """Durable on return. `header` (empty but for a segment's first record) goes before it."""
        handle = self._file
        if handle is None:
            raise OSError("journal not open")
        if header:
            handle.pwritev([header, block], 0, durable=True)
        else:
            handle.pwritev([block], offset, durable=True)

    def recycle(self, durable_index: int) -> None:
        """Segments all of whose records are in the fsynced SQLite file become spares."""
        while self._old and self._old[0][1] <= durable_index:
            name, _ = self._old.pop(0)
            if len(self._spares) < _SPARES_KEPT:
                self._spares.append(name)
            else:
                self._disk.unlink(name)

    def close(self) -> None:
        for handle in (self._file, self._next):
            if handle is not None:
                handle.close()
        self._file = self._next = None
        self._ready = ""

    def _take(self) -> None:
        self._file, self._name = self._next, self._ready
        self._next, self._ready = None, ""

    def _close_current(self, last_index: int) -> None:
        if self._file is not None:
            self._old.append((self._name, last_index))
            self._retire(self._file)
            self._file = None

    def _retire(self, handle: DiskFile) -> None:
        # A write that the lane has not begun or not ended may still hold the file; the last reference closes it.
        del handle

    def _make_spare(self) -> str:
        present = set(self._disk.listdir(FOLDER))
        while (name := f"spare-{self._serial:08x}") in present:
            self._serial += 1
        path = f"{FOLDER}/{name}"
        handle = self._disk.open(path, create=True)
        try:
            for at in range(0, self._segment_bytes, len(_ZEROS)):
                size = min(len(_ZEROS), self._segment_bytes - at)
                handle.pwritev([memoryview(_ZEROS)[:size]], at, durable=False)
            handle.sync()
        except OSError:
            handle.close()
            self._disk.unlink(path)
            raise
        handle.close()
        return path

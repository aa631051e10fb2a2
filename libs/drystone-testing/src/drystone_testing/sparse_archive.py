# SPDX-License-Identifier: Apache-2.0
"""Directories of sparse files in a small tar.xz: only what is not zero is kept, and unpacking leaves holes.

Format: POSIX tar with GNU sparse members of version 1.0 (a list of ranges before the data), which both `tarfile` and
GNU tar unpack to sparse files; `tarfile` itself can read such members but writes none.
Times, owners and inode order are left out, so that the same content makes the same archive.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

BLOCK = 4096
_TAR_BLOCK = 512


def used_ranges(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, length) of the runs of blocks that hold anything but zeros."""
    zeros = bytes(1 << 20)
    begin = at = 0
    inside = False
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            if data == zeros[: len(data)] and not inside:
                at += len(data)
                continue
            for step in range(0, len(data), BLOCK):
                block = data[step : step + BLOCK]
                if (block != zeros[: len(block)]) != inside:
                    if inside:
                        yield begin, at + step - begin
                    begin, inside = at + step, not inside
            at += len(data)
    if inside:
        yield begin, at - begin


def pack(directory: Path, archive: Path) -> None:
    """Write everything below `directory` except sockets and pipes; its own name is not part of the archive."""
    with tarfile.open(archive, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as tar:
        for path in sorted(directory.rglob("*")):
            mode = path.lstat().st_mode
            name = path.relative_to(directory).as_posix()
            if stat.S_ISDIR(mode):
                member = tarfile.TarInfo(name)
                member.type, member.mode = tarfile.DIRTYPE, stat.S_IMODE(mode)
                tar.addfile(member)
            elif stat.S_ISREG(mode):
                _add_sparse(tar, path, name, stat.S_IMODE(mode))


def _add_sparse(tar: tarfile.TarFile, path: Path, name: str, mode: int) -> None:
    ranges = list(used_ranges(path))
    size = path.stat().st_size
    ranges.append((size, 0))  # GNU tar's own mark of a file that ends with a hole
    table = "".join(f"{number}\n" for number in (len(ranges), *(n for one in ranges for n in one))).encode()
    table += bytes(-len(table) % _TAR_BLOCK)
    member = tarfile.TarInfo(f"GNUSparseFile.0/{name}")
    member.mode = mode
    member.size = len(table) + sum(length for _, length in ranges)
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    with path.open("rb") as file:
        tar.addfile(member, _Joined(table, file, ranges))


class _Joined(io.RawIOBase):
    """The table, then the ranges of the file, as one stream."""

    def __init__(self, table: bytes, file: IO[bytes], ranges: list[tuple[int, int]]) -> None:
        super().__init__()
        self.pieces = self._pieces(table, file, ranges)
        self.rest = b""

    @staticmethod
    def _pieces(table: bytes, file: IO[bytes], ranges: list[tuple[int, int]]) -> Iterator[bytes]:
        yield table
        for offset, length in ranges:
            file.seek(offset)
            while length:
                data = file.read(min(length, 1 << 20))
                length -= len(data)
                yield data

    def read(self, size: int = -1) -> bytes:
        found = self.rest
        while size < 0 or len(found) < size:
            piece = next(self.pieces, None)
            if piece is None:
                break
            found += piece
        self.rest = found[size:] if size >= 0 else b""
        return found[:size] if size >= 0 else found


def unpack(archive: Path, directory: Path) -> None:
    """Make the files again, holes included."""
    directory.mkdir(parents=True)
    with tarfile.open(archive, "r:xz") as tar:
        tar.extractall(directory, filter="data")
    os.sync()

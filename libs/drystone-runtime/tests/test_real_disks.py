# SPDX-License-Identifier: Apache-2.0
"""RealDisk and RealFile on a real directory."""

import mmap
import os
import random
import resource
from pathlib import Path

import pytest

from drystone_runtime import disks
from drystone_runtime.disks import RealDisk, check_name
from drystone_runtime.limits import raise_open_files


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    return RealDisk(str(tmp_path))


@pytest.mark.parametrize("two_calls", [False, True])
def test_write_and_read_many_buffers(disk: RealDisk, two_calls: bool) -> None:
    """More buffers than the kernel takes at once are written and read whole, durable by either way."""
    file = disk.open("volumes/a.0", create=True)
    file._two_calls = two_calls
    pieces = [bytes([i % 251]) * (1 + i % 7) for i in range(3000)]
    file.pwritev(pieces, 4096, durable=True)
    whole = b"".join(pieces)
    into = [memoryview(bytearray(5)) for _ in range(2500)]
    read = file.preadv(into, 4096)
    assert read == min(12500, len(whole)) and b"".join(into)[:read] == whole[:read]
    assert file.size() == 4096 + len(whole)


def test_short_writes_never_surface(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: the kernel may take a part; the rest follows at the right place."""
    real = os.pwritev

    def short(fd: int, buffers: list[bytes], offset: int, flags: int = 0) -> int:
        return real(fd, [b"".join(buffers)[:5]], offset, flags)

    monkeypatch.setattr(os, "pwritev", short)
    file = disk.open("f", create=True)
    file.pwritev([b"abc", b"", b"defgh", memoryview(b"ijklmnop")], 3, durable=True)
    into = memoryview(bytearray(30))
    assert file.preadv([into], 3) == 16
    assert bytes(into[:16]) == b"abcdefghijklmnop"


def test_nowait_reads_cached_bytes_or_says_blocking(disk: RealDisk) -> None:
    """Bytes just written are in memory; past the end of file it says so by BlockingIOError, not by a short read."""
    file = disk.open("f", create=True)
    file.pwritev([b"x" * 4096], 0, durable=True)
    into = memoryview(bytearray(4096))
    try:
        assert file.preadv([into], 0, nowait=True) == 4096
    except BlockingIOError:
        pytest.skip("no RWF_NOWAIT on this file system")
    with pytest.raises(BlockingIOError):
        file.preadv([into], 4095, nowait=True)


@pytest.mark.parametrize("supported", [True, False])
def test_allocate_and_punch(disk: RealDisk, monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    """Allocation grows; a punched range reads as zeros and the size stays, with and without fallocate."""
    if not supported:

        def refuse(fd: int, mode: int, offset: int, length: int) -> None:
            raise OSError(95, "EOPNOTSUPP")

        monkeypatch.setattr(disks, "_fallocate_or_raise", refuse)
    file = disk.open("f", create=True)
    file.allocate(0, 1 << 20)
    assert file.size() == 1 << 20
    file.pwritev([b"y" * 65536], 8192, durable=False)
    file.sync()
    file.punch(12288, 1 << 30)
    assert file.size() == 1 << 20
    into = memoryview(bytearray(65536))
    file.preadv([into], 8192)
    assert bytes(into[:4096]) == b"y" * 4096 and not any(into[4096:])


def test_names_stay_inside(disk: RealDisk, tmp_path: Path) -> None:
    """D4: no way out of the directory by name or by symbolic link."""
    for bad in ("", "/etc/passwd", "../x", "a/../b", "a//b", ".", "a/", "a\0b"):
        with pytest.raises(ValueError):
            check_name(bad)
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(OSError):
        disk.open("link")


def test_folders_names_and_renames(disk: RealDisk) -> None:
    """Listing makes the folder, rename replaces, exclusive refuses, unlink removes."""
    assert disk.listdir("volumes") == []
    disk.open("volumes/b", create=True, exclusive=True).close()
    with pytest.raises(FileExistsError):
        disk.open("volumes/b", create=True, exclusive=True)
    file = disk.open("volumes/a.tmp", create=True)
    file.pwritev([b"new"], 0, durable=True)
    disk.rename("volumes/a.tmp", "volumes/b")
    assert disk.listdir("volumes") == ["b"] and disk.open("volumes/b").size() == 3
    disk.unlink("volumes/b")
    assert disk.listdir("volumes") == []
    with pytest.raises(FileNotFoundError):
        disk.open("volumes/b")
    free, total = disk.space()
    assert 0 < free <= total


def test_a_vanished_directory_is_not_made_again(tmp_path: Path) -> None:
    """Writing to a disk whose directory is gone raises; only `make` creates it."""
    gone = RealDisk(str(tmp_path / "gone" / "deep"))
    assert not gone.exists()
    with pytest.raises(FileNotFoundError):
        gone.open("f", create=True)
    with pytest.raises(FileNotFoundError):
        gone.listdir("volumes")
    gone.make()
    assert gone.exists() and gone.listdir(".") == [] and not gone.is_mount()


def test_nothing_is_created_in_a_directory_without_its_guard(tmp_path: Path) -> None:
    """D3: an unmounted mount point stays empty; documents in the root are free."""
    disk = RealDisk(str(tmp_path), guard="identity")
    for attempt in (lambda: disk.open("volumes/a", create=True), lambda: disk.listdir("volumes")):
        with pytest.raises(FileNotFoundError):
            attempt()
    assert disk.listdir(".") == []
    disk.open("identity", create=True).close()
    disk.open("volumes/a", create=True).close()
    assert disk.listdir("volumes") == ["a"]


def test_the_limit_of_open_files_is_raised_not_lowered() -> None:
    """What an ordinary process may have."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before, 256), hard))
        assert raise_open_files() >= before or raise_open_files() == 262_144
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(before, 262_144)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_large_aligned_writes_are_seen_by_readers_whatever_way_they_take(tmp_path: Path) -> None:
    """Whole aligned pages pass by the page cache where they may; a cached read before and after sees the file as it is."""
    disk = RealDisk(str(tmp_path))
    file = disk.open("large", create=True)
    file.allocate(0, 8 << 20)
    stale = bytearray(1 << 20)
    assert file.preadv([memoryview(stale)], 4096) == len(stale)
    memory = memoryview(mmap.mmap(-1, (1 << 20) + 4096))
    memory[:] = random.Random(5).randbytes(len(memory))
    for shift, length in ((0, 1 << 20), (4096, 1 << 20), (64, 1 << 20), (0, (1 << 20) - 64)):
        body = memory[shift : shift + length]
        file.pwritev([memory[:4096], body], 4096, durable=True)
        back = bytearray(4096 + length)
        assert file.preadv([memoryview(back)], 4096) == len(back)
        assert back[:4096] == memory[:4096] and back[4096:] == body
    file.close()

# SPDX-License-Identifier: Apache-2.0
"""What every Disk must do: subclass `DiskContract` in a test module and give it a `disk` fixture.

Blocking calls, as a lane makes them. What a disk does at power loss is its own tests' matter.
"""

import errno
import random

import pytest

from drystone_core.ports import Disk


class DiskContract:
    """The suite."""

    def test_a_file_is_read_as_it_was_written(self, disk: Disk) -> None:
        """Many buffers, odd offsets, durable or not; reads end where the file does."""
        rng = random.Random(5)
        file = disk.open("volumes/a.0", create=True)
        model = bytearray(20_000)
        for number in range(40):
            at, parts = rng.randrange(15_000), [rng.randbytes(rng.randrange(300)) for _ in range(rng.randrange(1, 9))]
            file.pwritev(parts, at, durable=bool(number % 2))
            whole = b"".join(parts)
            model[at : at + len(whole)] = whole
        file.pwritev([b"end"], 20_000 - 3, durable=True)
        model[-3:] = b"end"
        assert file.size() == 20_000
        into = [memoryview(bytearray(size)) for size in (1, 7_000, 0, 9_999, 10_000)]
        assert file.preadv(into, 3) == 20_000 - 3
        assert b"".join(into)[: 20_000 - 3] == bytes(model[3:])
        assert file.preadv([memoryview(bytearray(5))], 30_000) == 0
        file.close()

    def test_a_write_and_the_read_after_it_are_one_call(self, disk: Disk) -> None:
        """The read sees the write and what stood there before."""
        file = disk.open("f", create=True, exclusive=True)
        file.pwritev([b"0123456789"], 0, durable=True)
        into = memoryview(bytearray(8))
        assert file.write_then_read([b"ab", b"c"], 4, into, 2) == 8
        assert bytes(into) == b"23abc789"
        assert file.write_then_read([b"z"], 9, into, 6) == 4

    def test_reserved_and_freed_space_reads_as_zeros(self, disk: Disk) -> None:
        """Reserving grows the file, freeing does not shrink it."""
        file = disk.open("f", create=True)
        file.pwritev([b"x" * 12_288], 0, durable=True)
        file.allocate(12_288, 8192)
        file.punch(4096, 4096)
        file.sync()
        into = memoryview(bytearray(20_480))
        assert file.size() == 20_480
        assert file.preadv([into], 0) == 20_480
        assert bytes(into) == b"x" * 4096 + bytes(4096) + b"x" * 4096 + bytes(8192)

    def test_names_are_made_listed_renamed_and_removed(self, disk: Disk) -> None:
        """A rename replaces; an open file goes on under its new name; what is not there says so."""
        for name in ("volumes/b", "volumes/a"):
            disk.open(name, create=True).pwritev([name.encode()], 0, durable=True)
        assert disk.listdir("volumes") == ["a", "b"]
        file = disk.open("volumes/b")
        disk.rename("volumes/b", "volumes/a")
        assert disk.listdir("volumes") == ["a"]
        into = memoryview(bytearray(9))
        assert file.preadv([into], 0) == 9
        assert bytes(into) == b"volumes/b"
        disk.unlink("volumes/a")
        assert disk.listdir("volumes") == []
        for call in (lambda: disk.open("volumes/a"), lambda: disk.unlink("volumes/a")):
            with pytest.raises(FileNotFoundError) as raised:
                call()
            assert raised.value.errno == errno.ENOENT

    def test_an_exclusive_creation_has_one_winner(self, disk: Disk) -> None:
        """The second one is told that the file exists."""
        disk.open("f", create=True, exclusive=True)
        with pytest.raises(FileExistsError):
            disk.open("f", create=True, exclusive=True)

    def test_space_is_told(self, disk: Disk) -> None:
        """Free is at most what there is in all."""
        free, total = disk.space()
        assert 0 < free <= total

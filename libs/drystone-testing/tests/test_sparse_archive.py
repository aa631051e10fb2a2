# SPDX-License-Identifier: Apache-2.0
"""Sparse archives give back the same bytes and the same holes, to `tarfile` and to GNU tar."""

import shutil
import subprocess
from pathlib import Path

import pytest

from drystone_testing.sparse_archive import BLOCK, pack, unpack, used_ranges

MIB = 1 << 20


def write_sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files with data at the beginning, the end, in the middle, everywhere and nowhere."""
    root = tmp_path / "tree"
    (root / "deep" / "empty-directory").mkdir(parents=True)
    write_sparse(root / "deep" / "both-ends", 64 * MIB, (0, b"first"), (64 * MIB - 4, b"last"))
    write_sparse(root / "middle", 40 * MIB + 17, (20 * MIB - 3, b"over a border"), (30 * MIB, b"again"))
    write_sparse(root / "hole-alone", 10 * MIB)
    write_sparse(root / "nothing", 0)
    write_sparse(root / "dense", 0)
    (root / "dense").write_bytes(bytes(range(1, 256)) * 5000)
    (root / "dense").chmod(0o600)
    return root


def assert_same(first: Path, second: Path) -> None:
    assert sorted(p.relative_to(first) for p in first.rglob("*")) == sorted(
        p.relative_to(second) for p in second.rglob("*")
    )
    for path in first.rglob("*"):
        if path.is_file():
            again = second / path.relative_to(first)
            assert again.read_bytes() == path.read_bytes(), path
            assert again.stat().st_mode == path.stat().st_mode
            assert again.stat().st_blocks * 512 <= path.stat().st_blocks * 512 + 4 * BLOCK, f"{path} is dense"


def test_unpacking_gives_back_bytes_modes_and_holes(tree: Path, tmp_path: Path) -> None:
    """The archive is a few KiB for 120 MiB of mostly nothing."""
    pack(tree, tmp_path / "tree.tar.xz")
    assert (tmp_path / "tree.tar.xz").stat().st_size < 16 * 1024
    unpack(tmp_path / "tree.tar.xz", tmp_path / "again")
    assert_same(tree, tmp_path / "again")


def test_gnu_tar_unpacks_the_same(tree: Path, tmp_path: Path) -> None:
    """People without this code can look into an archive."""
    if shutil.which("tar") is None or b"GNU" not in subprocess.check_output(["tar", "--version"]):
        pytest.skip("GNU tar is not installed")
    pack(tree, tmp_path / "tree.tar.xz")
    (tmp_path / "again").mkdir()
    subprocess.run(["tar", "-xJf", str(tmp_path / "tree.tar.xz"), "-C", str(tmp_path / "again")], check=True)
    assert_same(tree, tmp_path / "again")


def test_the_same_content_makes_the_same_archive(tree: Path, tmp_path: Path) -> None:
    """Times and owners do not matter."""
    pack(tree, tmp_path / "one.tar.xz")
    (tree / "middle").touch()
    pack(tree, tmp_path / "two.tar.xz")
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()


def test_used_ranges_cover_every_byte_that_is_not_zero(tmp_path: Path) -> None:
    """Runs are maximal and end with the file."""
    write_sparse(tmp_path / "f", 3 * MIB + 5, (BLOCK, b"x" * (2 * BLOCK)), (MIB - 1, b"ab"), (3 * MIB, b"tail!"))
    assert list(used_ranges(tmp_path / "f")) == [(BLOCK, 2 * BLOCK), (MIB - BLOCK, 2 * BLOCK), (3 * MIB, 5)]

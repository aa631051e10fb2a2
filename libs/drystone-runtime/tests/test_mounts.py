# SPDX-License-Identifier: Apache-2.0
"""Mount points, as the kernel lists them."""

import os
import subprocess
from pathlib import Path

import pytest

from drystone_runtime.disks import RealDisk
from drystone_runtime.mounts import is_mount_point, mount_points

LIST = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 8:1 /a /mnt/with\040space\134and\011tab rw - ext4 /dev/root rw
broken
"""


def test_mount_points_are_read_from_the_kernels_list() -> None:
    """Octal escapes are undone; lines that are none are passed over."""
    assert mount_points(LIST) == {b"/", b"/mnt/with space\\and\ttab"}


def test_without_the_kernels_list_device_numbers_decide(tmp_path: Path) -> None:
    """The root is always one, a fresh directory never."""
    nowhere = str(tmp_path / "no-mountinfo")
    assert is_mount_point("/", mountinfo=nowhere)
    assert not is_mount_point(str(tmp_path), mountinfo=nowhere)


def test_a_directory_is_no_mount_point_and_the_root_is(tmp_path: Path) -> None:
    """With the real list."""
    assert not RealDisk(str(tmp_path)).is_mount()
    assert is_mount_point("/")


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_mount_is_seen_also_when_it_is_a_bind_mount_of_the_same_file_system(tmp_path: Path, kind: str) -> None:
    """Device numbers cannot tell; through a symbolic link too."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mount")
    there, here, link = tmp_path / "there", tmp_path / "he re", tmp_path / "link"
    there.mkdir()
    here.mkdir()
    link.symlink_to(here)
    command = ["mount", "--bind", str(there)] if kind == "bind" else ["mount", "-t", "tmpfs", "drystone-test"]
    done = subprocess.run([*command, str(here)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        assert RealDisk(str(here)).is_mount()
        assert RealDisk(str(link)).is_mount()
        assert not RealDisk(str(there)).is_mount()
    finally:
        subprocess.run(["umount", str(here)], check=True)
    assert not RealDisk(str(here)).is_mount()

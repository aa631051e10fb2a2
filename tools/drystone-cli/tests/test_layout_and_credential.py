# SPDX-License-Identifier: Apache-2.0
"""Directories and the root credential of a standalone store."""

import stat
from pathlib import Path

import pytest

from drystone_cli.credential import CredentialError, root_credential
from drystone_cli.layout import LayoutError, lay_out, socket_path, state_of
from drystone_runtime.config_sections import RootSettings
from drystone_runtime.entropy import SystemEntropy


def test_one_directory_becomes_six_disks_and_a_state(tmp_path: Path) -> None:
    """DIR/state and DIR/disks/d0 … d5."""
    layout = lay_out([tmp_path], state=None)
    assert layout.state == tmp_path / "state"
    assert layout.disks == tuple(tmp_path / "disks" / f"d{index}" for index in range(6))


def test_one_directory_makes_as_many_disks_as_the_profile_needs(tmp_path: Path) -> None:
    """rs-10-4 on one directory is fourteen disks, and stays so without the flag."""
    assert len(lay_out([tmp_path], state=None, profile="rs-10-4").disks) == 14
    for disk in lay_out([tmp_path], state=None, profile="rs-10-4").disks:
        disk.mkdir(parents=True)
    assert len(lay_out([tmp_path], state=None).disks) == 14


def test_several_directories_are_the_disks(tmp_path: Path) -> None:
    """Their state lies beside the first."""
    layout = lay_out([tmp_path / "a", tmp_path / "b"], state=None)
    assert layout.disks == (tmp_path / "a", tmp_path / "b")
    assert layout.state == tmp_path / "drystone-state"
    assert lay_out([tmp_path / "a", tmp_path / "b"], state=tmp_path / "s").state == tmp_path / "s"


def test_directories_that_cannot_be_a_store_are_refused(tmp_path: Path) -> None:
    """Twice the same, a file, and a lone disk of a larger store."""
    with pytest.raises(LayoutError, match="twice"):
        lay_out([tmp_path, tmp_path / "x" / ".."], state=None)
    (tmp_path / "file").touch()
    with pytest.raises(LayoutError, match="not a directory"):
        lay_out([tmp_path / "file"], state=None)
    (tmp_path / "drystone-disk.json").touch()
    with pytest.raises(LayoutError, match="one disk of a store"):
        lay_out([tmp_path], state=None)


def test_the_state_of_a_store_is_found_from_its_directory(tmp_path: Path) -> None:
    """By DIR, by a disk whose state lies beside it, or as told."""
    assert state_of(tmp_path, None) == tmp_path / "state"
    (tmp_path / "drystone-state").mkdir()
    assert state_of(tmp_path / "d0", None) == tmp_path / "drystone-state"
    assert state_of(None, tmp_path) == tmp_path


def test_sockets_of_deep_directories_get_a_short_path(tmp_path: Path) -> None:
    """The kernel takes 108 bytes; the same state directory always gives the same path."""
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    path = socket_path(deep, "admin.sock")
    assert len(str(path)) < 100
    assert path == socket_path(deep, "admin.sock")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.rmdir()


def test_the_first_start_makes_a_credential_and_later_ones_read_it(tmp_path: Path) -> None:
    """20 and 40 characters, a file for its owner only."""
    file = tmp_path / "root-credential"
    made = root_credential(file, given=RootSettings(), entropy=SystemEntropy())
    assert (len(made.access_key), len(made.secret_key), made.made) == (20, 40, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = root_credential(file, given=RootSettings(), entropy=SystemEntropy())
    assert (again.access_key, again.secret_key, again.made) == (made.access_key, made.secret_key, False)
    assert made.secret_key not in repr(made)


def test_a_credential_from_the_environment_wins_and_is_never_written(tmp_path: Path) -> None:
    """The file is neither read nor made."""
    file = tmp_path / "root-credential"
    given = RootSettings(access_key="AKID", secret_key="given-by-environment")
    credential = root_credential(file, given=given, entropy=SystemEntropy())
    assert (credential.access_key, credential.file) == ("AKID", None)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "[default]\naws_access_key_id = x\n", "\x00\x01"])
def test_a_broken_credential_file_is_named(tmp_path: Path, text: str) -> None:
    """Neither a traceback nor a silent new credential."""
    file = tmp_path / "root-credential"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(CredentialError, match="root-credential"):
        root_credential(file, given=RootSettings(), entropy=SystemEntropy())


def test_a_credential_file_others_can_read_is_refused(tmp_path: Path) -> None:
    """As ssh does with keys."""
    file = tmp_path / "root-credential"
    root_credential(file, given=RootSettings(), entropy=SystemEntropy())
    file.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        root_credential(file, given=RootSettings(), entropy=SystemEntropy())

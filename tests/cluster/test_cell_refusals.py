# SPDX-License-Identifier: Apache-2.0
"""What does not belong into a cell is refused at its start, with a sentence that says what to do."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from drystone_testing.cluster import Cluster
from drystone_testing.live import LiveStore, drystone_command, free_port

Edit = Callable[[str], str]


def refused(cell: Cluster, name: str, folder: Path, *edits: Edit, disks: tuple[Path, ...] = ()) -> str:
    """What a process with the configuration of `name`, edited, says when it ends by itself."""
    text = (cell.root / name / "drystone.toml").read_text()
    for edit in (replaced("listen", f'"127.0.0.1:{free_port()}"'), *edits):
        text = edit(text)
    config = folder / "drystone.toml"
    config.write_text(text)
    command = [*drystone_command(), cell.services[name].role, "--config", str(config), *map(str, disks)]
    environment = dict(cell.services[name].environment)
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=environment)
    assert ran.returncode in (1, 2), ran.stderr[-2000:]
    assert "Traceback" not in ran.stderr, ran.stderr[-3000:]
    return ran.stderr


def replaced(key: str, value: str) -> Edit:
    """The key's line says that."""
    return lambda text: re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)


def test_a_process_without_its_coordinator_says_which_members_did_not_answer(cell: Cluster, tmp_path: Path) -> None:
    """etcd's addresses are wrong."""
    said = refused(cell, "metadata-1", tmp_path, replaced("endpoints", '["127.0.0.1:1"]'))
    assert "no member of etcd answers: 127.0.0.1:1" in said


def test_a_metadata_process_without_cassandra_says_where_it_looked(cell: Cluster, tmp_path: Path) -> None:
    """Its port is wrong."""
    said = refused(cell, "metadata-1", tmp_path, replaced("port", "1"))
    assert "cannot use Cassandra at 127.0.0.1:1" in said


def test_a_keyspace_that_was_never_initialised_is_refused(cell: Cluster, tmp_path: Path) -> None:
    """It has no schema."""
    said = refused(cell, "metadata-1", tmp_path, lambda text: text + 'keyspace = "other"\n')
    assert "keyspace other holds no Drystone schema" in said
    assert "run `drystone cell init`" in said


def test_another_cell_does_not_get_this_ones_keyspace(cell: Cluster, tmp_path: Path) -> None:
    """Its coordinator's prefix is another cell's."""
    config = tmp_path / "drystone.toml"
    text = (cell.root / "operator.toml").read_text()
    config.write_text(text.replace("[coordinator]", '[coordinator]\nprefix = "/another/"'))
    command = [*drystone_command(), "cell", "init", "--config", str(config), "--cluster-id", "ab" * 16]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert ran.returncode == 1
    assert "holds the metadata of cell" in ran.stderr
    assert "give each cell a coordinator (or a prefix) and a keyspace of its own" in ran.stderr


def test_a_second_process_of_a_name_is_refused(cell: Cluster, tmp_path: Path) -> None:
    """It has a state directory of its own, so it is another one; the first goes on."""
    said = refused(cell, "metadata-1", tmp_path, replaced("state", f'"{tmp_path / "state"}"'))
    assert "node id 'metadata-1' is in use by the metadata at" in said
    assert "give this one an id of its own, or stop the other" in said
    assert cell.services["metadata-1"].alive


def test_a_disk_of_another_store_is_refused(cell: Cluster, tmp_path: Path) -> None:
    """Nothing on it is touched."""
    with LiveStore(tmp_path / "store"):
        pass
    disk = tmp_path / "store" / "disks" / "d0"
    before = sorted((path, path.stat().st_mtime_ns) for path in disk.rglob("*"))
    said = refused(
        cell,
        "node-1",
        tmp_path,
        replaced("name", '"node-x"'),
        replaced("state", f'"{tmp_path / "state"}"'),
        disks=(disk,),
    )
    assert re.search(r"belongs to cluster [0-9a-f]{32}, not to [0-9a-f]{32}", said)
    assert sorted((path, path.stat().st_mtime_ns) for path in disk.rglob("*")) == before


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        ("DRYSTONE_ROOT_ACCESS_KEY", "DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY go together"),
        ("coordinator", "set coordinator.endpoints: a gateway finds the other services of its cell there"),
    ],
)
def test_a_gateway_that_lacks_something_says_what(cell: Cluster, tmp_path: Path, without: str, sentence: str) -> None:
    """Half a credential; no coordinator."""
    config = tmp_path / "drystone.toml"
    text = replaced("listen", f'"127.0.0.1:{free_port()}"')((cell.root / "gateway-1" / "drystone.toml").read_text())
    config.write_text(replaced("endpoints", "[]")(text) if without == "coordinator" else text)
    environment = {key: value for key, value in cell.services["gateway-1"].environment.items() if key != without}
    command = [*drystone_command(), "gateway", "--config", str(config)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=environment)
    assert ran.returncode in (1, 2)
    assert sentence in ran.stderr

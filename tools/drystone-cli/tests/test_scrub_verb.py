# SPDX-License-Identifier: Apache-2.0
"""`drystone scrub` over a live store: begun by hand, watched, and not lost with the process that does it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.live import LiveStore, drystone_command
from drystone_testing.scrubbed_store import MIB, filled, said, scrub


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    live = filled(tmp_path_factory.mktemp("scrub") / "store")
    yield live
    live.stop()


def test_before_the_first_pass_nothing_is_claimed(store: LiveStore) -> None:
    """With period 0 none begins by itself."""
    done = scrub(store, "status")
    assert (done.returncode, "there was none yet" in done.stdout) == (0, True)
    assert said(store, "status")["began"] == 0


def test_a_pass_begun_by_hand_reads_all_closed_volumes(store: LiveStore) -> None:
    """Watched to its end; --json is one document."""
    volumes = store.status()["volumes"]["closed"]
    done = scrub(store, "start", "--watch")
    assert done.returncode == 0, done.stderr
    assert f"{volumes} of {volumes} closed volumes" in done.stdout and "no damage" in done.stdout
    document = said(store, "status")
    assert (document["running"], document["done"], document["unclean"]) == (False, volumes, 0)
    assert document["bytes_read"] > 3 * 3 * MIB and document["finished"] >= document["began"] > 0
    assert (
        f"pass of {volumes}"
        in subprocess.run(
            [*drystone_command(), "status", str(store.directories[0])], capture_output=True, text=True, check=False
        ).stdout
    )


def test_damage_is_exit_code_one_and_healed_damage_is_not(store: LiveStore) -> None:
    """One byte of one shard file."""
    files = [file for file in (store.directories[0] / "disks" / "d1" / "volumes").iterdir() if file.is_file()]
    victim = max(files, key=lambda file: file.stat().st_blocks)
    with victim.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 1]))
    found = scrub(store, "start", "--watch", "--json")
    document = json.loads(found.stdout)
    assert (found.returncode, document["slots_damaged"], document["unclean"]) == (1, 1, 1), found.stderr
    assert document["began_now"] is True
    assert store.await_repaired(timeout=60)
    assert scrub(store, "start", "--watch").returncode == 0


def test_without_a_store_it_is_exit_code_three(tmp_path: Path) -> None:
    """With what to do next; wrong usage is 2."""
    for verb in ("start", "status"):
        done = subprocess.run(
            [*drystone_command(), "scrub", verb, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3 and "drystone serve" in done.stderr
    assert subprocess.run([*drystone_command(), "scrub"], capture_output=True, check=False).returncode == 2

# SPDX-License-Identifier: Apache-2.0
"""`drystone scrub` over a live store: begun by hand, watched, and not lost with the process that does it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone_testing.live import LiveStore, drystone_command
from drystone_testing.s3_client import S3Client

MIB = 1 << 20
ENVIRONMENT = {
    "DRYSTONE_STORAGE_SCRUB_PERIOD": "0",
    "DRYSTONE_STORAGE_SCRUB_RATE": "1GiB",
    "DRYSTONE_STORAGE_REPAIR_RATE": "1GiB",
}


def scrub(store: LiveStore, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One call of the verb."""
    verb, *options = arguments
    command = [*drystone_command(), "scrub", verb, str(store.directories[0]), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def said(store: LiveStore, *arguments: str) -> dict[str, Any]:
    """Its document."""
    document: dict[str, Any] = json.loads(scrub(store, *arguments, "--json").stdout)
    return document


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.1)


def background(store: LiveStore) -> int | None:
    """The pid of the process that scrubs; None while it is being replaced."""
    return next((one["pid"] for one in store.status()["processes"] if one["role"] == "background"), None)


def filled(root: Path, **environment: str) -> LiveStore:
    """A running store with three closed volumes, each of 64 MiB a slot until it was read once."""
    store = LiveStore(root, environment={**ENVIRONMENT, **environment})
    store.start()
    s3 = S3Client(store.port)
    s3.create_bucket("bkt")
    for number in range(3):
        assert s3.call("PUT", f"/bkt/k{number}", body=os.urandom(3 * MIB)).status == 200
        s3.close()
        before = store.main_pid()
        os.kill(before, signal.SIGKILL)
        store.await_serving()
    until(lambda: store.status()["volumes"]["closed"] >= 3 and store.status()["scrub_pass"] is not None)
    return store


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


def test_a_pass_survives_its_process(tmp_path: Path) -> None:
    """kill -9 of the background process, and of everything: the pass goes on where it was."""
    live = filled(tmp_path / "store", DRYSTONE_STORAGE_SCRUB_RATE="128MiB")
    try:
        volumes = live.status()["volumes"]["closed"]
        first = said(live, "start")
        assert first["running"] and first["began_now"]
        until(lambda: said(live, "status")["done"] >= 1)
        before = said(live, "status")
        assert before["running"] and (before["seconds_left"] > 0 or not before["done"])
        killed = background(live)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda: background(live) not in (None, killed))
        until(lambda: live.status()["scrub_pass"] is not None)
        after = said(live, "status")
        assert after["running"] and after["began"] == before["began"] and after["done"] >= 1
        live.kill_all()
        live.start()
        until(lambda: live.status()["scrub_pass"] is not None)
        after = said(live, "status")
        assert after["running"] and after["began"] == before["began"] and after["done"] >= 1
        joined = said(live, "start", "--watch")
        assert joined["began_now"] is False, "the one under way goes on, at once"
        assert (joined["began"], joined["done"], joined["unclean"]) == (before["began"], volumes, 0)
    finally:
        live.stop()


def test_without_a_store_it_is_exit_code_three(tmp_path: Path) -> None:
    """With what to do next; wrong usage is 2."""
    for verb in ("start", "status"):
        done = subprocess.run(
            [*drystone_command(), "scrub", verb, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3 and "drystone serve" in done.stderr
    assert subprocess.run([*drystone_command(), "scrub"], capture_output=True, check=False).returncode == 2

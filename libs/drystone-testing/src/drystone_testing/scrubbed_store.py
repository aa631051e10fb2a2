# SPDX-License-Identifier: Apache-2.0
"""A live store with closed volumes to scrub, and `drystone scrub` on it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def background_pid(store: LiveStore) -> int | None:
    """Of the process that scrubs; None while it is being replaced."""
    return next((one["pid"] for one in store.status()["processes"] if one["role"] == "background"), None)

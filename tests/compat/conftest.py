# SPDX-License-Identifier: Apache-2.0
"""Real S3 clients against a live store. Each client lives in an environment of its own under .cache/compat.

The store is S3_ENDPOINT with AWS_ACCESS_KEY_ID / AWS_SECRET_ACCESS_KEY when set, otherwise a `drystone serve` started here.
A client that cannot be had on this machine (no Go, no Node, no Java) is skipped with the reason.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.compat_clients import Endpoint, RunClient, execute
from drystone_testing.live import ACCESS_KEY, SECRET_KEY, LiveStore


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    url = os.environ.get("S3_ENDPOINT")
    if url:
        yield Endpoint(url, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    with LiveStore(tmp_path_factory.mktemp("compat") / "store") as store:
        yield Endpoint(store.endpoint, ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def run_client(endpoint: Endpoint, tmp_path: Path) -> RunClient:
    """Run a command as a client of the store; returns what it printed."""

    def run(*command: str | Path, timeout: float = 300, **extra: str) -> str:
        environment = endpoint.environment(tmp_path) | extra
        return execute([str(part) for part in command], environment, cwd=tmp_path, timeout=timeout)

    return run

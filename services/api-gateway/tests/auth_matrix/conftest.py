# SPDX-License-Identifier: Apache-2.0
"""One live store for the whole matrix; `auth_cells` lies beside the tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.live import LiveStore

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A `drystone serve` that also knows the virtual-host domain s3.test."""
    directory = tmp_path_factory.mktemp("matrix") / "store"
    with LiveStore(directory, environment={"DRYSTONE_SERVER_DOMAINS": "s3.test"}) as live:
        yield live

# SPDX-License-Identifier: Apache-2.0
"""One live store for the hostile corpus; `hostile_corpus` lies beside the tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.live import LiveStore

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A `drystone serve` with an access log, whose log is read at the end."""
    with LiveStore(tmp_path_factory.mktemp("hostile") / "store", environment={"DRYSTONE_LOG_ACCESS": "all"}) as live:
        yield live

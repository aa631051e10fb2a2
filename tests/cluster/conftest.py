# SPDX-License-Identifier: Apache-2.0
"""One real Cassandra node for the whole run, in a directory that goes with it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.cassandra_node import CassandraNode, missing
from drystone_testing.ledger import Record, recorder


@pytest.fixture(scope="session")
def node() -> Iterator[CassandraNode]:
    """Started once; skipped visibly where it cannot be."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="drystone-cassandra-", ignore_cleanup_errors=True) as folder:
        started = CassandraNode(Path(folder))
        started.start()
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends what the test did to the ledger."""
    return recorder(request.node.name)

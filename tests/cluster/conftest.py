# SPDX-License-Identifier: Apache-2.0
"""One real Cassandra node and one whole cell for the whole run, in directories that go with it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.cassandra_node import CassandraNode, missing
from drystone_testing.cluster import Cluster, Shape
from drystone_testing.ledger import Record, recorder
from drystone_testing.running_cell import running_cell


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


@pytest.fixture(scope="session")
def whole_cell() -> Iterator[Cluster]:
    """Two gateways, two metadata processes, six storage nodes, etcd of three, Cassandra; whoever stops one starts it again.

    Tablets are split at four hundred rows, so that there are many.
    """
    with running_cell(Shape(tablet_rows=400)) as cluster:
        yield cluster


@pytest.fixture
def cell(whole_cell: Cluster) -> Iterator[Cluster]:
    """The cell with everything running, before and after."""
    whole_cell.heal()
    yield whole_cell
    whole_cell.heal()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends what the test did to the ledger."""
    return recorder(request.node.name)

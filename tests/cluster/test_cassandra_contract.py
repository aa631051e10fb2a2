# SPDX-License-Identifier: Apache-2.0
"""The Cassandra storage passes the contract of every TabletStorage, on a real node."""

import pytest

from drystone_testing.cassandra_cell import CassandraHarness
from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.contracts.moving_ranges import MovingRangesContract
from drystone_testing.contracts.tablet_storage import TabletStorageContract


class TestCassandra(TabletStorageContract, MovingRangesContract):
    """With the settings of a production cell, one replica excepted."""

    @pytest.fixture
    def harness(self, node: CassandraNode) -> CassandraHarness:
        return CassandraHarness(node)


class TestCassandraWithTinyPages(TabletStorageContract, MovingRangesContract):
    """Every bulk read, scan and look at the feed takes many statements."""

    @pytest.fixture
    def harness(self, node: CassandraNode) -> CassandraHarness:
        return CassandraHarness(node, read_rows=7, scan_rows=5, feed_rows=2, concurrent=3)

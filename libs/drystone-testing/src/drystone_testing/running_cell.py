# SPDX-License-Identifier: Apache-2.0
"""A whole cell for as long as a block of tests needs it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drystone_testing.cassandra_node import missing as missing_cassandra
from drystone_testing.cluster import Cluster, Shape, missing_etcd
from drystone_testing.live import ACCESS_KEY, SECRET_KEY
from drystone_testing.mounted_disks import missing as missing_mounts
from drystone_testing.network import missing as missing_network


def missing_for(shape: Shape) -> str | None:
    """Why such a cell cannot be started on this machine; None: it can."""
    network = missing_network() if shape.namespaces else None
    mounts = missing_mounts() if shape.disk_size else None
    return network or mounts or missing_etcd() or missing_cassandra()


@contextmanager
def running_cell(shape: Shape) -> Iterator[Cluster]:
    """A started one in a folder that goes with it; the tests are skipped, with the reason, where it cannot be."""
    if (reason := missing_for(shape)) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="drystone-cell-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), shape, credential=(ACCESS_KEY, SECRET_KEY))
        try:
            yield cluster.start()
        finally:
            cluster.stop()

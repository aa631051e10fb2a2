# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the scale suite: a live store, and the ledger. Memory is asserted here, time never is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_testing.ledger import Record, recorder
from drystone_testing.live import LiveStore


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends the figures to the ledger."""
    return recorder(request.node.name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LiveStore]:
    """A fresh store of six disks, serving."""
    with LiveStore(tmp_path / "store") as live:
        yield live

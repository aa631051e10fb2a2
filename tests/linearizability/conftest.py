# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the linearizability suite."""

import pytest

from drystone_testing.ledger import Record, recorder


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends what the test did to the ledger."""
    return recorder(request.node.name)

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the fault suite: real processes on real directories and mounts of our own, and a ledger of what was run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drystone_testing.ledger import Record, recorder
from drystone_testing.mounted_disks import MountedDisks, missing


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends what the test did to the ledger."""
    return recorder(request.node.name)


@pytest.fixture
def mounted_disks(tmp_path: Path) -> Iterator[Callable[..., MountedDisks]]:
    """Makes MountedDisks; skips visibly where mounting is not allowed."""
    made: list[MountedDisks] = []

    def make(count: int, *, size: str = "1g") -> MountedDisks:
        if (reason := missing()) is not None:
            pytest.skip(reason)
        disks = MountedDisks.under(tmp_path / f"mounts{len(made)}", count, size=size)
        made.append(disks)
        return disks

    yield make
    for disks in made:
        disks.unmount()

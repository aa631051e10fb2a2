# SPDX-License-Identifier: Apache-2.0
"""What `drystone status` says of scrubbing in a cell, where only the leader knows."""

from dataclasses import replace

import pytest

from drystone_cli.status import _sentences
from drystone_core.cell import CellProcess, CellStatus, NodeStatus, ScrubPassStatus

CELL = CellStatus(
    version="1",
    cluster_id="c",
    endpoint="e",
    uptime_seconds=1,
    node=NodeStatus(profile="rs-4-2", disks=(), open_volumes=0, closed_volumes=7, degraded_volumes=0),
    cell=(CellProcess(role="gateway", name="g", endpoint="e", zone="", state="serving", part=""),),
)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (None, "no pass of this leader has begun"),
        (ScrubPassStatus(), "no pass of this leader has begun"),
        (
            ScrubPassStatus(running=True, began=1, volumes=7, done=3, bytes_read=2048, slots_damaged=2, seconds_left=5),
            "3 of 7 closed volumes read by the pass that runs (2.0 KiB), about 5 s left; 2 damaged slots found",
        ),
        (
            ScrubPassStatus(began=1, finished=2, volumes=7, done=7),
            "7 of 7 closed volumes read by the last pass (0 B); no damage found",
        ),
    ],
)
def test_scrubbing_is_told_by_the_leaders_pass(one: ScrubPassStatus | None, said: str) -> None:
    """Never as `0 of 0 … no damage found`, which is what a gateway knows of it by itself."""
    assert dict(_sentences(replace(CELL, scrub_pass=one)))["scrub"] == said

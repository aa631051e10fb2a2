# SPDX-License-Identifier: Apache-2.0
"""What `drystone status` says of a cell's metadata processes."""

import pytest

from drystone_cli.status import _part
from drystone_core.cell import CellProcess, TabletCounts
from drystone_gateway.rpc.admin import _counts_message


@pytest.mark.parametrize(
    ("part", "counts", "said"),
    [
        ("owns the names", None, "owns the names"),
        ("", TabletCounts(1), "1 tablet"),
        ("owns the names", TabletCounts(12, 1, 3), "owns the names, 12 tablets, 1 split or joined, 3 buckets changing"),
        ("", TabletCounts(0, 0, 1), "0 tablets, 1 bucket changing"),
    ],
)
def test_metadata_process_says_what_it_has_to_do(part: str, counts: TabletCounts | None, said: str) -> None:
    """How many tablets it owns; moves and changes only when there are any."""
    assert _part(CellProcess(role="metadata", name="m", endpoint="", part=part, tablets=counts)) == said
    message = _counts_message(counts)
    assert (message is None) is (counts is None)
    if message is not None and counts is not None:
        assert TabletCounts(message.tablets, message.moves, message.changes) == counts

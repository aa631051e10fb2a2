# SPDX-License-Identifier: Apache-2.0
"""When a comparison of clocks accuses ours; how clocks are asked is in the coordinator's contract."""

from drystone_runtime.coordination.clocks import Comparison, Difference


def found(*spans: tuple[float, float]) -> Comparison:
    """Answers whose differences lie within these spans."""
    differences = tuple(Difference(node=f"n{at}", least=least, most=most) for at, (least, most) in enumerate(spans))
    return Comparison(asked=9, differences=differences)


def test_only_the_certain_part_of_a_difference_counts() -> None:
    """W1: slow answers accuse nobody."""
    assert found((4.9, 60.0), (-60.0, -4.9), (-60.0, 60.0)).fault == ""
    assert found((5.1, 60.0)).fault.startswith("the clock here is 5.1 s behind that of n0")
    assert found((-60.0, -5.1)).fault.startswith("the clock here is 5.1 s ahead of that of n0")


def test_most_of_those_that_answered_decide() -> None:
    """W2 and W3: half is not enough, and nobody proves nothing."""
    assert found((9.0, 9.0), (0.0, 0.1)).fault == ""
    assert "from 2 of the 3 nodes" in found((9.0, 9.0), (0.0, 0.1), (99.0, 99.0)).fault
    assert found().fault == ""

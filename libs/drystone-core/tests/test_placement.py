# SPDX-License-Identifier: Apache-2.0
"""Placement: properties over many sets of disks."""

import random
from collections import Counter

import pytest

from drystone_core.ids import DiskId
from drystone_core.placement import DiskChoice, capped_weights, place_slot, place_volume
from drystone_core.profiles import Profile

RS42 = Profile(4, 2)


def disk(name: str, free: int = 100, *, usable: bool = True, domain: str = "") -> DiskChoice:
    return DiskChoice(disk_id=DiskId(name), free=free, usable=usable, domain=domain)


@pytest.mark.parametrize("seed", range(30))
def test_a_placement_uses_distinct_usable_disks(seed: int) -> None:
    """P1, P2 and P3 for random sets."""
    rng = random.Random(seed)
    disks = [disk(f"d{i}", rng.randrange(1, 10**12), usable=rng.random() < 0.7) for i in range(rng.randrange(1, 12))]
    usable = {d.disk_id for d in disks if d.usable}
    placed = place_volume(RS42, disks, rng.random)
    if len(usable) < 3:
        assert placed is None
        return
    assert placed is not None
    assert placed.profile == Profile(min(4, len(usable) - 2), 2)
    assert len(set(placed.disks)) == placed.profile.slots and set(placed.disks) <= usable


def test_domains_hold_at_most_m_slots_when_they_can() -> None:
    """P1: three nodes of four disks, 4+2: two in each; with two nodes the crowding is the least possible."""
    rng = random.Random(1)
    disks = [disk(f"n{n}d{i}", domain=f"n{n}") for n in range(3) for i in range(4)]
    for _ in range(50):
        placed = place_volume(RS42, disks, rng.random)
        assert placed is not None and max(Counter(name[:2] for name in placed.disks).values()) == 2
        placed = place_volume(RS42, disks[:8], rng.random)
        assert placed is not None and max(Counter(name[:2] for name in placed.disks).values()) == 3


def test_space_fills_evenly_over_unequal_disks() -> None:
    """Volumes placed until none fits leave little unused of what could be used."""
    rng = random.Random(7)
    free = {f"d{i}": 100 for i in range(6)} | {"e0": 300, "e1": 300, "e2": 300, "e3": 300}
    total, placed_units = sum(free.values()), 0
    while (placed := place_volume(RS42, [disk(n, f, usable=f > 0) for n, f in free.items()], rng.random)) is not None:
        if placed.profile != RS42:
            break
        for name in placed.disks:
            free[name] -= 1
            placed_units += 1
    assert placed_units > 0.85 * total


def test_weights_are_capped_at_what_partners_can_match() -> None:
    """A huge disk weighs no more than a slot's share."""
    weights = capped_weights([1000, 10, 10, 10], 3)
    assert weights[0] == pytest.approx(15) and weights[1:] == [10, 10, 10]
    assert capped_weights([5, 5, 5], 3) == [5, 5, 5]


def test_slots_spread_over_disks() -> None:
    """Every disk is slot 0 now and then: reads spread."""
    rng = random.Random(3)
    first = Counter()
    for _ in range(600):
        placed = place_volume(RS42, [disk(f"d{i}") for i in range(6)], rng.random)
        assert placed is not None
        first[placed.disks[0]] += 1
    assert len(first) == 6 and min(first.values()) > 50


def test_a_lost_slot_goes_to_the_least_crowded_domain() -> None:
    """Domains first, then free space; nothing when no disk is usable."""
    choices = [disk("a", 900, domain="x"), disk("b", 10, domain="y"), disk("c", 20, domain="y")]
    assert place_slot(choices, ["x", "x", "y"]) == "c"
    assert place_slot([disk("a", usable=False)], []) is None

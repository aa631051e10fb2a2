# SPDX-License-Identifier: Apache-2.0
"""The ring of metadata owners: properties over many sets of members."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.ring import SHARE_LEAST, SHARE_MOST, Ring

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
member_sets = st.sets(names, min_size=1, max_size=12)
TABLETS = [b"tablet-%d" % i for i in range(400)]


def owners(members: object) -> dict[bytes, str | None]:
    ring = Ring(members)  # type: ignore[arg-type]
    return {tablet: ring.owner(tablet) for tablet in TABLETS}


@given(members=member_sets, shuffle=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_members_does_not_matter(members: set[str], shuffle: random.Random) -> None:
    """R1."""
    listed = sorted(members)
    shuffle.shuffle(listed)
    assert owners(listed) == owners(members) == owners([*listed, listed[0]])


@given(members=member_sets, joining=names)
@settings(max_examples=60, deadline=None)
def test_a_join_moves_tablets_only_to_the_new_member_and_a_leave_only_its_own(members: set[str], joining: str) -> None:
    """R2, read in both directions."""
    without, with_it = owners(members - {joining}), owners(members | {joining})
    for tablet in TABLETS:
        assert with_it[tablet] in (without[tablet], joining)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16, 32, 64])
def test_shares_of_the_hash_space_are_even_within_the_stated_bound(count: int) -> None:
    """R3, for members named like pods and like machines."""
    rng = random.Random(count)
    for turn in range(12):
        members = [f"metadata-{i + turn * 100}" for i in range(count)]
        if turn % 2:
            members = [f"{rng.randbytes(16).hex()}" for _ in range(count)]
        shares = Ring(members).shares()
        assert abs(sum(shares.values()) - 1) < 1e-9
        assert min(shares.values()) * count > SHARE_LEAST and max(shares.values()) * count < SHARE_MOST


def test_a_join_moves_about_its_share() -> None:
    """One of ten members is joined by an eleventh: about an eleventh moves, never more than its bound."""
    members = [f"m{i}" for i in range(10)]
    before, after = owners(members), owners([*members, "m10"])
    moved = sum(before[tablet] != after[tablet] for tablet in TABLETS)
    assert 0 < moved < len(TABLETS) * SHARE_MOST / 11 * 1.5


def test_without_members_nobody_owns_anything() -> None:
    """A cell whose metadata services are all away."""
    assert Ring([]).owner(b"x") is None and Ring([]).shares() == {}


def test_owners_are_the_same_in_every_release() -> None:
    """Members of two releases run side by side during an upgrade and must agree."""
    ring = Ring(["metadata-0", "metadata-1", "metadata-2"])
    assert [ring.owner(b"cell"), ring.owner(b"\x00" * 8), ring.owner(b"bucket-7")] == GOLDEN


GOLDEN = ["metadata-1", "metadata-1", "metadata-2"]

# SPDX-License-Identifier: Apache-2.0
"""A verdict for the disk that is slow by habit; none for a stall, a busy machine, a short story or a random victim."""

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.check import InvariantViolation
from drystone_core.slowness import PeerTimes, SlownessSettings

SETTINGS = SlownessSettings()
PEERS = st.integers(2, 8)
FAST = st.floats(0.0005, 0.02)


class Story:
    """Rounds one after the other on a clock of their own; `slow` holds everybody who got a verdict."""

    def __init__(self, peers: int, settings: SlownessSettings = SETTINGS) -> None:
        self.times = PeerTimes(range(peers), settings)
        self.now = 100.0
        self.slow: set[int] = set()

    def round(self, times: Sequence[float], pause: float = 0.0) -> None:
        self.slow |= set(self.times.observe(self.now, [self.now + each for each in times]))
        self.now += max(times) + pause

    def rounds(self, all_times: Iterable[Sequence[float]]) -> set[int]:
        for times in all_times:
            self.round(times)
        return self.slow


def one_slow(peers: int, who: int, slow: float, fast: float = 0.002) -> list[float]:
    """A round in which one peer takes longer."""
    return [slow if peer == who else fast for peer in range(peers)]


@given(peers=PEERS, who=st.integers(0, 7), slow=st.floats(0.06, 1.9), fast=st.floats(0.0001, 0.007))
def test_the_slow_one_is_found_and_nobody_else(peers: int, who: int, slow: float, fast: float) -> None:
    """Persistently far above the others and the floor: within twice the least time and a few rounds more."""
    story = Story(peers)
    who %= peers
    while not story.slow and story.now < 100 + 2 * SETTINGS.seconds + 50 * slow:
        story.round(one_slow(peers, who, slow, fast))
    assert story.slow == {who}
    assert story.now >= 100 + SETTINGS.seconds


def test_a_disk_that_is_slow_in_every_tenth_round_is_found() -> None:
    """What a peer costs on the whole decides, not whether it is slow each time."""
    story = Story(6)
    for number in range(400):
        story.round(one_slow(6, 3, 1.5 if number % 10 == 0 else 0.002))
    assert story.slow == {3}


@given(peers=st.integers(1, 8), level=st.floats(0.0, 3.0), spread=st.floats(1.0, 5.0), seed=st.integers(0, 999))
def test_who_is_as_slow_as_the_others_is_not_slow(peers: int, level: float, spread: float, seed: int) -> None:
    """Whatever the level, and however it varies within a factor that is not far."""
    rng, story = random.Random(seed), Story(peers)
    assert not story.rounds([level * rng.uniform(1.0, spread) for _ in range(peers)] for _ in range(300))


@given(peers=st.integers(3, 8), seed=st.integers(0, 999))
def test_where_half_of_the_peers_are_slow_nobody_is(peers: int, seed: int) -> None:
    """W1: then it is not the disks, or nothing is gained."""
    rng, story = random.Random(seed), Story(peers)
    slow = set(rng.sample(range(peers), rng.randint((peers + 1) // 2, peers)))
    assert not story.rounds([[0.3 if peer in slow else 0.002 for peer in range(peers)]] * 300)


@given(peers=PEERS, stall=st.floats(0.05, 2.0), overlapping=st.integers(1, 4), quiet=st.integers(0, 5000), fast=FAST)
def test_a_single_stall_is_no_habit(peers: int, stall: float, overlapping: int, quiet: int, fast: float) -> None:
    """W2: not at once, not while it is remembered, not when nothing happens for an hour after it."""
    story = Story(peers)
    for _ in range(quiet):
        story.round([fast] * peers)
    for _ in range(overlapping):
        story.round(one_slow(peers, 0, stall))
    story.now += 3600.0
    for _ in range(50):
        story.round([fast] * peers)
    for _ in range(overlapping - 1):
        story.round(one_slow(peers, 0, stall))
    assert not story.slow


def test_a_stall_now_and_then_is_no_habit() -> None:
    """Half a second in every two hundred rounds, for ever: on the whole it costs little."""
    story = Story(6)
    for number in range(20_000):
        story.round(one_slow(6, 2, 0.5 if number % 200 == 0 else 0.002), pause=0.01)
    assert not story.slow


def test_stalls_that_meet_one_after_the_other_blame_nobody() -> None:
    """A busy machine on which each round has another victim."""
    rng, story = random.Random(7), Story(6)
    assert not story.rounds(one_slow(6, rng.randrange(6), 0.6) for _ in range(2000))


def test_few_rounds_are_too_few_and_a_short_time_is_too_short() -> None:
    """W2: both the count and the seconds are needed."""
    rare = Story(6)
    for _ in range(SETTINGS.rounds - 1):
        rare.round(one_slow(6, 1, 1.0), pause=60.0)
    assert not rare.slow
    brief = Story(6)
    while brief.now < 100 + SETTINGS.seconds - 0.1:
        brief.round(one_slow(6, 1, 0.06))
    assert not brief.slow


def test_below_the_floor_nobody_is_slow_whatever_the_ratio() -> None:
    """Forty times the others and still quick."""
    assert not Story(6).rounds([one_slow(6, 0, 0.04, 0.001)] * 5000)


def test_who_recovers_in_time_starts_over() -> None:
    """Four slow seconds, again and again, with calm between them."""
    story = Story(6)
    for _ in range(20):
        until = story.now + SETTINGS.seconds - 1
        while story.now < until:
            story.round(one_slow(6, 4, 0.2))
        for _ in range(100):
            story.round([0.002] * 6)
    assert not story.slow


def test_two_slow_ones_of_six_are_both_found() -> None:
    """As many as may be lost."""
    assert Story(6).rounds([[0.3, 0.002, 0.4, 0.002, 0.002, 0.002]] * 60) == {0, 2}


def test_what_was_seen_goes_along_when_the_peers_change() -> None:
    """A habit is a disk's, wherever it stands among others; a newcomer has none, and calm rounds are not forgotten."""
    first = Story(4)
    for _ in range(10):
        first.round(one_slow(4, 3, 0.3))
    later = PeerTimes(["new", 3, 1, 2], SETTINGS, before=first.times)
    found = [
        later.observe(first.now + n, [first.now + n + each for each in (0.002, 0.3, 0.002, 0.002)]) for n in range(9)
    ]
    assert not any(found[:2]) and found[-1] == (1,)
    calm = Story(4)
    for _ in range(30):
        calm.round(one_slow(4, 3, 0.3))
    for _ in range(1000):
        calm.round([0.002] * 4)
    after = PeerTimes(range(4), SETTINGS, before=calm.times)
    assert not any(after.observe(calm.now + n, [calm.now + n + each for each in one_slow(4, 3, 0.1)]) for n in range(6))


def test_factor_zero_turns_the_rule_off() -> None:
    """Nobody is slow then; a factor that everybody reaches is refused."""
    assert not Story(6, SlownessSettings(factor=0.0)).rounds([one_slow(6, 0, 5.0)] * 500)
    with pytest.raises(InvariantViolation):
        SlownessSettings(factor=1.0)

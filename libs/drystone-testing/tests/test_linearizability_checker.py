# SPDX-License-Identifier: Apache-2.0
"""The checker finds what it is there to find, and nothing else."""

import random
from dataclasses import replace

import pytest

from drystone_testing.linearizability import NEVER, Kind, Operation, Undecided, violation


def op(kind: Kind, called: float, returned: float, value: str | None = None, **more: object) -> Operation:
    return Operation(key="k", kind=kind, called=called, returned=returned, value=value, **more)  # type: ignore[arg-type]


def test_stale_read_is_found() -> None:
    """A read that began after a write was acknowledged must not see what was before."""
    first, second = op(Kind.PUT, 0, 1, "a"), op(Kind.PUT, 2, 3, "b")
    stale = op(Kind.READ, 4, 5, "a")
    assert violation([first, second, stale]) == stale
    assert violation([first, second, replace(stale, called=2.5)]) is None
    assert violation([first, second, replace(stale, value="b")]) is None


def test_reads_do_not_go_back() -> None:
    """Beside a write either value may be seen, but not the old one after the new one."""
    write = op(Kind.PUT, 0, 10, "a")
    new, old = op(Kind.READ, 1, 2, "a"), op(Kind.READ, 3, 4, None)
    assert violation([write, new, old]) == old
    assert violation([write, replace(new, value=None), replace(old, value="a")]) is None


def test_lost_write_is_found_and_unknown_one_is_not() -> None:
    """An acknowledged write that is gone is a violation; one of unknown outcome may be gone, or come late."""
    write, read = op(Kind.PUT, 0, 1, "a"), op(Kind.READ, 2, 3, None)
    assert violation([write, read]) == read
    unknown = replace(write, returned=NEVER)
    assert violation([unknown, read]) is None
    late = op(Kind.READ, 4, 5, "a")
    assert violation([unknown, read, late]) is None
    assert violation([unknown, read, late, op(Kind.READ, 6, 7, None)]) is not None


def test_two_winners_of_one_create_are_found() -> None:
    """Of two creations one wins; a refusal needs something to be there."""
    one, two = op(Kind.CREATE, 0, 5, "a"), op(Kind.CREATE, 1, 4, "b")
    assert violation([one, two]) is not None
    assert violation([one, replace(two, refused=True)]) is None
    assert violation([replace(one, refused=True), replace(two, refused=True)]) is not None
    assert violation([replace(one, refused=True), replace(two, returned=NEVER)]) is None


def test_replace_needs_the_expected_value() -> None:
    """If-Match: exactly when the value is the one named."""
    put, other = op(Kind.PUT, 0, 1, "a"), op(Kind.PUT, 2, 3, "b")
    swap = op(Kind.REPLACE, 4, 5, "c", expected="a")
    assert violation([put, other, swap]) == swap
    assert violation([put, other, replace(swap, refused=True)]) is None
    assert violation([put, swap]) is None
    assert violation([put, replace(swap, refused=True)]) is not None


def test_repeated_effect_is_found() -> None:
    """A retry that is applied a second time brings an overwritten value back."""
    history = [op(Kind.PUT, 0, 3, "a"), op(Kind.READ, 0.5, 1, "a"), op(Kind.PUT, 1.2, 2, "b"), op(Kind.READ, 4, 5, "a")]
    assert violation(history) is not None


@pytest.mark.parametrize("seed", range(20))
def test_true_histories_pass_and_planted_faults_are_caught(seed: int) -> None:
    """Histories of a real register, concurrent and with lost answers, pass; with one answer made stale they do not."""
    rng = random.Random(seed)
    value: str | None = None
    history, at = [], 0.0
    for number in range(250):
        at += rng.random()
        lost = rng.random() < 0.012
        returned = NEVER if lost else at + 2 * rng.random()
        kind = rng.choice([Kind.READ, Kind.READ, Kind.PUT, Kind.CREATE, Kind.REPLACE, Kind.DELETE])
        made = Operation(key="k", kind=kind, called=at - 2 * rng.random(), returned=returned, value=f"v{number}")
        if kind is Kind.READ:
            if lost:
                continue
            made = replace(made, value=value)
        elif kind is Kind.PUT:
            value = made.value
        elif kind is Kind.DELETE:
            value = None
        elif kind is Kind.CREATE:
            made = replace(made, refused=value is not None)
            value = value or made.value
        else:
            expected = value if rng.random() < 0.6 else "other"
            holds = value is not None and value == expected
            made = replace(made, expected=expected, refused=not holds)
            value = made.value if holds else value
        history.append(made)
    assert violation(history) is None
    reads = [i for i, h in enumerate(history) if h.kind is Kind.READ and h.value is not None]
    victim = history[reads[len(reads) // 2]]
    stale = replace(victim, called=history[-1].called + 10, returned=history[-1].called + 11)
    after = replace(stale, kind=Kind.PUT, value="end", called=stale.called - 2, returned=stale.called - 1)
    assert violation([*history, after, stale]) == stale


def test_too_much_concurrency_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather undecided than wrong."""
    monkeypatch.setattr("drystone_testing.linearizability.CONFIGURATIONS_MOST", 100)
    beside = [op(Kind.PUT, 0, 9, f"v{number}") for number in range(12)]
    with pytest.raises(Undecided):
        violation([*beside, op(Kind.READ, 1, 2, "nothing")])

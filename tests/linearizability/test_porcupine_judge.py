# SPDX-License-Identifier: Apache-2.0
"""Porcupine finds what it is there to find, accepts what is true, and agrees with our own judge on thousands of histories."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drystone_testing.ledger import Record, rounds
from drystone_testing.linearizability import NEVER, Kind, Operation, violation
from drystone_testing.porcupine import OK, UNDECIDED, VIOLATION, judge, missing

ONE, OTHER = "gateway 1", "gateway 2"


@pytest.fixture(autouse=True)
def _needs_go() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)


def op(kind: Kind, called: float, returned: float, value: str | None = None, **more: object) -> Operation:
    return Operation(key="k", kind=kind, called=called, returned=returned, value=value, **more)  # type: ignore[arg-type]


def true_history(seed: int, *, keys: int = 3, count: int = 300, lost: float = 0.03) -> list[Operation]:
    """What clients of a store that does its work may see: each call takes effect at a moment within it, or it is lost."""
    chance = random.Random(seed)
    values: dict[str, str | None] = {}
    history = []
    for number in range(count):
        at, key, kind = float(number), f"k{chance.randrange(keys)}", chance.choice([*Kind, Kind.READ])
        value, now = f"v{number}", values.get(key)
        expected = chance.choice([now or "other", "other"]) if kind is Kind.REPLACE else None
        holds = {Kind.CREATE: now is None, Kind.REPLACE: now is not None and now == expected}.get(kind, True)
        made = Operation(
            key=key,
            kind=kind,
            called=at - chance.uniform(0, 6),
            returned=at + chance.uniform(0, 6),
            value={Kind.READ: now, Kind.DELETE: None}.get(kind, value),
            expected=expected,
            refused=not holds,
            by=chance.choice([ONE, OTHER]),
        )
        is_lost = chance.random() < lost
        if kind is not Kind.READ and holds and not (is_lost and chance.random() < 0.5):
            values[key] = made.value
        if is_lost:
            made = replace(made, returned=NEVER, refused=False)
        if not (is_lost and kind is Kind.READ):
            history.append(made)
    return history


PLANTED = {
    "a lost write": [op(Kind.PUT, 0, 1, "a"), op(Kind.READ, 2, 3, None)],
    "a stale read after a write through the other gateway": [
        op(Kind.PUT, 0, 1, "a", by=ONE), op(Kind.PUT, 2, 3, "b", by=ONE), op(Kind.READ, 4, 5, "a", by=OTHER),
    ],
    "two winners of one creation": [op(Kind.CREATE, 0, 5, "a", by=ONE), op(Kind.CREATE, 1, 4, "b", by=OTHER)],
    "a resurrected object": [
        op(Kind.PUT, 0, 1, "a"), op(Kind.DELETE, 2, 3), op(Kind.READ, 4, 5, None), op(Kind.READ, 6, 7, "a"),
    ],
    "a phantom in a listing": [op(Kind.DELETE, 0, 1), op(Kind.READ, 2, 3, "of nobody", by="list")],
    "a deleted object in a listing": [
        op(Kind.PUT, 0, 1, "a"), op(Kind.DELETE, 2, 3, by=ONE), op(Kind.READ, 4, 5, "a", by="list through gateway 2"),
    ],
    "a condition that was refused for nothing": [op(Kind.PUT, 0, 1, "a"), op(Kind.REPLACE, 2, 3, "b", expected="a", refused=True)],
    "a write that was applied twice": [
        op(Kind.PUT, 0, 3, "a"), op(Kind.READ, 0.5, 1, "a"), op(Kind.PUT, 1.2, 2, "b"), op(Kind.READ, 4, 5, "a"),
    ],
    "an unknown write that was seen and then was not": [
        op(Kind.PUT, 0, NEVER, "a"), op(Kind.READ, 1, 2, "a"), op(Kind.READ, 3, 4, None),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violations_are_found(name: str, tmp_path: Path) -> None:
    """Alone, and at the end of a long history that is true; the explanation is the planted calls, and is drawn."""
    assert judge(PLANTED[name]).verdict == VIOLATION
    for seed in range(3):
        around = true_history(seed, keys=1, lost=0)  # a lost delete would explain a lost write
        end = max(call.called + 20 for call in around)
        clean = op(Kind.PUT, end, end + 1, "clean"), op(Kind.DELETE, end + 2, end + 3)
        planted = [
            replace(call, key="k0", called=call.called + end + 4, returned=call.returned + end + 4)
            for call in PLANTED[name]
        ]
        history = [*around, *(replace(call, key="k0") for call in clean), *planted]
        assert judge([*around, *(replace(call, key="k0") for call in clean)]).verdict == OK
        picture = tmp_path / f"{seed}.html"
        found = judge(history, picture=picture)
        assert (found.verdict, found.keys) == (VIOLATION, ("k0",))
        assert violation(history) is not None
        assert "<html" in picture.read_text().lower()
        assert len(found.because) <= len(planted) + 2, found
        assert any(str(planted[-1].value) in line for line in found.because)


@pytest.mark.parametrize("seed", range(10))
def test_true_histories_are_accepted(seed: int) -> None:
    """Concurrent calls on three keys through two gateways, some of them lost: an order explains them all."""
    assert judge(true_history(seed)).verdict == OK


def small_histories(count: int) -> Iterator[list[Operation]]:
    """A few calls on one key within a few moments, with answers taken out of the air: some true, some not."""
    for seed in range(count):
        chance = random.Random(seed)
        length = chance.randint(2, 9)
        values = [f"v{number}" for number in range(length)]
        history = []
        for number in range(length):
            kind, called = chance.choice(list(Kind)), float(chance.randrange(12))
            conditional = kind in (Kind.CREATE, Kind.REPLACE)
            lost = kind is not Kind.READ and chance.random() < 0.2
            read = chance.choice([None, *values[: number + 2]])
            history.append(
                op(
                    kind,
                    called,
                    NEVER if lost else called + chance.randrange(6),
                    {Kind.READ: read, Kind.DELETE: None}.get(kind, values[number]),
                    expected=chance.choice(values) if kind is Kind.REPLACE else None,
                    refused=conditional and not lost and chance.random() < 0.5,
                )
            )
        yield history


def test_both_judges_agree(record: Record) -> None:
    """On thousands of small histories, many with lost calls, both find an order or neither does."""
    counts = {OK: 0, VIOLATION: 0}
    every = [
        [replace(call, key=f"{number}") for call in history]
        for number, history in enumerate(small_histories(rounds(4000)))
    ]
    together = judge([call for history in every for call in history])
    broken = set(together.keys)
    for number, history in enumerate(every):
        ours = VIOLATION if violation(history) else OK
        counts[ours] += 1
        assert (f"{number}" in broken) == (ours == VIOLATION), "\n".join(map(str, history))
    record(**counts)
    assert min(counts.values()) > len(every) / 10


def test_what_is_no_history_is_refused() -> None:
    """Rather than judged: a value written twice, a read that ended before it began."""
    with pytest.raises(ValueError, match="a second time"):
        judge([op(Kind.PUT, 0, 1, "a"), op(Kind.PUT, 2, 3, "a")])
    with pytest.raises(ValueError, match="before it was called"):
        judge([op(Kind.READ, 2, 1, "a")])


def test_too_little_time_is_said() -> None:
    """Rather undecided than wrong."""
    beside = [op(Kind.PUT, 0, 90, f"v{number}") for number in range(40)]
    reads = [op(Kind.READ, number, number + 0.5, f"v{39 - number}") for number in range(38)]
    found = judge([*beside, *reads, op(Kind.READ, 50, 51, "nothing of ours")], timeout=0.5)
    assert found.verdict == UNDECIDED and found.keys == ("k",)

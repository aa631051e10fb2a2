# SPDX-License-Identifier: Apache-2.0
"""Is a history of calls on keys linearizable? Each key is a register with compare-and-set; outcomes may be unknown.

Method: Wing and Gong's search, just in time (Lowe, "Testing for linearizability", 2017): events in order of time, and
after each the set of configurations that explain what was answered so far. A configuration is the register's value and
which of the calls under way have taken effect already. A call of unknown outcome stays under way for ever: it may take
effect at any later moment, or never.

Invariants
  L1  `violation` answers None only if some order of the calls, each between its call and its return, explains all
      results; and a call otherwise, at whose return no order was left.
  L2  Times are those of one clock, taken before the first byte is sent and after the last is received.
  L3  Values are unique over a history, so that a read says which write it saw.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

NEVER = float("inf")
CONFIGURATIONS_MOST = 500_000
Value = str | None
"""None: there is no object."""


class Kind(StrEnum):
    """What a call does to its register."""

    READ = "read"
    PUT = "put"
    CREATE = "create"
    """Put if there is none (If-None-Match: *)."""
    REPLACE = "replace"
    """Put if the value is `expected` (If-Match)."""
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call by one client."""

    key: str
    kind: Kind
    called: float
    returned: float = NEVER
    """NEVER: the outcome is unknown (a read of unknown outcome says nothing: leave it out)."""
    value: Value = None
    """Written; or what a READ saw."""
    expected: Value = None
    refused: bool = False
    """CREATE and REPLACE: the condition did not hold."""
    by: str = ""
    """Who called, through which gateway, and what was no plain call of the kind (a listing); for people."""


class Configuration(NamedTuple):
    value: Value
    done: frozenset[int]
    """Calls under way that took effect."""


class Undecided(Exception):
    """More configurations than may be kept: the history is too concurrent to judge."""


def violation(history: Iterable[Operation]) -> Operation | None:
    """A call that cannot be explained, None when the history is linearizable. Keys are judged one by one."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for operations in by_key.values():
        found = _of_one_key(operations)
        if found is not None:
            return found
    return None


def _of_one_key(operations: list[Operation]) -> Operation | None:
    events = sorted(
        [(op.called, 0, number) for number, op in enumerate(operations)]
        + [(op.returned, 1, number) for number, op in enumerate(operations) if op.returned != NEVER]
    )
    under_way: set[int] = set()
    configurations = {Configuration(None, frozenset())}
    for _, is_return, number in events:
        if not is_return:
            under_way.add(number)
            continue
        configurations = _with(number, operations, under_way, configurations)
        under_way.remove(number)
        if not configurations:
            return operations[number]
    return None


def _with(
    number: int, operations: list[Operation], under_way: set[int], configurations: set[Configuration]
) -> set[Configuration]:
    """Configurations reached by letting calls under way take effect until `number` has.

    A call of unknown outcome takes effect only right before one that could not have without it: else it may wait.
    """
    reached: set[Configuration] = set()
    seen: set[tuple[Configuration, tuple[Value, ...]]] = {(configuration, ()) for configuration in configurations}
    frontier = list(seen)
    while frontier:
        (value, done), before = frontier.pop()
        if number in done:
            reached.add(Configuration(value, done - {number}))
            continue
        deletes = 0
        for other in sorted(under_way - done):
            operation = operations[other]
            possible, after = _effect(operation, value)
            if not possible or any(_effect(operation, earlier)[0] for earlier in before):
                continue
            unknown = operation.returned == NEVER
            if unknown and operation.kind is Kind.DELETE:
                deletes += 1
                if deletes > 1 or value is None:
                    continue  # they are all alike, and one of nothing changes nothing
            following = (Configuration(after, done | {other}), (value,) if unknown else ())
            if following not in seen:
                seen.add(following)
                frontier.append(following)
        if len(seen) > CONFIGURATIONS_MOST:
            raise Undecided(f"{operations[number].key}: more than {CONFIGURATIONS_MOST} configurations")
    return _least(reached, operations)


def _least(configurations: set[Configuration], operations: list[Operation]) -> set[Configuration]:
    """Without those that differ from another only by more unknown calls having happened: it can do what they can."""
    kept: dict[tuple[Value, frozenset[int]], list[frozenset[int]]] = {}
    for value, done in sorted(configurations, key=lambda one: len(one.done)):
        unknown = frozenset(number for number in done if operations[number].returned == NEVER)
        least = kept.setdefault((value, done - unknown), [])
        if not any(other <= unknown for other in least):
            least.append(unknown)
    return {Configuration(value, known | unknown) for (value, known), sets in kept.items() for unknown in sets}


def _effect(operation: Operation, value: Value) -> tuple[bool, Value]:
    """(whether it may take effect on `value` with the result it had, the value afterwards)."""
    kind = operation.kind
    if kind is Kind.READ:
        return value == operation.value, value
    if kind is Kind.PUT:
        return True, operation.value
    if kind is Kind.DELETE:
        return True, None
    holds = value is None if kind is Kind.CREATE else value is not None and value == operation.expected
    if operation.returned == NEVER:
        return holds, operation.value  # without effect it may as well never have happened
    return holds is not operation.refused, operation.value if holds else value

# SPDX-License-Identifier: Apache-2.0
"""Invariant checks that survive `python -O`. A failed check is a bug, never a client's error."""


class InvariantViolation(Exception):
    """A stated invariant does not hold; whoever owns the broken thing stops serving it."""


def check(condition: object, message: str) -> None:
    """Raise `InvariantViolation` unless `condition` is true."""
    if not condition:
        raise InvariantViolation(message)

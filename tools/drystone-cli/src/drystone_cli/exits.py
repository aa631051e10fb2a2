# SPDX-License-Identifier: Apache-2.0
"""Exit codes and the one way a command fails.

0 done, and all is well; 1 it could not be done, or health is not OK; 2 wrong usage or configuration; 3 nobody answers.
"""

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
CODES = "0 done and well · 1 not done, or health is not OK · 2 usage or configuration · 3 nobody answers"


class Failure(Exception):
    """A command cannot do what was asked: the cause, and what to do next."""

    def __init__(self, cause: str, next_step: str, code: int = FAILED) -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step
        self.code = code


class Unusable(Exception):
    """A process cannot start before somebody changed something; the message says what."""

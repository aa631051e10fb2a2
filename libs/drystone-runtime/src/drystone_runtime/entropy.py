# SPDX-License-Identifier: Apache-2.0
"""The machine's randomness as the `Entropy` port."""

import os
import random

_POOL = 4096


class SystemEntropy:
    """Kernel randomness, drawn a page at a time: a token costs a slice, not a system call.

    Not to be shared over a fork (the child would repeat the pool) nor between threads: build one per owner.
    """

    __slots__ = ("_at", "_pool", "_random")

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        self._random = random.Random(os.urandom(16))

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        at = self._at
        end = at + size
        if end > len(self._pool):
            if size > _POOL // 4:
                return os.urandom(size)
            self._pool = os.urandom(_POOL)
            at, end = 0, size
        self._at = end
        return self._pool[at:end]

    def uniform(self, low: float, high: float) -> float:
        """For jitter and sampling, not for secrets."""
        return self._random.uniform(low, high)

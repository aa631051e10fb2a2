# SPDX-License-Identifier: Apache-2.0
"""What giving memory back does in a process of its own: python -m drystone_testing.memory_scenarios NAME.

A test process's heap holds what other tests left, which would decide the figures; so each scenario gets a fresh one.
Exit 0 = as it should be; otherwise the failed check is on stderr.
"""

import sys

from drystone_core.check import check
from drystone_runtime.clock import SystemClock
from drystone_runtime.memory_trim import GROWN, LITTLE, MemoryTrim, resident

BLOCK = 64 << 10


def fill(size: int) -> list[bytearray]:
    """Blocks below the size for which the allocator asks the system."""
    return [bytearray(BLOCK) for _ in range(size // BLOCK)]


def below_a_live_object() -> None:
    """The last block stays: without a trim nothing below it would go."""
    trim = MemoryTrim(clock=SystemClock())
    before = resident()
    blocks = fill(4 * GROWN)
    last = blocks[-1]
    full = resident()
    check(full - before > 3 * GROWN, "the blocks are resident")
    del blocks
    check(trim.look() > 2 * GROWN, "the look says what went back")
    check(resident() < full - 2 * GROWN, "it went back")
    check(len(last) == BLOCK, "the live block is whole")


def steady() -> None:
    """Growth below the bar is not worth a trim."""
    trim = MemoryTrim(clock=SystemClock())
    kept = fill(GROWN // 4)
    check(trim.look() == 0, "a little growth is left alone")
    check(len(kept) > 0, "the blocks live")


def useless() -> None:
    """What is really in use is not asked for again and again."""
    trim = MemoryTrim(clock=SystemClock())
    kept = fill(3 * GROWN)
    while trim.look() >= LITTLE:
        pass
    blocks = fill(4 * GROWN)
    last = blocks.pop()
    del blocks
    check(trim.look() == 0, "the look after a useless trim is skipped")
    check(trim.look() > 2 * GROWN, "the one after it is not")
    check(len(kept) + len(last) > 0, "the blocks live")


SCENARIOS = {"below_a_live_object": below_a_live_object, "steady": steady, "useless": useless}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]]()

# SPDX-License-Identifier: Apache-2.0
"""Memory that was freed inside the heap goes back to the system."""

import ctypes
import gc

import pytest

from drystone_runtime.clock import SystemClock
from drystone_runtime.memory_trim import GROWN, LITTLE, MemoryTrim, resident

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")


@pytest.fixture(autouse=True)
def nothing_left_over() -> None:
    """What other tests of this process freed goes back first: else blocks come from it and nothing grows."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def fill(size: int) -> list[bytearray]:
    """Blocks below the size for which the allocator asks the system, and a live one above them."""
    return [bytearray(64 << 10) for _ in range(size // (64 << 10))]


def test_what_lies_below_a_live_object_is_given_back() -> None:
    """The last block stays: without a trim nothing below it would go."""
    trim = MemoryTrim(clock=SystemClock())
    before = resident()
    blocks = fill(4 * GROWN)
    last = blocks[-1]
    full = resident()
    assert full - before > 3 * GROWN
    del blocks
    assert trim.look() > 2 * GROWN
    assert resident() < full - 2 * GROWN
    assert len(last) == 64 << 10


def test_a_steady_process_is_left_alone() -> None:
    """Growth below the bar is not worth a trim."""
    trim = MemoryTrim(clock=SystemClock())
    kept = fill(GROWN // 4)
    assert trim.look() == 0
    assert kept


def test_useless_trims_become_rare() -> None:
    """What is really in use is not asked for again and again."""
    trim = MemoryTrim(clock=SystemClock())
    kept = fill(3 * GROWN)
    while trim.look() >= LITTLE:
        pass
    blocks = fill(4 * GROWN)
    last = blocks.pop()
    del blocks
    assert trim.look() == 0, "the look after a useless trim is skipped"
    assert trim.look() > 2 * GROWN
    assert kept and last

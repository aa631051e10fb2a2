# SPDX-License-Identifier: Apache-2.0
"""Memory that was freed inside the heap goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")


@pytest.mark.parametrize("scenario", ["below_a_live_object", "steady", "useless"])
def test_freed_memory_goes_back_when_it_is_worth_it(scenario: str) -> None:
    """Below a live object it goes back; a steady process is left alone; useless trims become rare."""
    command = [sys.executable, "-m", "drystone_testing.memory_scenarios", scenario]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Clocks of a whole cell: a process with a wrong one does not start, and one that goes wrong later is shown to the operator."""

import os
import subprocess
import sys
import time

from drystone_core.formats.coordination import ClockDocument, clock_key, encode
from drystone_testing.cluster import Cluster

_HOUR_AHEAD = """
import runpy, sys, time
real = time.time_ns
time.time_ns = lambda: real() + 3_600 * 10**9
sys.argv = sys.argv[1:]
runpy.run_module("drystone_cli", run_name="__main__")
"""
PREFIX = "/drystone/"
"""Of a cell's documents, when nothing else is configured."""


def test_a_process_whose_clock_is_wrong_does_not_start(cell: Cluster) -> None:
    """It ends with a sentence; nobody learns of it; with the right clock it starts."""
    for one in (cell.of("metadata")[0], cell.of("storage-node")[0]):
        one.kill()
        at = one.command.index(one.role)
        command = [sys.executable, "-c", _HOUR_AHEAD, "drystone", *one.command[at:]]
        environment = {**os.environ, **one.environment}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        said = ran.stdout + ran.stderr
        assert ran.returncode == 1, said[-2000:]
        assert "the clock here is 3" in said and "set the clock that is wrong (NTP)" in said, said[-2000:]
        assert "ready " not in ran.stdout
    cell.heal()


def test_a_clock_that_is_wrong_is_shown_by_the_status(cell: Cluster) -> None:
    """What a process tells of its clock stands among the reasons of the cell's health."""
    document = ClockDocument(
        wall_us=1, heard=0, fault="the clock here is 9.0 s ahead of that of metadata/m-1, and so on"
    )
    key = PREFIX + clock_key("gateway", "gateway-2")
    cell.etcd.control("put", key, encode(document).decode())
    try:
        until = time.monotonic() + 30
        while not (shown := [one for one in cell.status()["reasons"] if one["code"] == "CLOCK_WRONG"]):
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        cell.etcd.control("del", key)
    assert shown[0]["summary"].startswith("gateway gateway-2 says: the clock here is 9.0 s ahead")

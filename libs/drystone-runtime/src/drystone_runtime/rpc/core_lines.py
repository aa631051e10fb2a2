# SPDX-License-Identifier: Apache-2.0
"""What gRPC's core writes to standard error, turned into log lines of ours, seldom.

The core tells nobody but standard error why a TLS handshake failed, one line for each, as often as a stranger knocks.

Invariants
  X1  Such a line becomes an event with its reason, once per reason and interval, the rest counted; other lines of the core
      likewise, by the place that wrote them.
  X2  What does not look like a line of the core, and what it says before it aborts, goes through as it is and at once: the
      carrier is a process of its own and outlives the one that dies. It ends when that one has ended, and only then.
  X3  The core never waits for whoever reads the log: the carrier takes every line (logs.py, G1).
"""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO

from drystone_core.ports import Clock
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.refusal_log import RefusalLog

log = logging.getLogger(__name__)
_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ ([\w.]+:\d+)\] (.*)")
_HANDSHAKE = re.compile(r"Handshake failed with error (?:.*OPENSSL_internal:)?(.*)")
_STDERR = 2


class CoreLines:
    """Judges line by line."""

    def __init__(self, *, clock: Clock, through: Callable[[str], None]) -> None:
        """`through` takes what is passed on as it is."""
        self._seldom, self._through = RefusalLog(clock=clock, log=log), through

    def take(self, line: str) -> None:
        """One line, without its end."""
        match = _LINE.fullmatch(line)
        if match is None or match[1] == "F":
            self._through(line)
            return
        handshake = _HANDSHAKE.fullmatch(match[3])
        if handshake is not None:
            self._seldom.warn("rpc.handshake_refused", handshake[1], reason=handshake[1])
        elif match[1] in "WE":
            self._seldom.warn("rpc.core", match[2], text=match[3], source=match[2])


def divert(configure: Callable[[TextIO], None]) -> None:
    """From now on this process's descriptor 2 leads to a carrier; `sys.stderr` and the log go where they went.

    Call it before any thread is started. `configure` sends the log to a stream, here and in the carrier.
    """
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        _carry(reading, configure)
    os.close(reading)
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    sys.stderr = open(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    os.dup2(writing, _STDERR)
    os.close(writing)
    configure(sys.stderr)


def _carry(reading: int, configure: Callable[[TextIO], None]) -> None:
    """The carrier's life; does not return."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        os.dup2(_STDERR, 1)  # nobody waits for the end of our standard output
        configure(sys.stderr)
        lines = CoreLines(clock=SystemClock(), through=_through)
        for line in _lines(reading):
            lines.take(line)
    finally:
        os._exit(0)


def _lines(descriptor: int) -> Iterable[str]:
    with open(descriptor, encoding="utf-8", errors="backslashreplace") as pipe:
        for line in pipe:
            yield line.rstrip("\n")


def _through(line: str) -> None:
    with suppress(OSError):
        os.write(_STDERR, line.encode() + b"\n")

# SPDX-License-Identifier: Apache-2.0
"""The child's side of the supervisor's watchdog: a byte through a pipe, written by the loop itself.

A loop that runs beats; one that is stuck, stopped or starved does not, and is replaced.
"""

import asyncio
import os

from drystone_runtime.supervisor import BEAT, READY

PERIOD = 0.5
"""Seconds between beats."""


class Heartbeat:
    """Beats from the running loop until stopped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat now and every half second."""
        self._say(BEAT)
        self._handle = asyncio.get_running_loop().call_later(PERIOD, self.start)

    def ready(self) -> None:
        """Say that requests are served."""
        self._say(READY)

    def stop(self) -> None:
        """No further beats."""
        if self._handle is not None:
            self._handle.cancel()

    def _say(self, word: bytes) -> None:
        try:
            os.write(self._fd, word)
        except (BlockingIOError, BrokenPipeError):  # full: it was heard often enough; broken: we are about to be killed
            pass

# SPDX-License-Identifier: Apache-2.0
"""The children of `drystone serve`: python -m drystone_cli.processes main|background --beat-fd N --parent PID.

Both tie their life to the supervisor's, read their ProcessSpec from standard input, beat from their loop, say READY when
they serve, drain on SIGTERM, and read the certificate again on SIGHUP. Exit codes: 0 drained; 78 it makes no sense to start again (the reason is on stderr).
"""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from drystone_cli.exits import Unusable
from drystone_cli.process_spec import ProcessSpec
from drystone_runtime.supervisor import EXIT_UNUSABLE, die_with_parent

log = logging.getLogger(__name__)


class Running(Protocol):
    """A process that serves."""

    async def settle(self) -> None:
        """Do what may come after READY."""
        ...

    async def reload(self) -> None:
        """SIGHUP: read again what can be read again."""
        ...

    async def drain(self, seconds: float) -> None:
        """Finish what is in flight, for at most so long, and stop."""
        ...


def main(arguments: list[str] | None = None) -> int:
    """Entry of both children."""
    parser = argparse.ArgumentParser(prog="drystone_cli.processes")
    parser.add_argument("role", choices=("main", "background"))
    parser.add_argument("--beat-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    spec = ProcessSpec.decode(sys.stdin.buffer.read())
    from drystone_runtime.logs import configure

    configure(level=spec.settings.log.level, style=spec.settings.log.format, role=given.role)
    import uvloop

    try:
        uvloop.run(_live(spec, _starter(given.role), given.beat_fd))
    except Unusable as error:
        for problem in str(error).splitlines():
            print(f"drystone: {problem}", file=sys.stderr)
        return EXIT_UNUSABLE
    return 0


def _starter(role: str) -> Callable[[ProcessSpec], Coroutine[Any, Any, Running]]:
    if role == "main":
        from drystone_cli.standalone import start as start_main

        return start_main
    from drystone_cli.background import start as start_background

    return start_background


async def _live(spec: ProcessSpec, start: Callable[[ProcessSpec], Coroutine[Any, Any, Running]], beat_fd: int) -> None:
    from drystone_runtime.heartbeat import Heartbeat

    loop = asyncio.get_running_loop()
    stopping, reloads = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloads.set)
    heartbeat = Heartbeat(beat_fd)
    heartbeat.start()
    running = await _unless(stopping, start(spec))
    if running is None:  # nothing was promised to anybody yet: leave as after a crash
        return
    heartbeat.ready()
    await running.settle()
    gc.collect()
    gc.freeze()
    reloading = asyncio.create_task(_reload(reloads, running))
    await stopping.wait()
    reloading.cancel()
    await running.drain(spec.settings.server.drain)
    heartbeat.stop()


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, Running]) -> Running | None:
    """The work's result; None when we are told to stop before it is there."""
    begun = asyncio.create_task(work)
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((begun, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    return await begun if begun.done() else None


async def _reload(reloads: asyncio.Event, running: Running) -> None:
    while True:
        await reloads.wait()
        reloads.clear()
        await running.reload()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Lanes of hung disks are daemon threads in the kernel: leave without waiting for them.
    import os

    os._exit(code)

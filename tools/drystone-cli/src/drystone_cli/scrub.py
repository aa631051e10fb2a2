# SPDX-License-Identifier: Apache-2.0
"""`drystone scrub start|status`: have every closed volume read through now, and see how far that is.

Exit code 0: the pass (or the last one) found no damage so far; 1: volumes had damage at their last look, or could not be
read whole; 3: the store, or its background process, does not answer.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from drystone_cli.exits import FAILED, OK, UNREACHABLE, Failure
from drystone_cli.status import PATIENCE, Store
from drystone_cli.terminal import Terminal, amount, span
from drystone_core.cell import ScrubPassStatus

AWAY = 60.0
"""Seconds --watch bears with a background process that does not answer: it is replaced meanwhile."""
_LOOK = 0.5


def start(directory: Path | None, state_dir: Path | None, *, anew: bool, watch: bool, as_json: bool) -> int:
    """Begin a pass, or join the one under way."""
    store = Store(directory, state_dir)
    began: bool = store.ask("start_scrub", anew)
    if not watch and not as_json:
        print("a pass over all closed volumes has begun" if began else "a pass is under way and goes on")
    found = _watched(store, quiet=as_json) if watch else _asked(store, PATIENCE)
    if as_json:
        _print_json(found, {"began_now": began})
    elif watch:
        _print(found)
    return _code(found) if watch else OK


def show(directory: Path | None, state_dir: Path | None, *, watch: bool, as_json: bool) -> int:
    """How far it is, or, watched, how it ended."""
    store = Store(directory, state_dir)
    found = _watched(store, quiet=as_json) if watch else _asked(store, PATIENCE)
    if as_json:
        _print_json(found, {})
    else:
        _print(found)
    return _code(found)


def _code(found: ScrubPassStatus) -> int:
    return FAILED if found.unclean else OK


def _asked(store: Store, patience: float) -> ScrubPassStatus:
    """What the background process says, within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found: ScrubPassStatus | None = store.ask("status").scrub_pass
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise Failure(
                "the background process, which scrubs, does not answer",
                "it is replaced by itself; when this stays, see `background` lines of the log",
                UNREACHABLE,
            )
        time.sleep(_LOOK)


def _watched(store: Store, *, quiet: bool) -> ScrubPassStatus:
    """The pass when it has ended; on a terminal one line moves, elsewhere there is a line for each step."""
    moving, shown = sys.stderr.isatty(), ""
    while True:
        found = _asked(store, AWAY)
        line = progress(found)
        if not quiet and line != shown and found.running:
            sys.stderr.write(f"\r\033[K{line}" if moving else f"{line}\n")
            sys.stderr.flush()
            shown = line
        if not found.running:
            if shown and moving:
                sys.stderr.write("\r\033[K")
            return found
        time.sleep(_LOOK)


def progress(found: ScrubPassStatus) -> str:
    """One line about a pass that runs."""
    if not found.volumes:
        return "scrubbing: begins"
    left = f", about {span(found.seconds_left)} left" if found.seconds_left else ""
    unclean = f", {found.unclean} not clean" if found.unclean else ""
    percent = 100 * found.done // found.volumes
    return f"scrubbing: {found.done} of {found.volumes} closed volumes ({percent} %){left}{unclean}"


def _print_json(found: ScrubPassStatus, more: dict[str, Any]) -> None:
    print(json.dumps({**dataclasses.asdict(found), **more}))


def _print(found: ScrubPassStatus) -> None:
    terminal = Terminal(sys.stdout)
    now = time.time()
    for name, sentence in _sentences(found, now):
        terminal.line(f"{terminal.paint(f'{name:9}', 'dim')} {sentence}")


def _sentences(found: ScrubPassStatus, now: float) -> list[tuple[str, str]]:
    following = f"in {span(max(0.0, found.next_begins - now))}" if found.next_begins else "when asked for"
    if not found.began:
        return [("pass", "there was none yet"), ("next", following)]
    if found.running:
        when = f"runs, began {span(max(0.0, now - found.began))} ago"
    else:
        when = f"ended {span(max(0.0, now - found.finished))} ago, took {span(max(0, found.finished - found.began))}"
    left = f", about {span(found.seconds_left)} left" if found.seconds_left else ""
    read = f"{found.done} of {found.volumes} closed volumes ({amount(found.bytes_read)}){left}"
    lines = [("pass", when), ("read", read), ("found", _found(found))]
    return lines if found.running else [*lines, ("next", following)]


def _found(found: ScrubPassStatus) -> str:
    if not found.unclean and not found.slots_damaged:
        return "no damage"
    slots = f"{found.slots_damaged} damaged slots"
    if not found.unclean:
        return f"{slots}; all volumes were clean at their last look"
    return f"{slots}; {found.unclean} volumes damaged, or not read whole (see `drystone status` for repair and disks)"

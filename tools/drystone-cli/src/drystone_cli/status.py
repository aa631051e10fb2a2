# SPDX-License-Identifier: Apache-2.0
"""`drystone status`: one screen from the admin socket."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from drystone_cli.exits import FAILED, OK, UNREACHABLE, Failure
from drystone_cli.layout import socket_path, state_of
from drystone_cli.terminal import Terminal, amount, span
from drystone_core.cell import CellProcess, CellStatus, GatewayStatus, Health, ScrubPassStatus
from drystone_core.errors import DrystoneError, Unavailable, Unreachable
from drystone_runtime.rpc.admin_client import AdminClient

PATIENCE = 10.0
"""Seconds to wait for a store that is just starting, or whose main process is just being replaced."""


class Store:
    """The running store of one state directory, asked through its admin socket."""

    def __init__(self, directory: Path | None, state_dir: Path | None) -> None:
        self._state = state_of(directory, state_dir)
        self._start = f"start it: drystone serve {directory or 'DIR'}"

    def ask(self, verb: str, *arguments: Any) -> Any:
        """One call of AdminClient; its error as a Failure. Waits while the store is starting."""
        if not self._state.is_dir():
            raise Failure(
                f"there is no store at {self._state.parent}", f"give its directory, or {self._start}", UNREACHABLE
            )
        socket = socket_path(self._state, "admin.sock")
        deadline = time.monotonic() + PATIENCE
        while True:
            said, answered = "its admin socket is not there yet", False
            if socket.exists():
                try:
                    return getattr(AdminClient(f"unix:{socket}"), verb)(*arguments)
                except Unavailable as error:
                    said, answered = error.message or error.code.value, not isinstance(error, Unreachable)
                except DrystoneError as error:
                    about = error.message or " ".join(
                        os.fsdecode(one) for one in arguments if isinstance(one, str | bytes)
                    )
                    raise Failure(f"{error.code.value}: {about}", "", FAILED) from error
            pid = self._supervisor()
            if pid is None and not answered:
                raise Failure(f"no store is running on {self._state}", self._start, UNREACHABLE)
            if time.monotonic() > deadline and pid is None:  # a gateway of a cell: it has no supervisor
                raise Failure(
                    f"the cell is not able to now: {said}", "see `drystone status`, then ask again", UNREACHABLE
                )
            if time.monotonic() > deadline:
                raise Failure(f"the store (pid {pid}) does not answer: {said}", "see its log", UNREACHABLE)
            time.sleep(0.1)

    def _supervisor(self) -> int | None:
        """The pid of the supervisor that is alive."""
        try:
            pid = int((self._state / "lock").read_text())
        except (OSError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:  # somebody else's, and alive
            pass
        return pid


def show(directory: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Print it; the exit code says whether health is OK."""
    status: CellStatus = Store(directory, state_dir).ask("status")
    if as_json:
        print(json.dumps(as_document(status), ensure_ascii=False))
    else:
        _print(status)
    return OK if status.health() is Health.OK else FAILED


def as_document(status: CellStatus) -> dict[str, Any]:
    """For programs; fields are only ever added."""
    node = status.node
    return {
        "health": status.health().name,
        "reasons": [{**dataclasses.asdict(reason), "severity": reason.severity.name} for reason in status.reasons()],
        "version": status.version,
        "cluster_id": status.cluster_id,
        "endpoint": status.endpoint,
        "uptime_seconds": status.uptime_seconds,
        "profile": node.profile,
        "disks": [dataclasses.asdict(disk) for disk in node.disks],
        "volumes": {"open": node.open_volumes, "closed": node.closed_volumes, "degraded": node.degraded_volumes},
        "writable": status.metadata_writable,
        "term": status.term,
        "members": [dataclasses.asdict(member) for member in status.members],
        "repair": {**dataclasses.asdict(status.repair), "pending_volumes": node.degraded_volumes},
        "scrub": dataclasses.asdict(node.scrub),
        "scrub_pass": None if status.scrub_pass is None else dataclasses.asdict(status.scrub_pass),
        "reclaim": dataclasses.asdict(status.reclaim),
        "gateway": dataclasses.asdict(status.gateway),
        "background_answers": status.background_answers,
        "rpc": [dataclasses.asdict(method) for method in status.rpc],
        "cell": [dataclasses.asdict(process) for process in status.cell],
        "storage_classes": dict(status.classes.mapped),
        "processes": [dataclasses.asdict(process) for process in status.processes],
    }


def _print(status: CellStatus) -> None:
    terminal = Terminal(sys.stdout)
    colour = {Health.OK: "green", Health.WARN: "yellow", Health.ERROR: "red"}
    health = status.health()
    terminal.line(
        f"{terminal.paint(health.name, 'bold', colour[health])}  {status.endpoint}  {status.node.profile}"
        f"  up {span(status.uptime_seconds)}  Drystone {status.version}"
    )
    for reason in status.reasons():
        terminal.line(f"  {terminal.paint(reason.code, colour[reason.severity])}  {reason.summary}")
        terminal.line(f"    next: {reason.next_step}")
    terminal.line()
    terminal.table(
        ("disk", "class", "state", "free", "of", "id"),
        [
            (d.path, d.disk_class or "-", d.state, amount(d.free_bytes), amount(d.total_bytes), d.disk_id[:8])
            for d in status.node.disks
        ],
        right=("free", "of"),
    )
    terminal.line()
    if status.cell:
        terminal.table(
            ("service", "name", "endpoint", "zone", "state", ""),
            [(one.role, one.name, one.endpoint, one.zone or "-", one.state, _part(one)) for one in status.cell],
        )
    else:
        _print_alone(terminal, status)
    terminal.line()
    for name, sentence in _sentences(status):
        terminal.line(f"{terminal.paint(f'{name:9}', 'dim')} {sentence}")


def _part(one: CellProcess) -> str:
    """What falls to a process of a cell, and what it has to do."""
    if one.tablets is None:
        return one.part
    tablets, moves, changes = one.tablets.tablets, one.tablets.moves, one.tablets.changes
    said = [one.part, f"{tablets} tablet{'' if tablets == 1 else 's'}"]
    said += [f"{moves} split or joined"] if moves else []
    said += [f"{changes} bucket{'' if changes == 1 else 's'} changing"] if changes else []
    return ", ".join(part for part in said if part)


def _print_alone(terminal: Terminal, status: CellStatus) -> None:
    """Copies of the metadata and processes of a store that is alone."""
    terminal.table(
        ("metadata", "role", "head", "behind", ""),
        [
            (one.path, one.role, str(one.head or "-"), "-" if one.role == "away" else str(one.lag), one.reason)
            for one in status.members
        ],
        right=("head", "behind"),
    )
    terminal.line()
    terminal.table(
        ("process", "pid", "up", "replaced"),
        [(p.role, str(p.pid), span(p.uptime_seconds), f"{p.restarts}×") for p in status.processes],
        right=("pid", "replaced"),
    )


def _sentences(status: CellStatus) -> list[tuple[str, str]]:
    node = status.node
    volumes = f"{node.open_volumes} open, {node.closed_volumes} closed, {node.degraded_volumes} degraded"
    writable = "writable" if status.metadata_writable else "READ ONLY"
    writing = writable if status.cell else f"term {status.term}, {writable}"
    found = [("clients", _clients(status.gateway)), ("limits", _limits(status.gateway))]
    found += [("volumes", volumes), ("names", writing)]
    if status.background_answers:
        found += [("repair", _repair(status)), ("reclaim", _reclaim(status)), ("scrub", _scrub(status))]
    return found


def _clients(one: GatewayStatus) -> str:
    """Since the start of the process that serves S3."""
    now = f"{one.connections} connections, {one.requests_now} requests now"
    failed = f"{one.answers_4xx} answered 4xx, {one.answers_5xx} 5xx"
    return f"{now}; {one.requests} requests ({failed}); {amount(one.bytes_in)} in, {amount(one.bytes_out)} out"


def _limits(one: GatewayStatus) -> str:
    """What was refused or given up, of all kinds that happened."""
    kinds = (
        (one.refused_connections, "connections refused"),
        (one.refused_requests, "requests beyond those answered at once"),
        (one.refused_bodies, "bodies beyond those received at once"),
        (one.answers_503, "answers 503 in all"),
        (one.refused_heads, "malformed requests"),
        (one.slow_clients, "slow clients given up"),
        (one.broken_answers, "answers broken off"),
        (one.failures, "unexpected errors"),
    )
    return ", ".join(f"{count} {what}" for count, what in kinds if count) or "none was met"


def _repair(status: CellStatus) -> str:
    repair = status.repair
    done = f"{repair.slots_repaired} slots rebuilt ({amount(repair.bytes_repaired)})"
    if not repair.slots_pending:
        waiting = (
            f"{status.node.degraded_volumes} degraded volumes wait for a disk" if status.node.degraded_volumes else ""
        )
        if repair.waiting:
            waiting = f"{repair.waiting} slots wait for their disks, or for disks to rebuild on"
        return f"{waiting or 'nothing to do'}; {done}"
    left = f", about {span(repair.seconds_left)} left" if repair.seconds_left else ""
    danger = f"; {repair.endangered} volumes bear no further loss" if repair.endangered else ""
    doing = "running" if repair.running else "waiting"
    return f"{doing}: {repair.slots_pending} slots ({amount(repair.bytes_pending)}) to rebuild{left}{danger}; {done}"


def _reclaim(status: CellStatus) -> str:
    reclaim = status.reclaim
    freed = f"{amount(reclaim.bytes_freed)} freed ({reclaim.volumes_freed} volumes, {reclaim.stripes_freed} stripes)"
    return f"{freed}; {reclaim.stripes_waiting} dead stripes wait for their grace period"


def _scrub_of_cell(one: ScrubPassStatus | None) -> str:
    """Of the pass the leader knows; its storage nodes' own counts stand nowhere together."""
    if one is None or not one.began:
        return "no pass of this leader has begun"
    found = f"{one.slots_damaged} damaged slots found" if one.slots_damaged else "no damage found"
    which = "the pass that runs" if one.running else "the last pass"
    left = f", about {span(one.seconds_left)} left" if one.running and one.seconds_left else ""
    return f"{one.done} of {one.volumes} closed volumes read by {which} ({amount(one.bytes_read)}){left}; {found}"


def _scrub(status: CellStatus) -> str:
    if status.cell:
        return _scrub_of_cell(status.scrub_pass)
    scrub = status.node.scrub
    found = f"{scrub.slots_damaged} damaged slots found" if scrub.slots_damaged else "no damage found"
    said = f"{scrub.verified} of {scrub.volumes} closed volumes read ({amount(scrub.bytes_read)}); {found}"
    one = status.scrub_pass
    if one is None or not one.began:
        return said
    if not one.running:
        return f"{said}; last pass of {one.volumes} ended"
    left = f", about {span(one.seconds_left)} left" if one.seconds_left else ""
    return f"{said}; pass: {one.done} of {one.volumes}{left}"

# SPDX-License-Identifier: Apache-2.0
"""`drystone status`: one screen from the admin socket."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from drystone_cli.exits import FAILED, OK, UNREACHABLE, Failure
from drystone_cli.layout import socket_path, state_of
from drystone_core.cell import CellStatus, Health
from drystone_core.errors import DrystoneError, Unavailable
from drystone_runtime.config_sections import GIB, MIB
from drystone_runtime.rpc.admin_client import AdminClient


def connect(directory: Path | None, state_dir: Path | None) -> AdminClient:
    """The running store's admin socket; Failure when there is none."""
    state = state_of(directory, state_dir)
    path = socket_path(state, "admin.sock") if state.is_dir() else None
    if path is None or not path.exists():
        raise Failure(f"no store is running on {state}", f"start it: drystone serve {directory or 'DIR'}", UNREACHABLE)
    return AdminClient(f"unix:{path}")


def ask(call: Any, *arguments: Any) -> Any:
    """One call; its error as a Failure."""
    try:
        return call(*arguments)
    except Unavailable as error:
        raise Failure(
            f"the store does not answer: {error.message or error.code.value}",
            "is it starting? see its log",
            UNREACHABLE,
        ) from error
    except DrystoneError as error:
        raise Failure(str(error), "", FAILED) from error


def show(directory: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Print it; the exit code says whether health is OK."""
    status: CellStatus = ask(connect(directory, state_dir).status)
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
        "members": [dataclasses.asdict(member) for member in status.members],
        "repair": {**dataclasses.asdict(status.repair), "pending_volumes": node.degraded_volumes},
        "reclaim": dataclasses.asdict(status.reclaim),
        "processes": [dataclasses.asdict(process) for process in status.processes],
    }


def _print(status: CellStatus) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    colour = {Health.OK: "green", Health.WARN: "yellow", Health.ERROR: "red"}
    health = status.health()
    hours, rest = divmod(status.uptime_seconds, 3600)
    console.print(f"[bold {colour[health]}]{health.name}[/]  {status.endpoint}  {status.node.profile}", end="")
    console.print(f"  up {hours} h {rest // 60} min  Drystone {status.version}")
    for reason in status.reasons():
        console.print(f"  [{colour[reason.severity]}]{reason.code}[/]  {reason.summary}\n    next: {reason.next_step}")
    disks = Table("disk", "state", "free", "of", box=None, pad_edge=False)
    for disk in status.node.disks:
        disks.add_row(disk.path, disk.state, amount(disk.free_bytes), amount(disk.total_bytes))
    console.print(disks)
    node, repair = status.node, status.repair
    console.print(f"volumes   {node.open_volumes} open, {node.closed_volumes} closed, {node.degraded_volumes} degraded")
    if status.members:
        members = ", ".join(f"{member.role} {member.head}" for member in status.members)
        console.print(f"metadata  {members}")
    doing = "running" if repair.running else "idle"
    console.print(
        f"repair    {doing}; {repair.slots_pending} slots to rebuild, {repair.slots_repaired} rebuilt", end=""
    )
    console.print(f" ({amount(repair.bytes_repaired)}); {amount(status.reclaim.bytes_freed)} freed")
    console.print("processes " + ", ".join(f"{p.role} {p.pid} (replaced {p.restarts}×)" for p in status.processes))


def amount(count: int) -> str:
    """Bytes for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"

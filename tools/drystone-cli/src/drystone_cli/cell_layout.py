# SPDX-License-Identifier: Apache-2.0
"""`drystone layout show|plan|apply|revert`: what placement may use in a cell, asked of one of its gateways.

`plan` gathers changes in a staged layout, `apply` puts it in effect, `revert` drops it. New slots obey at once; what lies on
draining disks already is not moved by this release.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drystone_cli.exits import OK, USAGE, Failure
from drystone_cli.status import Store
from drystone_cli.terminal import Terminal, amount
from drystone_core.formats.coordination import OWN_SIZE
from drystone_core.layout import LayoutChange, LayoutReport, LayoutRow
from drystone_runtime.config_values import size

OWN = "own"
"""The weight of a disk that may take what its size allows."""
_HELP = "drystone layout plan --help"


def show(directory: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Both layouts."""
    return _said(Store(directory, state_dir).ask("layout"), as_json=as_json)


def plan(
    directory: Path | None,
    state_dir: Path | None,
    *,
    disks: Sequence[str],
    weights: Sequence[str],
    drain: Sequence[str],
    undrain: Sequence[str],
    level: str,
    as_json: bool,
) -> int:
    """Stage a change; what differs then. `weights` are those of `disks`, in order."""
    if len(disks) != len(weights):
        raise Failure("each --disk needs a --weight, and each --weight a --disk", _HELP, USAGE)
    weighed = tuple((disk, _weight(weight)) for disk, weight in zip(disks, weights, strict=True))
    change = LayoutChange(weights=weighed, drain=tuple(drain), undrain=tuple(undrain), level=level)
    if change == LayoutChange():
        raise Failure("nothing to plan: give --drain, --undrain, --level, or --disk with --weight", _HELP, USAGE)
    return _said(Store(directory, state_dir).ask("plan_layout", change), as_json=as_json)


def apply(directory: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Put what is staged in effect."""
    return _said(Store(directory, state_dir).ask("apply_layout"), as_json=as_json)


def revert(directory: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Drop what is staged."""
    return _said(Store(directory, state_dir).ask("revert_layout"), as_json=as_json)


def _weight(text: str) -> int:
    if text == OWN:
        return OWN_SIZE
    try:
        return size(text)
    except ValueError as error:
        raise Failure(f"--weight: {error}", f"or `{OWN}`: the disk's size", USAGE) from error


def as_document(report: LayoutReport) -> dict[str, Any]:
    """For programs; fields are only ever added. A weight of -1 is the disk's size."""
    rows = [{**asdict(row.place), **{k: v for k, v in asdict(row).items() if k != "place"}} for row in report.disks]
    return {**asdict(report), "disks": rows, "warnings": list(report.warnings)}


def _said(report: LayoutReport, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(as_document(report), ensure_ascii=False))
    else:
        _print(report)
    return OK


def _print(report: LayoutReport) -> None:
    terminal = Terminal(sys.stdout)
    version = f"version {report.version}" if report.version else "none published"
    about = f"  {report.profile}" if report.profile else ""
    terminal.line(f"{terminal.paint('in effect', 'bold')}  {version}, spread over level {report.level}{about}")
    terminal.line()
    terminal.table(
        ("zone", "rack", "node", "disk", "class", "state", "free", "of", "weight", "draining", "staged"),
        _rows(report),
        right=("free", "of", "weight"),
    )
    terminal.line()
    if report.staged_version:
        terminal.line(
            f"{terminal.paint('staged', 'bold')}  version {report.staged_version}: drystone layout apply | revert"
        )
        if report.staged_level != report.level:
            terminal.line(f"  level {report.level} → {report.staged_level}")
        for row in report.disks:
            if _differs(row):
                terminal.line(f"  {row.place.node or 'away'}  {row.place.disk[:8]}  {_difference(row)}")
    else:
        terminal.line("nothing is staged")
    if any(row.staged_draining for row in report.disks):
        terminal.line(
            f"to move  up to {amount(report.bytes_to_move)} on draining disks: they stay there, and readable, until a later "
            "release can move them"
        )
    for warning in report.warnings:
        terminal.line(f"{terminal.paint('warning', 'yellow')}  {warning}")


def _rows(report: LayoutReport) -> list[tuple[str, ...]]:
    """A tree: what a line shares with the one above is left out."""
    found, above = [], ("", "", "")
    for row in report.disks:
        place = row.place
        at = (place.zone or "-", place.rack or "-", place.node or "away")
        same = next((depth for depth in range(3) if at[depth] != above[depth]), 3)
        shown = tuple("" if depth < same else at[depth] for depth in range(3))
        above = at
        found.append(
            (
                *shown,
                place.disk[:8],
                place.disk_class or "-",
                place.state,
                amount(place.free),
                amount(place.total),
                _weighs(row.weight),
                "yes" if row.draining else "-",
                _difference(row) if _differs(row) else "",
            )
        )
    return found


def _differs(row: LayoutRow) -> bool:
    return (row.weight, row.draining) != (row.staged_weight, row.staged_draining)


def _difference(row: LayoutRow) -> str:
    parts = []
    if row.staged_draining != row.draining:
        parts.append("drain" if row.staged_draining else "undrain")
    if row.staged_weight != row.weight:
        parts.append(f"weight {_weighs(row.staged_weight)}")
    return ", ".join(parts)


def _weighs(weight: int) -> str:
    return OWN if weight == OWN_SIZE else amount(weight)

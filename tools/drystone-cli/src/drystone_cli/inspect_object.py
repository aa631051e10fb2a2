# SPDX-License-Identifier: Apache-2.0
"""`drystone inspect object`: an object's stripes and fragments, as the running store finds them."""

import dataclasses
import json
import os
import sys
from pathlib import Path

from drystone_cli.exits import FAILED, OK, USAGE, Failure
from drystone_cli.status import Store
from drystone_cli.terminal import Terminal, amount
from drystone_core.cell import ObjectReport


def show(uri: str, directory: Path | None, state_dir: Path | None, *, version_id: str, as_json: bool) -> int:
    """Print it; exit code 1 when any fragment is bad or away."""
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not slash or not key:
        raise Failure(f"{uri!r} is not s3://BUCKET/KEY", "", USAGE)
    report: ObjectReport = Store(directory, state_dir).ask("inspect_object", bucket, os.fsencode(key), version_id)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
    else:
        _print(uri, report)
    whole = all(part.state == "ok" for stripe in report.stripes for part in stripe.fragments)
    return OK if whole else FAILED


def _print(uri: str, report: ObjectReport) -> None:
    terminal = Terminal(sys.stdout)
    terminal.line(f"{uri}  {amount(report.size)}  etag {report.etag}  version {report.version_id}")
    if not report.stripes:
        terminal.line("no stripes: the bytes stand in the metadata, or there are none")
    for stripe in report.stripes:
        whole = sum(part.state == "ok" for part in stripe.fragments)
        terminal.line(
            f"volume {stripe.volume} record {stripe.record} {stripe.profile} {stripe.form}, {amount(stripe.length)}, "
            f"{whole} of {len(stripe.fragments)} fragments verify"
        )
        rows = [
            (str(part.slot), part.state, part.file or part.disk, str(part.offset), amount(part.length), part.problem)
            for part in stripe.fragments
        ]
        terminal.table(("slot", "state", "file", "offset", "length", ""), rows, right=("slot", "offset", "length"))

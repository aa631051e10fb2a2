# SPDX-License-Identifier: Apache-2.0
"""`drystone inspect object`: an object's stripes and fragments, as the running store finds them."""

import dataclasses
import json
from pathlib import Path

from drystone_cli.exits import FAILED, OK, USAGE, Failure
from drystone_cli.status import amount, ask, connect
from drystone_core.cell import ObjectReport


def show(uri: str, directory: Path | None, state_dir: Path | None, *, version_id: str, as_json: bool) -> int:
    """Print it; exit code 1 when any fragment is bad or away."""
    bucket, slash, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not slash or not key:
        raise Failure(f"{uri!r} is not s3://BUCKET/KEY", "", USAGE)
    client = connect(directory, state_dir)
    report: ObjectReport = ask(client.inspect_object, bucket, key.encode(), version_id)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
    else:
        _print(uri, report)
    whole = all(part.state == "ok" for stripe in report.stripes for part in stripe.fragments)
    return OK if whole else FAILED


def _print(uri: str, report: ObjectReport) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(f"{uri}  {amount(report.size)}  etag {report.etag}  version {report.version_id}")
    for stripe in report.stripes:
        console.print(
            f"volume {stripe.volume} record {stripe.record} {stripe.profile} {stripe.form}, {amount(stripe.length)}"
        )
        table = Table("slot", "state", "disk", "", box=None, pad_edge=False)
        for part in stripe.fragments:
            table.add_row(str(part.slot), part.state, part.disk, part.problem)
        console.print(table)

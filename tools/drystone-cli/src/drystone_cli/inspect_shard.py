# SPDX-License-Identifier: Apache-2.0
"""`drystone inspect shard`: what one shard file holds, read straight from the file."""

import json
import sys
from pathlib import Path
from typing import Any

from drystone_cli.exits import FAILED, OK, USAGE, Failure
from drystone_cli.shard_reading import RecordReport, read_at, read_header, records
from drystone_cli.terminal import Terminal, amount
from drystone_core.errors import Damaged
from drystone_core.formats.close_flag import decode_close_flag, is_closed
from drystone_core.formats.shard import CLOSE_FLAG_AT, SECTOR
from drystone_core.ids import volume_text
from drystone_runtime.disks import RealDisk


def show(path: Path, *, as_json: bool) -> int:
    """Print it; exit code 1 when anything in it does not verify."""
    if not path.is_file():
        raise Failure(f"{path} is not a file", "give a file of DISK/volumes, e.g. data/disks/d0/volumes/….0", USAGE)
    file = RealDisk(str(path.parent.absolute())).open(path.name)
    try:
        header = read_header(file)
        flag = read_at(file, CLOSE_FLAG_AT, SECTOR)
        closed = decode_close_flag(flag, header.nonce)
        found = list(records(file, header))
        size = file.size()
    except Damaged as error:
        raise Failure(f"{path}: {error.message}", "is it a shard file?") from error
    finally:
        file.close()
    state = "closed" if closed else "closed (flag does not verify)" if is_closed(flag) else "open"
    document = {
        "volume": volume_text(header.volume),
        "slot": header.slot,
        "profile": header.profile.name,
        "state": state,
        "file_bytes": size,
        "records": [_record(report) for report in found],
    }
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        _print(path, document)
    return FAILED if any(report.problem for report in found) else OK


def _record(report: RecordReport) -> dict[str, Any]:
    head = report.head
    entries = [
        {
            "blob_id": entry.blob_id.hex(),
            "kind": entry.kind,
            "bucket_id": entry.bucket_id,
            "key": entry.key.decode("utf-8", "backslashreplace"),
            "part": entry.part,
            "fragment": entry.fragment,
            "position": entry.position,
            "length": entry.length,
        }
        for entry in report.entries
    ]
    return {
        "offset": report.offset,
        "problem": report.problem,
        "sequence": head.sequence if head else None,
        "form": ("piece" if head.piece else "pack") if head else None,
        "fragment_bytes": head.fragment_length if head else None,
        "stored_bytes": head.stored_length if head else None,
        "blobs": entries,
    }


def _print(path: Path, document: dict[str, Any]) -> None:
    terminal = Terminal(sys.stdout)
    terminal.line(
        f"{path}: volume {document['volume']} slot {document['slot']} of {document['profile']}, {document['state']}, "
        f"{len(document['records'])} records, {amount(document['file_bytes'])}"
    )
    names = ("offset", "sequence", "form", "fragment_bytes", "stored_bytes")
    rows = [
        (
            *("" if one[name] is None else str(one[name]) for name in names),
            str(len(one["blobs"])),
            one["problem"] or "yes",
        )
        for one in document["records"]
    ]
    headers = ("offset", "sequence", "form", "fragment", "stored", "blobs", "verifies")
    terminal.table(headers, rows, right=("offset", "sequence", "fragment", "stored", "blobs"))

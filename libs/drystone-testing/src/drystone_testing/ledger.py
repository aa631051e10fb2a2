# SPDX-License-Identifier: Apache-2.0
"""The ledger of fault runs: every run appends its figures, so that counts in the documentation are sums over real runs."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SCALE = float(os.environ.get("FAULT_SCALE", "1"))
"""Multiplies the short form's counts; the long runs use more."""

Record = Callable[..., None]


def rounds(short: int) -> int:
    """How often to do what the short form does `short` times."""
    return max(1, round(short * SCALE))


def recorder(test: str) -> Record:
    """What appends a line {test, commit, at, figures…} to reports/ledger.jsonl (or DRYSTONE_LEDGER)."""

    def write(**figures: object) -> None:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        line = {"test": test, "commit": commit.stdout.strip(), "at": int(time.time()), **figures}
        ledger = Path(os.environ.get("DRYSTONE_LEDGER", "reports/ledger.jsonl"))
        ledger.parent.mkdir(exist_ok=True)
        with ledger.open("a") as sink:
            sink.write(json.dumps(line) + "\n")
        print(json.dumps(line))

    return write

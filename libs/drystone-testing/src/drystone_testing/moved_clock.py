# SPDX-License-Identifier: Apache-2.0
"""`drystone` with a wall clock that a test moves while the process runs.

    python -m drystone_testing.moved_clock FILE ARGUMENT…

runs `drystone ARGUMENT…`, whose `time.time` and `time.time_ns` are ahead of the machine's by what FILE holds (`move`). The
monotonic clock is the machine's own, as when a host's clock is set.
"""

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_NANOSECONDS = struct.Struct("<q")


def move(file: Path, seconds: float) -> None:
    """The clock of whoever runs with this file is so far ahead from now on (behind, when negative)."""
    data = _NANOSECONDS.pack(round(seconds * 1e9))
    if not file.exists():
        file.write_bytes(data)
        return
    with file.open("r+b") as out:
        out.write(data)


def main() -> None:
    """Before anything else is imported that may take a clock for its own."""
    file = Path(sys.argv[1])
    move(file, 0.0)
    with file.open("rb") as held:
        ahead = mmap.mmap(held.fileno(), _NANOSECONDS.size, access=mmap.ACCESS_READ)
    real = time.time_ns

    def moved() -> int:
        found: int = _NANOSECONDS.unpack_from(ahead)[0]
        return real() + found

    time.time_ns = moved
    time.time = lambda: moved() / 1e9
    sys.argv = ["drystone", *sys.argv[2:]]
    runpy.run_module("drystone_cli", run_name="__main__")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A pass of scrubbing whose processes are killed: it goes on where it was."""

import os
import signal
from pathlib import Path

from drystone_testing.ledger import Record
from drystone_testing.scrubbed_store import background_pid, filled, said, until


def test_a_pass_survives_its_processes(tmp_path: Path, record: Record) -> None:
    """kill -9 of the background process, and of everything: same pass, what was read is not read again."""
    live = filled(tmp_path / "store", DRYSTONE_STORAGE_SCRUB_RATE="64MiB")
    try:
        volumes = live.status()["volumes"]["closed"]
        first = said(live, "start")
        assert first["running"] and first["began_now"]
        until(lambda: said(live, "status")["done"] >= 1)
        before = said(live, "status")
        assert before["running"] and before["seconds_left"] > 0
        killed = background_pid(live)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda: background_pid(live) not in (None, killed) and live.status()["scrub_pass"] is not None)
        after = said(live, "status")
        assert after["running"] and after["began"] == before["began"] and after["done"] >= 1
        live.kill_all()
        live.start()
        until(lambda: live.status()["scrub_pass"] is not None)
        after = said(live, "status")
        assert after["running"] and after["began"] == before["began"] and after["done"] >= 1
        joined = said(live, "start", "--watch")
        assert joined["began_now"] is False, "the one under way goes on, at once"
        assert (joined["began"], joined["done"], joined["unclean"]) == (before["began"], volumes, 0)
        record(killed="background, then all", volumes=volumes, began_anew=0)
    finally:
        live.stop()

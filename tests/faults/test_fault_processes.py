# SPDX-License-Identifier: Apache-2.0
"""Processes killed, stopped and restarted under load; each test ends with a comparison with the model."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from drystone_testing.ledger import Record, rounds
from drystone_testing.live import LiveStore, drystone_command
from drystone_testing.load import Load


def test_kill_nine_of_random_processes_loses_no_acknowledged_write(tmp_path: Path, record: Record) -> None:
    """SIGKILL of the main process, the background child, the supervisor or all at once, again and again under load."""
    chooser = random.Random(20261123)
    store = LiveStore(tmp_path / "store")
    kills, slowest = 0, 0.0
    try:
        store.start()
        load = Load(store.port, "kills", writers=3)
        load.start()
        for _ in range(rounds(25)):
            time.sleep(chooser.uniform(0.2, 0.9))
            began = time.monotonic()
            if chooser.random() < 0.35:
                store.kill_all()
                store.start()
            else:
                victim = chooser.choice(store.workers())
                os.kill(victim, signal.SIGKILL)
                store.await_serving()
            slowest = max(slowest, time.monotonic() - began)
            kills += 1
        load.finish()
        load.verify(store.port)
        store.kill_all()
        store.start()
        load.verify(store.port)
        record(kills=kills, acknowledged=load.acknowledged, lost=0, slowest_recovery=round(slowest, 2))
    finally:
        store.kill_all()


def test_a_stopped_process_is_replaced_and_the_store_goes_on(tmp_path: Path, record: Record) -> None:
    """SIGSTOP of the main process: the watchdog replaces it; a resumed predecessor can acknowledge nothing."""
    with LiveStore(tmp_path / "store") as store:
        load = Load(store.port, "stops", writers=2)
        load.start()
        gaps = []
        for _ in range(rounds(2)):
            time.sleep(1)
            before, began, victim = load.acknowledged, time.monotonic(), store.main_pid()
            os.kill(victim, signal.SIGSTOP)
            while load.acknowledged == before and time.monotonic() - began < 60:
                time.sleep(0.05)
            gaps.append(time.monotonic() - began)
            assert load.acknowledged > before, f"no write was acknowledged for a minute; log:\n{store.log_tail()}"
        load.finish()
        load.verify(store.port)
        record(stops=len(gaps), slowest=round(max(gaps), 2), lost=0)


def test_sigterm_drains_and_exits_zero(tmp_path: Path) -> None:
    """What was acknowledged before SIGTERM is there after the next start; the exit status is 0."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        load = Load(store.port, "drain", writers=2)
        load.start()
        time.sleep(1.5)
        assert store.stop() == 0, store.log_tail()
        load.finish()
        store.start()
        load.verify(store.port)
    finally:
        store.kill_all()


def test_a_second_start_on_the_same_data_is_refused_with_the_pid(tmp_path: Path) -> None:
    """Two stores on one directory would be two owners: the second says who has it and exits non-zero."""
    with LiveStore(tmp_path / "store") as store:
        assert store.process is not None
        second = subprocess.run(
            [*drystone_command(), "serve", str(tmp_path / "store"), "--listen", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode != 0
        assert str(store.process.pid) in second.stdout + second.stderr

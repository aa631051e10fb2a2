# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a real process that commits in a loop: every acknowledged commit is there, round after round."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from drystone_core.ids import DiskId
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET, Batch, Committed, Expected, RowKey
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.lanes import LoopLanes, ThreadLane

ROUNDS = 20
CLUSTER = "ab" * 16

CHILD = """
import asyncio, importlib.util, sys
spec = importlib.util.spec_from_file_location("kill_child", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
asyncio.run(module.commit_for_ever(sys.argv[2]))
"""


async def start(root: str) -> EmbeddedStorage:
    """The cell under `root`: three disks, m = 1, bounds small enough to flush, turn and recycle all the time."""
    units = []
    for number in range(3):
        path = Path(root) / f"d{number}"
        path.mkdir(exist_ok=True)
        units.append(
            MemberUnit(
                disk_id=DiskId(f"{number:032x}"),
                path=str(path),
                disk=RealDisk(str(path)),
                lane=ThreadLane(f"j{number}"),
                db_lane=ThreadLane(f"d{number}"),
            )
        )
    storage = EmbeddedStorage(
        units=units,
        cluster_id=CLUSTER,
        m=1,
        lanes=LoopLanes(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        # A stall of this machine's disk must not look like a lost disk here.
        settings=EmbeddedSettings(segment_bytes=32768, apply_bytes=65536, apply_interval=0.05, late_after=20.0),
    )
    await storage.open(create=not (Path(root) / "began").exists())
    (Path(root) / "began").touch()
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    return storage


async def commit_for_ever(root: str) -> None:
    """Row `head` gets its number, row `last` too; prints each acknowledged number."""
    storage = await start(root)
    state = await storage.take_over(CELL_TABLET)
    head = state.head
    while True:
        number = b"%d" % (head + 1)
        puts = [(RowKey(1, b"%08d" % (head + 1)), number.ljust(200)), (RowKey(2, b"last"), number)]
        batch = Batch(batch_id=number, floor_us=0, generation=1, puts=puts, feed=number)
        assert await storage.commit(CELL_TABLET, Expected(head, state.epoch, 1), batch) is Committed.COMMITTED
        head += 1
        print(head, flush=True)


async def inspect(root: str) -> int:
    """The head, after checking that rows and feed are exactly those of the commits up to it."""
    storage = await start(root)
    state = await storage.state(CELL_TABLET)
    rows = await storage.scan(CELL_TABLET, RowKey(1, b""), RowKey(2, b""), 1_000_000)
    assert [key.key for key, _ in rows] == [b"%08d" % n for n in range(1, state.head + 1)]
    if state.head:
        assert (await storage.scan(CELL_TABLET, RowKey(2, b""), RowKey(3, b""), 9))[0][1] == b"%d" % state.head
    assert [row.seq for row in await storage.feed(CELL_TABLET, 0, 1_000_000)] == list(range(1, state.head + 1))
    assert await storage.verify_members() == []
    await storage.close(flush=bool(state.head % 2))
    return state.head


def test_acknowledged_commits_survive_kill_9(tmp_path: Path) -> None:
    """Twenty kills: the head found is the one acknowledged last, or the one after it."""
    root = str(tmp_path)
    for round_number in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, __file__, root],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        acknowledged = 0
        assert child.stdout is not None
        try:
            for _ in range(8 + 7 * round_number % 31):
                acknowledged = int(child.stdout.readline())
            time.sleep(round_number % 7 / 1000)
        finally:
            child.kill()
            rest = child.stdout.read().split()
            child.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        assert asyncio.run(inspect(root)) in (acknowledged, acknowledged + 1)

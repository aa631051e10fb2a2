# SPDX-License-Identifier: Apache-2.0
"""Disks that answer late, on real threads: reads go round them, never wrong, never from a buffer still being filled."""

import asyncio
import errno
import threading
from collections.abc import Iterator, Sequence

import pytest

from drystone_core.ids import VolumeId
from drystone_core.ports import Buffer, DiskFile
from drystone_datapath.faults import VolumeBroken
from drystone_runtime.clock import SystemClock
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_testing.volume_rig import Rig


class GatedFile:
    """A file whose reads (and writes, when asked) wait for a gate."""

    def __init__(self, file: DiskFile, gate: threading.Event, *, writes: bool = False) -> None:
        self._file, self._gate, self._writes = file, gate, writes

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool) -> None:
        if self._writes:
            self._gate.wait(5)
        self._file.pwritev(buffers, offset, durable=durable)

    def write_then_read(self, buffers: Sequence[Buffer], offset: int, into: memoryview, at: int) -> int:
        if self._writes:
            self._gate.wait(5)
        return self._file.write_then_read(buffers, offset, into, at)

    def preadv(self, buffers: Sequence[memoryview], offset: int, *, nowait: bool = False) -> int:
        if nowait:
            raise BlockingIOError(errno.EAGAIN, "gated")
        self._gate.wait(5)
        return self._file.preadv(buffers, offset)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


async def threaded(k: int, m: int, **settings: object) -> Rig:
    """A rig on real threads."""
    rig = Rig(k, m, **settings)
    rig.lanes, rig.clock = LoopLanes(), SystemClock()  # type: ignore[assignment]
    for unit in rig.units:
        unit.lane = ThreadLane(unit.label)
    rig.reader = rig.make_reader()
    return rig


def stop(rig: Rig) -> None:
    """End the rig's threads."""
    for unit in rig.units:
        unit.lane.stop()  # type: ignore[attr-defined]


def hold(rig: Rig, gate: threading.Event, *slots: int, writes: bool = False) -> None:
    """Make slots wait for the gate."""
    for slot in slots:
        held = rig.volumes[VolumeId(7)].slots[slot]
        assert held is not None
        held.file = GatedFile(held.file, gate, writes=writes)  # type: ignore[assignment]


async def test_reads_go_round_a_hung_disk_and_blame_it(gate: threading.Event) -> None:
    """Small and large reads are rebuilt while slot 0 hangs; its late bytes land in a buffer nobody uses."""
    rig = await threaded(4, 2)
    appender = await rig.open()
    await rig.put(appender, 4096)
    await rig.put_large(appender, 3 << 20)
    hold(rig, gate, 0)
    await rig.agree()
    assert {slot for slot, _ in rig.failures} == {0}
    assert all(isinstance(error, TimeoutError) for _, error in rig.failures)
    gate.set()
    await asyncio.sleep(0.05)
    await rig.agree()
    stop(rig)


async def test_all_disks_slow_is_slow_not_damaged(gate: threading.Event) -> None:
    """Lateness beyond m disks is waited for: the bytes come, nothing is called damaged."""
    rig = await threaded(2, 1)
    appender = await rig.open()
    await rig.put(appender, 4096)
    await rig.put_large(appender, 1 << 20)
    hold(rig, gate, 0, 1, 2)
    asyncio.get_running_loop().call_later(0.3, gate.set)
    await rig.agree()
    stop(rig)


async def test_late_write_breaks_the_volume_and_keeps_its_buffers_out_of_use(gate: threading.Event) -> None:
    """R3 by lateness on real threads: the waiters fail within the deadline, the piece is marked tainted."""
    rig = await threaded(2, 1, deadline=0.1)
    appender = await rig.open()
    await rig.put(appender, 4096)
    hold(rig, gate, 1, writes=True)
    with pytest.raises(VolumeBroken) as caught:
        await rig.put_large(appender, 200_000)
    assert isinstance(caught.value.failures[1], TimeoutError)
    assert rig.pieces.used == 0
    gate.set()
    assert rig.pieces.try_acquire() is not None
    stop(rig)

# SPDX-License-Identifier: Apache-2.0
"""A disk in memory that fails as real ones do, and lanes that run its calls inline.

Invariants
  S1  What was durable before a crash is there after it; what was not survives in any subset of its 512-byte sectors.
  S2  After a crash every open file is dead: its calls raise OSError.
  S3  A hung call has no effect until `SimLane.release()` lets it land, however late.
  S4  Slow calls move the disk's clock, on each lane a timeline of its own: calls wait only for those before them on their
      lane, and a scatter lasts as long as its slowest lane.
Faults are scripted by `fail` (errors, hangs, delays, torn or lost writes, misdirected writes), `flip`, `freeze_reads`,
`capacity`.
Seeded: the same calls with the same seeds leave the same bytes.
"""

import asyncio
import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drystone_core.ports import Buffer, Lane
from drystone_testing.sim_world import MovableClock

SECTOR = 512
SITES = frozenset({"open", "pwritev", "preadv", "sync", "allocate", "punch", "rename", "unlink", "listdir", "space"})
T = TypeVar("T")


class Hung(BaseException):
    """A call that does not return; only the simulated lanes see it."""


@dataclass(slots=True)
class Fault:
    """A scripted failure of the `nth` matching call and the `count - 1` after it."""

    site: str
    error: int | None = errno.EIO
    """errno to raise; None = no error (the effect below happens silently)."""
    nth: int = 1
    count: int = 1
    name: str = ""
    """Only files whose name contains it."""
    hang: bool = False
    torn: bool = False
    """pwritev: the bytes are written but not durable (then `error` is raised unless None)."""
    lost: bool = False
    """pwritev: nothing is written."""
    misdirect: int = 0
    """pwritev: written this many bytes further on."""
    delay: float = 0.0
    """Seconds the call takes on the disk's clock; with `error=None` nothing else is wrong with it."""
    hits: int = field(default=0, init=False)

    def meets(self, site: str, name: str) -> bool:
        """Count a matching call; is it one that fails?"""
        if site != self.site or self.name not in name:
            return False
        self.hits += 1
        return self.nth <= self.hits < self.nth + self.count


class Node:
    """A file's bytes: as programs see them, as they would survive, and what lies between."""

    __slots__ = ("data", "durable", "durable_size", "frozen", "pending", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.durable = bytearray()
        self.durable_size = 0
        self.pending: list[tuple[int, bytes]] = []
        self.frozen: bytes | None = None

    def write(self, offset: int, data: bytes, *, durable: bool) -> None:
        _place(self.data, offset, data)
        self.size = max(self.size, offset + len(data))
        if durable:
            _place(self.durable, offset, data)
            self.durable_size = max(self.durable_size, offset + len(data))
        else:
            self.pending.append((offset, data))

    def settle(self) -> None:
        """fdatasync."""
        for offset, data in self.pending:
            _place(self.durable, offset, data)
        self.pending.clear()
        self.durable_size = self.size

    def crash(self, rng: random.Random) -> None:
        """Keep the durable bytes and a random subset of the sectors still pending."""
        for offset, data in self.pending:
            at = offset
            end = offset + len(data)
            while at < end:
                stop = min(end, (at // SECTOR + 1) * SECTOR)
                if rng.random() < 0.5:
                    _place(self.durable, at, data[at - offset : stop - offset])
                    self.durable_size = max(self.durable_size, stop)
                at = stop
        self.pending.clear()
        self.data = bytearray(self.durable)
        self.size = max(self.durable_size, len(self.durable))
        self.frozen = None


class SimDisk:
    """The Disk port over a dict of nodes."""

    def __init__(self, *, capacity: int = 1 << 40, clock: MovableClock | None = None) -> None:
        self.nodes: dict[str, Node] = {}
        self.capacity = capacity
        self.clock = clock
        """What delays move; without one there can be none."""
        self.faults: list[Fault] = []
        self.calls: dict[str, int] = dict.fromkeys(SITES, 0)
        self.epoch = 0
        self.dead = False
        """Every call raises EIO: the disk is lost."""
        self.trace: list[tuple[str, int, int]] = []
        """(name, offset, length) of every write tried."""
        self.punched: list[tuple[str, int, int]] = []
        """The same of every range given back."""
        self._limbo: dict[str, Node] = {}

    def fail(self, site: str, **how: Any) -> Fault:
        """Script a fault; see `Fault`."""
        if site not in SITES:
            raise ValueError(f"no such site: {site}")
        fault = Fault(site, **how)
        if fault.delay and self.clock is None:
            raise ValueError("a disk without a clock cannot be slow")
        self.faults.append(fault)
        return fault

    def flip(self, name: str, bit: int) -> None:
        """Turn one bit over, durably."""
        node = self.nodes[name]
        for image in (node.data, node.durable):
            if bit >> 3 < len(image):
                image[bit >> 3] ^= 1 << (bit & 7)

    def freeze_reads(self, name: str, frozen: bool = True) -> None:
        """Reads of the file return what it holds now, whatever is written later (stale reads)."""
        node = self.nodes[name]
        node.frozen = bytes(node.data) if frozen else None

    def crash(self, seed: int) -> None:
        """Power loss: see S1 and S2."""
        rng = random.Random(seed)
        self.epoch += 1
        for name in sorted(self._limbo):
            if rng.random() < 0.5:
                self.nodes[name] = self._limbo[name]
        self._limbo.clear()
        for name in sorted(self.nodes):
            self.nodes[name].crash(rng)

    def enter(self, site: str, name: str) -> Fault | None:
        """Count the call and apply the first fault that meets it; silent ones are returned to the caller."""
        self.calls[site] += 1
        if self.dead:
            raise OSError(errno.EIO, "the simulated disk is lost", name)
        for fault in self.faults:
            if fault.meets(site, name):
                if fault.hang:
                    raise Hung(site)
                if fault.delay and self.clock is not None:
                    self.clock.now += fault.delay
                if fault.error is not None and not (fault.torn or fault.lost or fault.misdirect):
                    raise OSError(fault.error, "simulated", name)
                return fault
        return None

    def used(self) -> int:
        """Bytes held."""
        return sum(max(node.size, len(node.data)) for node in self.nodes.values())

    def open(self, name: str, *, create: bool = False, exclusive: bool = False) -> "SimFile":
        self.enter("open", name)
        node = self.nodes.get(name)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            node = self.nodes[name] = Node()
        elif create and exclusive:
            raise FileExistsError(errno.EEXIST, "file exists", name)
        return SimFile(self, name, node)

    def rename(self, old: str, new: str) -> None:
        self.enter("rename", old)
        if old not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        self.nodes[new] = self.nodes.pop(old)
        self._limbo.pop(new, None)

    def unlink(self, name: str) -> None:
        """Not durable: a crash may bring the file back."""
        self.enter("unlink", name)
        if name not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        self._limbo[name] = self.nodes.pop(name)

    def listdir(self, folder: str) -> list[str]:
        self.enter("listdir", folder)
        prefix = folder.rstrip("/") + "/"
        return sorted({name[len(prefix) :].split("/")[0] for name in self.nodes if name.startswith(prefix)})

    def space(self) -> tuple[int, int]:
        self.enter("space", "")
        return max(0, self.capacity - self.used()), self.capacity


class SimFile:
    """An open file of a SimDisk."""

    def __init__(self, disk: SimDisk, name: str, node: Node) -> None:
        self._disk, self._name, self._node = disk, name, node
        self._epoch = disk.epoch
        self._closed = False

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool) -> None:
        fault = self._enter("pwritev")
        data = b"".join(buffers)
        self._disk.trace.append((self._name, offset, len(data)))
        if max(0, offset + len(data) - self._node.size) > self._disk.capacity - self._disk.used():
            raise OSError(errno.ENOSPC, "the simulated disk is full", self._name)
        if fault is None:
            self._node.write(offset, data, durable=durable)
            return
        if not fault.lost:
            self._node.write(offset + fault.misdirect, data, durable=durable and not fault.torn)
        if fault.error is not None:
            raise OSError(fault.error, "simulated", self._name)

    def write_then_read(self, buffers: Sequence[Buffer], offset: int, into: memoryview, at: int) -> int:
        self.pwritev(buffers, offset, durable=True)
        return self.preadv((into,), at)

    def preadv(self, buffers: Sequence[memoryview], offset: int, *, nowait: bool = False) -> int:
        try:
            self._enter("preadv")
        except Hung:
            if nowait:
                raise BlockingIOError(errno.EAGAIN, "simulated", self._name) from None
            raise
        node, total = self._node, 0
        image: Buffer = node.data if node.frozen is None else node.frozen
        for buffer in buffers:
            size = max(0, min(len(buffer), node.size - offset))
            found = image[offset : offset + size]
            buffer[: len(found)] = found
            buffer[len(found) : size] = bytes(size - len(found))
            offset += size
            total += size
        return total

    def sync(self) -> None:
        self._enter("sync")
        self._node.settle()

    def allocate(self, offset: int, length: int) -> None:
        self._enter("allocate")
        grown = max(0, offset + length - self._node.size)
        if grown > self._disk.capacity - self._disk.used():
            raise OSError(errno.ENOSPC, "the simulated disk is full", self._name)
        self._node.size += grown

    def punch(self, offset: int, length: int) -> None:
        self._enter("punch")
        self._disk.punched.append((self._name, offset, length))
        for image in (self._node.data, self._node.durable):
            end = min(len(image), offset + length)
            if end > offset:
                image[offset:end] = bytes(end - offset)

    def size(self) -> int:
        self._check()
        return self._node.size

    def close(self) -> None:
        self._closed = True

    def _enter(self, site: str) -> Fault | None:
        self._check()
        return self._disk.enter(site, self._name)

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed", self._name)
        if self._epoch != self._disk.epoch:
            raise OSError(errno.EIO, "the simulated machine crashed", self._name)


class SimLane:
    """Runs calls at once, on the caller; hung ones are parked."""

    def __init__(self) -> None:
        self.parked: list[Callable[[], Any]] = []
        self.stalled = False
        """Every call hangs until released."""
        self.free_at = 0.0
        """When the last timed call on it ended."""

    def submit(self, call: Callable[[], None]) -> None:
        self.attempt(call)

    def busy_since(self) -> float | None:
        return 0.0 if self.parked else None

    def attempt(self, call: Callable[[], Any]) -> Any:
        """The call's result, or TimeoutError when it hangs (it is parked). Calls behind a parked one wait behind it."""
        if self.parked or self.stalled:
            self.parked.append(call)
            return TimeoutError("behind a hung call")
        try:
            return call()
        except Hung:
            self.parked.append(call)
            return TimeoutError("hung")
        except Exception as exc:
            return exc

    def release(self) -> None:
        """The stall ends: parked calls land, in order; their results go nowhere."""
        self.stalled = False
        calls, self.parked = self.parked, []
        for call in calls:
            self.attempt(call)


class SimLanes:
    """The Lanes port over SimLanes' lanes: each scatter yields to the loop `yields` times, before and after the
    calls. With a clock, calls that end after their deadline count as late (S4)."""

    def __init__(self, *, seed: int = 0, yields: int = 2, clock: MovableClock | None = None) -> None:
        self._rng = random.Random(seed)
        self._clock = clock
        self._yields = yields
        self.scatters = 0

    async def scatter(
        self, calls: Sequence[tuple[Lane, Callable[[], Any]]], *, deadline: float | None = None
    ) -> list[Any | BaseException]:
        self.scatters += 1
        began = self._now()
        await self._pause()
        results: list[Any] = [None] * len(calls)
        order = list(range(len(calls)))
        self._rng.shuffle(order)
        for index in order:
            lane, call = calls[index]
            results[index] = self._timed(lane, call, began, deadline)
        await self._pause()
        return results

    async def run(self, lane: Lane, call: Callable[[], T], *, deadline: float | None = None) -> T:
        began = self._now()
        await self._pause()
        result = self._timed(lane, call, began, deadline)
        await self._pause()
        if isinstance(result, BaseException):
            raise result
        found: T = result
        return found

    def _now(self) -> float:
        return self._clock.now if self._clock is not None else 0.0

    def _timed(self, lane: Lane, call: Callable[[], Any], began: float, deadline: float | None) -> Any:
        """The call's result; only delays make it late. What it took is on the clock from when its lane was free (S4)."""
        clock = self._clock
        if clock is None or not isinstance(lane, SimLane):
            return _run(lane, call)
        before, start = clock.now, max(began, lane.free_at)
        clock.now = start
        left = deadline - clock.monotonic() if deadline is not None else float("inf")
        if start > began and left < 0:  # skipped, as real lanes do
            clock.now = max(before, start + left)
            return TimeoutError("late")
        result = _run(lane, call)
        ended = lane.free_at = clock.now
        if ended > start and ended - start > left:
            result, ended = TimeoutError("late"), start + left
        clock.now = max(before, ended)
        return result

    async def _pause(self) -> None:
        for _ in range(self._rng.randint(0, self._yields)):
            await asyncio.sleep(0)


def _run(lane: Lane, call: Callable[[], Any]) -> Any:
    if not isinstance(lane, SimLane):
        raise TypeError("SimLanes runs calls on SimLane only")
    return lane.attempt(call)


def _place(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data

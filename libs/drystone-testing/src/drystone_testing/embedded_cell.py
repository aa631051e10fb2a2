# SPDX-License-Identifier: Apache-2.0
"""An embedded metadata cell over simulated disks (journals) and a temporary directory (SQLite), with a power switch.

Invariants
  C1  After the power went off no call has an effect but a torn write; `power_cut` then leaves what a power loss leaves:
      of the simulated files a subset of what was not durable, of SQLite what its last checkpoint synced.
  C2  A lost disk is lost with both: its journal calls raise, its directory is moved away.
"""

import errno
import random
from pathlib import Path
from typing import Any

from drystone_core.ids import DiskId
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.embedded.database import file_names
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.sim_disk import Fault, SimDisk, SimLane, SimLanes
from drystone_testing.sim_world import MovableClock, RunningClock

CLUSTER = "c1" * 16
SMALL = EmbeddedSettings(
    segment_bytes=16384,
    apply_bytes=24576,
    apply_interval=0.02,
    late_after=0.05,
    copy_rows=7,
    copy_pause=0.0,
    reserve_bytes=4096,
)
"""Bounds so tight that layers, segments and rebuild steps turn over within a few commits."""


class Power:
    """Goes off after `left` calls on any disk."""

    def __init__(self, seed: int) -> None:
        self.left: int | None = None
        self.off = False
        self.rng = random.Random(seed)

    def count(self) -> None:
        if self.left is not None and not self.off:
            self.left -= 1
            self.off = self.left <= 0


class PoweredDisk(SimDisk):
    """A SimDisk on the cell's power."""

    def __init__(self, power: Power, clock: MovableClock) -> None:
        super().__init__(clock=clock)
        self._power = power

    def enter(self, site: str, name: str) -> Fault | None:
        self._power.count()
        if self._power.off:
            if site == "pwritev":
                torn = self._power.rng.random() < 0.6
                return Fault(site, torn=torn, lost=not torn)
            raise OSError(errno.EIO, "the power is off", name)
        return super().enter(site, name)


class EmbeddedCell:
    """Disks that outlive the storages started on them."""

    def __init__(self, root: Path, *, disks: int, m: int, seed: int = 0, settings: EmbeddedSettings = SMALL) -> None:
        self.m = m
        self.seed = seed
        self.settings = settings
        self.power = Power(seed)
        self.clock = RunningClock()
        self.disks = [PoweredDisk(self.power, self.clock) for _ in range(disks)]
        self.paths = [root / f"d{number}" for number in range(disks)]
        self.lanes: list[SimLane] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.storage: EmbeddedStorage | None = None
        self._began = False
        for path in self.paths:
            path.mkdir(parents=True)

    def make(self, settings: EmbeddedSettings | None = None) -> EmbeddedStorage:
        """A storage on the disks as they are, not opened."""
        self.lanes = [SimLane() for _ in self.disks]
        units = [
            MemberUnit(
                disk_id=self.disk_id(number),
                path=str(path),
                disk=disk,
                lane=self.lanes[number],
                db_lane=SimLane(),
                read_lane=SimLane(),
            )
            for number, (path, disk) in enumerate(zip(self.paths, self.disks, strict=True))
        ]
        self.storage = EmbeddedStorage(
            units=units,
            cluster_id=CLUSTER,
            m=self.m,
            lanes=SimLanes(seed=self.seed, clock=self.clock),
            clock=self.clock,
            entropy=SystemEntropy(),
            settings=settings or self.settings,
            on_event=lambda name, fields: self.events.append((name, fields)),
        )
        return self.storage

    async def start(self, settings: EmbeddedSettings | None = None) -> EmbeddedStorage:
        """Open a storage; the first one creates the cell."""
        storage = self.make(settings)
        await storage.open(create=not self._began)
        self._began = True
        return storage

    async def stop(self, *, flush: bool = True) -> None:
        if self.storage is not None:
            storage, self.storage = self.storage, None
            await storage.close(flush=flush)

    async def power_cut(self, seed: int) -> None:
        """Everything ends at once; the next start has power again."""
        self.power.off = True
        await self.stop(flush=False)
        for number, (path, disk) in enumerate(zip(self.paths, self.disks, strict=True)):
            disk.crash(seed * 31 + number)
            for name in list(file_names(path / "meta" / "member.db"))[1:]:
                name.unlink(missing_ok=True)
        self.power.off, self.power.left = False, None

    @staticmethod
    def disk_id(number: int) -> DiskId:
        return DiskId(f"{number:032x}")

    def number(self, disk_id: str) -> int:
        return int(disk_id, 16)

    def lose(self, number: int) -> None:
        """The disk is gone (C2)."""
        self.disks[number].dead = True
        self.paths[number].rename(self.paths[number].with_suffix(".lost"))

    def bring_back(self, number: int) -> None:
        """The disk returns as it was lost."""
        self.disks[number].dead = False
        if self.paths[number].exists():
            raise ValueError("there is another directory in its place")
        self.paths[number].with_suffix(".lost").rename(self.paths[number])

    def said(self, name: str) -> bool:
        return any(event == name for event, _ in self.events)

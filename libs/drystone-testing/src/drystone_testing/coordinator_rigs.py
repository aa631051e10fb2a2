# SPDX-License-Identifier: Apache-2.0
"""Rigs of the coordinator's contract suite: embedded on a real file and clock, simulated, and over real etcd."""

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from drystone_core.coordination import Change, Changes, Coordinator, Document, Revision, SessionId, Snapshot
from drystone_core.errors import Unavailable, Unreachable
from drystone_core.ids import ClusterId
from drystone_core.ports import Clock
from drystone_runtime.clock import SystemClock
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.embedded import EmbeddedCoordinator, KeyspaceStore
from drystone_runtime.coordination.etcd import connect as connect_etcd
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.etcd_servers import EtcdServers
from drystone_testing.sim_world import ManualClock
from drystone_testing.tcp_line import TcpLine

T = TypeVar("T")


class CutStore(KeyspaceStore):
    """A store behind a line that can be cut; calls in flight break too."""

    def __init__(self, store: KeyspaceStore) -> None:
        self._store = store
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """From now on nothing arrives."""
        self._cut.set()

    def heal(self) -> None:
        """Things arrive again."""
        self._cut.clear()

    async def get(self, key: str) -> Document | None:
        return await self._reach(self._store.get(key))

    async def snapshot(self, prefix: str) -> Snapshot:
        return await self._reach(self._store.snapshot(prefix))

    async def since(self, prefix: str, after: Revision) -> Changes | None:
        return await self._reach(self._store.since(prefix, after))

    async def commit(self, changes: tuple[Change, ...]) -> Revision:
        return await self._reach(self._store.commit(changes))

    async def grant(self, ttl: float) -> SessionId:
        return await self._reach(self._store.grant(ttl))

    async def renew(self, session: SessionId) -> float:
        return await self._reach(self._store.renew(session))

    async def revoke(self, session: SessionId) -> None:
        return await self._reach(self._store.revoke(session))

    async def changed(self, after: Revision) -> None:
        return await self._reach(self._store.changed(after))

    async def _reach(self, call: Awaitable[T]) -> T:
        answer = asyncio.ensure_future(call)
        broken = asyncio.ensure_future(self._cut.wait())
        try:
            if not self._cut.is_set():
                await asyncio.wait((answer, broken), return_when=asyncio.FIRST_COMPLETED)
            if self._cut.is_set():
                raise Unreachable("the line is cut")
            return answer.result()
        finally:
            answer.cancel()
            broken.cancel()
            await asyncio.wait((answer, broken))


class EmbeddedRig:
    """Coordinators over one KeyspaceStore, in a file or in memory, by a clock that may be simulated."""

    def __init__(self, *, clock: Clock | None = None, file: Path | None = None, ttl: float = 1.0) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.ttl = ttl
        self.store = KeyspaceStore(clock=self.clock, file=file)
        self._lines: dict[Any, CutStore] = {}
        self._driver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the store; a simulated clock begins to run, fifty times as fast as a real one."""
        await self.store.open()
        if isinstance(self.clock, ManualClock):
            self._driver = asyncio.create_task(self._drive(self.clock))

    async def connect(self) -> Coordinator:
        line = CutStore(self.store)
        coordinator = EmbeddedCoordinator(store=line, clock=self.clock)
        self._lines[coordinator] = line
        return coordinator

    async def cut(self, coordinator: Coordinator) -> None:
        self._lines[coordinator].cut()

    async def heal(self, coordinator: Coordinator) -> None:
        self._lines[coordinator].heal()

    async def compact(self) -> None:
        await self.store.compact()

    async def close(self) -> None:
        """Stop the clock and let go of the file."""
        if self._driver is not None:
            self._driver.cancel()
        await self.store.close()

    async def _drive(self, clock: ManualClock) -> None:
        while True:
            await asyncio.sleep(0.001)
            clock.now += 0.05


class EtcdRig:
    """Coordinators over real etcd, each behind lines of its own, in a prefix of the rig's."""

    def __init__(self, servers: EtcdServers, *, prefix: str, **more: Any) -> None:
        """`more`: other settings than the quick ones of tests."""
        self.clock: Clock = SystemClock()
        self.ttl = 2.0
        self.cell = ClusterId("c" * 32)
        self._servers = servers
        quick = EtcdSettings(endpoints=servers.endpoints, prefix=prefix, timeout=2.0, progress=0.2)
        self._settings = replace(quick, **more)
        self._lines: dict[Any, list[TcpLine]] = {}
        self._heals = 0

    def settings(self, **other: Any) -> EtcdSettings:
        """The rig's, with some replaced."""
        return replace(self._settings, **other)

    async def connect(self, **other: Any) -> Coordinator:
        lines = [await TcpLine(member.client_port).start() for member in self._servers.members]
        endpoints = tuple(line.endpoint for line in lines)
        settings = self.settings(**({"endpoints": endpoints} | other))
        coordinator = await connect_etcd(
            settings=settings, cell=self.cell, create=True, clock=self.clock, entropy=SystemEntropy()
        )
        self._lines[coordinator] = lines
        return coordinator

    async def cut(self, coordinator: Coordinator) -> None:
        for line in self._lines[coordinator]:
            line.hold()

    async def heal(self, coordinator: Coordinator) -> None:
        """By turns as after lost packets, and as after a lost connection."""
        self._heals += 1
        for line in self._lines[coordinator]:
            if self._heals % 2:
                line.tear()
            line.let_go()

    def lines(self, coordinator: Coordinator) -> list[TcpLine]:
        """Its lines, one a member."""
        return self._lines[coordinator]

    async def compact(self) -> None:
        status = await asyncio.to_thread(self._servers.control, "get", "", "--prefix", "--limit=1", "-w", "json")
        await asyncio.to_thread(self._servers.control, "compact", str(json.loads(status)["header"]["revision"]))

    async def close(self) -> None:
        """End the lines."""
        for lines in self._lines.values():
            for line in lines:
                await line.close()


class LosesAnswers:
    """A Coordinator whose commits go in, and say that nobody answered, while it `loses`."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.loses = False

    async def commit(self, *changes: Change) -> Revision:
        revision = await self._coordinator.commit(*changes)
        if self.loses:
            raise Unavailable("no answer came")
        return revision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coordinator, name)

# SPDX-License-Identifier: Apache-2.0
"""Faults between the storage and Cassandra: at the driver's edge, and on the wire.

FaultyCql   stands between CassandraStorage and the session and fails commits before or after they are applied
FaultyWire  a TCP relay in front of a node that loses or holds back what one commit sends, or what it is answered
"""

import asyncio
import random
from contextlib import suppress
from enum import StrEnum
from typing import Any

from cassandra import OperationTimedOut, WriteTimeout
from cassandra.query import BatchStatement

from drystone_metadata.store.cassandra.session import COMMIT, Cql, Rows

_CAS = 5
"""WriteType.CAS"""


class FaultyCql:
    """`plan` names what the next commits meet, as the in-memory storage's faults are named; `lost_*`: until the next plan
    nothing can be settled either. Commits without a plan have their outcome hidden with probability `rate`."""

    def __init__(self, cql: Cql, *, chance: random.Random, rate: float) -> None:
        self._cql = cql
        self._chance = chance
        self._rate = rate
        self._faults: list[str] = []
        self._cut = False
        self.unknown = 0
        """Commits whose outcome was hidden."""

    def plan(self, faults: list[str]) -> None:
        self._faults = list(faults)
        self._cut = False

    async def run(self, statement: Any, profile: str) -> Rows:
        if profile == COMMIT and self._cut:
            raise OperationTimedOut
        if not isinstance(statement, BatchStatement):
            return await self._cql.run(statement, profile)
        match fault := self._faults.pop(0) if self._faults else self._any():
            case "stale":
                return [(False, b"", b"", 0, b"", b"", -1, -1, -1, "open", b"")]
            case "none":
                return await self._cql.run(statement, profile)
        self.unknown += 1
        self._cut = fault.startswith("lost")
        if fault.endswith("before"):
            raise OperationTimedOut
        await self._cql.run(statement, profile)
        raise WriteTimeout("hidden by the test", write_type=_CAS)

    def _any(self) -> str:
        if self._chance.random() >= self._rate:
            return "none"
        return self._chance.choice(["unknown_before", "unknown_after"])


class WireFault(StrEnum):
    """What becomes of one commit's message."""

    REQUEST_CUT = "request_cut"
    """It is lost with its connection."""
    REQUEST_LOST = "request_lost"
    """It is lost; the connection stays."""
    ANSWER_CUT = "answer_cut"
    """It arrives; the answer is lost with the connection."""
    ANSWER_LOST = "answer_lost"
    """It arrives; the answer is lost; the connection stays."""
    LATE = "late"
    """The connection is lost, and the message arrives afterwards, when `release` is called."""


_QUIET = 0.03
"""Seconds without bytes after which a message is whole."""


class FaultyWire:
    """Listens on a port of its own and relays to the node. Messages of fewer than `least` bytes (heartbeats, reads) pass."""

    def __init__(self, address: str, port: int, *, least: int) -> None:
        self._address, self._to = address, port
        self._least = least
        self._armed: WireFault | None = None
        self._server: asyncio.Server | None = None
        self._late: list[tuple[bytes, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.met = 0
        """Messages that met their fault."""

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._relay, self._address, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End all relaying."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, fault: WireFault) -> None:
        """The next large message meets it."""
        self._armed = fault

    async def release(self) -> None:
        """Let what was held back arrive."""
        for message, writer in self._late:
            writer.write(message)
            await writer.drain()
            await asyncio.sleep(_QUIET)
            writer.close()
        self._late.clear()

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        node, to_node = await asyncio.open_connection(self._address, self._to)
        deaf = asyncio.Event()
        back = asyncio.create_task(self._answers(node, to_client, deaf))
        kept = False
        try:
            kept = await self._requests(client, to_node, deaf)
        finally:
            back.cancel()
            with suppress(OSError, RuntimeError):
                to_client.transport.abort()
            if not kept:
                to_node.close()

    async def _requests(self, client: asyncio.StreamReader, to_node: asyncio.StreamWriter, deaf: asyncio.Event) -> bool:
        """True when the way to the node is still needed."""
        with suppress(ConnectionError):
            while data := await client.read(1 << 20):
                if self._armed is None or len(data) < self._least:
                    to_node.write(data)
                    await to_node.drain()
                    continue
                fault, self._armed = self._armed, None
                message = data + await _rest(client)
                self.met += 1
                match fault:
                    case WireFault.REQUEST_CUT:
                        return False
                    case WireFault.REQUEST_LOST:
                        continue
                    case WireFault.LATE:
                        self._late.append((message, to_node))
                        return True
                deaf.set()
                to_node.write(message)
                await to_node.drain()
                if fault is WireFault.ANSWER_CUT:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(2):
                            while deaf.is_set():
                                await asyncio.sleep(0.001)
                    return False
        return False

    @staticmethod
    async def _answers(node: asyncio.StreamReader, to_client: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
        """Relay answers; one is dropped whenever `deaf` is set."""
        with suppress(ConnectionError):
            while data := await node.read(1 << 20):
                if deaf.is_set():
                    deaf.clear()
                    continue
                to_client.write(data)
                await to_client.drain()


async def _rest(client: asyncio.StreamReader) -> bytes:
    """What follows without a pause."""
    rest = b""
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(_QUIET):
                data = await client.read(1 << 20)
            if not data:
                break
            rest += data
    return rest

# SPDX-License-Identifier: Apache-2.0
"""Metadata processes of one cell over tablets in memory: a ring that the test turns, and messages between them that get lost,
come twice, or come late, as it orders or by a seed.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from drystone_core.errors import DrystoneError, Unavailable, Unreachable
from drystone_core.ids import Key, Uid, make_write_id
from drystone_core.mutations import CreateBucket, DeleteObject, Outcome, PutObject
from drystone_metadata.owned import OwnedMetadata
from drystone_metadata.rpc.steps import result_message, result_value, step_message, step_value
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET, TabletId
from drystone_metadata.tablets.handing import Ask, Step
from drystone_metadata.tablets.owning import NotOwner
from drystone_testing.sim_world import RunningClock, SeededEntropy

SMALL = MetadataSettings(
    split_rows=48, size_looks=0.02, upkeep_pause=0.05, sweep_rows=16, fill_rows=16, sweep_after=0.2, sweep_interval=0.2
)


class Messages:
    """Between processes; what goes wrong with them is ordered by the fields."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.takers: dict[str, OwnedMetadata] = {}
        self.silent: set[str] = set()
        """Processes that no message reaches: who asks them waits."""
        self.away: set[str] = set()
        """Processes that refuse connections."""
        self.lost_before = self.lost_after = self.twice = self.late = 0.0
        """Shares of the messages."""
        self.sent: list[tuple[str, TabletId, Step]] = []
        """Those that reached somebody, in order."""
        self._later: set[asyncio.Task[None]] = set()

    def asker(self) -> Ask:
        """What a process is given to ask others."""
        return self._ask

    async def _ask(self, name: str, tablet: TabletId, step: Step) -> None:
        if name in self.away:
            raise Unreachable("ordered by the test")
        if name in self.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        dice = self.chance.random
        if dice() < self.lost_before:
            raise Unreachable("lost on the way")
        if dice() < self.late:
            self._send_later(name, tablet, step)
            raise Unavailable("nobody waits for it any more")
        if dice() < self.twice:
            self._send_later(name, tablet, step)
        error = await self._deliver(name, tablet, step)
        if dice() < self.lost_after:
            raise Unreachable("the answer was lost")
        if error is not None:
            raise error

    async def _deliver(self, name: str, tablet: TabletId, step: Step) -> DrystoneError | None:
        """As over the wire."""
        self.sent.append((name, tablet, step))
        refused: DrystoneError | None = None
        try:
            await self.takers[name].take(tablet, step_value(step_message(tablet, step)))
        except DrystoneError as error:
            refused = error
        return result_value(result_message(refused), tablet)

    def _send_later(self, name: str, tablet: TabletId, step: Step) -> None:
        async def send() -> None:
            await asyncio.sleep(self.chance.uniform(0, 0.5))
            await self._deliver(name, tablet, step)

        task = asyncio.ensure_future(send())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def all_arrived(self) -> None:
        """What was late has come."""
        await asyncio.gather(*self._later)


class OwnedCell:
    """Processes, and a ring that the test turns."""

    def __init__(self, seed: int, count: int = 3, settings: MetadataSettings = SMALL, *, lease: float = 1.0) -> None:
        self.chance = random.Random(seed)
        self.messages = Messages(random.Random(seed + 1))
        self.unregistered: set[str] = set()
        self._splitting = asyncio.Lock()
        self.clock, self.entropy = RunningClock(), SeededEntropy(seed)
        self.tablets = MemoryTablets()
        self.names = [f"m{number}" for number in range(count)]
        self.turns = dict.fromkeys(self.names, 0)
        """How far the ring has turned, as each process sees it."""
        self.nodes = [
            OwnedMetadata(
                storage=MemoryStorage(self.tablets, clock=self.clock, delay=lambda: 0.0),
                name=name,
                owner=partial(self.owner, name),
                ask=self.messages.asker(),
                registered=lambda name=name: name not in self.unregistered,  # type: ignore[misc]
                lease=lease,
                clock=self.clock,
                entropy=self.entropy,
                settings=settings,
            )
            for name in self.names
        ]
        self.messages.takers = dict(zip(self.names, self.nodes, strict=True))

    def owner(self, name: str, tablet: TabletId) -> str:
        """Who owns it, as that process sees the ring."""
        return self.names[(sum(tablet) + self.turns[name]) % len(self.names)]

    @property
    def turn(self) -> int:
        """How far the ring has turned."""
        return max(self.turns.values())

    @turn.setter
    def turn(self, turn: int) -> None:
        """All see it at once."""
        self.turns = dict.fromkeys(self.names, turn)

    async def turn_slowly(self) -> None:
        """One process after another hears of it."""
        turn = self.turn + 1
        for name in self.chance.sample(self.names, len(self.names)):
            self.turns[name] = turn
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    async def split(self, key: bytes, bucket: str = "b") -> None:
        """The tablet of the key begins with it, if its owner can; all processes know of it."""
        found = await self.read(lambda node: node.bucket(bucket))
        address = found.bucket_id.to_bytes(8, "big") + key
        async with self._splitting:
            spot = await self.any().map.look(address)
            for node in self.nodes:
                running = node.tablets.running.get(spot.tablet)
                if running is not None and spot.low < address:
                    with suppress(DrystoneError):
                        await running.splitter.split(address)
                    break
        for node in self.nodes:
            await node.map.all()

    async def at_rest(self) -> None:
        """Every tablet is run by its owner."""
        while not all(
            node.tablets.owns(tablet) == (self.owner(name, tablet) == name)
            for name, node in zip(self.names, self.nodes, strict=True)
            for tablet in self.tablets.tablets
        ):
            await asyncio.sleep(0.01)

    def epochs(self) -> int:
        """Sum of all tablets'."""
        return sum(tablet.state.epoch for tablet in self.tablets.tablets.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OwnedCell"]:
        """All processes run inside."""
        await MemoryStorage(self.tablets).create(CELL_TABLET, low=b"", high=b"", generation=1)
        work = [asyncio.ensure_future(node.run()) for node in self.nodes]
        try:
            yield self
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def id(self) -> Any:
        return make_write_id(self.clock.wall_us(), self.entropy.token(16))

    def any(self) -> OwnedMetadata:
        return self.chance.choice(self.nodes)

    async def decide(self, change: Any) -> Outcome:
        """As a gateway does: to some process, to the one it names, and again when nobody decided."""
        node = self.any()
        until = self.clock.monotonic() + 20
        while True:
            try:
                return await node.mutate(change)
            except NotOwner as elsewhere:
                node = self.nodes[self.names.index(elsewhere.details["owner"])]
                await asyncio.sleep(0.001)
            except Unavailable:
                await asyncio.sleep(0.02)
            if self.clock.monotonic() > until:
                raise AssertionError("nobody decides")

    async def put(self, key: bytes, bucket: str = "b") -> None:
        uid = Uid(self.entropy.token(16))
        await self.decide(
            PutObject(
                write_id=self.id(), bucket=bucket, key=Key(key), uid=uid, size=0, etag=uid.hex(), headers={},
                metadata={}, blobs=(),
            )
        )  # fmt: skip

    async def delete(self, key: bytes) -> None:
        await self.decide(DeleteObject(write_id=self.id(), bucket="b", key=Key(key)))

    async def create(self, bucket: str) -> None:
        await self.decide(CreateBucket(write_id=self.id(), bucket=bucket, owner="1" * 12, region="r"))

    async def read(self, call: Any) -> Any:
        """From any process; again from another when one cannot."""
        for _ in range(200):
            try:
                return await call(self.any())
            except Unavailable:
                await asyncio.sleep(0.01)
        raise AssertionError("nobody answers")

    async def listed(self, limit: int, *, versions: bool) -> list[bytes]:
        """All keys, page by page, each from another process."""
        keys: list[bytes] = []
        after, version = b"", ""
        while True:
            if versions:
                page = await self.read(
                    lambda node: node.list_versions("b", after_key=after, after_version=version, limit=limit)  # noqa: B023
                )
                keys += [bytes(row.key) for row in page.versions]
                after, version = page.next_key, page.next_version
            else:
                page = await self.read(lambda node: node.list_objects("b", after=after, limit=limit))  # noqa: B023
                keys += [bytes(row.key) for row in page.objects]
                after = page.next_after
            if not page.truncated:
                return keys

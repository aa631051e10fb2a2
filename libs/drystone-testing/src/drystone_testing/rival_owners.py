# SPDX-License-Identifier: Apache-2.0
"""Owners of one tablet that do not know of each other, and what must hold of the tablet afterwards."""

import asyncio
import random
from collections.abc import Sequence

from drystone_core.errors import Unavailable
from drystone_metadata.store.ports import (
    Batch,
    Committed,
    Expected,
    FeedRow,
    RowKey,
    TabletId,
    TabletState,
    TabletStorage,
)
from drystone_testing.contracts.tablet_storage import row

KEY = RowKey(1, b"counter")


class Rival:
    """Takes the tablet over, commits until it is refused, and tries again after that: what it does must be refused."""

    def __init__(self, storage: TabletStorage, tablet: TabletId, seed: int) -> None:
        self.storage = storage
        self.tablet = tablet
        self.chance = random.Random(seed)
        self.committed: list[bytes] = []
        self.unknown: list[bytes] = []
        self.refused: list[bytes] = []
        self.epochs: list[int] = []

    async def reign(self, most: int) -> None:
        """One ownership of up to `most` commits."""
        try:
            state = await self.storage.take_over(self.tablet)
        except Unavailable:
            return  # too many rivals at once
        self.epochs.append(state.epoch)
        head = state.head
        for _ in range(most):
            answer = await self.commit(head, state)
            if answer is Committed.UNKNOWN:
                now = await self.settled()
                if now.epoch != state.epoch:
                    return
                head = now.head
            elif answer is Committed.COMMITTED:
                head += 1
            else:
                # Somebody else's epoch: never again, whatever head is believed in.
                now = await self.settled()
                assert now.epoch > state.epoch
                for belief in (head, now.head, now.head + 1):
                    assert await self.commit(belief, state) in (Committed.STALE, Committed.UNKNOWN)
                return

    async def settled(self) -> TabletState:
        """The tablet, as soon as it can be read."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.storage.state(self.tablet)
                except Unavailable:
                    await asyncio.sleep(0.05)

    async def commit(self, head: int, state: TabletState) -> Committed:
        """Count up; the batch id begins with the epoch."""
        batch_id = state.epoch.to_bytes(8, "big") + self.chance.randbytes(8)
        batch = Batch(
            batch_id=batch_id,
            floor_us=state.floor_us,
            generation=1,
            puts=[row(*KEY, b"%d" % (head + 1))],
            feed=batch_id,
        )
        answer = await self.storage.commit(self.tablet, Expected(head, state.epoch, 1), batch)
        told = {Committed.COMMITTED: self.committed, Committed.UNKNOWN: self.unknown, Committed.STALE: self.refused}
        told[answer].append(batch_id)
        return answer


async def race(rivals: Sequence[Rival], reigns: int) -> None:
    """Each takes the tablet over that often."""

    async def one(rival: Rival) -> None:
        for _ in range(reigns):
            await rival.reign(rival.chance.randint(1, 12))
            await asyncio.sleep(rival.chance.random() * 0.02)

    async with asyncio.TaskGroup() as group:
        for rival in rivals:
            group.create_task(one(rival))


def check_one_sequence(
    rivals: Sequence[Rival], state: TabletState, feed: Sequence[FeedRow], value: bytes | None
) -> dict[str, int]:
    """One sequence, in which epochs only rise; what was acknowledged is in it, what was refused is not; no epoch has two
    owners. The counts of all that."""
    committed = [batch_id for rival in rivals for batch_id in rival.committed]
    unknown = {batch_id for rival in rivals for batch_id in rival.unknown}
    refused = [batch_id for rival in rivals for batch_id in rival.refused]
    epochs = [epoch for rival in rivals for epoch in rival.epochs]
    ids = [entry.batch_id for entry in feed]
    assert [entry.seq for entry in feed] == list(range(1, state.head + 1))
    assert value == row(*KEY, b"%d" % state.head)[1]
    assert set(committed) <= set(ids) <= set(committed) | unknown and len(set(ids)) == len(ids)
    assert not set(refused) & set(ids)
    assert [batch_id[:8] for batch_id in ids] == sorted(batch_id[:8] for batch_id in ids)
    assert len(set(epochs)) == len(epochs) and max(epochs) <= state.epoch
    assert refused and committed
    return {"owners": len(epochs), "committed": len(committed), "refused": len(refused), "unknown": len(unknown)}

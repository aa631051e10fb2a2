# SPDX-License-Identifier: Apache-2.0
"""Everything at once, seeded: faults of all kinds, power loss, replaced disks, repair and reclaim, against a dict."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest

from drystone_core.errors import DrystoneError
from drystone_core.ids import BlobId
from drystone_core.services import BlobName
from drystone_lifecycle.reclaim import Reclaimer, ReclaimSettings
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_testing.storage_bench import MIB, SimPlace, StorageBench


class Names:
    """Which blobs the model deleted."""

    def __init__(self) -> None:
        self.dead: set[BlobId] = set()

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        return [name.blob_id in self.dead for name in names]


@pytest.mark.parametrize("seed", range(3))
async def test_no_acknowledged_blob_is_lost_whatever_happens(seed: int) -> None:
    """At most one disk is hurt between two repairs; in the end all is whole again."""
    bench = StorageBench(disks=random.Random(seed).choice([6, 6, 7, 9]), seed=seed, limit=MIB)
    await bench.start()
    names, rng = Names(), bench.rng
    for _ in range(10):
        victim = rng.choice(bench.disks)
        puts = [asyncio.ensure_future(bench.put(rng.randrange(1, 100_000))) for _ in range(rng.randrange(1, 8))]
        hurt(bench, victim)
        await asyncio.gather(*puts, return_exceptions=True)
        with contextlib.suppress(DrystoneError):
            await bench.put_large(MIB // 2)
        bench.model = dict(enumerate(bench.model.values()))
        for number in [number for number in bench.model if rng.random() < 0.3]:
            names.dead.add(bench.model.pop(number)[0].blob_id)
        bench.model = dict(enumerate(bench.model.values()))
        await bench.check_all()
        bench.lanes[victim.root].release()
        victim.faults.clear()
        victim.dead = False
        for _ in range(2):
            bench.clock.now += 3000
            await bench.node.watch.look()
            await bench.advance(1)
        if rng.random() < 0.3:
            victim.nodes.clear()
            victim._limbo.clear()
            await bench.crash()
        elif rng.random() < 0.4:
            await bench.crash()
        await keep_house(bench, names)
        await bench.check_all()
    await bench.crash()
    await keep_house(bench, names)
    await keep_house(bench, names)
    assert not await bench.node.healer.wounds()
    status = await bench.node.status()
    assert status.degraded_volumes == 0 and status.scrub.verified == status.scrub.volumes
    await bench.check_all()
    assert bench.model and names.dead
    await bench.background.stop()


def hurt(bench: StorageBench, victim: SimPlace) -> None:
    """One of: failing calls, a hang, a dead disk, a flipped bit, nothing."""
    rng = bench.rng
    match rng.randrange(6):
        case 0:
            site = rng.choice(["pwritev", "preadv", "open", "rename", "unlink", "listdir"])
            victim.fail(site, nth=rng.randrange(1, 8), count=rng.choice([1, 50]), error=rng.choice([5, 28, 30]))
        case 1:
            bench.lanes[victim.root].stalled = True
        case 2:
            victim.dead = True
        case 3:
            files = [name for name in victim.nodes if name.startswith("volumes/") and not name.endswith(".free")]
            if files:
                name = rng.choice(files)
                victim.flip(name, rng.randrange(8 * max(1, len(victim.nodes[name].data))))
        case _:
            pass


async def keep_house(bench: StorageBench, names: Names) -> None:
    """Scrub and repair, then reclaim without grace."""
    world = {"clock": bench.clock, "background": bench.background}
    repairer = Repairer(node=bench.node.healer, settings=RepairSettings(bytes_per_second=1 << 50), **world)  # type: ignore[arg-type]
    scrubber = Scrubber(
        node=bench.node.scrubs,
        found=repairer.poke,
        settings=ScrubSettings(bytes_per_second=1 << 50),
        **world,  # type: ignore[arg-type]
    )
    await scrubber.run_pass()
    await repairer.run_once()
    bench.clock.now += 2
    settings = ReclaimSettings(grace=0.0, pause=0.0)
    await Reclaimer(node=bench.node.freer, metadata=names, settings=settings, **world).run_pass()  # type: ignore[arg-type]

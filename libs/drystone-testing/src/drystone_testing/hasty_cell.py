# SPDX-License-Identifier: Apache-2.0
"""A whole store without sockets in one process, on real directories, whose hours take seconds: long PUTs are registered
with their first piece, and what nobody renews ends soon. `python -m drystone_testing.hasty_cell DIR` is a process in the
middle of a long PUT of bkt/long, to be killed: it says `registered` when its upload names blobs, and waits.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from drystone_core.formats.row_keys import NAMED, PART, UPLOAD
from drystone_datapath.append import AppendSettings
from drystone_gateway.app import Links, build
from drystone_gateway.app import World as GatewayWorld
from drystone_gateway.credentials import root_credentials
from drystone_gateway.operations.hash_pool import ThreadHashPool
from drystone_gateway.settings import GatewaySettings
from drystone_lifecycle.reclaim.reclaimer import Reclaimer, ReclaimSettings
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import MetadataSettings
from drystone_metadata.store.embedded import EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_storage.node import build as build_storage
from drystone_storage.settings import StorageSettings, WatchSettings
from drystone_storage.world import real_world
from drystone_testing.http_calls import Caller, StallingBody

MIB = 1 << 20
FLOOR_AGE = 10.0
LONG = 48 * MIB
KEYS = ("HASTYCELLKEY", "hasty-cell-secret-key")


class HastyCell:
    """Storage, metadata, gateway and reclaim on the directories under `root`."""

    def __init__(self, root: Path) -> None:
        self._paths = tuple(str(root / f"d{number}") for number in range(3))
        self.world = real_world()
        self.node = build_storage(
            StorageSettings(
                paths=self._paths,
                append=AppendSettings(volume_limit=16 * MIB, allocate_step=MIB, deadline=20.0),
                watch=WatchSettings(reserve=MIB),
            ),
            self.world,
        )
        self._hashing = ThreadHashPool(threads=1)
        self.metadata: LocalMetadata
        self.caller: Caller

    async def start(self) -> None:
        world = self.world
        await self.node.start()
        store = self.node.store
        assert store is not None
        units = [
            MemberUnit(
                disk_id=disk.known.disk_id,
                path=disk.place.root,
                disk=disk.place,
                lane=world.lane(f"journal-{number}"),
                db_lane=world.lane(f"rows-{number}"),
            )
            for number, disk in enumerate(store.disks)
        ]
        self._members = EmbeddedStorage(
            units=units,
            cluster_id=store.cluster_id,
            m=store.profile.m,
            lanes=world.lanes,
            clock=world.clock,
            entropy=world.entropy,
        )
        await self._members.open(create=len(self.node.registry) == 0)
        self.metadata = LocalMetadata(
            storage=self._members,
            tablet=CELL_TABLET,
            clock=world.clock,
            entropy=world.entropy,
            settings=MetadataSettings(
                floor_age=FLOOR_AGE,
                floor_step=0.1,
                upkeep_pause=0.02,
                sweep_after=0.1,
                upload_looks=0.5,
                upload_silence=4.0,
            ),
        )
        await self.metadata.start()
        access_key, secret_key = KEYS
        settings = GatewaySettings(long_put_seconds=0.0, renew_seconds=0.2)
        app = build(
            settings,
            GatewayWorld(clock=world.clock, entropy=world.entropy, hashing=self._hashing),
            Links(
                metadata=self.metadata,
                storage=self.node,
                credentials=root_credentials(access_key=access_key, secret_key=secret_key, account=settings.account),
            ),
        )
        for name, run in (
            ("commit", self.metadata.run),
            ("upkeep", self.metadata.upkeep.run),
            ("renew", app.renewals.run),
        ):
            world.background.keep(name, run)
        self.caller = Caller(handle=app.handle, access_key=access_key, secret_key=secret_key)

    def reclaimer(self) -> Reclaimer:
        """Frees what is dead without any grace, pass by pass."""
        return Reclaimer(
            node=self.node.freer,
            metadata=self.metadata,
            clock=self.world.clock,
            background=self.world.background,
            settings=ReclaimSettings(grace=0.0, pause=0.0),
        )

    async def upload_rows(self) -> list[RowKey]:
        """Rows of all uploads, hidden ones too."""
        found = []
        for kind in (UPLOAD, PART, NAMED):
            found += await self._members.scan(CELL_TABLET, RowKey(kind, b""), RowKey(kind + 1, b""), 1000)
        return [row for row, _ in found]

    def stored_bytes(self) -> int:
        """Bytes of all shard files on all disks."""
        files = [file for path in self._paths for file in (Path(path) / "volumes").rglob("*") if file.is_file()]
        return sum(file.stat().st_blocks * 512 for file in files)

    async def stop(self) -> None:
        await self.node.drain()
        await self._members.close()
        await self.world.background.stop()
        self._hashing.stop()


async def _until_killed(root: Path) -> None:
    cell = HastyCell(root)
    await cell.start()
    await cell.caller.send("PUT", "/bkt")

    async def stalled(at: int) -> None:
        if at < LONG // 2:
            return
        while not await cell.upload_rows():
            await asyncio.sleep(0.01)
        print("registered", flush=True)
        await asyncio.Event().wait()

    with suppress(asyncio.CancelledError):
        await cell.caller.send(
            "PUT", "/bkt/long", StallingBody(bytes(range(256)) * (LONG // 256), every=MIB, stalled=stalled)
        )


if __name__ == "__main__":
    asyncio.run(_until_killed(Path(sys.argv[1])))

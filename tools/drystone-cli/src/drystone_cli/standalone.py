# SPDX-License-Identifier: Apache-2.0
"""The composition root of a standalone store's main process: disks → storage → metadata → gateway → HTTP, and gRPC beside.

Everything is joined by direct calls; the background process comes in over gRPC on a unix socket, as it would in a cluster.
Order of life: storage opens its disks, metadata finds its newest state on them, S3 is served, READY, gRPC is served.
The way down is the reverse: S3 drains first, then nothing new can reach metadata or storage.
"""

import asyncio
import logging
import socket
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from drystone_cli.exits import Unusable
from drystone_cli.process_spec import ProcessSpec
from drystone_cli.remembered import Remembered, recall, remember
from drystone_core.errors import DrystoneError, Refused
from drystone_datapath.volume import DiskState
from drystone_gateway.serving import S3Serving
from drystone_metadata.service import LocalMetadata
from drystone_metadata.settings import chosen as metadata_settings
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.ports import CELL_TABLET
from drystone_runtime.config_sections import RootSettings
from drystone_runtime.disks import RealDisk
from drystone_runtime.logs import as_extra
from drystone_runtime.memory_trim import MemoryTrim
from drystone_storage.disks.assemble import DisksRefused
from drystone_storage.disks.store import Store
from drystone_storage.node import StorageNode
from drystone_storage.node import build as build_storage
from drystone_storage.settings import chosen as storage_settings
from drystone_storage.world import World, real_world

if TYPE_CHECKING:
    from drystone_runtime.rpc.server import RpcServer

log = logging.getLogger(__name__)
READMIT_SECONDS = 5.0
"""Between two looks whether a disk that left the metadata serves again."""


async def start(spec: ProcessSpec) -> "Standalone":
    """Build everything and serve; raises Unusable when somebody must change something first."""
    standalone = Standalone(spec=spec, world=real_world())
    try:
        await standalone.start()
    except DisksRefused as error:
        known = standalone.remembered
        about = f"{spec.state} remembers store {known.cluster_id} ({known.profile})" if known else ""
        anew = f": for another store give another --state-dir; to begin a new, empty one remove {spec.state}"
        raise Unusable("\n".join([*error.problems, *([about + anew] if known else [])])) from error
    except DrystoneError as error:
        raise Unusable(f"the store cannot be opened: {error}") from error
    return standalone


class Standalone:
    """The running store."""

    def __init__(self, *, spec: ProcessSpec, world: World) -> None:
        self.spec, self.world = spec, world
        self.began = world.clock.monotonic()
        self.remembered = recall(Path(spec.state))
        chosen = storage_settings(spec.settings.storage, spec.disks, create=self.remembered is None)
        self.node: StorageNode = build_storage(replace(chosen, add_disks=spec.add_disks), world)
        self.members: EmbeddedStorage | None = None
        self.metadata: LocalMetadata | None = None
        self.s3: S3Serving | None = None
        self._rpc: list[RpcServer] = []
        self._units: list[MemberUnit] = []

    async def start(self) -> None:
        """Open, serve."""
        marks = [time.perf_counter()]
        await self.node.start()
        marks.append(time.perf_counter())
        store = self.node.store
        assert store is not None
        self._check_remembered(store)
        self.members = self._embedded(store)
        await self.members.open(create=len(self.node.registry) == 0)
        self.metadata = LocalMetadata(
            storage=self.members,
            tablet=CELL_TABLET,
            clock=self.world.clock,
            entropy=self.world.entropy,
            settings=metadata_settings(self.spec.settings.metadata),
        )
        await self.metadata.start()
        self.world.background.keep("metadata.commit", self.metadata.run)
        self.world.background.keep("memory.trim", MemoryTrim(clock=self.world.clock).run)
        self.world.background.keep("metadata.upkeep", self.metadata.upkeep.run)
        self.world.background.keep("metadata.readmit", self._readmit_members)
        marks.append(time.perf_counter())
        await self._serve_s3(self.metadata)
        marks.append(time.perf_counter())
        names = ("storage_ms", "metadata_ms", "serve_ms")
        spent = {name: round((b - a) * 1000) for name, a, b in zip(names, marks, marks[1:], strict=False)}
        log.info("store.serves", extra={"endpoint": self.spec.endpoint, **spent})

    def _check_remembered(self, store: Store) -> None:
        """The state directory is this store's, and the profile asked for is the one it has."""
        known, asked, state = self.remembered, self.spec.settings.storage.profile, self.spec.state
        if known is not None and known.cluster_id != store.cluster_id:
            raise Unusable(
                f"{state} belongs to store {known.cluster_id}, the disks to {store.cluster_id}: "
                "give this store a state directory of its own with --state-dir"
            )
        if asked and asked != store.profile.name:
            raise Unusable(
                f"the store's profile is {store.profile.name}, fixed at its first start: leave out --profile {asked}"
            )
        if known is None:
            remember(RealDisk(state), Remembered(cluster_id=store.cluster_id, profile=store.profile.name))

    async def settle(self) -> None:
        """What may come after READY: gRPC, for people and for the background process."""
        # Reading gRPC's modules takes longer than all the rest of a start: requests are served meanwhile.
        await asyncio.get_running_loop().run_in_executor(None, import_module, "drystone_cli.standalone_rpc")
        from drystone_cli.standalone_rpc import rpc_servers

        self._rpc = rpc_servers(self)
        for one in self._rpc:
            await one.start()
            await one.serving(True)

    async def reload(self) -> None:
        """Read the certificate's files again if they changed."""
        if self.s3 is not None:
            await self.s3.reload()

    async def drain(self, seconds: float) -> None:
        """Finish requests, then stop from the outside in."""
        deadline = self.world.clock.monotonic() + seconds
        if self.s3 is not None:
            cut_off = await self.s3.drain(deadline)
            log.info("store.drained", extra={"cut_off": cut_off})
        await asyncio.gather(*(server.stop(0.5) for server in self._rpc))
        try:
            async with asyncio.timeout(10.0):
                await self.node.drain()
                if self.members is not None:
                    await self.members.close()
        except TimeoutError:
            log.warning("store.close_late")
        await self.world.background.stop(within=2.0)
        if self.s3 is not None:
            self.s3.stop()

    async def _readmit_members(self) -> None:
        """A disk that serves again may hold metadata again: tried soon after its return, then ever less often."""
        clock, pauses = self.world.clock, dict[str, tuple[float, float]]()
        while self.members is not None:
            await clock.sleep(READMIT_SECONDS)
            paths = {unit.disk_id: unit.path for unit in self._units}
            healthy = {
                watched.unit.label for watched in self.node.watch.disks if watched.unit.state is DiskState.HEALTHY
            }
            for member in self.members.status()["members"]:
                disk_id = member["disk"]
                if member["standing"] != "failed" or paths[disk_id] not in healthy:
                    pauses.pop(disk_id, None)
                    continue
                due, pause = pauses.get(disk_id, (0.0, READMIT_SECONDS))
                if clock.monotonic() >= due:
                    pauses[disk_id] = (clock.monotonic() + pause, min(pause * 2, 600.0))
                    if await self.members.readmit(disk_id):
                        log.info("metadata.readmitted", extra={"disk": paths[disk_id]})

    def _embedded(self, store: Store) -> EmbeddedStorage:
        def unit(index: int) -> MemberUnit:
            disk = store.disks[index]
            return MemberUnit(
                disk_id=disk.known.disk_id,
                path=disk.place.root,
                disk=disk.place,
                lane=self.world.lane(f"journal-{index}"),
                db_lane=self.world.lane(f"rows-{index}"),
                read_lane=self.world.lane(f"reads-{index}"),
            )

        self._units = [unit(index) for index in range(len(store.disks))]
        return EmbeddedStorage(
            units=self._units,
            cluster_id=store.cluster_id,
            m=store.profile.m,
            lanes=self.world.lanes,
            clock=self.world.clock,
            entropy=self.world.entropy,
            settings=EmbeddedSettings(slow=self.spec.settings.storage.slowness()),
            on_event=lambda name, fields: log.info(name, extra=as_extra(fields)),
        )

    async def _serve_s3(self, metadata: LocalMetadata) -> None:
        spec = self.spec
        try:
            self.s3 = S3Serving(
                settings=spec.settings,
                root=RootSettings(access_key=spec.access_key, secret_key=spec.secret_key),
                metadata=metadata,
                storage=self.node,
                clock=self.world.clock,
                entropy=self.world.entropy,
                background=self.world.background,
            )
        except Refused as error:
            raise Unusable(error.message) from error
        await self.s3.start(socket.socket(fileno=spec.listen_fd))

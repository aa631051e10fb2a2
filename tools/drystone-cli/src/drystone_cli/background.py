# SPDX-License-Identifier: Apache-2.0
"""The composition root of a standalone store's background process: lifecycle and replication, with gRPC to the main one."""

import logging
from pathlib import Path

from drystone_cli.process_spec import ProcessSpec
from drystone_cli.remembered import recall
from drystone_cli.scrub_memory import StateScrubMemory
from drystone_core.identity import ServiceKind
from drystone_lifecycle.reclaim.reclaimer import Reclaimer, ReclaimSettings
from drystone_lifecycle.rpc.server import lifecycle_service
from drystone_replication.repair import Repairer, RepairSettings, Scrubber, ScrubSettings
from drystone_replication.rpc.server import replication_service
from drystone_runtime.background import Background as Tasks
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.rpc.links import Dialer
from drystone_runtime.rpc.metadata_client import RpcMetadata
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_runtime.rpc.upkeep_client import RpcUpkeep

log = logging.getLogger(__name__)


async def start(spec: ProcessSpec) -> "BackgroundProcess":
    """Begin to work and serve."""
    process = BackgroundProcess(spec)
    await process.start()
    return process


class BackgroundProcess:
    """What runs beside the main process, so that its work never delays a request."""

    def __init__(self, spec: ProcessSpec) -> None:
        clock = SystemClock()
        self._tasks = Tasks(clock=clock)
        dial = Dialer(clock=clock, background=self._tasks, tls=None)
        self._channel = dial.open(f"unix:{spec.node_socket}", ServiceKind.STORAGE_NODE)
        node = RpcUpkeep(self._channel)
        self._repairer = Repairer(
            node=node,
            clock=clock,
            background=self._tasks,
            settings=RepairSettings(bytes_per_second=spec.settings.storage.repair_rate),
        )
        self._scrubber = Scrubber(
            node=node,
            clock=clock,
            background=self._tasks,
            found=self._repairer.poke,
            settings=ScrubSettings(
                period=spec.settings.storage.scrub_period, bytes_per_second=spec.settings.storage.scrub_rate
            ),
            memory=_scrub_memory(spec),
        )
        self._reclaimer = Reclaimer(
            node=node,
            metadata=RpcMetadata(channel=self._channel, background=self._tasks),
            clock=clock,
            background=self._tasks,
            settings=ReclaimSettings(grace=spec.settings.metadata.grace),
        )
        self._rpc = RpcServer(
            services=(lifecycle_service(self._reclaimer.status), replication_service(self._repairer, self._scrubber)),
            settings=RpcServerSettings(
                address=f"unix:{spec.background_socket}", reflection=spec.settings.admin.reflection
            ),
        )

    async def start(self) -> None:
        """Begin."""
        await self._rpc.start()
        self._repairer.start()
        self._scrubber.start()
        self._reclaimer.start()
        await self._rpc.serving(True)

    async def settle(self) -> None:
        """Nothing is left to do after READY."""

    async def reload(self) -> None:
        """Nothing can be read again."""

    async def drain(self, seconds: float) -> None:
        """Stop; what was begun is taken up again at the next start."""
        await self._rpc.stop(min(seconds, 0.5))
        await self._tasks.stop(within=2.0)
        await self._channel.close()


def _scrub_memory(spec: ProcessSpec) -> StateScrubMemory | None:
    """None: nobody knows whose state directory this is."""
    known = recall(Path(spec.state))
    return StateScrubMemory(RealDisk(spec.state), known.cluster_id) if known else None

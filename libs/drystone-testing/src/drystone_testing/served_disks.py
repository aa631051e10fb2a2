# SPDX-License-Identifier: Apache-2.0
"""Disks served over gRPC by processes of their own, to be killed, stopped and begun anew by tests.

`python -m drystone_testing.served_disks SOCKET DISK_ID=DIR …` is such a process; `ServedDisks` starts and ends one.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import grpc

from drystone_core.ids import DiskId
from drystone_datapath.volume import DiskUnit
from drystone_runtime.rpc.channel import blocking_channel
from drystone_runtime.rpc.remote_disk import Peer, RemoteDisk
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_storage.rpc.disks import disk_service
from drystone_storage.world import real_world


class ServedDisks:
    """One process with these disks; usable again after `kill` and `start`."""

    def __init__(self, socket: Path, disks: Sequence[tuple[DiskId, Path]]) -> None:
        self._socket, self._disks = socket, disks
        self._process: subprocess.Popen[str] | None = None
        self.channel = blocking_channel(f"unix:{socket}")
        self.peer = Peer(f"unix:{socket}", lambda _: self.channel)

    def start(self) -> None:
        """Serves when this returns."""
        places = [f"{disk_id}={path}" for disk_id, path in self._disks]
        argv = [sys.executable, "-m", "drystone_testing.served_disks", str(self._socket), *places]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        grpc.channel_ready_future(self.channel).result(timeout=30)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """The end of the process and the channel."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.channel.close()

    def disk(self, index: int, *, timeout: float = 10.0) -> RemoteDisk:
        """Disk `index` from afar."""
        disk_id, path = self._disks[index]
        return RemoteDisk(peer=self.peer, disk_id=disk_id, label=str(path), timeout=timeout, write_timeout=timeout)


async def _serve(socket: str, places: Sequence[str]) -> None:
    world = real_world()
    units: dict[DiskId, DiskUnit] = {}
    for text in places:
        disk_id, _, path = text.partition("=")
        units[DiskId(disk_id)] = DiskUnit(DiskId(disk_id), world.place(path), world.lane(os.path.basename(path)))
    shown = MappingProxyType(units)
    server = RpcServer(
        services=(disk_service(world, lambda: shown),), settings=RpcServerSettings(address=f"unix:{socket}")
    )
    await server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2:]))

# SPDX-License-Identifier: Apache-2.0
"""Serves the disks of this node to other storage nodes. Every call waits its turn on the lane of its disk.

Invariants
  K1  A handle names one open file of this process and is never given out twice: a caller that held one before a restart
      learns so (ESTALE) instead of writing into whatever has the name now.
  K2  At most HANDLES files are open; beyond it, and after IDLE seconds without a call, a handle is forgotten. Its file
      closes when the last call that uses it has ended.
  K3  A write and the look after it are one turn of the lane: whoever wrote a close flag before is seen (append A1).
  K4  A shard file gets its name as `place_shard` allows, whoever asks.
  K5  A hung disk costs its callers their deadline and this node one parked lane (R5).
"""

import errno
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from drystone.storage.v1 import disks_pb2 as pb
from drystone.storage.v1 import disks_pb2_grpc
from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.shard import parse_shard_name
from drystone_core.ids import DiskId
from drystone_core.ports import Buffer, Disk, DiskFile, Lane
from drystone_datapath.volume import DiskUnit
from drystone_runtime.rpc.bulk import Bulk
from drystone_runtime.rpc.remote_disk import BULK, CALL_BYTES
from drystone_runtime.rpc.server import RpcService
from drystone_storage.volumes.shard_files import VOLUMES, place_shard
from drystone_storage.world import World

SERVICE = "drystone.storage.v1.DiskService"
HANDLES = 4096
IDLE = 900.0


@dataclass(slots=True)
class _Held:
    """An open file and the lane of its disk."""

    file: DiskFile
    lane: Lane
    used: float


def disk_service(world: World, units: Callable[[], Mapping[DiskId, DiskUnit]]) -> RpcService:
    """What an RpcServer registers; `units` tells the local disks at hand now."""
    servicer = _Servicer(world, units)
    return RpcService(
        name=SERVICE,
        register=lambda server: disks_pb2_grpc.add_DiskServiceServicer_to_server(servicer, BULK.at_server(server)),
    )


class _Servicer(disks_pb2_grpc.DiskServiceServicer):
    def __init__(self, world: World, units: Callable[[], Mapping[DiskId, DiskUnit]]) -> None:
        self._world, self._units = world, units
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._next = int.from_bytes(world.entropy.token(6), "big") << 16 | 1

    async def Open(self, request: pb.OpenRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.OpenResponse:
        unit = self._units().get(DiskId(request.disk_id))
        if unit is None:
            return pb.OpenResponse(error=_no_disk(request.disk_id))
        opening = partial(unit.disk.open, request.name, create=request.create, exclusive=request.exclusive)
        found = await self._run(unit.lane, opening, context)
        if isinstance(found, pb.DiskError):
            return pb.OpenResponse(error=found)
        return pb.OpenResponse(handle=self._hold(found, unit.lane))

    async def Close(self, request: pb.CloseRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.CloseResponse:
        self._held.pop(request.handle, None)
        return pb.CloseResponse()

    async def Read(
        self, request: pb.ReadAtRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Bulk[pb.ReadAtResponse]:
        _bounded(request.length)
        found = await self._on(request.handle, partial(_read, request.offset, request.length), context)
        if isinstance(found, pb.DiskError):
            return Bulk(pb.ReadAtResponse(error=found), ())
        return Bulk(pb.ReadAtResponse(), (found,))

    async def Write(
        self, asked: Bulk[pb.WriteRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.WriteResponse:
        request, payload = asked
        _bounded(sum(map(len, payload)))
        _bounded(request.read_length)
        found = await self._on(request.handle, partial(_write, request, payload), context)
        return pb.WriteResponse(error=found) if isinstance(found, pb.DiskError) else pb.WriteResponse(bytes=found)

    async def Sync(self, request: pb.SyncRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.SyncResponse:
        return pb.SyncResponse(error=_error(await self._on(request.handle, _sync, context)))

    async def Allocate(
        self, request: pb.AllocateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AllocateResponse:
        call = partial(_allocate, request.offset, request.length)
        return pb.AllocateResponse(error=_error(await self._on(request.handle, call, context)))

    async def Punch(self, request: pb.PunchRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.PunchResponse:
        call = partial(_punch, request.offset, request.length)
        return pb.PunchResponse(error=_error(await self._on(request.handle, call, context)))

    async def GetSize(
        self, request: pb.GetSizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSizeResponse:
        found = await self._on(request.handle, _size, context)
        return pb.GetSizeResponse(error=found) if isinstance(found, pb.DiskError) else pb.GetSizeResponse(size=found)

    async def Rename(self, request: pb.RenameRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.RenameResponse:
        call = partial(_rename, request.old, request.new)
        return pb.RenameResponse(error=_error(await self._on_disk(request.disk_id, call, context)))

    async def Unlink(self, request: pb.UnlinkRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.UnlinkResponse:
        call = partial(_unlink, request.name)
        return pb.UnlinkResponse(error=_error(await self._on_disk(request.disk_id, call, context)))

    async def List(self, request: pb.ListRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.ListResponse:
        found = await self._on_disk(request.disk_id, partial(_list, request.folder), context)
        return pb.ListResponse(error=found) if isinstance(found, pb.DiskError) else pb.ListResponse(names=found)

    async def GetSpace(
        self, request: pb.GetSpaceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSpaceResponse:
        found = await self._on_disk(request.disk_id, _space, context)
        if isinstance(found, pb.DiskError):
            return pb.GetSpaceResponse(error=found)
        return pb.GetSpaceResponse(free=found[0], total=found[1])

    def _hold(self, file: DiskFile, lane: Lane) -> int:
        now = self._world.clock.monotonic()
        while self._held:
            oldest = next(iter(self._held.values()))
            if len(self._held) < HANDLES and now - oldest.used < IDLE:
                break
            self._held.popitem(last=False)
        handle, self._next = self._next, self._next + 1
        self._held[handle] = _Held(file, lane, now)
        return handle

    async def _on(self, handle: int, call: Callable[[DiskFile], Any], context: Any) -> Any:
        """The call's result on an open file, or the DiskError to answer."""
        held = self._held.get(handle)
        if held is None:
            return pb.DiskError(number=errno.ESTALE, text="the file is not open here (any more)")
        held.used = self._world.clock.monotonic()
        self._held.move_to_end(handle)
        return await self._run(held.lane, partial(call, held.file), context)

    async def _on_disk(self, disk_id: str, call: Callable[[Disk], Any], context: Any) -> Any:
        unit = self._units().get(DiskId(disk_id))
        if unit is None:
            return _no_disk(disk_id)
        return await self._run(unit.lane, partial(call, unit.disk), context)

    async def _run(self, lane: Lane, call: Callable[[], Any], context: Any) -> Any:
        """On the lane, for as long as the caller waits."""
        left = context.time_remaining()
        deadline = None if left is None else self._world.clock.monotonic() + left
        try:
            return await self._world.lanes.run(lane, call, deadline=deadline)
        except TimeoutError as error:
            return pb.DiskError(number=errno.ETIMEDOUT, text=str(error))
        except OSError as error:
            return pb.DiskError(number=error.errno or errno.EIO, text=error.strerror or str(error))
        except ValueError as error:  # a name that leads out of the disk
            raise Refused(ErrorCode.INVALID_ARGUMENT, str(error)) from error


def _read(offset: int, length: int, file: DiskFile) -> Buffer:
    space = bytearray(length)
    got = file.preadv((memoryview(space),), offset)
    return memoryview(space)[:got]


def _write(request: pb.WriteRequest, payload: Sequence[Buffer], file: DiskFile) -> bytes:
    if not request.read_length:
        file.pwritev(payload, request.offset, durable=request.durable)
        return b""
    space = bytearray(request.read_length)
    if request.durable:
        return bytes(space[: file.write_then_read(payload, request.offset, memoryview(space), request.read_at)])
    file.pwritev(payload, request.offset, durable=False)
    return bytes(space[: file.preadv((memoryview(space),), request.read_at)])


def _sync(file: DiskFile) -> None:
    file.sync()


def _allocate(offset: int, length: int, file: DiskFile) -> None:
    file.allocate(offset, length)


def _punch(offset: int, length: int, file: DiskFile) -> None:
    file.punch(offset, length)


def _size(file: DiskFile) -> int:
    return file.size()


def _rename(old: str, new: str, disk: Disk) -> None:
    if new.startswith(f"{VOLUMES}/") and parse_shard_name(new) is not None:
        place_shard(disk, old, new)
    else:
        disk.rename(old, new)


def _unlink(name: str, disk: Disk) -> None:
    disk.unlink(name)


def _list(folder: str, disk: Disk) -> list[str]:
    return disk.listdir(folder)


def _space(disk: Disk) -> tuple[int, int]:
    return disk.space()


def _error(found: Any) -> pb.DiskError | None:
    return found if isinstance(found, pb.DiskError) else None


def _no_disk(disk_id: str) -> pb.DiskError:
    return pb.DiskError(number=errno.ENODEV, text=f"this node has no disk {disk_id}")


def _bounded(length: int) -> None:
    if length > CALL_BYTES:
        raise Refused(ErrorCode.INVALID_ARGUMENT, f"{length} bytes in one call; at most {CALL_BYTES}")

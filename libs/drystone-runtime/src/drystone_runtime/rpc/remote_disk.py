# SPDX-License-Identifier: Apache-2.0
"""A disk of another node as the `Disk` port: blocking calls over gRPC, run on a lane like a local disk's.

Invariants
  M1  A call does all of its bytes or raises OSError, as a local disk's does; what the far disk said keeps its errno.
  M2  A file that was created here is never written to through another handle: when the far node forgot it (it began
      anew), writes fail with ESTALE for ever. To be read, and when it was not created here, it is opened again by its name.
  M3  A node that cannot be reached is ConnectionError, one that answers late is TimeoutError: neither says anything about
      the bytes on its disk.
Not one call more than needed: an append and the look at its slot's close flag travel together.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import grpc

from drystone.storage.v1 import disks_pb2 as pb
from drystone.storage.v1 import disks_pb2_grpc
from drystone_core.ids import DiskId
from drystone_core.ports import Buffer
from drystone_runtime.rpc.bulk import Bulk, BulkMethods
from drystone_runtime.rpc.channel import blocking_channel

CALL_BYTES = 32 << 20
"""Bytes one call carries at most."""
BULK = BulkMethods(
    pb.DESCRIPTOR.services_by_name["DiskService"], requests={"Write": "bytes"}, answers={"Read": "bytes"}
)
"""Of the DiskService."""


class BlockingChannel(Protocol):
    """What a stub of unary calls, made from threads, asks for: a grpc.Channel, or a BlockingLink."""

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Peer:
    """A node far away: its endpoint may change while its disks are in use."""

    __slots__ = ("_channel", "_dial", "endpoint", "stub")

    def __init__(self, endpoint: str, dial: Callable[[str], BlockingChannel] = blocking_channel) -> None:
        self._dial = dial
        self._channel: BlockingChannel | None = None
        self.move(endpoint)

    def move(self, endpoint: str) -> None:
        """It is reached there from now on; calls under way end as they will."""
        old, self._channel = self._channel, self._dial(endpoint)
        self.endpoint = endpoint
        self.stub = BULK.at_client(disks_pb2_grpc.DiskServiceStub(self._channel), self._channel)
        if old is not None:
            old.close()

    def close(self) -> None:
        """End the channel."""
        if self._channel is not None:
            self._channel.close()


class RemoteFile:
    """An open file of a remote disk; thread-safe as its channel is."""

    __slots__ = ("_closed", "_created", "_disk", "_handle", "_name", "_writing")

    def __init__(self, disk: "RemoteDisk", name: str, handle: int, *, created: bool) -> None:
        self._disk, self._name, self._created = disk, name, created
        self._handle = self._writing = handle
        self._closed = False

    def pwritev(self, buffers: Sequence[Buffer], offset: int, *, durable: bool) -> None:
        """Write all at `offset`; with `durable` it survives power loss of the far node on return."""
        self._write(buffers, offset, durable, 0, 0)

    def write_then_read(self, buffers: Sequence[Buffer], offset: int, into: memoryview, at: int) -> int:
        """Write durably, then fill `into` from `at`; one call. Returns the bytes read."""
        found = self._write(buffers, offset, True, at, len(into))
        into[: len(found)] = found
        return len(found)

    def _write(self, buffers: Sequence[Buffer], offset: int, durable: bool, at: int, length: int) -> bytes:
        if sum(map(len, buffers)) > CALL_BYTES:
            raise OSError(errno.EMSGSIZE, f"at most {CALL_BYTES} bytes are written at once", self._name)

        def request(handle: int) -> Bulk[pb.WriteRequest]:
            message = pb.WriteRequest(handle=handle, offset=offset, durable=durable, read_at=at, read_length=length)
            return Bulk(message, buffers)

        answer: pb.WriteResponse = self._call("Write", request)
        return answer.bytes

    def preadv(self, buffers: Sequence[memoryview], offset: int, *, nowait: bool = False) -> int:
        """Fill the buffers; fewer bytes only at the end of the file. Nothing far away is at hand without waiting."""
        if nowait:
            raise BlockingIOError(errno.EAGAIN, "on another node", self._name)
        wanted, done, at = sum(map(len, buffers)), 0, 0
        index = 0
        while done < wanted:
            size = min(CALL_BYTES, wanted - done)
            answer: Bulk[pb.ReadAtResponse] = self._call("Read", _reading(offset + done, size))
            part = memoryview(answer.payload[0])
            short = len(part) < size
            while part:
                room = buffers[index][at : at + len(part)]
                room[:] = part[: len(room)]
                part = part[len(room) :]
                done, at = done + len(room), at + len(room)
                if at == len(buffers[index]):
                    index, at = index + 1, 0
            if short:
                break
        return done

    def sync(self) -> None:
        """fdatasync."""
        self._call("Sync", lambda handle: pb.SyncRequest(handle=handle))

    def allocate(self, offset: int, length: int) -> None:
        """Reserve space; grows the file."""
        self._call("Allocate", lambda handle: pb.AllocateRequest(handle=handle, offset=offset, length=length))

    def punch(self, offset: int, length: int) -> None:
        """Free the space; reads as zeros, the size stays."""
        self._call("Punch", lambda handle: pb.PunchRequest(handle=handle, offset=offset, length=length))

    def size(self) -> int:
        """Bytes."""
        answer: pb.GetSizeResponse = self._call("GetSize", lambda handle: pb.GetSizeRequest(handle=handle))
        return int(answer.size)

    def close(self) -> None:
        """Tell the far node, without waiting for its answer; a handle nobody closes is forgotten there in time."""
        if not self._closed:
            self._closed = True
            self._disk.forget(self._handle)

    def _call(self, method: str, request: Callable[[int], Any]) -> Any:
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed", self._name)
        if self._created and method not in ("Read", "GetSize"):
            return self._disk.call(method, request(self._writing))
        try:
            return self._disk.call(method, request(self._handle))
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self._handle = self._disk.open_handle(self._name)
        return self._disk.call(method, request(self._handle))


class RemoteDisk:
    """One disk of another node. Names and errors as a local disk's."""

    def __init__(
        self, *, peer: Peer, disk_id: DiskId, label: str, timeout: float = 10.0, write_timeout: float = 30.0
    ) -> None:
        """`label`: for people, e.g. `node-a/d0`. Timeouts in seconds: of reads and names, of what is synced."""
        self.root = label
        self.peer = peer
        """Who serves it now; may be set."""
        self._disk_id = disk_id
        self._timeout, self._write_timeout = timeout, write_timeout
        self._closing: set[Any] = set()
        """Calls nobody waits for."""

    def open(self, name: str, *, create: bool = False, exclusive: bool = False) -> RemoteFile:
        """Open; `create` is durable on return."""
        handle = self.open_handle(name, create=create, exclusive=exclusive)
        return RemoteFile(self, name, handle, created=create)

    def open_handle(self, name: str, *, create: bool = False, exclusive: bool = False) -> int:
        """What `Open` answers, a number."""
        request = pb.OpenRequest(disk_id=self._disk_id, name=name, create=create, exclusive=exclusive)
        return int(self.call("Open", request).handle)

    def rename(self, old: str, new: str) -> None:
        """Atomic replace, durable on return."""
        self.call("Rename", pb.RenameRequest(disk_id=self._disk_id, old=old, new=new))

    def unlink(self, name: str) -> None:
        """Remove the name; durable on return."""
        self.call("Unlink", pb.UnlinkRequest(disk_id=self._disk_id, name=name))

    def listdir(self, folder: str) -> list[str]:
        """Sorted names; the folder is made when absent."""
        return list(self.call("List", pb.ListRequest(disk_id=self._disk_id, folder=folder)).names)

    def space(self) -> tuple[int, int]:
        """(free, total) bytes."""
        answer: pb.GetSpaceResponse = self.call("GetSpace", pb.GetSpaceRequest(disk_id=self._disk_id))
        return int(answer.free), int(answer.total)

    def call(self, method: str, request: Any) -> Any:
        """One call, blocking; OSError with what the disk said, ConnectionError, TimeoutError."""
        timeout = self._timeout if method in ("Read", "GetSize", "GetSpace") else self._write_timeout
        with _as_os_errors(self.root):
            answer = getattr(self.peer.stub, method)(request, timeout=timeout)
        error = (answer.message if isinstance(answer, Bulk) else answer).error
        if error.number:
            raise OSError(error.number, error.text, self.root)
        return answer

    def forget(self, handle: int) -> None:
        """Close a handle without waiting."""
        with suppress(ValueError):  # the channel is closed: so is the handle, in time
            call = self.peer.stub.Close.future(pb.CloseRequest(handle=handle), timeout=self._timeout)
            # gRPC cancels a call that nobody refers to, and has been seen to crash while it did.
            self._closing.add(call)
            call.add_done_callback(self._closing.discard)


def _reading(offset: int, length: int) -> Callable[[int], pb.ReadAtRequest]:
    return lambda handle: pb.ReadAtRequest(handle=handle, offset=offset, length=length)


@contextmanager
def _as_os_errors(label: str) -> Iterator[None]:
    """The transport's errors as a disk's (M3)."""
    try:
        yield
    except ValueError as error:  # gRPC says so when the channel is closed
        raise ConnectionError(errno.ECONNREFUSED, "the connection is closed", label) from error
    except grpc.RpcError as error:
        status, text = error.code(), error.details() or ""
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError(errno.ETIMEDOUT, f"the node answers late ({text})", label) from error
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise ConnectionError(errno.ECONNREFUSED, f"the node cannot be reached ({text})", label) from error
        if status in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
            raise PermissionError(errno.EACCES, f"the node refuses ({text})", label) from error
        raise OSError(errno.EREMOTEIO, f"the node failed ({status.name}: {text})", label) from error

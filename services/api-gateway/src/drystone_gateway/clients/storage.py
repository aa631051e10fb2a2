# SPDX-License-Identifier: Apache-2.0
"""The storage nodes of a cell as one StorageService: the form that gateways on other hosts use.

Invariants
  C1  An append goes to one node; when that cannot be reached or cannot write, to another, as a new blob: what the first
      may have stored is never named (R7).
  C2  A read goes on at another node from where it stopped: the bytes handed out are exactly those asked for.
  C3  At most `tries` nodes are asked for one append or one read; what a node says of the blob itself (Damaged, Refused) is
      passed on at once.
  C4  A node that does not answer holds nobody for longer than `late`: what it may still do is never named.
  C5  Memory: the pool's piece buffers, and what the short reads and appends under way hold.
Short appends gather at few nodes (choice.py), near ones first; pieces and long reads go to nodes in turn.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from drystone_core.errors import ErrorCode, Unavailable
from drystone_core.extents import BlobRef, StripedExtent
from drystone_core.ids import BlobId, make_blob_id
from drystone_core.ports import Buffer, Clock, Entropy
from drystone_core.services import BlobHeader, BlobWriter, ReadChunk, SmallBlob
from drystone_core.storage_classes import is_about_class
from drystone_datapath.buffers import PIECE_BYTES, BufferPool
from drystone_datapath.pack import Piece
from drystone_datapath.write import StripedWriter
from drystone_gateway.clients.choice import Choice, Peer
from drystone_runtime.rpc.patience import within

SHORT = 256 * 1024
"""Bytes up to which a read travels with others in one call."""


class NodeClient(Protocol):
    """One storage node far away."""

    def append(self, blob: SmallBlob) -> Awaitable[BlobRef]: ...

    async def append_piece(
        self, header: BlobHeader, *, blob_id: BlobId, piece_offset: int, payload: Buffer, trailer: bytes, last: bool
    ) -> StripedExtent: ...

    def read_short(self, blobs: Sequence[BlobRef], start: int, length: int) -> Awaitable[bytes]: ...

    def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]: ...


@dataclass(slots=True, eq=False, kw_only=True)
class CellNode(Peer):
    """A storage node as a gateway sees it."""

    client: NodeClient


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStorageSettings:
    """Limits."""

    tries: int = 6
    """Nodes asked at most; while the coordinator is away only those with an open volume take appends."""
    full: int = 32
    """Short appends or reads under way at a node before others are sent to the next."""
    avoid: float = 2.0
    """Seconds a node that failed is asked last."""
    late: float = 5.0
    """Seconds for an append, and for the next bytes of a read: more than a node needs to leave a slow disk."""
    piece_buffers: int = 16


class CellStorage:
    """StorageService over the nodes `nodes()` tells at each call."""

    def __init__(
        self,
        *,
        nodes: Callable[[], Sequence[CellNode]],
        clock: Clock,
        entropy: Entropy,
        settings: CellStorageSettings | None = None,
        nearest: Callable[[Sequence[BlobRef]], str | None] = lambda blobs: None,
    ) -> None:
        """`nearest`: the node that holds the bytes of a short read, when that is known."""
        self._nearest = nearest
        self._nodes, self._clock, self._entropy = nodes, clock, entropy
        self._settings = settings or CellStorageSettings()
        self._pieces = BufferPool(size=PIECE_BYTES, count=self._settings.piece_buffers)
        self._choice = Choice(
            seed=entropy.token(8), clock=clock, tries=self._settings.tries, full=self._settings.full,
            avoid=self._settings.avoid,
        )  # fmt: skip

    async def append(self, blob: SmallBlob) -> BlobRef:
        """Durable on all slots when it returns."""
        failure: Unavailable | None = None
        for node in self._choice.gathered(self._nodes(), near=True):
            try:
                with node.counted():
                    async with self._soon(node):
                        return await node.client.append(blob)
            except Unavailable as error:
                failure = self._failed(node, error)
        raise failure or Unavailable("no storage node is known")

    def writer(self, header: BlobHeader, *, expected: int) -> BlobWriter:
        """For a large blob: its pieces are cut here, each is appended by one node."""
        return StripedWriter(
            header=header,
            blob_id=make_blob_id(self._clock.wall_us(), self._entropy.token(8)),
            expected=expected,
            sink=self._append_piece,
            pool=self._pieces,
        )

    def read_now(self, blobs: Sequence[BlobRef], start: int, length: int) -> Buffer | None:
        """Nothing far away can be had without waiting."""
        return None

    async def read(self, blobs: Sequence[BlobRef], start: int, length: int) -> AsyncIterator[ReadChunk]:
        """Verified bytes in order; continued at another node when one goes away."""
        done = 0
        failure: Unavailable | None = None
        for node in self._to_read(blobs, length):
            try:
                if length - done <= SHORT:
                    with node.counted():
                        async with self._soon(node):
                            data = await node.client.read_short(blobs, start + done, length - done)
                    yield ReadChunk(memoryview(data), _nothing)
                    return
                chunks = node.client.read(blobs, start + done, length - done)
                while (chunk := await self._next(node, chunks)) is not None:
                    done += len(chunk.data)
                    if (
                        done == length
                    ):  # nobody asks for more: the call ends here, rather than broken off, counted as failed
                        with suppress(Unavailable):
                            await self._next(node, chunks)
                    yield chunk
                if done == length:
                    return
                failure = self._failed(node, Unavailable("the storage node ended a read early"))
            except Unavailable as error:
                failure = self._failed(node, error)
        raise failure or Unavailable("no storage node is known")

    async def _append_piece(self, piece: Piece) -> StripedExtent:
        failure: Unavailable | None = None
        for node in self._choice.in_turn(self._nodes(), near=True):
            try:
                async with self._soon(node):
                    return await node.client.append_piece(
                        piece.header,
                        blob_id=piece.blob_id,
                        piece_offset=piece.offset,
                        payload=piece.view[: piece.length],
                        trailer=piece.trailer,
                        last=piece.last,
                    )
            except Unavailable as error:
                failure = self._failed(node, error)
        raise failure or Unavailable("no storage node is known")

    def _to_read(self, blobs: Sequence[BlobRef], length: int) -> list[CellNode]:
        """Short reads where the bytes are, else together with others; long ones spread."""
        if length > SHORT:
            return self._choice.in_turn(self._nodes())
        return self._choice.gathered(self._nodes(), first=self._nearest(blobs))

    async def _next(self, node: CellNode, chunks: AsyncIterator[ReadChunk]) -> ReadChunk | None:
        """None: the node has said all."""
        async with self._soon(node):
            return await anext(chunks, None)

    def _soon(self, node: CellNode) -> AbstractAsyncContextManager[None]:
        """C4: Unavailable when what is inside takes too long."""
        return within(self._settings.late, f"the storage node {node.name}")

    def _failed(self, node: CellNode, error: Unavailable) -> Unavailable:
        if error.code is not ErrorCode.INSUFFICIENT_STORAGE and not is_about_class(error):
            self._choice.failed(node)
        return error


def _nothing() -> None:
    """Bytes of a message need no giving back."""

# SPDX-License-Identifier: Apache-2.0
"""The bytes of an object on their way to a client (or into a copy), whatever moves underneath.

Invariants
  O1  Only verified bytes pass; an error after the first byte breaks the stream, it never shortens it.
  O2  When a blob cannot be read where the row said (its volume was compacted away), the row is read again, once; the
      stream goes on only if the uid is the same, so a body is one version's bytes.
  O3  Every chunk taken from storage is handed on, or released here.
"""

from collections.abc import AsyncIterator

from drystone_core.errors import Damaged, DrystoneError, Stale, Unavailable
from drystone_core.objects import ObjectVersion
from drystone_core.services import MetadataService, ReadChunk, StorageService
from drystone_gateway.operations.layout import Layout


class ObjectStream:
    """Chunks of bytes [start, start + length) of a version; an AsyncIterator to be closed with `aclose()`."""

    __slots__ = (
        "_at",
        "_bucket",
        "_chunks",
        "_end",
        "_first",
        "_layout",
        "_metadata",
        "_retried",
        "_storage",
        "_version",
    )

    def __init__(
        self,
        *,
        metadata: MetadataService,
        storage: StorageService,
        layout: Layout,
        bucket: str,
        version: ObjectVersion,
        start: int,
        length: int,
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self._layout = layout
        self._bucket = bucket
        self._version = version
        self._at = start
        self._end = start + length
        self._chunks: AsyncIterator[ReadChunk] | None = None
        self._first: ReadChunk | None = None
        self._retried = False

    async def begin(self) -> None:
        """Fetch the first chunk, so that an object that cannot be read is refused with a status."""
        self._first = await self._next()

    def __aiter__(self) -> "ObjectStream":
        return self

    async def __anext__(self) -> ReadChunk:
        first = self._first
        if first is not None:
            self._first = None
            return first
        chunk = await self._next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Give back what was taken; safe to call at any time, more than once."""
        first, self._first = self._first, None
        if first is not None:
            first.release()
        await self._drop()
        self._end = self._at

    async def _next(self) -> ReadChunk | None:
        while self._at < self._end:
            try:
                chunks = self._chunks
                if chunks is None:
                    chunks = self._chunks = await self._open()
                async for chunk in chunks:
                    self._at += len(chunk.data)
                    return chunk
                self._chunks = None
            except (Stale, Damaged, Unavailable) as error:
                await self._drop()
                await self._follow(error)
        return None

    async def _open(self) -> AsyncIterator[ReadChunk]:
        blobs, first, held = await self._layout.window(self._version, self._at)
        stop = min(self._end, first + held)
        return self._storage.read(blobs, self._at - first, stop - self._at)

    async def _follow(self, error: DrystoneError) -> None:
        if self._retried:
            raise error
        version = self._version
        now = await self._metadata.object(self._bucket, version.key, version.version_id)
        if now.uid != version.uid or (now.blobs == version.blobs and now.manifest == version.manifest):
            raise error
        self._version = now
        self._retried = True

    async def _drop(self) -> None:
        chunks, self._chunks = self._chunks, None
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()

# SPDX-License-Identifier: Apache-2.0
"""The layout of versions, read from their rows or from the pages of their manifests.

A manifest is immutable, so its decoded index is kept (a bounded number of them) by blob id: a range of a large object
then costs one page. Format: drystone_core.formats.manifest.
"""

from typing import Final

from drystone_core.errors import Damaged
from drystone_core.extents import BlobRef
from drystone_core.formats.manifest import PAGE, ManifestIndex, decode_index, decode_page
from drystone_core.ids import BlobId
from drystone_core.objects import ObjectVersion, Part
from drystone_core.ports import Buffer
from drystone_core.services import StorageService
from drystone_gateway.operations.layout import PartSpan, Window

_INDEXES: Final = 256
"""Indexes kept; each a few kilobytes."""


class BlobLayout:
    """A `Layout` over a storage service."""

    __slots__ = ("_indexes", "_storage")

    def __init__(self, *, storage: StorageService) -> None:
        self._storage = storage
        self._indexes: dict[BlobId, ManifestIndex] = {}

    async def window(self, version: ObjectVersion, at: int) -> Window:
        manifest = version.manifest
        if manifest is None:
            return Window(version.blobs, 0, version.size)
        index = await self._index(manifest)
        pages = index.pages_for(at, 1)
        if not pages or index.size != version.size:
            raise Damaged("a manifest does not describe its object")
        parts = await self._page(manifest, index, pages[0])
        blobs = [blob for part in parts for blob in part.blobs]
        return Window(blobs, index.offsets[pages[0]], sum(blob.length for blob in blobs))

    async def part(self, version: ObjectVersion, number: int) -> PartSpan | None:
        start, parts = 0, version.parts
        manifest = version.manifest
        if manifest is not None:
            index = await self._index(manifest)
            page = index.page_for_part(number)
            if page is None:
                return None
            start = index.offsets[page]
            parts = tuple(await self._page(manifest, index, page))
        for part in parts:
            if part.number == number:
                return PartSpan(part, start)
            start += part.size
        return None

    async def parts(self, version: ObjectVersion, after: int, limit: int) -> list[Part]:
        manifest = version.manifest
        if manifest is None:
            return [part for part in version.parts if part.number > after][:limit]
        index = await self._index(manifest)
        found: list[Part] = []
        for page in range(index.page_for_part(after) or 0, index.pages):
            found += [part for part in await self._page(manifest, index, page) if part.number > after]
            if len(found) >= limit:
                break
        return found[:limit]

    async def _index(self, manifest: BlobRef) -> ManifestIndex:
        index = self._indexes.get(manifest.blob_id)
        if index is None:
            index = decode_index(await self._read(manifest, 0, min(PAGE, manifest.length)))
            if len(self._indexes) >= _INDEXES:
                self._indexes.clear()
            self._indexes[manifest.blob_id] = index
        return index

    async def _page(self, manifest: BlobRef, index: ManifestIndex, page: int) -> list[Part]:
        start, length = index.place(page)
        return decode_page(await self._read(manifest, start, length))

    async def _read(self, blob: BlobRef, start: int, length: int) -> Buffer:
        data = self._storage.read_now((blob,), start, length)
        if data is not None:
            return data
        whole = bytearray()
        async for chunk in self._storage.read((blob,), start, length):
            whole += chunk.data
            chunk.release()
        return whole

# SPDX-License-Identifier: Apache-2.0
"""Reading object rows wherever they are: the tablets of a cell as one ordered space.

Invariants
  E1  A row is read in the tablet that holds its key at the moment of reading (R7); a refusal leads to a fresh look and another
      try, never to an absent row. So every piece of a scan shows what was acknowledged before the scan began.
  E2  Rows that are no object's are read in the first tablet.
  E3  A page of versions, and what is said of a blob, is judged within one tablet at one head each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from drystone_core.errors import Unavailable
from drystone_core.formats.row_keys import object_address
from drystone_core.ids import BucketId
from drystone_core.listing import ListedVersion, VersionPage
from drystone_core.services import BlobName
from drystone_metadata.listing.versions import Pause, list_versions
from drystone_metadata.liveness import dead_blobs
from drystone_metadata.store.ports import CELL_TABLET, KeyOutOfRange, RowKey, TabletId, TabletStorage, UnknownTablet
from drystone_metadata.store.ranges import OBJECT_KINDS
from drystone_metadata.store.reading import successor
from drystone_metadata.tablets.map import Spot, TabletMap

MOVED = (KeyOutOfRange, UnknownTablet)
"""What a tablet says that does not hold what was asked for."""
_ATTEMPTS = 16
T = TypeVar("T")


class CellRows:
    """RowReader over all tablets; the tablet a caller names is not looked at."""

    def __init__(self, storage: TabletStorage, tablets: TabletMap) -> None:
        self._storage = storage
        self._map = tablets

    async def read(self, _tablet: TabletId, keys: Sequence[RowKey]) -> list[bytes | None]:
        """In one call for each tablet that holds some of them."""
        found: dict[RowKey, bytes | None] = {}
        left = list(dict.fromkeys(keys))
        for _ in range(_ATTEMPTS):
            groups: dict[TabletId, list[RowKey]] = {}
            for key in left:
                groups.setdefault(await self._place(key), []).append(key)
            if len(groups) == 1:
                answers = [await self._group(*next(iter(groups.items())))]
            else:
                answers = await asyncio.gather(*(self._group(*group) for group in groups.items()))
            left = []
            for asked, values in zip(groups.values(), answers, strict=True):
                if values is None:
                    left += asked
                else:
                    found.update(zip(asked, values, strict=True))
            if not left:
                return [found[key] for key in keys]
            for key in left:
                if key.kind in OBJECT_KINDS:
                    await self._map.look(key.key)
                    break
        raise Unavailable("the tablets of these keys are being moved")

    async def scan(self, _tablet: TabletId, start: RowKey, end: RowKey, limit: int) -> list[tuple[RowKey, bytes]]:
        """Of one kind, from one tablet after another; rows that are no object's in one piece."""
        if start.kind not in OBJECT_KINDS:
            return await self._storage.scan(CELL_TABLET, start, end, limit)
        found: list[tuple[RowKey, bytes]] = []
        while start < end and len(found) < limit:
            read = partial(self._piece, start, end, limit - len(found))
            spot, rows = await on_tablet(self._map, start.key, read)
            found += rows
            if not spot.high:
                break
            start = max(start, RowKey(start.kind, spot.high))
        return found[:limit]

    async def _piece(
        self, start: RowKey, end: RowKey, limit: int, spot: Spot
    ) -> tuple[Spot, list[tuple[RowKey, bytes]]]:
        stop = min(end, RowKey(start.kind, spot.high)) if spot.high else end
        return spot, await self._storage.scan(spot.tablet, start, stop, limit)

    async def _place(self, key: RowKey) -> TabletId:
        return (await self._map.find(key.key)).tablet if key.kind in OBJECT_KINDS else CELL_TABLET

    async def _group(self, tablet: TabletId, keys: list[RowKey]) -> list[bytes | None] | None:
        """None: they are elsewhere."""
        try:
            return await self._storage.read(tablet, keys)
        except MOVED:
            return None


async def on_tablet(tablets: TabletMap, address: bytes, call: Callable[[Spot], Awaitable[T]]) -> T:
    """Do something at the tablet of an address, looking again as long as it has moved."""
    spot = await tablets.find(address)
    for _ in range(_ATTEMPTS):
        try:
            return await call(spot)
        except MOVED:
            spot = await tablets.look(address)
    raise Unavailable("the tablet of the key is being moved")


async def versions_across(
    storage: TabletStorage,
    tablets: TabletMap,
    bucket_id: BucketId,
    *,
    prefix: bytes,
    delimiter: bytes,
    after_key: bytes,
    after_version: str,
    limit: int,
    pause: Callable[[TabletId], Pause | None],
) -> VersionPage:
    """One page, put together from one page of each tablet that it goes through (E3)."""
    base = bucket_id.to_bytes(8, "big")
    end = successor(base + prefix) or b""
    versions: list[ListedVersion] = []
    prefixes: list[bytes] = []
    at = base + max(prefix, after_key)
    if limit <= 0:
        return _page(versions, prefixes, truncated=False)

    async def piece(at: bytes, marker: tuple[bytes, str], most: int, spot: Spot) -> tuple[Spot, VersionPage]:
        # From `at` on, not from where the tablet begins: it may have taken over what was read already from its neighbour.
        page = await list_versions(
            storage,
            spot.tablet,
            bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=marker[0],
            after_version=marker[1],
            limit=most,
            low=at,
            high=spot.high,
            pause=pause(spot.tablet),
        )
        return spot, page

    while True:
        left = limit - len(versions) - len(prefixes)
        read = partial(piece, at, (after_key, after_version), max(left, 1))
        spot, page = await on_tablet(tablets, at, read)
        more = not page.truncated and spot.high and (not end or spot.high < end)
        if left <= 0:
            # The page is full; this piece was only read to know whether anything follows.
            if page.versions or page.common_prefixes:
                return _page(versions, prefixes, truncated=True)
        else:
            versions += page.versions
            prefixes += page.common_prefixes
            if page.truncated:
                return VersionPage(
                    versions=versions,
                    common_prefixes=prefixes,
                    truncated=True,
                    next_key=page.next_key,
                    next_version=page.next_version,
                )
        if not more:
            return _page(versions, prefixes, truncated=False)
        at = spot.high
        last_key = versions[-1].key if versions else b""
        if prefixes and prefixes[-1] > last_key:
            after_key, after_version = prefixes[-1], ""  # the rest of what it hides is skipped in the next tablet


def _page(versions: list[ListedVersion], prefixes: list[bytes], *, truncated: bool) -> VersionPage:
    """A page that ends with the last of what it shows."""
    next_key, next_version = b"", ""
    if truncated:
        next_key = prefixes[-1] if prefixes else b""
        if versions and versions[-1].key > next_key:
            next_key, next_version = versions[-1].key, versions[-1].version_id
    return VersionPage(
        versions=versions, common_prefixes=prefixes, truncated=truncated, next_key=next_key, next_version=next_version
    )


async def dead_across(storage: TabletStorage, tablets: TabletMap, names: Sequence[BlobName]) -> list[bool]:
    """For each name whether its blob is dead, judged in its own tablet (E3)."""
    answers = [False] * len(names)
    left = list(range(len(names)))
    for _ in range(_ATTEMPTS):
        groups: dict[TabletId, list[int]] = {}
        for index in left:
            spot = await tablets.find(object_address(names[index].bucket_id, names[index].key))
            groups.setdefault(spot.tablet, []).append(index)
        left = []
        for tablet, indices in groups.items():
            try:
                dead = await dead_blobs(storage, tablet, [names[index] for index in indices])
            except MOVED:
                left += indices
                name = names[indices[0]]
                await tablets.look(object_address(name.bucket_id, name.key))
                continue
            for index, is_gone in zip(indices, dead, strict=True):
                answers[index] = is_gone
        if not left:
            break
    return answers

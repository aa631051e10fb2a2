# SPDX-License-Identifier: Apache-2.0
"""ListObjectVersions: CURRENT and VERSION rows merged, keys ascending, newest first.

Invariants
  L1  A key's CURRENT row comes before its VERSION rows, which stand in order, newest first.
  L2  A page is what stood at one head: nothing was committed while it was read, or (the feed says so) nothing under its
      prefix, or it was read again while commits paused. So a row that moves between the two is shown, and once.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from drystone_core.errors import Unavailable
from drystone_core.formats.feed import decode_record
from drystone_core.formats.row_keys import CURRENT, NULL_AT, VERSION, parse_version
from drystone_core.formats.rows import ObjectHead, listed_fields, object_head
from drystone_core.formats.rowseal import unseal
from drystone_core.ids import NULL_VERSION, BucketId, Key
from drystone_core.listing import ListedVersion, VersionPage
from drystone_metadata.listing.keys import first_key
from drystone_metadata.store.ports import RowKey, TabletId, TabletStorage
from drystone_metadata.store.reading import Row, RowRun, successor

_ATTEMPTS = 2
_MORE_ATTEMPTS = 6
_COMMITS_MOST = 64
"""Looked through for changes under the prefix; after more the page is read again."""
Pause = Callable[[], AbstractAsyncContextManager[None]]
"""No commit is under way inside."""


async def list_versions(
    storage: TabletStorage,
    tablet: TabletId,
    bucket_id: BucketId,
    *,
    prefix: bytes,
    delimiter: bytes,
    after_key: bytes,
    after_version: str,
    limit: int,
    pause: Pause | None,
    low: bytes = b"",
    high: bytes = b"",
) -> VersionPage:
    """One page, of the addresses from `low` to `high` (empty = no end). Without `pause` a page that commits keep running into
    becomes shorter, and is Unavailable in the end."""
    base = bucket_id.to_bytes(8, "big")
    end_key = successor(base + prefix)
    begin = first_key(prefix, delimiter, after_key)
    empty = VersionPage(versions=[], common_prefixes=[], truncated=False, next_key=b"", next_version="")
    if limit <= 0 or end_key is None:
        return empty
    if after_version and after_key >= prefix:
        begin = after_key
    if begin is None:
        return empty
    start, end_key, first = max(base + begin, low), min(end_key, high or end_key), 16 if delimiter else limit + 1

    async def read(most: int) -> VersionPage:
        marker = b""
        if after_version and after_key >= prefix and base + after_key >= low:
            marker = await _order_of(storage, tablet, base + after_key, after_version)
        runs = [
            RowRun(storage, tablet, RowKey(kind, start), RowKey(kind, end_key), first=first, most=limit + 1)
            for kind in (CURRENT, VERSION)
        ]
        return await _merge(runs[0], runs[1], prefix, delimiter, most, (base + after_key, marker))

    for attempt in range(_ATTEMPTS if pause is not None else _MORE_ATTEMPTS):
        before = (await storage.state(tablet)).head
        page = await read(max(1, limit >> 3 * max(0, attempt - _ATTEMPTS + 1)))
        head = (await storage.state(tablet)).head
        if head == before or not await _touched(storage, tablet, before, head, bucket_id, prefix):
            return page
    if pause is None:
        raise Unavailable("the page changes faster than it can be read here")
    async with pause():
        before = (await storage.state(tablet)).head
        page = await read(limit)
        if (await storage.state(tablet)).head != before:
            raise Unavailable("another owner writes to the tablet")
        return page


async def _touched(
    storage: TabletStorage, tablet: TabletId, before: int, head: int, bucket_id: BucketId, prefix: bytes
) -> bool:
    """Whether a commit after `before`, up to `head`, may have changed keys under the prefix."""
    if head - before > _COMMITS_MOST:
        return True
    rows = await storage.feed(tablet, before, head - before)
    if len(rows) < head - before:
        return True
    return any(
        entry.bucket_id == bucket_id and entry.key.startswith(prefix)
        for row in rows
        for entry in decode_record(row.record).entries
    )


async def _order_of(storage: TabletStorage, tablet: TabletId, address: bytes, version: str) -> bytes:
    """The order after which a page goes on; empty when the marker's version is gone."""
    order = parse_version(version)
    if order is not None or version != NULL_VERSION:
        return order or b""
    value, pointer = await storage.read(tablet, [RowKey(CURRENT, address), RowKey(NULL_AT, address)])
    if pointer is not None:
        return unseal(NULL_AT, address, b"", pointer)
    if value is not None and (head := object_head(CURRENT, address, b"", value)).null:
        return head.order
    return b""


async def _merge(
    current: RowRun, older: RowRun, prefix: bytes, delimiter: bytes, limit: int, marker: tuple[bytes, bytes]
) -> VersionPage:
    versions: list[ListedVersion] = []
    prefixes: list[bytes] = []
    shown, last_order = marker
    next_key, next_version, truncated = b"", "", False
    skip = 8 + len(prefix)
    while (chosen := await _least(current, older)) is not None:
        run, (row, value) = chosen
        address = row.key
        head = object_head(row.kind, address, row.seq, value)
        if address == shown and head.order <= last_order:
            run.advance()
            continue
        if len(versions) + len(prefixes) >= limit:
            truncated = True
            break
        at = address.find(delimiter, skip) if delimiter else -1
        if at >= 0:
            common = address[: at + len(delimiter)]
            next_key, next_version = common[8:], ""
            prefixes.append(next_key)
            beyond = successor(common)
            if beyond is None:
                break
            current.seek(RowKey(CURRENT, beyond))
            older.seek(RowKey(VERSION, beyond))
            continue
        entry = _listed(row.kind, address, head, value)
        versions.append(entry)
        shown, last_order = address, head.order
        next_key, next_version = entry.key, entry.version_id
        run.advance()
    return VersionPage(
        versions=versions,
        common_prefixes=prefixes,
        truncated=truncated,
        next_key=next_key if truncated else b"",
        next_version=next_version if truncated else "",
    )


async def _least(current: RowRun, older: RowRun) -> tuple[RowRun, Row] | None:
    one, two = await current.peek(), await older.peek()
    if one is not None and (two is None or one[0].key <= two[0].key):
        return current, one
    return None if two is None else (older, two)


def _listed(kind: int, address: bytes, head: ObjectHead, value: bytes) -> ListedVersion:
    size, etag, modified, storage_class, algorithm, type_of_sum = listed_fields(head, value)
    return ListedVersion(
        Key(address[8:]),
        head.version_id,
        kind == CURRENT,
        head.delete_marker,
        size,
        etag,
        modified,
        storage_class,
        algorithm,
        type_of_sum,
    )

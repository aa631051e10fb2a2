# SPDX-License-Identifier: Apache-2.0
"""ListObjectVersions: CURRENT and VERSION rows merged, keys ascending, newest first.

Invariants
  L1  A key's CURRENT row comes before its VERSION rows, which stand in order, newest first.
  L2  A row that moves between the two while a page is read is shown once: the page is read again when the head moved,
      and orders of one key only grow within a page.
"""

from drystone_core.formats.row_keys import CURRENT, NULL_AT, VERSION, parse_version
from drystone_core.formats.rows import ObjectHead, listed_fields, object_head
from drystone_core.formats.rowseal import unseal
from drystone_core.ids import NULL_VERSION, BucketId, Key
from drystone_core.listing import ListedVersion, VersionPage
from drystone_metadata.listing.keys import first_key
from drystone_metadata.store.ports import RowKey, TabletId, TabletStorage
from drystone_metadata.store.reading import Row, RowRun, successor

_ATTEMPTS = 4


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
) -> VersionPage:
    """One page."""
    base = bucket_id.to_bytes(8, "big")
    end_key = successor(base + prefix)
    begin = first_key(prefix, delimiter, after_key)
    empty = VersionPage(versions=[], common_prefixes=[], truncated=False, next_key=b"", next_version="")
    if limit <= 0 or end_key is None:
        return empty
    marker = b""
    if after_version and after_key >= prefix:
        begin = after_key
        marker = await _order_of(storage, tablet, base + after_key, after_version)
    if begin is None:
        return empty
    first = 16 if delimiter else limit + 1
    page = empty
    for _ in range(_ATTEMPTS):
        before = (await storage.state(tablet)).head
        current = RowRun(
            storage, tablet, RowKey(CURRENT, base + begin), RowKey(CURRENT, end_key), first=first, most=limit + 1
        )
        older = RowRun(
            storage, tablet, RowKey(VERSION, base + begin), RowKey(VERSION, end_key), first=first, most=limit + 1
        )
        page = await _merge(current, older, prefix, delimiter, limit, (base + begin, marker))
        if (await storage.state(tablet)).head == before:
            break
    return page


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

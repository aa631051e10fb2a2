# SPDX-License-Identifier: Apache-2.0
"""ListObjects: current versions by key, with common prefixes sought past.

Invariants
  L1  A page costs O(entries returned) (delete markers between them apart), however many keys a prefix hides.
  L2  A common prefix appears once over all pages: `next_after` may be one, and everything under it is then skipped.
"""

from drystone_core.formats.row_keys import CURRENT
from drystone_core.formats.row_sections import DELETE_MARKER
from drystone_core.formats.rows import listed, object_head
from drystone_core.ids import BucketId
from drystone_core.listing import ListedObject, ObjectPage
from drystone_metadata.store.ports import RowKey, RowReader, TabletId
from drystone_metadata.store.reading import RowRun, successor


async def list_objects(
    storage: RowReader,
    tablet: TabletId,
    bucket_id: BucketId,
    *,
    prefix: bytes,
    delimiter: bytes,
    after: bytes,
    limit: int,
) -> ObjectPage:
    """One page."""
    base = bucket_id.to_bytes(8, "big")
    end_key = successor(base + prefix)
    begin = first_key(prefix, delimiter, after)
    if limit <= 0 or begin is None or end_key is None:
        return ObjectPage(objects=[], common_prefixes=[], truncated=False, next_after=b"")
    start, end = RowKey(CURRENT, base + begin), RowKey(CURRENT, end_key)
    if delimiter:
        run = RowRun(storage, tablet, start, end, first=16, most=limit + 1)
        return await _grouped(run, base, prefix, delimiter, limit)
    objects: list[ListedObject] = []
    while True:
        wanted = limit + 1 - len(objects)
        rows = await storage.scan(tablet, start, end, wanted)
        listed(rows, objects)
        if len(objects) > limit or len(rows) < wanted:
            break
        start = RowKey(CURRENT, rows[-1][0].key + b"\0")
    truncated = len(objects) > limit
    if truncated:
        objects.pop()
    return ObjectPage(
        objects=objects, common_prefixes=[], truncated=truncated, next_after=objects[-1].key if truncated else b""
    )


async def _grouped(run: RowRun, base: bytes, prefix: bytes, delimiter: bytes, limit: int) -> ObjectPage:
    objects: list[ListedObject] = []
    prefixes: list[bytes] = []
    skip, last = len(base) + len(prefix), b""
    truncated = False
    while (row := await run.peek()) is not None:
        address, value = row[0].key, row[1]
        at = address.find(delimiter, skip)
        if at < 0:
            before = len(objects)
            if before + len(prefixes) < limit:
                listed((row,), objects)
                if len(objects) > before:
                    last = objects[-1].key
            elif not object_head(CURRENT, address, b"", value).must & DELETE_MARKER:
                truncated = True
                break
            run.advance()
        elif object_head(CURRENT, address, b"", value).must & DELETE_MARKER:
            run.advance()
        elif len(objects) + len(prefixes) >= limit:
            truncated = True
            break
        else:
            common = address[: at + len(delimiter)]
            last = common[8:]
            prefixes.append(last)
            beyond = successor(common)
            if beyond is None:
                break
            run.seek(RowKey(CURRENT, beyond))
    return ObjectPage(
        objects=objects, common_prefixes=prefixes, truncated=truncated, next_after=last if truncated else b""
    )


def first_key(prefix: bytes, delimiter: bytes, after: bytes) -> bytes | None:
    """The least key a page may begin with; None when there is none."""
    if not after or after < prefix:
        return prefix
    if delimiter and after.startswith(prefix):
        at = after.find(delimiter, len(prefix))
        if at >= 0 and at + len(delimiter) == len(after):
            return successor(after)
    return after + b"\0"

# SPDX-License-Identifier: Apache-2.0
"""R7 in bulk: which of many blobs can never be named again.

Invariants
  D1  A blob is called dead only if all rows that speak of it were read at one head, whose floor is above its stamp.
  D2  All names of a bucket that is gone are dead once the floor is above them.
  D3  One read serves the current row and the name row of every (key, uid); pointers cost at most one more round each.
"""

from collections.abc import Sequence

from drystone_core.formats.row_keys import BUCKET_NAME, CURRENT, NAMED, object_address
from drystone_core.services import BlobName
from drystone_metadata.logic.names import is_dead
from drystone_metadata.logic.view import NeedRows, View
from drystone_metadata.store.ports import RowKey, TabletId, TabletStorage
from drystone_metadata.store.reading import fetch

CHUNK = 256
_ATTEMPTS = 5


async def dead_blobs(storage: TabletStorage, tablet: TabletId, names: Sequence[BlobName]) -> list[bool]:
    """For each name whether its blob is dead."""
    answers: list[bool] = []
    for at in range(0, len(names), CHUNK):
        answers.extend(await _chunk(storage, tablet, names[at : at + CHUNK]))
    return answers


async def _chunk(storage: TabletStorage, tablet: TabletId, names: Sequence[BlobName]) -> list[bool]:
    answers = [False] * len(names)
    open_ones = list(range(len(names)))
    for _ in range(_ATTEMPTS):
        before = await storage.state(tablet)
        dead = await _judge(storage, tablet, [names[i] for i in open_ones], before.floor_us)
        after = await storage.state(tablet)
        open_ones = [i for i, is_gone in zip(open_ones, dead, strict=True) if is_gone]
        if after.head == before.head or not open_ones:
            for i in open_ones:
                answers[i] = True
            break
        # The head moved: those found alive were alive; the others are looked at again, half as many at a time.
        open_ones = open_ones[: max(1, len(open_ones) // 2)]
    return answers


async def _judge(storage: TabletStorage, tablet: TabletId, names: Sequence[BlobName], floor_us: int) -> list[bool]:
    view = View({})
    keys: dict[RowKey, None] = {}
    for name in names:
        address = object_address(name.bucket_id, name.key)
        keys[RowKey(CURRENT, address)] = None
        keys[RowKey(NAMED, address, name.uid)] = None
        keys[RowKey(BUCKET_NAME, address[:8])] = None
    unique = list(keys)
    view.rows.update(zip(unique, await storage.read(tablet, unique), strict=True))
    return [await _is_dead(storage, tablet, view, name, floor_us) for name in names]


async def _is_dead(storage: TabletStorage, tablet: TabletId, view: View, name: BlobName, floor_us: int) -> bool:
    if view.rows[RowKey(BUCKET_NAME, name.bucket_id.to_bytes(8, "big"))] is None:
        return int.from_bytes(name.blob_id[:8], "big") < floor_us
    while True:
        try:
            return is_dead(view, name, floor_us)
        except NeedRows as asked:
            need = asked
        await fetch(storage, tablet, view, need)

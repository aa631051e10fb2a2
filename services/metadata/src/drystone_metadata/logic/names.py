# SPDX-License-Identifier: Apache-2.0
"""R3, R6, R7: which row a uid means, whether it contains a blob, and replacing blobs in it.

Invariants
  N1  A uid means at most one row: the current row that carries it, or the one its NAMED row leads to.
  N2  A blob is dead iff it was stamped before the floor and the row of its uid, if there is one, does not contain it.
  N3  Reading costs a constant number of rows however many versions the key has.
"""

from dataclasses import replace
from typing import NamedTuple

from drystone_core.errors import Stale
from drystone_core.extents import BlobRef
from drystone_core.formats.feed import Operation, encode_outcome
from drystone_core.formats.row_keys import CURRENT, NAMED, PART, VERSION, object_address, part_seq
from drystone_core.formats.row_parts import IN_UPLOAD, IN_VERSION, decode_part, decode_place, encode_part
from drystone_core.formats.rows import decode_object, encode_object, object_head
from drystone_core.ids import BlobId, Uid
from drystone_core.mutations import Outcome, SwapBlobs
from drystone_core.services import BlobName
from drystone_metadata.logic.conditions import check_floor
from drystone_metadata.logic.registered import upload_parts
from drystone_metadata.logic.view import Changes, Decision, Moment, View
from drystone_metadata.store.ports import RowKey


class Found(NamedTuple):
    """A row that a uid means."""

    kind: int
    seq: bytes
    value: bytes


def rows_of(view: View, address: bytes, uid: Uid, part: int = 0) -> list[Found]:
    """The row a uid means; several only for the pieces of a long PUT, which share its uid."""
    value = view.get(RowKey(CURRENT, address))
    if value is not None and object_head(CURRENT, address, b"", value).uid == uid:
        return [Found(CURRENT, b"", value)]
    pointer = view.get(RowKey(NAMED, address, uid))
    if pointer is None:
        return []
    place = decode_place(address, uid, pointer)
    if place.sort == IN_VERSION:
        value = view.get(RowKey(VERSION, address, place.target))
        return [] if value is None else [Found(VERSION, place.target, value)]
    if place.sort != IN_UPLOAD:
        return rows_of(view, address, Uid(place.target)) if place.target != uid else []
    if part:
        seq = part_seq(place.target, part)
        value = view.get(RowKey(PART, address, seq))
        return [] if value is None else [Found(PART, seq, value)]
    pieces = upload_parts(view, address, place.target)
    seqs = [part_seq(place.target, piece.number) for piece in pieces if piece.uid == uid]
    return [Found(PART, seq, value) for seq in seqs if (value := view.get(RowKey(PART, address, seq))) is not None]


def is_dead(view: View, name: BlobName, floor_us: int) -> bool:
    """R7, for a bucket that exists; a blob stamped at or after the floor is never dead."""
    if int.from_bytes(name.blob_id[:8], "big") >= floor_us:
        return False
    address = object_address(name.bucket_id, name.key)
    return not any(_contains(address, found, name.blob_id) for found in rows_of(view, address, name.uid, name.part))


def _contains(address: bytes, found: Found, blob: BlobId) -> bool:
    if found.kind == PART:
        return any(ref.blob_id == blob for ref in decode_part(address, found.seq, found.value).blobs)
    version = decode_object(found.kind, address, found.seq, found.value).version
    if version.manifest is not None:
        # The parts that were named stand in the manifest, and only their uids lead here.
        return version.manifest.blob_id == blob or not version.blobs
    return any(ref.blob_id == blob for ref in version.blobs)


def swap_blobs(view: View, mutation: SwapBlobs, moment: Moment) -> Decision:
    """Compaction: the row of `uid` names `new` where it named `old`; Stale when it does not any more."""
    bucket = view.bucket(mutation.bucket)
    address = object_address(bucket.bucket_id, mutation.key)
    check_floor(mutation.new, moment)
    changes = Changes()
    for found in rows_of(view, address, mutation.uid):
        body = _swapped(address, found, mutation)
        if body is not None:
            changes.put(found.kind, address, found.seq, body)
            break
    else:
        raise Stale("the row does not name these blobs any more")
    changes.removed.extend(mutation.old)
    outcome = Outcome()
    return changes.decision(
        outcome,
        encode_outcome(outcome),
        operation=Operation.SWAP_BLOBS,
        bucket_id=bucket.bucket_id,
        key=mutation.key,
        uid=mutation.uid,
        write_id=mutation.write_id,
    )


def _swapped(address: bytes, found: Found, mutation: SwapBlobs) -> bytes | None:
    """The row's new sealed value, None when it does not name the old blobs."""
    old, new = mutation.old, mutation.new
    if found.kind == PART:
        part = decode_part(address, found.seq, found.value)
        blobs = _replaced(part.blobs, old, new)
        return None if blobs is None else encode_part(address, found.seq, replace(part, blobs=blobs))
    stored = decode_object(found.kind, address, found.seq, found.value)
    version = stored.version
    if version.manifest is not None and old == (version.manifest.blob_id,) and len(new) == 1:
        version = replace(version, manifest=new[0])
    else:
        blobs = _replaced(version.blobs, old, new)
        if blobs is None:
            return None
        version = replace(version, blobs=blobs)
    return encode_object(found.kind, address, stored._replace(version=version))


def _replaced(
    blobs: tuple[BlobRef, ...], old: tuple[BlobId, ...], new: tuple[BlobRef, ...]
) -> tuple[BlobRef, ...] | None:
    """`blobs` with the run `old` replaced by as many bytes; None when they do not contain that run."""
    ids = tuple(ref.blob_id for ref in blobs)
    for at in range(len(ids) - len(old) + 1):
        run = blobs[at : at + len(old)]
        if old and ids[at : at + len(old)] == old and sum(r.length for r in run) == sum(r.length for r in new):
            return blobs[:at] + new + blobs[at + len(old) :]
    return None

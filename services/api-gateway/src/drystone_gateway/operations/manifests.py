# SPDX-License-Identifier: Apache-2.0
"""Manifest and name blobs: what an object's own row cannot hold, and what must outlive the row."""

from collections.abc import Sequence

from drystone_core.extents import PACK_LIMIT, BlobRef
from drystone_core.formats.extents import encode_blobs
from drystone_core.formats.manifest import encode_manifest
from drystone_core.formats.row_parts import encode_parts
from drystone_core.objects import Part
from drystone_core.services import BlobHeader, SmallBlob
from drystone_gateway.operations.context import Gateway

MANIFEST_BLOB = 1
NAME_BLOB = 2
_LEAST = 16
"""Encoded bytes that an extent or a part takes at the least: fewer of them than that need not be measured."""


def needs_manifest(gateway: Gateway, parts: Sequence[Part]) -> bool:
    """Do the extents (with the part index) exceed what a row may hold?"""
    limit = gateway.settings.inline_extents
    entries = sum(1 + sum(1 + len(blob.extents) for blob in part.blobs) for part in parts)
    if entries * _LEAST <= limit // 8:
        return False
    size = len(encode_parts(parts)) if len(parts) > 1 or parts[0].number else 0
    return size + sum(len(encode_blobs(part.blobs)) for part in parts) > limit


async def write_manifest(gateway: Gateway, header: BlobHeader, parts: Sequence[Part], trailer: bytes) -> BlobRef:
    """The manifest as a durable blob; `header.kind` is MANIFEST_BLOB."""
    data = encode_manifest(parts)
    if len(data) <= PACK_LIMIT:
        return await gateway.storage.append(SmallBlob(header=header, payload=data, trailer=trailer))
    writer = gateway.storage.writer(header, expected=len(data))
    try:
        at = 0
        while at < len(data):
            space = await writer.space()
            step = min(len(space), len(data) - at)
            space[:step] = data[at : at + step]
            await writer.write(step)
            at += step
        return await writer.finish(trailer)
    except BaseException:
        writer.abort()
        raise

# SPDX-License-Identifier: Apache-2.0
"""A large object's parts and blobs outside its row: pages of 64 KiB with an index first.

Format    docs/formats/manifest.md (v1). Page 0 is the index: for each further page the first part's number, its place
in the list and the object offset at which it begins. So any range, or any part number, of a 10,000-part object costs
two extra reads: the index, then one page (two when the range crosses into the next). Parts never straddle pages.
"""

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from drystone_core.check import check
from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.formats.extents import decode_blobs, encode_blobs
from drystone_core.ids import Uid
from drystone_core.objects import Checksum, ChecksumType, Part
from drystone_core.ports import Buffer

PAGE = 65536
VERSION = 1
MAGIC_INDEX = b"DMI1"
MAGIC_PAGE = b"DMP1"

_PAGE_HEAD = struct.Struct("<4sHHIII")
"""magic, version, must-understand flags, entries, length of the page (this head included), CRC32C of all that
follows."""
_TOTALS = struct.Struct("<QIIQ")
"""object size, parts, pages, length of the whole manifest."""
_ROW = struct.Struct("<IIQ")
_PART = struct.Struct("<IQQ16sB16sBBB")
_TYPES = (ChecksumType.FULL_OBJECT, ChecksumType.COMPOSITE)
INDEX_LIMIT = (PAGE - _PAGE_HEAD.size - _TOTALS.size) // _ROW.size
"""Pages an index can name: more than 10,000 parts of 5 GiB need."""


@dataclass(frozen=True, slots=True)
class ManifestIndex:
    """Page 0, decoded."""

    size: int
    parts: int
    length: int
    """Of the manifest."""
    numbers: tuple[int, ...]
    """First part number of each page."""
    firsts: tuple[int, ...]
    """Place in the list of parts of each page's first part."""
    offsets: tuple[int, ...]
    """Object offset at which each page's first part begins."""

    @property
    def pages(self) -> int:
        return len(self.offsets)

    def place(self, page: int) -> tuple[int, int]:
        """(offset, length) of a page (0 …) in the manifest blob."""
        start = PAGE * (page + 1)
        return start, min(PAGE, self.length - start)

    def pages_for(self, start: int, length: int) -> range:
        """The pages that hold bytes [start, start + length) of the object; empty for an empty range."""
        end = min(start + length, self.size)
        if start >= end:
            return range(0)
        return range(bisect_right(self.offsets, start) - 1, bisect_right(self.offsets, end - 1))

    def page_for_part(self, number: int) -> int | None:
        """The page that holds that part if the object has it."""
        page = bisect_right(self.numbers, number) - 1
        return page if page >= 0 else None


def encode_manifest(parts: Sequence[Part]) -> bytes:
    """Index and pages. A single PUT's blobs are one part numbered 0. All pages but the last are padded to PAGE."""
    pages: list[list[bytes]] = []
    rows: list[bytes] = []
    filled, offset = PAGE, 0
    for place, part in enumerate(parts):
        encoded = _encode_part(part)
        check(_PAGE_HEAD.size + len(encoded) <= PAGE, "a part's extents do not fit a manifest page")
        if filled + len(encoded) > PAGE:
            pages.append([])
            rows.append(_ROW.pack(part.number, place, offset))
            filled = _PAGE_HEAD.size
        pages[-1].append(encoded)
        filled += len(encoded)
        offset += part.size
    check(len(pages) <= INDEX_LIMIT, "too many pages for a manifest")
    bodies = [_page(MAGIC_PAGE, len(entries), b"".join(entries)) for entries in pages]
    length = PAGE * len(bodies) + len(bodies[-1]) if bodies else PAGE
    index = _TOTALS.pack(offset, len(parts), len(pages), length) + b"".join(rows)
    padded = [body.ljust(PAGE, b"\0") for body in (_page(MAGIC_INDEX, len(rows), index), *bodies[:-1])]
    return b"".join((*padded, *bodies[-1:]))


def decode_index(data: Buffer) -> ManifestIndex:
    """Page 0 (the first PAGE bytes of the manifest). Raises Damaged."""
    entries, body = _open(data, MAGIC_INDEX)
    if len(body) != _TOTALS.size + entries * _ROW.size:
        raise Damaged("manifest index: length")
    size, parts, pages, length = _TOTALS.unpack_from(body)
    if pages != entries:
        raise Damaged("manifest index: pages")
    rows = list(_ROW.iter_unpack(body[_TOTALS.size :]))
    return ManifestIndex(
        size, parts, length, tuple(row[0] for row in rows), tuple(row[1] for row in rows), tuple(row[2] for row in rows)
    )


def decode_page(data: Buffer) -> list[Part]:
    """The parts of one page, in order, with their blobs. Raises Damaged."""
    entries, body = _open(data, MAGIC_PAGE)
    parts: list[Part] = []
    at = 0
    try:
        for _ in range(entries):
            part, at = _decode_part(body, at)
            parts.append(part)
    except (struct.error, UnicodeDecodeError, IndexError) as exc:
        raise Damaged("manifest page: short") from exc
    if at != len(body):
        raise Damaged("manifest page: length")
    return parts


def decode_manifest(data: Buffer) -> list[Part]:
    """All parts of a whole manifest."""
    index = decode_index(data)
    view = memoryview(data)
    parts: list[Part] = []
    for page in range(index.pages):
        start, length = index.place(page)
        parts += decode_page(view[start : start + length])
    if len(parts) != index.parts:
        raise Damaged("manifest: parts are missing")
    return parts


def _page(magic: bytes, entries: int, body: bytes) -> bytes:
    return _PAGE_HEAD.pack(magic, VERSION, 0, entries, _PAGE_HEAD.size + len(body), crc32c(body)) + body


def _open(data: Buffer, wanted: bytes) -> tuple[int, bytes]:
    if len(data) < _PAGE_HEAD.size:
        raise Damaged("manifest page: short")
    magic, version, flags, entries, length, crc = _PAGE_HEAD.unpack_from(data)
    if magic != wanted or not _PAGE_HEAD.size <= length <= len(data):
        raise Damaged("manifest page: not a page")
    if version != VERSION or flags:
        raise Damaged("manifest page: written by a later version", version=str(version), flags=str(flags))
    body = bytes(data[_PAGE_HEAD.size : length])
    if crc32c(body) != crc:
        raise Damaged("manifest page: checksum")
    return entries, body


def _encode_part(part: Part) -> bytes:
    checksum = part.checksum
    algorithm, value = (checksum.algorithm.encode(), checksum.value.encode()) if checksum else (b"", b"")
    kind = 1 + _TYPES.index(checksum.type) if checksum else 0
    etag = bytes.fromhex(part.etag)
    fixed = _PART.pack(
        part.number,
        part.size,
        part.modified_ms,
        etag.ljust(16, b"\0"),
        len(etag),
        part.uid,
        kind,
        len(algorithm),
        len(value),
    )
    return b"".join((fixed, algorithm, value, encode_blobs(part.blobs)))


def _decode_part(body: bytes, at: int) -> tuple[Part, int]:
    number, size, modified_ms, etag, etag_length, uid, kind, algorithm_length, value_length = _PART.unpack_from(
        body, at
    )
    at += _PART.size
    algorithm = body[at : at + algorithm_length].decode()
    at += algorithm_length
    value = body[at : at + value_length].decode()
    at += value_length
    checksum = Checksum(algorithm, value, _TYPES[kind - 1]) if kind else None
    blobs, at = decode_blobs(body, at)
    part = Part(
        number=number, size=size, etag=etag[:etag_length].hex(), modified_ms=modified_ms, uid=Uid(uid),
        checksum=checksum, blobs=blobs,
    )  # fmt: skip
    return part, at

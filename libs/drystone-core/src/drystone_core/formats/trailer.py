# SPDX-License-Identifier: Apache-2.0
"""What is known only at the end of an upload and must survive beside the bytes: the trailer after a blob's payload.

Format    docs/formats/trailer.md (v1): fixed head, then counted texts, sealed by a CRC32C. Used by `recover` and
verify, never on the GET path.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.objects import Checksum, ChecksumType
from drystone_core.ports import Buffer

MAGIC = 0x5254
VERSION = 1
LIMIT = 64 * 1024
"""A trailer is never longer."""

_HEAD = struct.Struct("<HBBIQQBBHHH")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_TYPES = (ChecksumType.FULL_OBJECT, ChecksumType.COMPOSITE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """An object's (or part's) description, as far as its own blob can know it."""

    size: int
    """Of the whole object or part."""
    etag: str = ""
    modified_ms: int = 0
    storage_class: str = "STANDARD"
    checksum: Checksum | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    content_id: bytes = b""
    envelope: bytes = b""
    """Encryption envelope; empty = plaintext."""


def _texts(out: list[bytes], values: Mapping[str, str]) -> None:
    for name, value in values.items():
        a, b = name.encode(), value.encode()
        out += (_U16.pack(len(a)), a, _U16.pack(len(b)), b)


def encode_trailer(trailer: Trailer) -> bytes:
    """The bytes that follow the payload."""
    checksum = trailer.checksum
    etag = trailer.etag.encode()
    out: list[bytes] = [etag]
    for text in (trailer.storage_class.encode(), trailer.content_id, trailer.envelope):
        out += (_U16.pack(len(text)), text)
    if checksum is not None:
        algorithm, value = checksum.algorithm.encode(), checksum.value.encode()
        out += (bytes((_TYPES.index(checksum.type),)), _U16.pack(len(algorithm)), algorithm)
        out += (_U16.pack(len(value)), value)
    _texts(out, trailer.headers)
    _texts(out, trailer.metadata)
    _texts(out, trailer.tags)
    body = b"".join(out)
    head = _HEAD.pack(
        MAGIC, VERSION, 0, _HEAD.size + len(body) + 4, trailer.size, trailer.modified_ms, len(etag),
        checksum is not None, len(trailer.headers), len(trailer.metadata), len(trailer.tags),
    )  # fmt: skip
    sealed = head + body
    return sealed + _U32.pack(crc32c(sealed))


class _Cursor:
    """Reads counted texts."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, length: int) -> bytes:
        found = self.data[self.at : self.at + length]
        if len(found) != length:
            raise Damaged("trailer: short")
        self.at += length
        return found

    def counted(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "little"))

    def texts(self, count: int) -> dict[str, str]:
        return {self.counted().decode(): self.counted().decode() for _ in range(count)}


def decode_trailer(data: Buffer) -> Trailer:
    """Raises Damaged when the bytes are not a whole, valid trailer of a version we know."""
    raw = bytes(data)
    if len(raw) < _HEAD.size + 4:
        raise Damaged("trailer: short")
    magic, version, flags, length, size, modified_ms, etag_len, has_sum, headers, metadata, tags = _HEAD.unpack_from(
        raw
    )
    if magic != MAGIC or not _HEAD.size + 4 <= length <= len(raw):
        raise Damaged("trailer: not a trailer")
    if crc32c(raw[: length - 4]) != _U32.unpack_from(raw, length - 4)[0]:
        raise Damaged("trailer: checksum")
    if version != VERSION or flags:
        raise Damaged("trailer: written by a later version", version=str(version), flags=str(flags))
    cursor = _Cursor(raw[: length - 4], _HEAD.size)
    etag = cursor.take(etag_len).decode()
    storage_class, content_id, envelope = cursor.counted().decode(), cursor.counted(), cursor.counted()
    checksum = None
    if has_sum:
        kind = _TYPES[cursor.take(1)[0]]
        checksum = Checksum(cursor.counted().decode(), cursor.counted().decode(), kind)
    return Trailer(
        size=size, etag=etag, modified_ms=modified_ms, storage_class=storage_class, checksum=checksum,
        headers=cursor.texts(headers), metadata=cursor.texts(metadata), tags=cursor.texts(tags),
        content_id=content_id, envelope=envelope,
    )  # fmt: skip

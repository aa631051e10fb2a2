# SPDX-License-Identifier: Apache-2.0
"""What the values of metadata rows are made of: codes, flags, sections, ETags, text maps.

Invariants
  E1  A value is a fixed prefix, then sections (tag u8, length u32, body), then the seal.
  E2  Tags >= 128 must be understood; a reader raises Damaged at one it does not know and skips other unknown ones.
Format  docs/formats/rows.md (v1).
"""

from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Final

from drystone_core.errors import Damaged, ErrorCode, Refused
from drystone_core.formats.rowseal import SEAL_SIZE
from drystone_core.objects import Checksum, ChecksumType

FORMAT: Final = 1

DELETE_MARKER: Final = 0x01
NULL: Final = 0x02
ETAG_RAW: Final = 0x04
"""The ETag is the 16 raw bytes of the prefix in hex."""
ETAG_PARTS: Final = 0x08
"""… followed by `-` and the parts count."""
KNOWN_FLAGS: Final = DELETE_MARKER | NULL | ETAG_RAW | ETAG_PARTS

SECTION: Final = Struct("<BI")

S_HEADERS: Final = 1
S_METADATA: Final = 2
S_CHECKSUM: Final = 3
S_TAGS: Final = 4
S_ETAG: Final = 5
S_UPLOAD: Final = 6
S_OWNER: Final = 7
S_REGION: Final = 8
S_BLOBS: Final = 129
S_PARTS: Final = 130
S_MANIFEST: Final = 131
S_CONTENT: Final = 132
S_ENVELOPE: Final = 133
S_CONFIG: Final = 134
S_CLASS: Final = 135
S_ALGORITHM: Final = 136
S_VERSIONING: Final = 137
S_PENDING: Final = 138
OBJECT_SECTIONS: Final = frozenset({S_BLOBS, S_PARTS, S_MANIFEST, S_CONTENT, S_ENVELOPE, S_CLASS, S_ALGORITHM})

CLASSES: Final = ("STANDARD", "STANDARD_IA", "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING", "ONEZONE_IA",
                  "GLACIER_IR", "REDUCED_REDUNDANCY")  # fmt: skip
ALGORITHMS: Final = ("", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH3", "XXHASH64",
                     "XXHASH128")  # fmt: skip
TYPES: Final = ("", ChecksumType.FULL_OBJECT, ChecksumType.COMPOSITE)
OTHER: Final = 255
"""Class or algorithm code: the name stands in a section."""
CLASS_CODES: Final[Mapping[str, int]] = {name: code for code, name in enumerate(CLASSES)}
ALGORITHM_CODES: Final[Mapping[str, int]] = {name: code for code, name in enumerate(ALGORITHMS)}
TYPE_CODES: Final[Mapping[str, int]] = {name: code for code, name in enumerate(TYPES)}
TYPE_TEXTS: Final = tuple(str(name) for name in TYPES)
_NO_ETAG: Final = bytes(16)


def pack_etag(etag: str, parts_count: int) -> tuple[int, bytes]:
    """(flags, 16 bytes): how an ETag stands in a prefix; flags 0 = not of the usual form."""
    text, flags = etag, ETAG_RAW
    if parts_count:
        text, _, number = etag.partition("-")
        flags = ETAG_PARTS if number == str(parts_count) else 0
    if flags and len(text) == 32:
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            return 0, _NO_ETAG
        if raw.hex() == text:
            return flags, raw
    return 0, _NO_ETAG


def decode_checksum(algorithm: int, checksum_type: int, sections: Mapping[int, bytes]) -> Checksum | None:
    """The checksum of a row, from its codes and sections."""
    if not algorithm:
        return None
    name = ALGORITHMS[algorithm] if algorithm != OTHER else sections[S_ALGORITHM].decode()
    return Checksum(name, sections[S_CHECKSUM].decode("latin-1"), ChecksumType(TYPES[checksum_type]))


def add_section(out: list[bytes], tag: int, body: bytes) -> None:
    """One section: tag, length, body."""
    out.append(SECTION.pack(tag, len(body)))
    out.append(body)


def iter_sections(value: bytes, at: int, *, end: int = -1) -> Iterator[tuple[int, bytes]]:
    """The sections of a value from `at` on; without `end` the value is sealed."""
    stop = len(value) - SEAL_SIZE if end < 0 else end
    while at < stop:
        tag, length = SECTION.unpack_from(value, at)
        at += 5
        yield tag, value[at : at + length]
        at += length


def must_understand(sections: Iterable[int], known: frozenset[int]) -> None:
    """Refuse a value with a section that may not be skipped."""
    for tag in sections:
        if tag >= 128 and tag not in known:
            raise Damaged("row with a section of a newer format", section=str(tag))


def encode_map(pairs: Mapping[str, str]) -> bytes:
    """Texts that hold no NUL, joined by NUL."""
    text = "\0".join([piece for pair in pairs.items() for piece in pair])
    if text.count("\0") != 2 * len(pairs) - 1:
        raise Refused(ErrorCode.INVALID_ARGUMENT, "A name or value may not contain a NUL character.")
    return text.encode("utf-8", "surrogatepass")


def decode_map(data: bytes) -> dict[str, str]:
    """The inverse of encode_map."""
    pieces = data.decode("utf-8", "surrogatepass").split("\0")
    return dict(zip(pieces[::2], pieces[1::2], strict=True))

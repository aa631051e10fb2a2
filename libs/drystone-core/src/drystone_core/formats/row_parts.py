# SPDX-License-Identifier: Apache-2.0
"""Values of part, upload, bucket and pointer rows.

Format  docs/formats/rows.md (v1).
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from drystone_core.errors import Damaged
from drystone_core.formats.extents import decode_blobs, encode_blobs
from drystone_core.formats.row_keys import BUCKET, NAMED, PART, UPLOAD
from drystone_core.formats.row_sections import (
    ALGORITHM_CODES,
    ALGORITHMS,
    CLASS_CODES,
    CLASSES,
    ETAG_RAW,
    FORMAT,
    KNOWN_FLAGS,
    OBJECT_SECTIONS,
    OTHER,
    S_ALGORITHM,
    S_BLOBS,
    S_CHECKSUM,
    S_CLASS,
    S_CONFIG,
    S_ETAG,
    S_HEADERS,
    S_METADATA,
    S_OWNER,
    S_PENDING,
    S_REGION,
    S_VERSIONING,
    TYPE_CODES,
    TYPES,
    add_section,
    decode_checksum,
    decode_map,
    encode_map,
    iter_sections,
    must_understand,
    pack_etag,
)
from drystone_core.formats.rowseal import SEAL_SIZE, seal, unseal, verify
from drystone_core.ids import BucketId, Key, Uid, UploadId
from drystone_core.objects import Bucket, ChecksumType, Part, Upload, Versioning

_PART: Final = Struct("<BBHQQ16s16sBB")
"""format, must flags, number, size, modified_ms, etag, uid, algorithm, checksum type."""


def encode_part_body(part: Part) -> bytes:
    """A part without seal: the value of a part row, or an element of a completed object's parts."""
    flags, etag = pack_etag(part.etag, 0)
    out = [b""]
    algorithm = checksum_type = 0
    if part.checksum is not None:
        algorithm = ALGORITHM_CODES.get(part.checksum.algorithm, OTHER)
        checksum_type = TYPE_CODES[part.checksum.type]
        add_section(out, S_CHECKSUM, part.checksum.value.encode("latin-1"))
        if algorithm == OTHER:
            add_section(out, S_ALGORITHM, part.checksum.algorithm.encode())
    if part.etag and not flags:
        add_section(out, S_ETAG, part.etag.encode())
    if part.blobs:
        add_section(out, S_BLOBS, encode_blobs(part.blobs))
    out[0] = _PART.pack(
        FORMAT, flags, part.number, part.size, part.modified_ms, etag, part.uid, algorithm, checksum_type
    )
    return b"".join(out)


def decode_part_body(body: bytes) -> Part:
    """The part."""
    form, must, number, size, modified, etag, uid, algorithm, checksum_type = _PART.unpack_from(body)
    if form != FORMAT or must & ~KNOWN_FLAGS:
        raise Damaged("part of a newer format", format=str(form), flags=str(must))
    sections = dict(iter_sections(body, _PART.size, end=len(body)))
    must_understand(sections, OBJECT_SECTIONS)
    blobs = sections.get(S_BLOBS)
    return Part(
        number=number,
        size=size,
        etag=etag.hex() if must & ETAG_RAW else sections.get(S_ETAG, b"").decode(),
        modified_ms=modified,
        uid=uid,
        checksum=decode_checksum(algorithm, checksum_type, sections),
        blobs=decode_blobs(blobs)[0] if blobs else (),
    )


def encode_parts(parts: Iterable[Part]) -> bytes:
    """A list of parts inside a row."""
    bodies = [encode_part_body(part) for part in parts]
    return b"".join(piece for body in bodies for piece in (len(body).to_bytes(4, "little"), body))


def decode_parts(data: bytes) -> tuple[Part, ...]:
    """The inverse of encode_parts."""
    parts, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        parts.append(decode_part_body(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return tuple(parts)


def encode_part(address: bytes, seq: bytes, part: Part) -> bytes:
    """The sealed value of a PART row."""
    return seal(PART, address, seq, encode_part_body(part))


def decode_part(address: bytes, seq: bytes, value: bytes) -> Part:
    """A PART row, verified."""
    return decode_part_body(unseal(PART, address, seq, value))


_UPLOAD: Final = Struct("<BBBBBQ")
"""format, must flags, class, algorithm, checksum type, initiated_ms."""
INTERNAL: Final = 0x01


def encode_upload(address: bytes, upload: Upload) -> bytes:
    """The sealed value of an UPLOAD row."""
    algorithm = ALGORITHM_CODES.get(upload.checksum_algorithm, OTHER)
    storage_class = CLASS_CODES.get(upload.storage_class, OTHER)
    must = INTERNAL if upload.internal else 0
    kind_of_sum = TYPE_CODES[upload.checksum_type]
    out = [_UPLOAD.pack(FORMAT, must, storage_class, algorithm, kind_of_sum, upload.initiated_ms)]
    add_section(out, S_OWNER, upload.owner.encode())
    if algorithm == OTHER:
        add_section(out, S_ALGORITHM, upload.checksum_algorithm.encode())
    if storage_class == OTHER:
        add_section(out, S_CLASS, upload.storage_class.encode())
    if upload.headers:
        add_section(out, S_HEADERS, encode_map(upload.headers))
    if upload.metadata:
        add_section(out, S_METADATA, encode_map(upload.metadata))
    return seal(UPLOAD, address, bytes.fromhex(upload.upload_id), b"".join(out))


def decode_upload(address: bytes, seq: bytes, value: bytes) -> Upload:
    """An UPLOAD row, verified."""
    verify(UPLOAD, address, seq, value)
    form, must, storage_class, algorithm, kind_of_sum, initiated = _UPLOAD.unpack_from(value)
    if form != FORMAT or must & ~INTERNAL:
        raise Damaged("upload row of a newer format", format=str(form), flags=str(must))
    sections = dict(iter_sections(value, _UPLOAD.size))
    must_understand(sections, OBJECT_SECTIONS)
    return Upload(
        key=Key(address[8:]),
        upload_id=UploadId(seq.hex()),
        initiated_ms=initiated,
        owner=sections[S_OWNER].decode(),
        headers=decode_map(sections[S_HEADERS]) if S_HEADERS in sections else {},
        metadata=decode_map(sections[S_METADATA]) if S_METADATA in sections else {},
        storage_class=CLASSES[storage_class] if storage_class != OTHER else sections[S_CLASS].decode(),
        checksum_algorithm=ALGORITHMS[algorithm] if algorithm != OTHER else sections[S_ALGORITHM].decode(),
        checksum_type=ChecksumType(TYPES[kind_of_sum]),
        internal=must & INTERNAL != 0,
    )


_BUCKET: Final = Struct("<BBQQQ")
"""format, must flags, bucket id, created_ms, generation."""
_BUCKET_SECTIONS: Final = frozenset({S_CONFIG, S_VERSIONING, S_PENDING})
CLOSED: Final = 0x01


def encode_bucket(bucket: Bucket) -> bytes:
    """The sealed value of a BUCKET row."""
    must = CLOSED if bucket.closed else 0
    out = [_BUCKET.pack(FORMAT, must, bucket.bucket_id, bucket.created_ms, bucket.generation)]
    add_section(out, S_OWNER, bucket.owner.encode())
    add_section(out, S_REGION, bucket.region.encode())
    if bucket.versioning is not Versioning.NEVER:
        add_section(out, S_VERSIONING, bucket.versioning.value.encode())
    for name, document in bucket.config.items():
        add_section(out, S_CONFIG, name.encode() + b"\0" + document)
    if bucket.pending:
        add_section(out, S_PENDING, bucket.pending)
    return seal(BUCKET, bucket.name.encode(), b"", b"".join(out))


def decode_bucket(key: bytes, value: bytes) -> Bucket:
    """A BUCKET row, verified."""
    verify(BUCKET, key, b"", value)
    form, must, bucket_id, created, generation = _BUCKET.unpack_from(value)
    if form != FORMAT or must & ~CLOSED:
        raise Damaged("bucket row of a newer format", format=str(form), flags=str(must))
    sections = list(iter_sections(value, _BUCKET.size))
    must_understand((tag for tag, _ in sections), _BUCKET_SECTIONS)
    by_tag = dict(sections)
    config = dict(body.split(b"\0", 1) for tag, body in sections if tag == S_CONFIG)
    return Bucket(
        bucket_id=BucketId(bucket_id),
        name=key.decode(),
        owner=by_tag[S_OWNER].decode(),
        created_ms=created,
        region=by_tag[S_REGION].decode(),
        generation=generation,
        versioning=Versioning(by_tag.get(S_VERSIONING, b"").decode()),
        config={name.decode(): document for name, document in config.items()},
        closed=must & CLOSED != 0,
        pending=by_tag.get(S_PENDING, b""),
    )


class Place(NamedTuple):
    """Where the row is that a uid names: the value of a NAMED row."""

    sort: int
    """IN_VERSION, IN_UPLOAD or IN_OBJECT."""
    target: bytes
    """Order of the version, id of the upload, or uid of the object that the part with this uid became part of."""


IN_VERSION: Final = 1
IN_UPLOAD: Final = 2
IN_OBJECT: Final = 3


def encode_place(address: bytes, uid: Uid, sort: int, target: bytes) -> bytes:
    """The sealed value of a NAMED row."""
    return seal(NAMED, address, uid, bytes((FORMAT, sort)) + target)


def decode_place(address: bytes, uid: Uid, value: bytes) -> Place:
    """A NAMED row, verified."""
    verify(NAMED, address, uid, value)
    if value[0] != FORMAT or not IN_VERSION <= value[1] <= IN_OBJECT:
        raise Damaged("name row of a newer format", format=str(value[0]))
    return Place(value[1], value[2:-SEAL_SIZE])

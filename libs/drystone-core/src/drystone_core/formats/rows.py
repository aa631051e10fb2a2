# SPDX-License-Identifier: Apache-2.0
"""The value of an object row: a version or delete marker, current or not.

Invariants
  W1  What LIST shows stands in a fixed prefix; a listing decodes nothing else (about a microsecond a row).
  W2  Unknown must-understand flags and unknown section tags >= 128 raise Damaged; other unknown sections are skipped.
  W3  Every value is sealed (formats.rowseal): decoders verify before they believe.
  W4  A row may move between `cur` and `ver` by being sealed again under its new address; its body does not change.
Format  docs/formats/rows.md (v1). Integers are little endian, those inside addresses big endian.
"""

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.extents import BlobRef
from drystone_core.formats.extents import decode_blobs, encode_blobs
from drystone_core.formats.row_keys import CURRENT, version_text
from drystone_core.formats.row_parts import decode_parts, encode_parts
from drystone_core.formats.row_sections import (
    ALGORITHM_CODES,
    ALGORITHMS,
    CLASS_CODES,
    CLASSES,
    DELETE_MARKER,
    ETAG_PARTS,
    ETAG_RAW,
    FORMAT,
    KNOWN_FLAGS,
    NULL,
    OBJECT_SECTIONS,
    OTHER,
    S_ALGORITHM,
    S_BLOBS,
    S_CHECKSUM,
    S_CLASS,
    S_CONTENT,
    S_ENVELOPE,
    S_ETAG,
    S_HEADERS,
    S_MANIFEST,
    S_METADATA,
    S_PARTS,
    S_TAGS,
    S_UPLOAD,
    SECTION,
    TYPE_CODES,
    TYPE_TEXTS,
    add_section,
    decode_checksum,
    decode_map,
    encode_map,
    iter_sections,
    must_understand,
    pack_etag,
)
from drystone_core.formats.rowseal import RESIDUE, SEAL_SIZE, seal, verify
from drystone_core.ids import NULL_VERSION, BlobId, ContentId, Key, Uid, UploadId, VersionId
from drystone_core.listing import ListedObject
from drystone_core.objects import ObjectVersion

PREFIX: Final = Struct("<BBBBQQ16sHBB16s16s")
"""format, must flags, may flags, class, size, modified_ms, etag, parts count, algorithm, checksum type, uid, order."""
_CURRENT_SEED: Final = crc32c(bytes((CURRENT,)))


class StoredObject(NamedTuple):
    """A decoded object row."""

    version: ObjectVersion
    order: bytes
    """Position among the versions of the key, newest sorts first; the version id unless null."""
    upload_id: UploadId | None
    """The multipart upload it was completed from."""


def encode_object(kind: int, address: bytes, stored: StoredObject) -> bytes:
    """The sealed value of a CURRENT or VERSION row."""
    version, order, upload_id = stored
    must = DELETE_MARKER if version.delete_marker else 0
    if version.version_id == NULL_VERSION:
        must |= NULL
    etag_flags, etag = pack_etag(version.etag, version.parts_count)
    class_code = CLASS_CODES.get(version.storage_class, OTHER)
    checksum = version.checksum
    algorithm = checksum_type = 0
    out: list[bytes] = [b""]
    if checksum is not None:
        algorithm = ALGORITHM_CODES.get(checksum.algorithm, OTHER)
        checksum_type = TYPE_CODES[checksum.type]
        add_section(out, S_CHECKSUM, checksum.value.encode("latin-1"))
        if algorithm == OTHER:
            add_section(out, S_ALGORITHM, checksum.algorithm.encode())
    if class_code == OTHER:
        add_section(out, S_CLASS, version.storage_class.encode())
    if version.etag and not etag_flags:
        add_section(out, S_ETAG, version.etag.encode())
    if version.headers:
        add_section(out, S_HEADERS, encode_map(version.headers))
    if version.metadata:
        add_section(out, S_METADATA, encode_map(version.metadata))
    if version.blobs:
        add_section(out, S_BLOBS, encode_blobs(version.blobs))
    if version.parts_count or version.tags or version.content_id or upload_id or version.envelope:
        _add_rare(out, version, upload_id)
    if version.manifest is not None:
        add_section(out, S_MANIFEST, encode_blobs((version.manifest,)))
    out[0] = PREFIX.pack(
        FORMAT,
        must | etag_flags,
        0,
        class_code,
        version.size,
        version.modified_ms,
        etag,
        version.parts_count,
        algorithm,
        checksum_type,
        version.uid,
        order,
    )
    return seal(kind, address, b"" if kind == CURRENT else order, b"".join(out))


def _add_rare(out: list[bytes], version: ObjectVersion, upload_id: UploadId | None) -> None:
    if version.parts:
        add_section(out, S_PARTS, encode_parts(version.parts))
    if version.tags:
        add_section(out, S_TAGS, encode_map(version.tags))
    if version.content_id:
        add_section(out, S_CONTENT, version.content_id)
    if version.envelope:
        add_section(out, S_ENVELOPE, version.envelope)
    if upload_id:
        add_section(out, S_UPLOAD, bytes.fromhex(upload_id))


def decode_object(kind: int, address: bytes, seq: bytes, value: bytes) -> StoredObject:
    """The row, verified."""
    verify(kind, address, seq, value)
    form, must, _, class_code, size, modified, etag, count, algorithm, _, uid, order = PREFIX.unpack_from(value)
    if form != FORMAT or must & ~KNOWN_FLAGS:
        raise Damaged("object row of a newer format", format=str(form), flags=str(must))
    blobs: tuple[BlobRef, ...] = ()
    headers: Mapping[str, str] = {}
    sections = None
    at = PREFIX.size
    end = len(value) - SEAL_SIZE
    while at < end:
        tag, length = SECTION.unpack_from(value, at)
        at += 5
        if tag == S_BLOBS:
            blobs = decode_blobs(value, at)[0]
        elif tag == S_HEADERS:
            headers = decode_map(value[at : at + length])
        elif sections is None:
            sections = {tag: value[at : at + length]}
        else:
            sections[tag] = value[at : at + length]
        at += length
    if must & ETAG_PARTS:
        etag_text = f"{etag.hex()}-{count}"
    else:
        etag_text = etag.hex() if must & ETAG_RAW else ""
    if sections is None and not algorithm:
        return StoredObject(
            ObjectVersion(
                key=Key(address[8:]),
                uid=uid,
                version_id=NULL_VERSION if must & NULL else VersionId(order.hex()),
                modified_ms=modified,
                delete_marker=must & DELETE_MARKER != 0,
                size=size,
                etag=etag_text,
                headers=headers,
                storage_class=CLASSES[class_code],
                parts_count=count,
                blobs=blobs,
            ),
            order,
            None,
        )
    return _decode_rest(address, value, sections or {}, headers=headers, blobs=blobs, etag=etag_text)


def _decode_rest(
    address: bytes,
    value: bytes,
    sections: dict[int, bytes],
    *,
    headers: Mapping[str, str],
    blobs: tuple[BlobRef, ...],
    etag: str,
) -> StoredObject:
    _, must, _, class_code, size, modified, _, count, algorithm, kind_of_sum, uid, order = PREFIX.unpack_from(value)
    must_understand(sections, OBJECT_SECTIONS)
    get = sections.get
    manifest = get(S_MANIFEST)
    upload = get(S_UPLOAD)
    version = ObjectVersion(
        key=Key(address[8:]),
        uid=uid,
        version_id=version_text(order, null=must & NULL != 0),
        modified_ms=modified,
        delete_marker=must & DELETE_MARKER != 0,
        size=size,
        etag=etag or get(S_ETAG, b"").decode(),
        headers=headers,
        metadata=decode_map(sections[S_METADATA]) if S_METADATA in sections else {},
        storage_class=CLASSES[class_code] if class_code != OTHER else sections[S_CLASS].decode(),
        checksum=decode_checksum(algorithm, kind_of_sum, sections),
        parts=decode_parts(sections[S_PARTS]) if S_PARTS in sections else (),
        parts_count=count,
        blobs=blobs,
        manifest=decode_blobs(manifest)[0][0] if manifest else None,
        content_id=ContentId(get(S_CONTENT, b"")),
        envelope=get(S_ENVELOPE, b""),
        tags=decode_map(sections[S_TAGS]) if S_TAGS in sections else {},
    )
    return StoredObject(version, order, UploadId(upload.hex()) if upload else None)


class ObjectHead(NamedTuple):
    """The fixed prefix of an object row: what decisions need."""

    form: int
    must: int
    may: int
    class_code: int
    size: int
    modified_ms: int
    etag_raw: bytes
    parts_count: int
    algorithm: int
    checksum_type: int
    uid: Uid
    order: bytes

    @property
    def delete_marker(self) -> bool:
        return self.must & DELETE_MARKER != 0

    @property
    def null(self) -> bool:
        return self.must & NULL != 0

    @property
    def version_id(self) -> VersionId:
        return version_text(self.order, null=self.null)


def object_head(kind: int, address: bytes, seq: bytes, value: bytes) -> ObjectHead:
    """The prefix of a row, verified."""
    verify(kind, address, seq, value)
    head = ObjectHead._make(PREFIX.unpack_from(value))
    if head.form != FORMAT or head.must & ~KNOWN_FLAGS:
        raise Damaged("object row of a newer format", format=str(head.form), flags=str(head.must))
    return head


def head_etag(head: ObjectHead, value: bytes) -> str:
    """The ETag of a row whose head was read."""
    if head.must & (ETAG_RAW | ETAG_PARTS):
        return head.etag_raw.hex() + (f"-{head.parts_count}" if head.must & ETAG_PARTS else "")
    return dict(iter_sections(value, PREFIX.size)).get(S_ETAG, b"").decode()


def blob_ids(value: bytes) -> list[BlobId]:
    """Ids of the blobs a (verified) object row names, its manifest included."""
    return [
        ref.blob_id
        for tag, body in iter_sections(value, PREFIX.size)
        if tag in (S_BLOBS, S_MANIFEST)
        for ref in decode_blobs(body)[0]
    ]


def moved(value: bytes, *, kind: int, address: bytes, seq: bytes) -> bytes:
    """A (verified) row sealed again for another address."""
    return seal(kind, address, seq, value[:-SEAL_SIZE])


def listed(rows: Iterable[tuple[tuple[int, bytes, bytes], bytes]], into: list[ListedObject]) -> None:
    """Append CURRENT rows that are not delete markers to a page."""
    unpack = PREFIX.unpack_from
    for (_, address, _), value in rows:
        if crc32c(address + value, _CURRENT_SEED) != RESIDUE:
            raise Damaged("metadata row fails its checksum", kind=str(CURRENT))
        form, must, _, class_code, size, modified, etag, count, algorithm, kind_of_sum, _, _ = unpack(value)
        if must & DELETE_MARKER:
            continue
        if form != FORMAT or must & ~KNOWN_FLAGS:
            raise Damaged("object row of a newer format", format=str(form), flags=str(must))
        if must & ETAG_PARTS:
            text = f"{etag.hex()}-{count}"
        elif must & ETAG_RAW:
            text = etag.hex()
        else:
            text = dict(iter_sections(value, PREFIX.size)).get(S_ETAG, b"").decode()
        into.append(
            ListedObject(
                Key(address[8:]),
                size,
                text,
                modified,
                CLASSES[class_code] if class_code != OTHER else _other(value, S_CLASS),
                ALGORITHMS[algorithm] if algorithm != OTHER else _other(value, S_ALGORITHM),
                TYPE_TEXTS[kind_of_sum],
            )
        )


def listed_fields(head: ObjectHead, value: bytes) -> tuple[int, str, int, str, str, str]:
    """(size, etag, modified_ms, class, checksum algorithm, checksum type) of a row whose head was read."""
    return (
        head.size,
        head_etag(head, value),
        head.modified_ms,
        CLASSES[head.class_code] if head.class_code != OTHER else _other(value, S_CLASS),
        ALGORITHMS[head.algorithm] if head.algorithm != OTHER else _other(value, S_ALGORITHM),
        TYPE_TEXTS[head.checksum_type],
    )


def _other(value: bytes, tag: int) -> str:
    return dict(iter_sections(value, PREFIX.size))[tag].decode()

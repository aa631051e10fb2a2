# SPDX-License-Identifier: Apache-2.0
"""CopyObject: new blobs under a new name, or, onto itself in an unversioned bucket, new metadata on the same bytes
(R6).

Source: s3-surface §5 #40 to #43; ACL, storage class and website redirect are never copied. Where storage
classes are mapped, a copy onto itself that names one, or that changes it, writes the bytes anew on that class's disks; they
take the place of the version they were read from, never of a newer one.
"""

from dataclasses import dataclass

from drystone_core.errors import Damaged, ErrorCode, Refused, Stale
from drystone_core.extents import PACK_LIMIT
from drystone_core.ids import WriteId
from drystone_core.mutations import NO_CONDITIONS, Outcome, Preconditions, ReplaceMetadata
from drystone_core.objects import Bucket, Checksum, ObjectVersion, Versioning
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import xml_answer
from drystone_gateway.operations.body_source import read_document
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.copy_source import ObjectSource, find_source
from drystone_gateway.operations.hashing import BodyHashes
from drystone_gateway.operations.ingest import Stored, ingest
from drystone_gateway.operations.late_answer import answered_late
from drystone_gateway.operations.naming import Naming
from drystone_gateway.operations.put_object import check_early, name_object
from drystone_gateway.operations.write_ids import WriteIds
from drystone_gateway.s3.checksums import ALGORITHMS, DEFAULT_ALGORITHM, Algorithm
from drystone_gateway.s3.conditions import write_conditions
from drystone_gateway.s3.copy_source import CopySource
from drystone_gateway.s3.headers import REDIRECT, system_metadata, user_metadata
from drystone_gateway.s3.storage_class import HEADER as STORAGE_CLASS
from drystone_gateway.s3.storage_class import storage_class
from drystone_gateway.s3.xml_out import copy_object as copy_document

_TRIES = 3
"""Of copying a key onto itself while others write it."""
_Found = tuple[CopySource, Bucket, ObjectVersion]
"""What x-amz-copy-source names, its bucket, and the version as it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What the request asks the copy to be."""

    replace: bool
    """x-amz-metadata-directive: REPLACE."""
    drop_tags: bool
    algorithm: Algorithm | None
    conditions: Preconditions
    storage_class: str
    moves: bool
    """It names a class, and classes are mapped: the bytes go to that class's disks, wherever they lie now."""
    changes: bool
    """Something other than the name differs from the source."""


async def copy_object(call: Call) -> Response:
    """PUT /bucket/key with x-amz-copy-source."""
    wish = _wish(call)
    await read_document(call)
    bucket = await call.bucket()
    if wish.conditions is not NO_CONDITIONS and not call.is_retry():
        await check_early(call, bucket.name, call.key, wish.conditions)
    ids = call.write_ids()
    source, source_bucket, version = found = await _find(call)
    onto_itself = source.bucket == bucket.name and source.key == call.key
    if onto_itself:
        _check_change(source, wish)
    if onto_itself and bucket.versioning is Versioning.NEVER:
        copy = _onto_itself(call, bucket, found, wish, ids)
    else:
        copy = _copy(call, bucket, found, wish, ids.make())
    if version.size <= PACK_LIMIT:
        return await copy
    return await answered_late(call, copy, source_version_head(source, source_bucket, version))


async def _find(call: Call) -> _Found:
    """The source as it is now, when it may be copied at once."""
    found = await find_source(call)
    most = call.gateway.settings.limits.put_bytes
    if found[2].size > most:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"The specified copy source is larger than the maximum allowable size for a copy source: {most}",
        )
    return found


async def _onto_itself(call: Call, bucket: Bucket, found: _Found, wish: _Wish, ids: WriteIds) -> Response:
    """Each try replaces the version that it read, or nothing: what others wrote meanwhile would be lost."""
    for attempt in range(_TRIES):
        if attempt:
            found = await _find(call)
        write_id = ids.make(b"%d" % attempt if attempt else b"")
        try:
            if _keeps_bytes(found[2], wish):
                return await _replace(call, bucket, found, wish, write_id)
            return await _copy(call, bucket, found, wish, write_id, over=found[2])
        except Stale:
            if attempt == _TRIES - 1:
                raise
    raise Stale("the object changes all the time")


def _wish(call: Call) -> _Wish:
    headers = call.s3.headers
    directive = headers.get("x-amz-metadata-directive", "COPY").upper()
    tagging = headers.get("x-amz-tagging-directive", "COPY").upper()
    for name, value in (("x-amz-metadata-directive", directive), ("x-amz-tagging-directive", tagging)):
        if value not in ("COPY", "REPLACE"):
            raise Refused(
                ErrorCode.INVALID_ARGUMENT, f"Unknown {name[6:]}.", ArgumentName=name, ArgumentValue=value[:64]
            )
    for name in ("range", "x-amz-copy-source-range"):
        if name in headers:
            raise Refused(
                ErrorCode.INVALID_ARGUMENT,
                "CopyObject copies whole objects.",
                ArgumentName=name,
                ArgumentValue=headers[name],
            )
    text = headers.get("x-amz-checksum-algorithm", "").upper()
    if text and text not in ALGORITHMS:
        raise Refused(ErrorCode.INVALID_REQUEST, "Checksum algorithm provided is unsupported.")
    return _Wish(
        replace=directive == "REPLACE",
        drop_tags=tagging == "REPLACE",
        algorithm=ALGORITHMS[text] if text else None,
        conditions=write_conditions(headers),
        storage_class=storage_class(headers),
        moves=STORAGE_CLASS in headers and bool(call.gateway.settings.classes.mapped),
        changes=directive == "REPLACE" or STORAGE_CLASS in headers or REDIRECT in headers,
    )


def _check_change(source: CopySource, wish: _Wish) -> None:
    if not wish.changes and source.version_id is None:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "This copy request is illegal because it is trying to copy an object to itself without changing the"
            " object's metadata, storage class, website redirect location or encryption attributes.",
        )


def _keeps_bytes(version: ObjectVersion, wish: _Wish) -> bool:
    """May the row keep its blobs: neither another checksum nor another place is wanted?"""
    if wish.moves or wish.storage_class != version.storage_class:
        return False
    return wish.algorithm is None or (
        version.checksum is not None and version.checksum.algorithm == wish.algorithm.name
    )


def _described(call: Call, version: ObjectVersion, wish: _Wish) -> tuple[dict[str, str], dict[str, str]]:
    """(system headers, user metadata) of the copy."""
    headers = call.s3.headers
    if wish.replace:
        return system_metadata(headers), user_metadata(headers)
    system = {name: value for name, value in version.headers.items() if name != REDIRECT}
    if REDIRECT in headers:
        system[REDIRECT] = system_metadata({REDIRECT: headers[REDIRECT]})[REDIRECT]
    return system, dict(version.metadata)


async def _replace(call: Call, bucket: Bucket, found: _Found, wish: _Wish, write_id: WriteId) -> Response:
    source, _, version = found
    system, user = _described(call, version, wish)
    outcome = await call.gateway.metadata.mutate(
        ReplaceMetadata(
            write_id=write_id,
            bucket=bucket.name,
            key=call.key,
            expected_uid=version.uid,
            headers=system,
            metadata=user,
            storage_class=wish.storage_class,
            tags={} if wish.drop_tags else None,
            conditions=wish.conditions,
        )
    )
    return _answer(bucket, source, bucket, version, outcome, version.etag, version.checksum)


async def _copy(
    call: Call,
    bucket: Bucket,
    found: _Found,
    wish: _Wish,
    write_id: WriteId,
    over: ObjectVersion | None = None,
) -> Response:
    gateway = call.gateway
    source, source_bucket, version = found
    system, user = _described(call, version, wish)
    naming = Naming(
        bucket_id=bucket.bucket_id,
        bucket=bucket.name,
        key=call.key,
        uid=gateway.uid(),
        headers=system,
        metadata=user,
        storage_class=wish.storage_class,
        disk_class=gateway.disk_class(wish.storage_class),
        owner=call.caller.account,
    )
    stored = await copied(call, source_bucket.name, version, 0, version.size, _algorithm(version, wish), naming)
    tags = {} if wish.drop_tags else version.tags
    outcome = await name_object(
        gateway, naming, stored, write_id=write_id, conditions=wish.conditions, tags=tags, over=over
    )
    return _answer(bucket, source, source_bucket, version, outcome, stored.etag, stored.checksum)


async def copied(
    call: Call, bucket: str, version: ObjectVersion, start: int, size: int, algorithm: Algorithm, naming: Naming
) -> Stored:
    """Bytes of a version in new blobs; what was read is checked once more against the source's ETag when it can be."""
    gateway = call.gateway
    reader = ObjectSource(gateway, bucket, version, start, size)
    try:
        stored = await ingest(gateway, reader, BodyHashes(algorithm=algorithm), naming)
    finally:
        await reader.close()
    if size == version.size and not version.parts_count and stored.etag != version.etag:
        if stored.registered is not None:
            await stored.registered.drop()
        raise Damaged("a copy's bytes have another MD5 than their source")
    return stored


def _algorithm(version: ObjectVersion, wish: _Wish) -> Algorithm:
    if wish.algorithm is not None:
        return wish.algorithm
    return ALGORITHMS[version.checksum.algorithm if version.checksum is not None else DEFAULT_ALGORITHM]


def _answer(
    bucket: Bucket,
    source: CopySource,
    source_bucket: Bucket,
    version: ObjectVersion,
    outcome: Outcome,
    etag: str,
    checksum: Checksum | None,
) -> Response:
    head = source_version_head(source, source_bucket, version)
    if outcome.version_id is not None:
        head += b"x-amz-version-id: %s\r\n" % outcome.version_id.encode()
    document = copy_document(etag=etag, modified_ms=outcome.modified_ms, checksum=checksum)
    return xml_answer(document, head)


def source_version_head(source: CopySource, bucket: Bucket, version: ObjectVersion) -> bytes:
    """x-amz-copy-source-version-id, where versions mean something."""
    if bucket.versioning is Versioning.NEVER and source.version_id is None:
        return b""
    return b"x-amz-copy-source-version-id: %s\r\n" % version.version_id.encode()

# SPDX-License-Identifier: Apache-2.0
"""Multipart uploads: create, part, copied part, lists, abort. Completion is in `complete`. Source: s3-surface §5 #44
to #48."""

from drystone_core.errors import ErrorCode, Refused
from drystone_core.extents import PACK_LIMIT
from drystone_core.ids import UploadId
from drystone_core.listing import PartPage, UploadPage
from drystone_core.mutations import AbortUpload, CreateUpload, PutPart
from drystone_core.objects import Bucket, Part, Upload
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import no_content, xml_answer
from drystone_gateway.operations.body_source import body_source, read_document
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.copy_object import copied, source_version_head
from drystone_gateway.operations.copy_source import find_source
from drystone_gateway.operations.hashing import part_hashes
from drystone_gateway.operations.ingest import Stored, ingest
from drystone_gateway.operations.late_answer import answered_late
from drystone_gateway.operations.naming import Naming
from drystone_gateway.operations.write_ids import WriteIds
from drystone_gateway.s3 import listing, xml_out
from drystone_gateway.s3.checksums import ALGORITHMS, DEFAULT_ALGORITHM, upload_checksum
from drystone_gateway.s3.conditions import parse_match_modified
from drystone_gateway.s3.headers import system_metadata, user_metadata
from drystone_gateway.s3.ranges import ByteRange, parse_copy_range, parse_part_number
from drystone_gateway.s3.storage_class import storage_class

_INITIATED = "x-amz-if-match-initiated-time"


async def create_upload(call: Call) -> Response:
    """POST /bucket/key?uploads."""
    s3 = call.s3
    algorithm, kind = upload_checksum(s3.headers)
    system, user = system_metadata(s3.headers), user_metadata(s3.headers)
    wanted = storage_class(s3.headers)
    bucket = await call.bucket()
    await read_document(call, checksum=False)
    outcome = await call.gateway.metadata.mutate(
        CreateUpload(
            write_id=call.write_ids().make(),
            bucket=bucket.name,
            key=call.key,
            owner=call.caller.account,
            headers=system,
            metadata=user,
            storage_class=wanted,
            checksum_algorithm=algorithm,
            checksum_type=kind,
        )
    )
    head = b""
    if algorithm:
        head = f"x-amz-checksum-algorithm: {algorithm}\r\nx-amz-checksum-type: {kind.value}\r\n".encode()
    upload_id = outcome.upload_id or ""
    return xml_answer(xml_out.initiate_upload(bucket=bucket.name, key=call.key, upload_id=upload_id), head)


async def upload_part(call: Call) -> Response:
    """PUT /bucket/key?partNumber&uploadId."""
    gateway, s3 = call.gateway, call.s3
    headers = s3.headers
    number = parse_part_number(s3.query["partNumber"])
    source = body_source(call, gateway.settings.limits.put_bytes)
    bucket = await call.bucket()
    upload = await open_upload(call, bucket)
    hashes = part_hashes(headers, call.caller.payload, upload.checksum_algorithm, upload.checksum_type)
    ids = call.write_ids()
    naming = _naming(call, bucket, upload, number)
    stored = await ingest(gateway, source, hashes, naming)
    await _commit(call, bucket, upload, naming, stored, ids)
    head = b'ETag: "%s"\r\n' % stored.etag.encode()
    shown = hashes.promised() or (stored.checksum if upload.checksum_algorithm else None)
    if shown is not None:
        head += f"{ALGORITHMS[shown.algorithm].header}: {shown.value}\r\n".encode()
    return Response(200, head)


async def upload_part_copy(call: Call) -> Response:
    """PUT /bucket/key?partNumber&uploadId with x-amz-copy-source."""
    gateway, s3 = call.gateway, call.s3
    number = parse_part_number(s3.query["partNumber"])
    await read_document(call)
    bucket = await call.bucket()
    upload = await open_upload(call, bucket)
    source, source_bucket, version = await find_source(call)
    text = s3.headers.get("x-amz-copy-source-range")
    found = ByteRange(0, version.size) if text is None else parse_copy_range(text, version.size)
    if found.length > gateway.settings.limits.put_bytes:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "The specified copy source is larger than the maximum allowable size for a copy source:"
            f" {gateway.settings.limits.put_bytes}",
        )
    head = source_version_head(source, source_bucket, version)

    async def copy() -> Response:
        ids = call.write_ids()
        naming = _naming(call, bucket, upload, number)
        algorithm = ALGORITHMS[upload.checksum_algorithm or DEFAULT_ALGORITHM]
        stored = await copied(call, source_bucket.name, version, found.start, found.length, algorithm, naming)
        modified_ms = await _commit(call, bucket, upload, naming, stored, ids)
        checksum = stored.checksum if upload.checksum_algorithm else None
        return xml_answer(xml_out.copy_part(etag=stored.etag, modified_ms=modified_ms, checksum=checksum), head)

    return await copy() if found.length <= PACK_LIMIT else await answered_late(call, copy(), head)


async def list_parts(call: Call) -> Response:
    """GET /bucket/key?uploadId."""
    query = listing.list_parts(call.s3.query)
    bucket = await call.bucket()
    page = await call.gateway.metadata.list_parts(
        bucket.name, call.key, upload_id_of(call), after=query.after, limit=max(query.limit, 1)
    )
    _not_internal(page.upload)
    if not query.limit:
        page = PartPage(upload=page.upload, parts=[], truncated=False, next_part=0)
    return xml_answer(xml_out.list_parts(page, bucket=bucket.name, query=query))


async def list_uploads(call: Call) -> Response:
    """GET /bucket?uploads."""
    query = listing.list_uploads(call.s3.query)
    bucket = await call.bucket()
    if query.limit:
        after_key, after_upload = query.after
        page = await call.gateway.metadata.list_uploads(
            bucket.name,
            prefix=query.prefix,
            delimiter=query.delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=query.limit,
        )
    else:
        page = UploadPage(uploads=[], common_prefixes=[], truncated=False, next_key=b"", next_upload=None)
    return xml_answer(xml_out.list_uploads(page, bucket=bucket.name, query=query))


async def abort_upload(call: Call) -> Response:
    """DELETE /bucket/key?uploadId. A client's own retry may find nothing: the commit knows the first outcome."""
    bucket = await call.bucket()
    wanted = call.s3.headers.get(_INITIATED)
    initiated_ms = None if wanted is None else parse_match_modified(wanted, _INITIATED)
    try:
        upload = await open_upload(call, bucket)
    except Refused as refused:
        if refused.code is not ErrorCode.NO_SUCH_UPLOAD or not call.is_retry():
            raise
    else:
        if initiated_ms is not None and initiated_ms // 1000 != upload.initiated_ms // 1000:
            raise Refused(ErrorCode.PRECONDITION_FAILED, Condition=_INITIATED)
    await call.gateway.metadata.mutate(
        AbortUpload(write_id=call.write_ids().make(), bucket=bucket.name, key=call.key, upload_id=upload_id_of(call))
    )
    return no_content()


async def open_upload(call: Call, bucket: Bucket) -> Upload:
    """The upload named in the query; NoSuchUpload."""
    page = await call.gateway.metadata.list_parts(
        bucket.name, call.key, upload_id_of(call), after=call.gateway.settings.limits.parts, limit=1
    )
    _not_internal(page.upload)
    return page.upload


def upload_id_of(call: Call) -> UploadId:
    """`uploadId` of the query."""
    return UploadId(call.s3.query.get("uploadId", ""))


def _not_internal(upload: Upload) -> None:
    if upload.internal:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=upload.upload_id)


def _naming(call: Call, bucket: Bucket, upload: Upload, number: int) -> Naming:
    return Naming(
        bucket_id=bucket.bucket_id,
        bucket=bucket.name,
        key=call.key,
        uid=call.gateway.uid(),
        part=number,
        headers=upload.headers,
        metadata=upload.metadata,
        storage_class=upload.storage_class,
        disk_class=call.gateway.disk_class(upload.storage_class),
        owner=upload.owner,
    )


async def _commit(call: Call, bucket: Bucket, upload: Upload, naming: Naming, stored: Stored, ids: WriteIds) -> int:
    """Add the part; when it was added, Unix milliseconds."""
    part = Part(
        number=naming.part,
        size=stored.size,
        etag=stored.etag,
        modified_ms=call.gateway.clock.wall_us() // 1000,
        uid=naming.uid,
        checksum=stored.checksum,
        blobs=stored.blobs,
    )
    outcome = await call.gateway.metadata.mutate(
        PutPart(
            write_id=ids.make(),
            bucket=bucket.name,
            key=call.key,
            upload_id=upload.upload_id,
            part=part,
            bucket_id=naming.bucket_id,
        )
    )
    return outcome.modified_ms

# SPDX-License-Identifier: Apache-2.0
"""CompleteMultipartUpload: parts become an object without moving a byte.

Checked here against the rows as read (order, ETags, checksums, sizes), and again by uid in the commit. Before it a
manifest is written when the row could not hold the extents, otherwise a small name blob, so that `recover` finds the
object from disks. Source: s3-surface §5 #25, #45 to #48.
"""

from collections.abc import Mapping, Sequence

from drystone_core.errors import ErrorCode, Refused
from drystone_core.extents import BlobRef
from drystone_core.formats.trailer import Trailer, encode_trailer
from drystone_core.ids import Uid, UploadId
from drystone_core.mutations import CompletePart, CompleteUpload, Outcome
from drystone_core.objects import Bucket, Checksum, ChecksumType, Part, Upload
from drystone_core.services import BlobHeader, SmallBlob
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import xml_answer
from drystone_gateway.operations.body_source import read_document
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.manifests import MANIFEST_BLOB, NAME_BLOB, needs_manifest, write_manifest
from drystone_gateway.operations.multipart import upload_id_of
from drystone_gateway.s3 import xml_out
from drystone_gateway.s3.checksums import (
    DEFAULT_ALGORITHM,
    completed_checksum,
    composite,
    full_object,
    multipart_etag,
)
from drystone_gateway.s3.conditions import write_conditions
from drystone_gateway.s3.xml_in import COMPLETE_BODY, SentPart, parse_complete


async def complete_upload(call: Call) -> Response:
    """POST /bucket/key?uploadId."""
    gateway, s3 = call.gateway, call.s3
    conditions = write_conditions(s3.headers)
    body = await read_document(call, checksum=False, limit=COMPLETE_BODY)
    bucket = await call.bucket()
    sent = parse_complete(body)
    upload_id = upload_id_of(call)
    uid = gateway.uid()
    try:
        upload, parts = await _read_parts(call, bucket, upload_id)
    except Refused as refused:
        if refused.code is not ErrorCode.NO_SUCH_UPLOAD:
            raise
        return await _answer_again(call, bucket, upload_id, uid)
    chosen = _chosen(call, upload, sent, parts)
    size = _checked_size(call, chosen)
    checksum = _checksum(call, upload, chosen)
    etag = multipart_etag(part.etag for part in chosen)
    manifest = await _write_blobs(call, bucket, upload, uid, chosen, size, etag, checksum)
    outcome = await gateway.metadata.mutate(
        CompleteUpload(
            write_id=call.write_ids().make(),
            bucket=bucket.name,
            key=call.key,
            upload_id=upload_id,
            uid=uid,
            parts=tuple(CompletePart(number=part.number, etag=part.etag, uid=part.uid) for part in chosen),
            etag=etag,
            size=size,
            checksum=checksum,
            manifest=manifest,
            conditions=conditions,
        )
    )
    return _answer(call, bucket, outcome, outcome.etag or etag, checksum)


async def _answer_again(call: Call, bucket: Bucket, upload_id: UploadId, uid: Uid) -> Response:
    """The upload is gone: if the key's object came from it, the same answer once more; NoSuchUpload otherwise."""
    outcome = await call.gateway.metadata.mutate(
        CompleteUpload(
            write_id=call.write_ids().make(b"again"),
            bucket=bucket.name,
            key=call.key,
            upload_id=upload_id,
            uid=uid,
            parts=(),
            etag="",
            size=0,
        )
    )
    version = await call.gateway.metadata.object(bucket.name, call.key, outcome.version_id)
    checksum = version.checksum if version.etag == outcome.etag else None
    return _answer(call, bucket, outcome, outcome.etag, checksum)


def _answer(call: Call, bucket: Bucket, outcome: Outcome, etag: str, checksum: Checksum | None) -> Response:
    request = call.request
    scheme = "https" if request.secure else "http"
    document = xml_out.complete_upload(
        location=f"{scheme}://{request.headers.get('host', '')}{request.path}",
        bucket=bucket.name,
        key=call.key,
        etag=etag,
        checksum=checksum,
    )
    head = b""
    if outcome.version_id is not None:
        head = b"x-amz-version-id: %s\r\n" % outcome.version_id.encode()
    return xml_answer(document, head)


async def _read_parts(call: Call, bucket: Bucket, upload_id: UploadId) -> tuple[Upload, dict[int, Part]]:
    parts: dict[int, Part] = {}
    after = 0
    while True:
        page = await call.gateway.metadata.list_parts(bucket.name, call.key, upload_id, after=after, limit=1000)
        parts.update((part.number, part) for part in page.parts)
        if not page.truncated:
            break
        after = page.next_part
    if page.upload.internal:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=upload_id)
    return page.upload, parts


def _chosen(call: Call, upload: Upload, sent: Sequence[SentPart], parts: Mapping[int, Part]) -> list[Part]:
    chosen = []
    for wanted in sent:
        part = parts.get(wanted.number)
        if part is None or part.etag != wanted.etag or not _sums_fit(upload, wanted, part):
            raise Refused(
                ErrorCode.INVALID_PART,
                UploadId=upload_id_of(call),
                PartNumber=str(wanted.number),
                ETag=wanted.etag,
            )
        chosen.append(part)
    return chosen


def _sums_fit(upload: Upload, wanted: SentPart, part: Part) -> bool:
    """Is the checksum the client names the part's? In a composite every part must come with it (#48).

    Refused: InvalidRequest without it, BadDigest with one of another algorithm. When the upload named no algorithm, one
    of another algorithm than the default cannot be judged.
    """
    checksum, algorithm = part.checksum, upload.checksum_algorithm
    if checksum is None:
        return True
    sent = wanted.checksums.get(checksum.algorithm)
    if sent is None and algorithm and wanted.checksums:
        raise Refused(
            ErrorCode.BAD_DIGEST,
            f"The {min(wanted.checksums).lower()} you specified for part {wanted.number} did not match what we"
            " received.",
        )
    if sent is None and algorithm and upload.checksum_type is ChecksumType.COMPOSITE:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"The upload was created using a {algorithm.lower()} checksum. The complete request must include the"
            f" checksum for each part. It was missing for part {wanted.number} in the request.",
        )
    return sent is None or sent == checksum.value


def _checked_size(call: Call, chosen: Sequence[Part]) -> int:
    limits = call.gateway.settings.limits
    for part in chosen[:-1]:
        if part.size < limits.part_bytes:
            raise Refused(
                ErrorCode.ENTITY_TOO_SMALL,
                ProposedSize=str(part.size),
                MinSizeAllowed=str(limits.part_bytes),
                PartNumber=str(part.number),
                ETag=part.etag,
            )
    size = sum(part.size for part in chosen)
    if size > limits.object_bytes:
        raise Refused(ErrorCode.ENTITY_TOO_LARGE, ProposedSize=str(size), MaxSizeAllowed=str(limits.object_bytes))
    claimed = call.s3.headers.get("x-amz-mp-object-size")
    if claimed is not None and claimed != str(size):
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
        )
    return size


def _checksum(call: Call, upload: Upload, chosen: Sequence[Part]) -> Checksum:
    """The object's checksum, and the refusal of a client that expects another (#48)."""
    headers = call.s3.headers
    algorithm = upload.checksum_algorithm or DEFAULT_ALGORITHM
    kind = headers.get("x-amz-checksum-type", "").upper()
    if kind and kind != upload.checksum_type.value:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"The upload was created using the {upload.checksum_type.value} checksum mode."
            " The complete request must use the same checksum mode.",
        )
    sums = [(part.checksum.value if part.checksum is not None else "", part.size) for part in chosen]
    if upload.checksum_type is ChecksumType.COMPOSITE:
        checksum = composite(algorithm, [value for value, _ in sums])
    else:
        checksum = full_object(algorithm, sums)
    expected = completed_checksum(headers)
    if expected is None:
        return checksum
    if expected[0] != algorithm:
        raise Refused(ErrorCode.INVALID_REQUEST, "The upload was created with another checksum algorithm.")
    if expected[1] not in (checksum.value, checksum.value.partition("-")[0]):
        raise Refused(
            ErrorCode.BAD_DIGEST,
            f"The {algorithm} you specified did not match the calculated checksum.",
        )
    return checksum


async def _write_blobs(
    call: Call,
    bucket: Bucket,
    upload: Upload,
    uid: Uid,
    chosen: Sequence[Part],
    size: int,
    etag: str,
    checksum: Checksum,
) -> BlobRef | None:
    """The manifest, when one is needed; otherwise a name blob is written and None returned."""
    gateway = call.gateway
    trailer = encode_trailer(
        Trailer(
            size=size,
            etag=etag,
            modified_ms=gateway.clock.wall_us() // 1000,
            storage_class=upload.storage_class,
            checksum=checksum,
            headers=upload.headers,
            metadata=upload.metadata,
        )
    )
    large = needs_manifest(gateway, chosen)
    header = BlobHeader(
        bucket_id=bucket.bucket_id,
        key=call.key,
        uid=uid,
        kind=MANIFEST_BLOB if large else NAME_BLOB,
        disk_class=gateway.disk_class(upload.storage_class),
    )
    if large:
        return await write_manifest(gateway, header, chosen, trailer)
    await gateway.storage.append(SmallBlob(header=header, payload=b"", trailer=trailer))
    return None

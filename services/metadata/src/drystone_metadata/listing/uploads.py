# SPDX-License-Identifier: Apache-2.0
"""ListMultipartUploads and ListParts. Uploads stand by key, then by initiation (their ids sort so)."""

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.row_keys import PART, UPLOAD, parse_upload, part_seq
from drystone_core.formats.row_parts import decode_part, decode_upload
from drystone_core.ids import BucketId, UploadId
from drystone_core.listing import PartPage, UploadPage
from drystone_core.objects import Upload
from drystone_metadata.listing.keys import first_key
from drystone_metadata.store.ports import RowKey, RowReader, TabletId
from drystone_metadata.store.reading import RowRun, successor


async def list_uploads(
    storage: RowReader,
    tablet: TabletId,
    bucket_id: BucketId,
    *,
    prefix: bytes,
    delimiter: bytes,
    after_key: bytes,
    after_upload: str,
    limit: int,
) -> UploadPage:
    """One page of uploads that are not internal."""
    base = bucket_id.to_bytes(8, "big")
    end_key = successor(base + prefix)
    begin = first_key(prefix, delimiter, after_key)
    seq = b""
    if after_upload and after_key >= prefix:
        begin, seq = after_key, (parse_upload(after_upload) or b"") + b"\0"
    if limit <= 0 or begin is None or end_key is None:
        return UploadPage(uploads=[], common_prefixes=[], truncated=False, next_key=b"", next_upload=None)
    start, end = RowKey(UPLOAD, base + begin, seq), RowKey(UPLOAD, end_key)
    run = RowRun(storage, tablet, start, end, first=16 if delimiter else limit + 1, most=limit + 1)
    uploads: list[Upload] = []
    prefixes: list[bytes] = []
    next_key, next_upload, truncated = b"", None, False
    skip = 8 + len(prefix)
    while (row := await run.peek()) is not None:
        address, value = row[0].key, row[1]
        upload = decode_upload(address, row[0].seq, value)
        if upload.internal:
            run.advance()
            continue
        if len(uploads) + len(prefixes) >= limit:
            truncated = True
            break
        at = address.find(delimiter, skip) if delimiter else -1
        if at < 0:
            uploads.append(upload)
            next_key, next_upload = bytes(upload.key), upload.upload_id
            run.advance()
            continue
        common = address[: at + len(delimiter)]
        next_key, next_upload = common[8:], None
        prefixes.append(next_key)
        beyond = successor(common)
        if beyond is None:
            break
        run.seek(RowKey(UPLOAD, beyond))
    return UploadPage(
        uploads=uploads,
        common_prefixes=prefixes,
        truncated=truncated,
        next_key=next_key if truncated else b"",
        next_upload=next_upload if truncated else None,
    )


async def list_parts(
    storage: RowReader, tablet: TabletId, address: bytes, upload_id: UploadId, *, after: int, limit: int
) -> PartPage:
    """Parts with number > `after`; NoSuchUpload."""
    seq = parse_upload(upload_id)
    value = None
    if seq is not None:
        (value,) = await storage.read(tablet, [RowKey(UPLOAD, address, seq)])
    if seq is None or value is None:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=upload_id)
    upload = decode_upload(address, seq, value)
    limit = max(limit, 0)
    start = RowKey(PART, address, part_seq(seq, min(max(after, 0) + 1, 0xFFFF)))
    end = RowKey(PART, address, seq + b"\xff\xff\xff")
    rows = await storage.scan(tablet, start, end, limit + 1) if limit else []
    # Parts go only with their upload: when that is still there, these are its parts.
    if await storage.read(tablet, [RowKey(UPLOAD, address, seq)]) == [None]:
        raise Refused(ErrorCode.NO_SUCH_UPLOAD, UploadId=upload_id)
    parts = [decode_part(address, row.seq, body) for row, body in rows[:limit]]
    truncated = len(rows) > limit
    return PartPage(
        upload=upload, parts=parts, truncated=truncated, next_part=parts[-1].number if truncated and parts else 0
    )

# SPDX-License-Identifier: Apache-2.0
"""GetObject and HeadObject: one row, one verified read, one answer.

A small object that is at hand is answered without suspending: row and bytes are read, the head is made by f-strings.
HEAD never touches storage (but for the part index of an object in manifest form). Source: s3-surface §5 #26 to #36,
#48, #54.
"""

from drystone_core.errors import Damaged, ErrorCode, Refused, Stale, Unavailable
from drystone_core.objects import Bucket, Checksum, ObjectVersion, Versioning
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import error_response
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.object_stream import ObjectStream
from drystone_gateway.s3.amz_time import http_date
from drystone_gateway.s3.checksums import checksum_header
from drystone_gateway.s3.conditions import check_read, has_read_conditions, range_applies
from drystone_gateway.s3.headers import header_line, object_lines, response_overrides
from drystone_gateway.s3.ranges import ByteRange, parse_part_number, parse_range, part_number_with_range

_SHOWN_IN_304 = (("cache-control", "Cache-Control"), ("expires", "Expires"))


async def get_object(call: Call) -> Response:
    """GET /bucket/key."""
    return await _answer(call, head_only=False)


async def head_object(call: Call) -> Response:
    """HEAD /bucket/key."""
    return await _answer(call, head_only=True)


async def _answer(call: Call, *, head_only: bool) -> Response:
    gateway, s3 = call.gateway, call.s3
    query, headers = s3.query, s3.headers
    number = _part_number(call) if query else None
    version_id = call.version_id() if query else None
    bucket = await call.bucket()
    version = await gateway.metadata.object(bucket.name, call.key, version_id)
    if version.delete_marker:
        return _delete_marker(call, version, named=version_id is not None)
    if has_read_conditions(headers):
        try:
            now = gateway.clock.wall_us() // 1_000_000
            check_read(headers, etag=version.etag, modified_ms=version.modified_ms, now_s=now)
        except Refused as refused:
            if refused.code is not ErrorCode.NOT_MODIFIED:
                raise
            return Response(304, _not_modified(bucket, version))
    overrides = response_overrides(query, anonymous=call.caller.anonymous) if query else None
    head = object_lines(version, overrides)
    if bucket.versioning is not Versioning.NEVER:
        head += b"x-amz-version-id: %s\r\n" % version.version_id.encode()
    if version.storage_class != "STANDARD":
        head += header_line("x-amz-storage-class", version.storage_class)
    if version.tags:
        head += b"x-amz-tagging-count: %d\r\n" % len(version.tags)
    status, start, length = 200, 0, version.size
    checksum = version.checksum
    if number is not None or "range" in headers:
        found, extra, checksum = await _portion(call, version, number)
        if found is not None:
            status, start, length = 206, found.start, found.length
            if length:
                head += b"Content-Range: %s\r\n" % found.content_range(version.size).encode()
        head += extra
    if checksum is not None and headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        head += checksum_header(checksum)
    if head_only:
        return Response(status, head, length=length)
    if not length:
        return Response(status, head)
    return await _body(call, bucket, version, status, head, start, length)


async def _body(
    call: Call, bucket: Bucket, version: ObjectVersion, status: int, head: bytes, start: int, length: int
) -> Response:
    gateway = call.gateway
    if version.manifest is None:
        try:
            data = gateway.storage.read_now(version.blobs, start, length)
        except (Damaged, Stale, Unavailable):
            data = None  # the stream looks again where the bytes are now
        if data is not None:
            return Response(status, head, data)
    stream = ObjectStream(
        metadata=gateway.metadata,
        storage=gateway.storage,
        layout=gateway.layout,
        bucket=bucket.name,
        version=version,
        start=start,
        length=length,
    )
    await stream.begin()
    return Response(status, head, stream=stream, length=length)


def _part_number(call: Call) -> int | None:
    """`partNumber`, judged before anything is looked up; not together with Range (#36)."""
    text = call.s3.query.get("partNumber")
    if text is None:
        return None
    number = parse_part_number(text)
    if "range" in call.s3.headers:
        raise part_number_with_range()
    return number


async def _portion(
    call: Call, version: ObjectVersion, number: int | None
) -> tuple[ByteRange | None, bytes, Checksum | None]:
    """(bytes asked for or None for all, further head lines, the checksum that covers exactly them)."""
    if number is None:
        headers, found = call.s3.headers, None
        if range_applies(headers, etag=version.etag, modified_ms=version.modified_ms):
            found = parse_range(headers["range"], version.size)
        return found, b"", version.checksum if found is None else None
    if not version.parts_count:
        if number != 1:
            raise _no_such_part(number, 1)
        return ByteRange(0, version.size), b"", version.checksum
    span = await call.gateway.layout.part(version, number)
    if span is None:
        raise _no_such_part(number, version.parts_count)
    count = b"x-amz-mp-parts-count: %d\r\n" % version.parts_count
    return ByteRange(span.start, span.part.size), count, span.part.checksum


def _no_such_part(number: int, count: int) -> Refused:
    return Refused(ErrorCode.INVALID_PART_NUMBER, ActualPartCount=str(count), PartNumberRequested=str(number))


def _not_modified(bucket: Bucket, version: ObjectVersion) -> bytes:
    head = f'ETag: "{version.etag}"\r\nLast-Modified: {http_date(version.modified_ms // 1000)}\r\n'.encode()
    for name, shown in _SHOWN_IN_304:
        value = version.headers.get(name)
        if value is not None:
            head += header_line(shown, value)
    if bucket.versioning is not Versioning.NEVER:
        head += b"x-amz-version-id: %s\r\n" % version.version_id.encode()
    return head


def _delete_marker(call: Call, version: ObjectVersion, *, named: bool) -> Response:
    """404 for a current marker, 405 for one that was named (#54)."""
    extra = b"x-amz-delete-marker: true\r\nx-amz-version-id: %s\r\n" % version.version_id.encode()
    if named:
        extra += f"Last-Modified: {http_date(version.modified_ms // 1000)}\r\n".encode()
        refused = Refused(
            ErrorCode.METHOD_NOT_ALLOWED, Method=call.request.method, ResourceType="DeleteMarker", Allow="DELETE"
        )
    else:
        refused = Refused(ErrorCode.NO_SUCH_KEY, Key=version.key.decode())
    return error_response(call.request, refused, extra)

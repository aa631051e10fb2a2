# SPDX-License-Identifier: Apache-2.0
"""GetObjectAttributes (s3-surface §5 #49)."""

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import Part, Versioning
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import error_response, xml_answer
from drystone_gateway.operations.context import Call
from drystone_gateway.s3.amz_time import http_date
from drystone_gateway.s3.xml_out import AttributesQuery, object_attributes

_KNOWN = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


async def get_object_attributes(call: Call) -> Response:
    """GET /bucket/key?attributes."""
    query = _query(call)
    version_id = call.version_id()
    bucket = await call.bucket()
    version = await call.gateway.metadata.object(bucket.name, call.key, version_id)
    head = f"Last-Modified: {http_date(version.modified_ms // 1000)}\r\n".encode()
    if bucket.versioning is not Versioning.NEVER:
        head += b"x-amz-version-id: %s\r\n" % version.version_id.encode()
    if version.delete_marker:
        extra = b"x-amz-delete-marker: true\r\n" + head
        code = ErrorCode.NO_SUCH_KEY if version_id is None else ErrorCode.METHOD_NOT_ALLOWED
        return error_response(call.request, Refused(code), extra)
    parts: list[Part] = []
    if "ObjectParts" in query.wanted and version.parts_count:
        parts = await call.gateway.layout.parts(version, query.after_part, query.max_parts + 1)
    return xml_answer(object_attributes(version, query, parts), head)


def _query(call: Call) -> AttributesQuery:
    headers = call.s3.headers
    text = headers.get("x-amz-object-attributes", "")
    wanted = frozenset(piece.strip() for piece in text.split(",") if piece.strip())
    if not wanted:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        )
    if not wanted <= _KNOWN:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "Invalid attribute name specified.",
            ArgumentName="x-amz-object-attributes",
            ArgumentValue=text[:128],
        )
    return AttributesQuery(
        wanted=wanted,
        after_part=_number(headers.get("x-amz-part-number-marker"), "x-amz-part-number-marker", 0),
        max_parts=min(_number(headers.get("x-amz-max-parts"), "x-amz-max-parts", 1000), 1000),
    )


def _number(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise Refused(ErrorCode.INVALID_ARGUMENT, ArgumentName=name, ArgumentValue=text[:64])
    return int(text)

# SPDX-License-Identifier: Apache-2.0
"""ListObjects (both versions), ListObjectVersions: parameters in, one page from the metadata service, XML out."""

from drystone_core.listing import ObjectPage, VersionPage
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import xml_answer
from drystone_gateway.operations.context import Call
from drystone_gateway.s3 import listing, xml_out

_REGION = b"x-amz-bucket-region: %s\r\n"


async def list_objects(call: Call) -> Response:
    """GET /bucket."""
    query = listing.list_objects_v1(call.s3.query)
    bucket = await call.bucket(fresh=not query.limit)
    page = await _page(call, bucket.name, query)
    document = xml_out.list_objects_v1(page, bucket=bucket.name, owner=bucket.owner, query=query)
    return xml_answer(document, _REGION % bucket.region.encode())


async def list_objects_v2(call: Call) -> Response:
    """GET /bucket?list-type=2."""
    query = listing.list_objects_v2(call.s3.query)
    bucket = await call.bucket(fresh=not query.limit)
    page = await _page(call, bucket.name, query)
    token = listing.next_objects_token(page.next_after) if page.truncated else ""
    document = xml_out.list_objects_v2(page, bucket=bucket.name, owner=bucket.owner, query=query, next_token=token)
    return xml_answer(document, _REGION % bucket.region.encode())


async def list_object_versions(call: Call) -> Response:
    """GET /bucket?versions."""
    query = listing.list_versions(call.s3.query)
    bucket = await call.bucket(fresh=not query.limit)
    if query.limit:
        after_key, after_version = query.after
        page = await call.gateway.metadata.list_versions(
            bucket.name,
            prefix=query.prefix,
            delimiter=query.delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=query.limit,
        )
    else:
        page = VersionPage(versions=[], common_prefixes=[], truncated=False, next_key=b"", next_version="")
    return xml_answer(xml_out.list_versions(page, bucket=bucket.name, owner=bucket.owner, query=query))


async def _page(call: Call, bucket: str, query: listing.ListObjectsQuery) -> ObjectPage:
    if not query.limit:
        return ObjectPage(objects=[], common_prefixes=[], truncated=False, next_after=b"")
    return await call.gateway.metadata.list_objects(
        bucket, prefix=query.prefix, delimiter=query.delimiter, after=query.after, limit=query.limit
    )

# SPDX-License-Identifier: Apache-2.0
"""Buckets: create, delete, head, list, location. Source: s3-surface §5 #67, #70, #71, #73."""

from drystone_core.errors import ErrorCode, Refused
from drystone_core.mutations import CreateBucket, DeleteBucket
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import no_content, xml_answer
from drystone_gateway.operations.body_source import read_document
from drystone_gateway.operations.context import Call
from drystone_gateway.s3 import listing, xml_out
from drystone_gateway.s3.bucket_name import check_new_bucket
from drystone_gateway.s3.headers import header_line
from drystone_gateway.s3.xml_in import check_location, parse_create_bucket


async def create_bucket(call: Call) -> Response:
    """PUT /bucket. The owner may repeat it in us-east-1."""
    gateway, name = call.gateway, call.s3.bucket
    region = gateway.settings.region
    check_new_bucket(name)
    configuration = parse_create_bucket(await read_document(call))
    check_location(configuration.location, region)
    if configuration.tags:
        raise Refused(ErrorCode.NOT_IMPLEMENTED, "Tags of buckets are not implemented.")
    try:
        await gateway.metadata.mutate(
            CreateBucket(write_id=call.write_ids().make(), bucket=name, owner=call.caller.account, region=region)
        )
    except Refused as refused:
        if refused.code is not ErrorCode.BUCKET_ALREADY_OWNED_BY_YOU or region != "us-east-1":
            raise
    return Response(200, header_line("Location", f"/{name}"))


async def delete_bucket(call: Call) -> Response:
    """DELETE /bucket. A client's own retry is answered by the commit, which knows the first outcome."""
    try:
        await call.bucket()
    except Refused as refused:
        if refused.code is not ErrorCode.NO_SUCH_BUCKET or not call.is_retry():
            raise
    await call.gateway.metadata.mutate(DeleteBucket(write_id=call.write_ids().make(), bucket=call.s3.bucket))
    return no_content()


async def head_bucket(call: Call) -> Response:
    """HEAD /bucket. Who may not use it still hears its region (#71)."""
    try:
        bucket = await call.bucket(fresh=True)
    except Refused as refused:
        if refused.code is ErrorCode.ACCESS_DENIED:
            raise Refused(ErrorCode.ACCESS_DENIED, Region=call.gateway.settings.region) from None
        raise
    return Response(
        200, _region(bucket.region) + b"x-amz-access-point-alias: false\r\nContent-Type: application/xml\r\n"
    )


async def get_bucket_location(call: Call) -> Response:
    """GET /bucket?location."""
    bucket = await call.bucket(fresh=True)
    return xml_answer(xml_out.location_constraint(bucket.region))


async def list_buckets(call: Call) -> Response:
    """GET /: the caller's own buckets."""
    query = listing.list_buckets(call.s3.query)
    region = call.s3.query.get("bucket-region")
    owner = call.caller.account
    limit = query.limit
    found = await call.gateway.metadata.buckets(owner, prefix=query.prefix, after=query.after, limit=limit + 1)
    token = ""
    if len(found) > limit:
        found = found[:limit]
        token = listing.next_buckets_token(found[-1].name)
    if region is not None:
        found = [bucket for bucket in found if bucket.region == region]
    return xml_answer(xml_out.list_buckets(found, owner=owner, query=query, next_token=token))


def _region(region: str) -> bytes:
    return b"x-amz-bucket-region: %s\r\n" % region.encode()

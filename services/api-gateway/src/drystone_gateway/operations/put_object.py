# SPDX-License-Identifier: Apache-2.0
"""PutObject: decide early what can be refused early, make the bytes durable, then name them.

A body that has arrived with its head costs exactly two waits: the append and the commit. Conditions are looked at
before a body is received (a refusal then costs no upload and no `100 Continue`) and decided in the commit. A client's
own retry is not refused early: the commit knows the outcome of its first attempt (metadata R1).
"""

from collections.abc import Mapping

from drystone_core.errors import ErrorCode, Refused, Stale
from drystone_core.ids import Key, WriteId
from drystone_core.mutations import NO_CONDITIONS, Outcome, Preconditions, PutObject
from drystone_core.objects import Bucket, Checksum, ObjectVersion
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.body_source import body_source
from drystone_gateway.operations.context import Call, Gateway
from drystone_gateway.operations.hashing import body_hashes
from drystone_gateway.operations.ingest import Stored, ingest
from drystone_gateway.operations.naming import Naming
from drystone_gateway.s3.checksums import checksum_header
from drystone_gateway.s3.conditions import write_conditions
from drystone_gateway.s3.headers import system_metadata, user_metadata
from drystone_gateway.s3.storage_class import storage_class


async def put_object(call: Call) -> Response:
    """PUT /bucket/key."""
    gateway, s3 = call.gateway, call.s3
    headers = s3.headers
    conditions = write_conditions(headers)
    source = body_source(call, gateway.settings.limits.put_bytes)
    hashes = body_hashes(headers, call.caller.payload)
    bucket = await call.bucket()
    if conditions is not NO_CONDITIONS and not call.is_retry():
        await check_early(call, bucket.name, call.key, conditions)
    ids = call.write_ids()
    wanted = storage_class(headers)
    naming = Naming(
        bucket_id=bucket.bucket_id,
        bucket=bucket.name,
        key=call.key,
        uid=gateway.uid(),
        headers=system_metadata(headers),
        metadata=user_metadata(headers),
        storage_class=wanted,
        disk_class=gateway.disk_class(wanted),
        owner=call.caller.account,
    )
    stored = await ingest(gateway, source, hashes, naming)
    outcome = await name_object(gateway, naming, stored, write_id=ids.make(), conditions=conditions, tags={})
    return Response(200, written_head(bucket, outcome, stored.etag, stored.checksum))


async def name_object(
    gateway: Gateway,
    naming: Naming,
    stored: Stored,
    *,
    write_id: WriteId,
    conditions: Preconditions,
    tags: Mapping[str, str],
    over: ObjectVersion | None = None,
) -> Outcome:
    """Make durable bytes the object's current version; when that is refused nothing of them stays named.

    `over`: Stale unless that one is still current, as it was read.
    """
    mutation = PutObject(
        write_id=write_id,
        bucket=naming.bucket,
        key=naming.key,
        uid=naming.uid,
        size=stored.size,
        etag=stored.etag,
        headers=naming.headers,
        metadata=naming.metadata,
        blobs=stored.blobs,
        storage_class=naming.storage_class,
        checksum=stored.checksum,
        conditions=conditions,
        registered=None if stored.registered is None else stored.registered.upload_id,
        bucket_id=naming.bucket_id,
        tags=tags,
        expected_uid=None if over is None else over.uid,
        expected_ms=None if over is None else over.modified_ms,
    )
    try:
        return await gateway.metadata.mutate(mutation)
    except (Refused, Stale):
        if stored.registered is not None:
            await stored.registered.drop()
        raise


def written_head(bucket: Bucket, outcome: Outcome, etag: str, checksum: Checksum | None) -> bytes:
    """ETag, version id and checksum of what was written."""
    head = b'ETag: "%s"\r\n' % (outcome.etag or etag).encode()
    if outcome.version_id is not None:
        head += b"x-amz-version-id: %s\r\n" % outcome.version_id.encode()
    return head if checksum is None else head + checksum_header(checksum)


async def check_early(call: Call, bucket: str, key: Key, conditions: Preconditions) -> None:
    """Refuse now what the commit would refuse as things stand."""
    try:
        version = await call.gateway.metadata.object(bucket, key)
    except Refused as refused:
        if refused.code is ErrorCode.NO_SUCH_KEY and not conditions.if_match:
            return
        raise
    if version.delete_marker:
        if conditions.if_match:
            raise Refused(ErrorCode.NO_SUCH_KEY)
        return
    if conditions.if_none_match:
        raise Refused(ErrorCode.PRECONDITION_FAILED, Condition="If-None-Match")
    if conditions.if_match not in ("", "*", version.etag):
        raise Refused(ErrorCode.PRECONDITION_FAILED, Condition="If-Match")

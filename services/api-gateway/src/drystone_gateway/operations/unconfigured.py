# SPDX-License-Identifier: Apache-2.0
"""Sub-resources nobody configured: the bucket (and object) must exist and be the caller's, then AWS's own answer."""

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import xml_answer
from drystone_gateway.operations.context import Call
from drystone_gateway.s3.unconfigured import unconfigured_answer


async def unconfigured(call: Call) -> Response:
    """GET, List or DELETE of a sub-resource that is not stored."""
    s3 = call.s3
    owner = call.caller.account
    if s3.bucket:
        bucket = await call.bucket(fresh=True)
        owner = bucket.owner
        if s3.key:
            version = await call.gateway.metadata.object(bucket.name, call.key, call.version_id())
            if version.delete_marker:
                raise Refused(ErrorCode.NO_SUCH_KEY)
    answer = unconfigured_answer(s3.operation, owner=owner)
    if answer is None:
        raise Refused(ErrorCode.NOT_IMPLEMENTED)
    status, document = answer
    return xml_answer(document) if status == 200 else Response(status)

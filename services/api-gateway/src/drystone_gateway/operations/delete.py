# SPDX-License-Identifier: Apache-2.0
"""DeleteObject and DeleteObjects. The keys of one DeleteObjects share commits; each is answered by itself."""

import asyncio
from collections.abc import Sequence

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.ids import Key, VersionId
from drystone_core.mutations import DeleteObject, Outcome
from drystone_gateway.http.messages import Response
from drystone_gateway.operations.answers import no_content, xml_answer
from drystone_gateway.operations.body_source import read_document
from drystone_gateway.operations.context import Call
from drystone_gateway.operations.hashing import needs_integrity
from drystone_gateway.s3.conditions import delete_conditions
from drystone_gateway.s3.copy_source import parse_version_id
from drystone_gateway.s3.errors import ERRORS
from drystone_gateway.s3.route import KEY_LIMIT
from drystone_gateway.s3.xml_in import DELETE_BODY, DeleteEntry, parse_delete
from drystone_gateway.s3.xml_out import Deleted, DeleteFailure, delete_result


async def delete_object(call: Call) -> Response:
    """DELETE /bucket/key."""
    headers = call.s3.headers
    conditions = delete_conditions(headers)
    version_id = call.version_id()
    bucket = await call.bucket()
    outcome = await call.gateway.metadata.mutate(
        DeleteObject(
            write_id=call.write_ids().make(),
            bucket=bucket.name,
            key=call.key,
            version_id=version_id,
            conditions=conditions,
        )
    )
    head = b""
    if outcome.version_id is not None:
        head = b"x-amz-version-id: %s\r\n" % outcome.version_id.encode()
    if outcome.delete_marker:
        head += b"x-amz-delete-marker: true\r\n"
    return no_content(head)


async def delete_objects(call: Call) -> Response:
    """POST /bucket?delete."""
    needs_integrity(call.s3.headers)
    body = await read_document(call, limit=DELETE_BODY)
    bucket = await call.bucket()
    request = parse_delete(body)
    outcomes = await _delete_all(call, bucket.name, request.entries)
    results = [_result(entry, outcome) for entry, outcome in zip(request.entries, outcomes, strict=True)]
    return xml_answer(delete_result(results, quiet=request.quiet))


async def _delete_all(call: Call, bucket: str, entries: Sequence[DeleteEntry]) -> Sequence[Outcome | BaseException]:
    """All keys at once: their mutations gather into few commits."""
    ids = call.write_ids()
    mutate = call.gateway.metadata.mutate
    waiting = []
    refused: dict[int, BaseException] = {}
    for number, entry in enumerate(entries):
        try:
            mutation = DeleteObject(
                write_id=ids.make(b"%d" % number),
                bucket=bucket,
                key=Key(entry.key),
                version_id=_version(entry),
                conditions=entry.conditions,
            )
            waiting.append(mutate(mutation))
        except DrystoneError as error:
            refused[number] = error
    done = iter(await asyncio.gather(*waiting, return_exceptions=True))
    return [refused[number] if number in refused else next(done) for number in range(len(entries))]


def _version(entry: DeleteEntry) -> VersionId | None:
    if len(entry.key) > KEY_LIMIT:
        raise Refused(ErrorCode.KEY_TOO_LONG)
    return parse_version_id(entry.version_id) if entry.version_id else None


def _result(entry: DeleteEntry, outcome: Outcome | BaseException) -> Deleted | DeleteFailure:
    if isinstance(outcome, DrystoneError):
        row = ERRORS[outcome.code]
        message = row.message if row.internal or not outcome.message else outcome.message
        return DeleteFailure(key=entry.key, version_id=entry.version_id, code=row.code, message=message)
    if isinstance(outcome, BaseException):
        raise outcome
    marker = ""
    if outcome.delete_marker and outcome.version_id is not None:
        marker = outcome.version_id
    return Deleted(
        key=entry.key,
        version_id=entry.version_id,
        delete_marker=outcome.delete_marker,
        marker_version_id=marker,
    )

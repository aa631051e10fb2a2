# SPDX-License-Identifier: Apache-2.0
"""Serves any MetadataService over gRPC. Bulk calls start all items before awaiting any, so they share one commit."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import grpc

from drystone.metadata.v1 import metadata_pb2 as pb
from drystone.metadata.v1 import metadata_pb2_grpc
from drystone.metadata.v1.mutations_pb2 import Mutation
from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.mutations import Outcome
from drystone_core.services import MetadataNodeService, ObjectName
from drystone_runtime.rpc import mutation_messages as mutations
from drystone_runtime.rpc import object_messages as objects
from drystone_runtime.rpc.blob_messages import name_value
from drystone_runtime.rpc.server import RpcService
from drystone_runtime.rpc.status import to_detail

SERVICE = "drystone.metadata.v1.MetadataService"
ITEMS = 1024
NAMES = 4096
T = TypeVar("T")


def metadata_service(metadata: MetadataNodeService) -> RpcService:
    """What an RpcServer registers."""
    servicer = _Servicer(metadata)
    return RpcService(
        name=SERVICE,
        register=lambda server: metadata_pb2_grpc.add_MetadataServiceServicer_to_server(servicer, server),
    )


class _Servicer(metadata_pb2_grpc.MetadataServiceServicer):
    def __init__(self, metadata: MetadataNodeService) -> None:
        self._metadata = metadata

    async def Mutate(self, request: pb.MutateRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.MutateResponse:
        _bounded(len(request.mutations), ITEMS)
        settled = await _settle([self._begin(message) for message in request.mutations])
        return pb.MutateResponse(
            results=[
                pb.MutateResult(error=to_detail(result))
                if isinstance(result, DrystoneError)
                else pb.MutateResult(outcome=mutations.outcome_message(result))
                for result in settled
            ]
        )

    def _begin(self, message: Mutation) -> Awaitable[Outcome]:
        """One item, begun at once; its refusal is its own. No task: what mutate() returns is awaited as it is."""
        try:
            return self._metadata.mutate(mutations.mutation_value(message))
        except DrystoneError as error:
            refused: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def GetBucket(
        self, request: pb.GetBucketRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetBucketResponse:
        return pb.GetBucketResponse(bucket=objects.bucket_message(await self._metadata.bucket(request.name)))

    async def ListBuckets(
        self, request: pb.ListBucketsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListBucketsResponse:
        found = await self._metadata.buckets(
            request.owner, prefix=request.prefix, after=request.after, limit=request.limit or 10_000
        )
        return pb.ListBucketsResponse(buckets=[objects.bucket_message(bucket) for bucket in found])

    async def GetObjects(
        self, request: pb.GetObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetObjectsResponse:
        _bounded(len(request.ids), ITEMS)
        found = await self._metadata.objects([_object_name(one) for one in request.ids])
        results = [
            pb.ObjectResult(error=to_detail(one))
            if isinstance(one, DrystoneError)
            else pb.ObjectResult(version=objects.version_message(one))
            for one in found
        ]
        return pb.GetObjectsResponse(results=results)

    async def ListObjects(
        self, request: pb.ListObjectsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListObjectsResponse:
        page = await self._metadata.list_objects(
            request.bucket,
            prefix=request.prefix,
            delimiter=request.delimiter,
            after=request.after,
            limit=request.limit,
        )
        return objects.object_page_message(page)

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListVersionsResponse:
        page = await self._metadata.list_versions(
            request.bucket,
            prefix=request.prefix,
            delimiter=request.delimiter,
            after_key=request.after_key,
            after_version=request.after_version,
            limit=request.limit,
        )
        return objects.version_page_message(page)

    async def ListUploads(
        self, request: pb.ListUploadsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListUploadsResponse:
        page = await self._metadata.list_uploads(
            request.bucket,
            prefix=request.prefix,
            delimiter=request.delimiter,
            after_key=request.after_key,
            after_upload=request.after_upload,
            limit=request.limit,
        )
        return objects.upload_page_message(page)

    async def ListParts(
        self, request: pb.ListPartsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListPartsResponse:
        page = await self._metadata.list_parts(
            request.bucket, Key(request.key), UploadId(request.upload_id), after=request.after, limit=request.limit
        )
        return objects.part_page_message(page)

    async def GetDeadBlobs(
        self, request: pb.GetDeadBlobsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetDeadBlobsResponse:
        _bounded(len(request.names), NAMES)
        return pb.GetDeadBlobsResponse(dead=await self._metadata.dead_blobs([name_value(n) for n in request.names]))

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStatusResponse:
        counts = self._metadata.counts()
        return pb.GetStatusResponse(tablets=counts.tablets, moves=counts.moves, changes=counts.changes)


def _object_name(one: pb.ObjectId) -> ObjectName:
    return ObjectName(one.bucket, Key(one.key), VersionId(one.version_id) if one.HasField("version_id") else None)


async def _settle(calls: Sequence[Awaitable[T]]) -> list[T | DrystoneError]:
    """Each item's answer or refusal, in order; a bug in one fails the whole call."""
    settled: list[T | DrystoneError] = []
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, DrystoneError):
            raise result
        settled.append(result)
    return settled


def _bounded(count: int, limit: int) -> None:
    if count > limit:
        raise Refused(ErrorCode.INVALID_ARGUMENT, f"{count} items in one call; at most {limit}")

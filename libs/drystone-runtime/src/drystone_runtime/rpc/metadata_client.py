# SPDX-License-Identifier: Apache-2.0
"""MetadataService over gRPC: single calls of mutate() and object() travel together in bulk calls."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from drystone.metadata.v1 import metadata_pb2 as pb
from drystone.metadata.v1 import metadata_pb2_grpc
from drystone_core.cell import TabletCounts
from drystone_core.ids import Key, UploadId, VersionId
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Mutation, Outcome
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.services import BlobName
from drystone_runtime.background import Background
from drystone_runtime.rpc import mutation_messages as mutations
from drystone_runtime.rpc import object_messages as objects
from drystone_runtime.rpc.blob_messages import name_message
from drystone_runtime.rpc.channel import unary_again
from drystone_runtime.rpc.coalesce import Coalescer
from drystone_runtime.rpc.retry import Retries
from drystone_runtime.rpc.status import from_detail

NAMES_PER_CALL = 4096


class RpcMetadata:
    """A MetadataService somewhere else. With `retries` a call is repeated: every mutation carries its write id."""

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        background: Background,
        timeout: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        """`timeout`: seconds a call may take, repetitions included."""
        self._stub = metadata_pb2_grpc.MetadataServiceStub(channel)
        self._timeout = timeout
        self._retries = retries
        self._mutations: Coalescer[Mutation, Outcome] = Coalescer(send=self.mutate_all, background=background)
        self._objects: Coalescer[pb.ObjectId, ObjectVersion] = Coalescer(send=self._get_all, background=background)

    def mutate(self, mutation: Mutation) -> "asyncio.Future[Outcome]":
        return self._mutations.submit(mutation)

    async def bucket(self, name: str, *, age: float = 0.0) -> Bucket:
        answer = await self._call(self._stub.GetBucket, pb.GetBucketRequest(name=name))
        return objects.bucket_value(answer.bucket)

    async def buckets(self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000) -> list[Bucket]:
        request = pb.ListBucketsRequest(owner=owner, prefix=prefix, after=after, limit=limit)
        answer = await self._call(self._stub.ListBuckets, request)
        return [objects.bucket_value(bucket) for bucket in answer.buckets]

    async def object(self, bucket: str, key: Key, version_id: VersionId | None = None) -> ObjectVersion:
        return await self._objects.submit(pb.ObjectId(bucket=bucket, key=key, version_id=version_id))

    async def list_objects(
        self, bucket: str, *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> ObjectPage:
        request = pb.ListObjectsRequest(bucket=bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        return objects.object_page_value(await self._call(self._stub.ListObjects, request))

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionPage:
        request = pb.ListVersionsRequest(
            bucket=bucket,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
        )
        return objects.version_page_value(await self._call(self._stub.ListVersions, request))

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadPage:
        request = pb.ListUploadsRequest(
            bucket=bucket,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
        )
        return objects.upload_page_value(await self._call(self._stub.ListUploads, request))

    async def list_parts(
        self, bucket: str, key: Key, upload_id: UploadId, *, after: int = 0, limit: int = 1000
    ) -> PartPage:
        request = pb.ListPartsRequest(bucket=bucket, key=key, upload_id=upload_id, after=after, limit=limit)
        return objects.part_page_value(await self._call(self._stub.ListParts, request))

    async def dead_blobs(self, names: Sequence[BlobName]) -> list[bool]:
        verdicts: list[bool] = []
        for at in range(0, len(names), NAMES_PER_CALL):
            request = pb.GetDeadBlobsRequest(names=[name_message(name) for name in names[at : at + NAMES_PER_CALL]])
            verdicts += (await self._call(self._stub.GetDeadBlobs, request)).dead
        return verdicts

    async def counts(self) -> TabletCounts:
        """What the process has to do."""
        said = await self._call(self._stub.GetStatus, pb.GetStatusRequest())
        return TabletCounts(said.tablets, said.moves, said.changes)

    async def _call(self, method: Any, request: Any) -> Any:
        return await unary_again(method, request, timeout=self._timeout, retries=self._retries)

    async def mutate_all(self, batch: Sequence[Mutation]) -> list[Outcome | BaseException]:
        """One call; an error stands in a failed item's place."""
        request = pb.MutateRequest(mutations=[mutations.mutation_message(mutation) for mutation in batch])
        answer: pb.MutateResponse = await self._call(self._stub.Mutate, request)
        return [
            mutations.outcome_value(result.outcome) if result.HasField("outcome") else from_detail(result.error)
            for result in answer.results
        ]

    async def _get_all(self, batch: Sequence[pb.ObjectId]) -> list[ObjectVersion | BaseException]:
        request = pb.GetObjectsRequest(ids=batch)
        answer: pb.GetObjectsResponse = await self._call(self._stub.GetObjects, request)
        return [
            objects.version_value(result.version) if result.HasField("version") else from_detail(result.error)
            for result in answer.results
        ]

# SPDX-License-Identifier: Apache-2.0
"""An object as the source of a copy: found, authorised, its conditions checked, and read through the verified path."""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import Bucket, ObjectVersion
from drystone_core.ports import Buffer
from drystone_core.services import ReadChunk
from drystone_gateway.operations.context import Call, Gateway
from drystone_gateway.operations.object_stream import ObjectStream
from drystone_gateway.s3.conditions import check_copy_source
from drystone_gateway.s3.copy_source import CopySource, parse_copy_source

_NO_TRAILERS: Mapping[str, str] = MappingProxyType({})


async def find_source(call: Call) -> tuple[CopySource, Bucket, ObjectVersion]:
    """What x-amz-copy-source names. Refused: InvalidArgument, AccessDenied, NoSuch…, PreconditionFailed,
    InvalidRequest."""
    headers = call.s3.headers
    source = parse_copy_source(headers["x-amz-copy-source"])
    bucket = await call.bucket_named(source.bucket, "x-amz-source-expected-bucket-owner")
    version = await call.gateway.metadata.object(bucket.name, source.key, source.version_id)
    if version.delete_marker:
        if source.version_id is not None:
            raise Refused(
                ErrorCode.INVALID_REQUEST, "The source of a copy request may not specifically refer to a delete marker."
            )
        raise Refused(ErrorCode.NO_SUCH_KEY, Key=source.key.decode())
    now = call.gateway.clock.wall_us() // 1_000_000
    check_copy_source(headers, etag=version.etag, modified_ms=version.modified_ms, now_s=now)
    return source, bucket, version


class ObjectSource:
    """Bytes [start, start + size) of a version, as an ingest source."""

    __slots__ = ("_bucket", "_chunk", "_gateway", "_start", "_stream", "_taken", "_version", "size")

    def __init__(self, gateway: Gateway, bucket: str, version: ObjectVersion, start: int, size: int) -> None:
        self._gateway = gateway
        self._bucket = bucket
        self._version = version
        self._start = start
        self.size = size
        self._stream: ObjectStream | None = None
        self._chunk: ReadChunk | None = None
        self._taken = 0

    def at_once(self) -> Buffer | None:
        if not self.size:
            return b""
        version = self._version
        if version.manifest is not None:
            return None
        return self._gateway.storage.read_now(version.blobs, self._start, self.size)

    async def ready(self) -> None:
        return

    async def receive(self, target: memoryview) -> int:
        filled, size = 0, len(target)
        while filled < size:
            chunk = self._chunk
            if chunk is None:
                chunk = await self._next()
                if chunk is None:
                    break
            step = min(size - filled, len(chunk.data) - self._taken)
            target[filled : filled + step] = chunk.data[self._taken : self._taken + step]
            filled += step
            self._taken += step
            if self._taken == len(chunk.data):
                self._chunk = None
                chunk.release()
        return filled

    def interrupt(self) -> None:
        """Storage does not trickle."""

    async def finish(self) -> Mapping[str, str]:
        return _NO_TRAILERS

    async def close(self) -> None:
        """Give back what is held."""
        chunk, self._chunk = self._chunk, None
        if chunk is not None:
            chunk.release()
        if self._stream is not None:
            await self._stream.aclose()

    async def _next(self) -> ReadChunk | None:
        stream = self._stream
        if stream is None:
            gateway = self._gateway
            stream = self._stream = ObjectStream(
                metadata=gateway.metadata,
                storage=gateway.storage,
                layout=gateway.layout,
                bucket=self._bucket,
                version=self._version,
                start=self._start,
                length=self.size,
            )
        chunk = await anext(stream, None)
        self._chunk, self._taken = chunk, 0
        return chunk

# SPDX-License-Identifier: Apache-2.0
"""What an operation works with: the gateway it runs in and the call it answers."""

from dataclasses import dataclass
from typing import Protocol

from drystone_core.errors import Busy, ErrorCode, Refused
from drystone_core.ids import Key, Uid, VersionId
from drystone_core.objects import Bucket
from drystone_core.ports import Clock, Entropy
from drystone_core.services import MetadataService, StorageService
from drystone_gateway.http.messages import Request, Response
from drystone_gateway.operations.hash_pool import HashPool
from drystone_gateway.operations.layout import Layout
from drystone_gateway.operations.registration import Renewals
from drystone_gateway.operations.write_ids import WriteIds, retry_identity
from drystone_gateway.s3.copy_source import parse_version_id
from drystone_gateway.s3.payload import SignedHash, Streaming
from drystone_gateway.s3.route import S3Call
from drystone_gateway.s3.sigv4 import Caller
from drystone_gateway.settings import GatewaySettings


class BodySlots:
    """Bounds the bodies received at once."""

    __slots__ = ("_limit", "_used", "refused")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self.refused = 0
        """Since the start."""

    def take(self) -> None:
        """Busy when all are taken; give back with `give`."""
        if self._used >= self._limit:
            self.refused += 1
            raise Busy("too many bodies at once")
        self._used += 1

    def give(self) -> None:
        self._used -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What every operation may use."""

    settings: GatewaySettings
    clock: Clock
    entropy: Entropy
    hashing: HashPool
    metadata: MetadataService
    storage: StorageService
    layout: Layout
    bodies: BodySlots
    renewals: Renewals

    def disk_class(self, storage_class: str) -> str:
        """The class of the disks its bytes go to (empty: any); NotImplemented when it is not mapped (any more)."""
        found = self.settings.classes.disk_class(storage_class)
        if found is None:
            raise Refused(ErrorCode.NOT_IMPLEMENTED, f"The storage class {storage_class} is not configured here.")
        return found

    def uid(self) -> Uid:
        """A fresh naming."""
        return Uid(self.entropy.token(16))


class Call:
    """One authenticated request."""

    __slots__ = ("caller", "gateway", "request", "s3")

    def __init__(self, gateway: Gateway, request: Request, s3: S3Call, caller: Caller) -> None:
        self.gateway = gateway
        self.request = request
        self.s3 = s3
        self.caller = caller

    @property
    def key(self) -> Key:
        return Key(self.s3.key)

    async def bucket(self, *, fresh: bool = False) -> Bucket:
        """The bucket of the path, if the caller may use it; NoSuchBucket, AccessDenied. `fresh`: as it is now, for who
        asks nobody else about it; otherwise as it was `bucket_age` ago at most."""
        return await self.bucket_named(self.s3.bucket, fresh=fresh)

    async def bucket_named(
        self, name: str, owner_header: str = "x-amz-expected-bucket-owner", *, fresh: bool = False
    ) -> Bucket:
        """Any bucket the caller may use: every operation that names a bucket (a copy's source too) comes through
        here."""
        bucket = await self.gateway.metadata.bucket(name, age=0.0 if fresh else self.gateway.settings.bucket_age)
        if bucket.owner != self.caller.account:
            raise Refused(ErrorCode.ACCESS_DENIED)
        expected = self.s3.headers.get(owner_header)
        if expected is not None and expected != bucket.owner:
            raise Refused(ErrorCode.ACCESS_DENIED)
        return bucket

    def write_ids(self) -> WriteIds:
        """Ids for this call's mutations, equal in each of the client's attempts when it says which call this is.

        Not when presigned: there nobody signed the header that says so, and two uploads through one URL are two.
        """
        headers = self.s3.headers
        invocation = headers.get("amz-sdk-invocation-id", "")
        identity = b""
        if invocation and not self.caller.presigned:
            payload = self.caller.payload
            if isinstance(payload, SignedHash):
                text = payload.hex
            else:
                text = "streaming" if isinstance(payload, Streaming) else "unsigned"
            request = self.request
            identity = retry_identity(
                invocation=invocation,
                access_key=self.caller.access_key,
                method=request.method,
                path=f"{self.s3.bucket}\0{request.path}",
                query=request.query,
                payload_hash=text,
            )
        return WriteIds(clock=self.gateway.clock, entropy=self.gateway.entropy, identity=identity)

    def is_retry(self) -> bool:
        """Whether the client says that this may be a repeat of a call whose answer it lost."""
        headers = self.s3.headers
        if self.caller.presigned:
            return False
        return "amz-sdk-invocation-id" in headers and "attempt=1;" not in headers.get("amz-sdk-request", "") + ";"

    def version_id(self) -> VersionId | None:
        """`versionId` of the query; InvalidArgument when empty or malformed."""
        text = self.s3.query.get("versionId")
        return None if text is None else parse_version_id(text)


class OperationFn(Protocol):
    """An operation: one coroutine a request, without tasks of its own."""

    async def __call__(self, call: Call, /) -> Response: ...

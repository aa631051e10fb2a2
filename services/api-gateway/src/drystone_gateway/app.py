# SPDX-License-Identifier: Apache-2.0
"""The gateway as one handler: route, verify, authorise, do, answer; built from settings, the world and links to
services.

Invariants
  A1  No operation runs before its caller was verified; a caller without credentials is AccessDenied (until policies
      exist).
  A2  Every operation has a function in the table or is NotImplemented: nothing falls through.
  A3  What a header asks for and no engine gives is refused here, for every operation.
  A4  One pass: no task is made; what is at hand is answered without suspending.
  A5  Whatever is logged or called for a request carries its id: it is set in the context the HTTP layer gives each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_core.ports import Clock, Entropy
from drystone_core.services import MetadataService, StorageService
from drystone_gateway.http.messages import Request, Response
from drystone_gateway.operations.answers import error_response
from drystone_gateway.operations.blob_layout import BlobLayout
from drystone_gateway.operations.context import BodySlots, Call, Gateway, OperationFn
from drystone_gateway.operations.hash_pool import HashPool
from drystone_gateway.operations.registration import Renewals
from drystone_gateway.operations.table import OPERATIONS
from drystone_gateway.s3.acceptance import check_acceptable
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.route import Router
from drystone_gateway.s3.sigv2 import check_operation_v2
from drystone_gateway.s3.sigv4 import CredentialSource, Verifier
from drystone_gateway.settings import GatewaySettings
from drystone_runtime.logs import REQUEST_ID

_ANONYMOUS = {
    Operation.OPTIONS_PREFLIGHT: ErrorCode.CORS_FORBIDDEN,
    Operation.POST_OBJECT: ErrorCode.NOT_IMPLEMENTED,
}
"""What those without credentials are told, where it is not AccessDenied: no bucket has a CORS configuration yet, and an
upload by form, whose credentials stand in its body, is not offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the process gives: time, randomness, threads that hash."""

    clock: Clock
    entropy: Entropy
    hashing: HashPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The services behind the gateway, and who may come in."""

    metadata: MetadataService
    storage: StorageService
    credentials: CredentialSource


class GatewayApp:
    """`handle` is an http Handler; keep `renewals.run()` running beside it."""

    __slots__ = ("_gateway", "_operations", "_router", "_verifier")

    def __init__(
        self, *, gateway: Gateway, router: Router, verifier: Verifier, operations: Mapping[Operation, OperationFn]
    ) -> None:
        self._gateway = gateway
        self._router = router
        self._verifier = verifier
        self._operations = operations

    @property
    def renewals(self) -> Renewals:
        """Of the long PUTs under way."""
        return self._gateway.renewals

    @property
    def refused_bodies(self) -> int:
        """Requests told to slow down because too many bodies were being received, since the start."""
        return self._gateway.bodies.refused

    async def handle(self, request: Request) -> Response:
        """Answer one request; every DrystoneError becomes its S3 error document."""
        REQUEST_ID.set(request.request_id)
        try:
            s3 = self._router.route(request)
            caller = self._verifier.verify(request, virtual_bucket=s3.virtual_bucket)
            if caller.anonymous:
                raise self._refusal(s3.operation)
            if caller.version_two:
                check_operation_v2(s3.operation)
            check_acceptable(s3.headers, s3.operation, self._gateway.settings.classes)
            operation = self._operations.get(s3.operation)
            if operation is None:
                raise Refused(ErrorCode.NOT_IMPLEMENTED, f"{s3.operation.value} is not implemented.")
            return await operation(Call(self._gateway, request, s3, caller))
        except DrystoneError as error:
            return error_response(request, error)

    def _refusal(self, operation: Operation) -> Refused:
        """What those without credentials hear, whatever exists: with HeadBucket the region of all buckets here."""
        code = _ANONYMOUS.get(operation, ErrorCode.ACCESS_DENIED)
        return Refused(
            code, **({"Region": self._gateway.settings.region} if operation is Operation.HEAD_BUCKET else {})
        )


def build(settings: GatewaySettings, world: World, links: Links) -> GatewayApp:
    """Join the parts; the same in every shape."""
    gateway = Gateway(
        settings=settings,
        clock=world.clock,
        entropy=world.entropy,
        hashing=world.hashing,
        metadata=links.metadata,
        storage=links.storage,
        layout=BlobLayout(storage=links.storage),
        bodies=BodySlots(settings.limits.bodies),
        renewals=Renewals(clock=world.clock, entropy=world.entropy, every=settings.renew_seconds),
    )
    verifier = Verifier(
        credentials=links.credentials,
        region=settings.region,
        clock=world.clock,
        unsigned_needs_tls=settings.unsigned_needs_tls,
        presigned_v2=settings.presigned_v2,
    )
    return GatewayApp(
        gateway=gateway, router=Router(domains=settings.domains), verifier=verifier, operations=OPERATIONS
    )

# SPDX-License-Identifier: Apache-2.0
"""The access log: a line for each request, or only for those answered with 5xx or broken off.

Queries are never written (presigned URLs carry signatures there), bodies and headers neither.
"""

import logging
from dataclasses import dataclass

from drystone_core.errors import DrystoneError
from drystone_gateway.http.messages import Request
from drystone_gateway.http.shared import AccessLog
from drystone_gateway.s3.route import Router

log = logging.getLogger(__name__)


def access_log(which: str, *, domains: tuple[str, ...]) -> AccessLog | None:
    """`which` is all, errors or none."""
    if which == "none":
        return None
    return _Lines(router=Router(domains=domains), all=which == "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    router: Router
    all: bool

    def __call__(
        self,
        request: Request | None,
        status: int,
        received: int,
        sent: int,
        seconds: float,
        error: BaseException | None,
    ) -> None:
        broken = error is not None and 200 <= status < 300
        if not (self.all or status >= 500 or broken):
            return
        fields: dict[str, object] = {"status": status, "in": received, "out": sent, "ms": round(seconds * 1000, 3)}
        if request is not None:
            fields |= {"request_id": request.request_id, "peer": request.peer, **self._meaning(request)}
        if error is not None:
            fields["error"] = type(error).__name__
        log.log(logging.WARNING if status >= 500 or broken else logging.INFO, "access", extra=fields)

    def _meaning(self, request: Request) -> dict[str, object]:
        """Operation, bucket and key; method and path of what is no operation."""
        try:
            call = self.router.route(request)
        except DrystoneError:
            return {"method": request.method, "path": request.path[:1024]}
        key = call.key.decode("utf-8", "backslashreplace")
        return {"operation": call.operation.value, "bucket": call.bucket, "key": key}

# SPDX-License-Identifier: Apache-2.0
"""Health that tells the truth: ready when everything a service needs is at hand, alive as long as its loop turns.

Invariants
  H1  Ready (the empty name and each service's) is SERVING exactly while the service serves, no dependency is down and it
      does not drain. A dependency is down until it is said to be up.
  H2  `liveness` is SERVING from the first answer to the last, whatever dependencies do: nobody restarts a process because
      another one is away.
  H3  Every change is logged once, with the dependencies that are down and why.
  H4  A watcher is told the state it finds and every state that lasts; when the server closes, its stream ends, so that no
      drain waits for watchers.
Source: the gRPC health checking protocol (grpc/doc/health-checking.md in the gRPC repository).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from drystone_core.errors import Busy

log = logging.getLogger(__name__)
SERVICE = "grpc.health.v1.Health"
LIVENESS = "liveness"
WATCHERS = 1024
"""Streams of Watch at once; beyond it Busy."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Dependency:
    """Something a service cannot work without."""

    __slots__ = ("_health", "name", "reason")

    def __init__(self, name: str, health: "Health") -> None:
        self.name = name
        self._health = health
        self.reason = "not reached yet"
        """Why it is down; empty = up."""

    def up(self) -> None:
        """It is at hand."""
        self.set("")

    def down(self, reason: str) -> None:
        """It is not, and why."""
        self.set(reason or "not said")

    def set(self, reason: str) -> None:
        """Up when there is no reason against it."""
        if reason != self.reason:
            self.reason = reason
            self._health.changed()


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc,unused-ignore]
    """The health of one server and its services."""

    def __init__(self) -> None:
        self._names: set[str] = {""}
        self._dependencies: list[Dependency] = []
        self._serves = self._drains = self._closed = False
        self._watchers = 0
        self._said: tuple[bool, tuple[str, ...]] = (False, ())
        self._change = asyncio.Event()

    def cover(self, names: Sequence[str]) -> None:
        """Answer for these services too."""
        self._names.update(names)

    def depend(self, name: str) -> Dependency:
        """A new dependency, down until it is said to be up."""
        dependency = Dependency(name, self)
        self._dependencies.append(dependency)
        self.changed()
        return dependency

    def serve(self, yes: bool) -> None:
        """The service itself works, or not."""
        self._serves = yes
        self.changed()

    def drain(self) -> None:
        """Not ready any more, for good; alive all the same."""
        self._drains = True
        self.changed()

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        self._wake()

    @property
    def ready(self) -> bool:
        """H1."""
        return self._serves and not self._drains and not any(one.reason for one in self._dependencies)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, one sentence each."""
        if self._drains:
            return ("it drains",)
        own = () if self._serves else ("it has not started",)
        return (*own, *(f"{one.name}: {one.reason}" for one in self._dependencies if one.reason))

    def changed(self) -> None:
        """Tell whoever watches, and the log, when what is to be said is new."""
        now = self.ready, self.reasons
        if now == self._said:
            return
        if now[0]:
            log.info("health.ready")
        elif self._serves or self._said[0]:  # before the start it is no news
            log.log(logging.WARNING if self._said[0] and not self._drains else logging.INFO, "health.not_ready",
                    extra={"reasons": list(now[1])})  # fmt: skip
        self._said = now
        self._wake()

    def status(self, name: str) -> int | None:
        """What is answered for this name; None when it is not known."""
        if name == LIVENESS:
            return int(_SERVING)
        if name not in self._names:
            return None
        return int(_SERVING if self.ready else _NOT_SERVING)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """The state now."""
        status = self.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return _response(status)

    async def List(self, request: Any, context: Any) -> Any:
        """All names and their states."""
        names = sorted({*self._names, LIVENESS})
        answer: Any = health_pb2  # its type stubs are of a version without List
        return answer.HealthListResponse(statuses={name: _response(self.status(name)) for name in names})

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now and after every change."""
        if self._watchers >= WATCHERS:
            raise Busy("too many watch this health")
        self._watchers += 1
        last: int | None = -1
        try:
            while True:
                change, status, closed = self._change, self.status(request.service), self._closed
                if status != last:
                    last = status
                    yield _response(status)
                if closed:
                    return
                await change.wait()
        finally:
            self._watchers -= 1

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


def _response(status: int | None) -> health_pb2.HealthCheckResponse:
    known = health_pb2.HealthCheckResponse.ServingStatus.Name(_UNKNOWN if status is None else status)
    return health_pb2.HealthCheckResponse(status=known)

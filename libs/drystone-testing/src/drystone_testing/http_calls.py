# SPDX-License-Identifier: Apache-2.0
"""Requests made by hand for handlers: a body that honours the Body protocol, signed by botocore's own signer.

`Caller` signs with the real SigV4 of botocore, so a handler under test sees what a client would send.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth  # type: ignore[import-untyped,unused-ignore]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped,unused-ignore]
from botocore.credentials import Credentials  # type: ignore[import-untyped,unused-ignore]

from drystone_core.check import check
from drystone_core.errors import ErrorCode, Refused
from drystone_core.services import ReadChunk
from drystone_gateway.http.messages import Request, Response


class MemoryBody:
    """A request body from memory. `step` bounds what one receive() gets at a time inside, `cut` ends it early."""

    def __init__(
        self,
        data: bytes = b"",
        *,
        arrived: bool = True,
        declared: int | None = -1,
        cut: int | None = None,
        on_first_read: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._data = data
        self._arrived = arrived
        self._cut = cut
        self._at = 0
        self._on_first_read = on_first_read
        self.declared = len(data) if declared == -1 else declared
        self.read_begun = False
        """Whether `100 Continue` would have been sent."""

    def buffered(self) -> bytes | None:
        if not self._arrived or self._cut is not None:
            return None
        return self._data

    async def arrived(self, count: int) -> int:
        await self._begin()
        end = len(self._data) if self._cut is None else self._cut
        waiting = end - self._at
        if self._cut is not None and waiting < count:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        return min(waiting, 65536)

    async def receive(self, target: memoryview) -> int:
        await self._begin()
        end = len(self._data) if self._cut is None else self._cut
        step = min(len(target), end - self._at)
        if self._cut is not None and step < len(target):
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        target[:step] = self._data[self._at : self._at + step]
        self._at += step
        return step

    def interrupt(self) -> None:
        """All there will be is there."""

    async def read_all(self, limit: int) -> bytes:
        await self._begin()
        if self._cut is not None:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        rest = self._data[self._at :]
        if len(rest) > limit:
            raise Refused(ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED)
        self._at = len(self._data)
        return rest

    async def _begin(self) -> None:
        if not self.read_begun:
            self.read_begun = True
            if self._on_first_read is not None:
                await self._on_first_read()


class StallingBody(MemoryBody):
    """A late body that waits for `stalled(bytes so far)` after every `every` bytes."""

    def __init__(self, data: bytes, *, every: int, stalled: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(data, arrived=False)
        self._stalled = stalled
        self._every = every
        self._next = every

    async def receive(self, target: memoryview) -> int:
        if self._at >= self._next:
            self._next += self._every
            await self._stalled(self._at)
        return await super().receive(target)


@dataclass(slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: int | None


@dataclass(slots=True, kw_only=True)
class Caller:
    """Makes signed requests of one access key and runs them through a handler."""

    handle: Callable[[Request], Awaitable[Response]]
    access_key: str
    secret_key: str
    host: str = "s3.test:9000"
    region: str = "us-east-1"
    _serial: int = field(default=0)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | MemoryBody = b"",
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        sign: bool = True,
        sha256: str | None = None,
    ) -> Request:
        """A signed request; `path` is the decoded `/bucket/key`; `sha256` replaces the payload hash that is signed."""
        memory = body if isinstance(body, MemoryBody) else MemoryBody(body)
        data = memory._data
        url = f"http://{self.host}{quote(path, safe='/~')}" + (f"?{query}" if query else "")
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if sha256 is not None:
            sent["x-amz-content-sha256"] = sha256
        call = AWSRequest(method=method, url=url, headers=sent, data=data)
        if sign:
            signer = S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", self.region)
            call.context["client_config"] = None
            if sha256 is not None:
                signer.payload = lambda request: sha256
            signer.add_auth(call)
        lower = {name.lower(): str(value) for name, value in call.headers.items()}
        return self._built(method, url, lower, memory)

    def presigned(self, method: str, path: str, body: bytes = b"", *, query: str = "", expires: int = 300) -> Request:
        """A request whose signature stands in the query."""
        url = f"http://{self.host}{quote(path, safe='/~')}" + (f"?{query}" if query else "")
        call = AWSRequest(method=method, url=url, headers={})
        S3SigV4QueryAuth(Credentials(self.access_key, self.secret_key), "s3", self.region, expires).add_auth(call)
        return self._built(method, call.url, {}, MemoryBody(body))

    async def send(self, method: str, path: str, body: bytes | MemoryBody = b"", **options: Any) -> Answer:
        """Sign, handle and read the answer."""
        return await self.run(self.request(method, path, body, **options))

    async def run(self, request: Request) -> Answer:
        """Handle a request that was made before."""
        response = await self.handle(request)
        return await finished(response)

    def _built(self, method: str, url: str, headers: dict[str, str], body: MemoryBody) -> Request:
        self._serial += 1
        split = urlsplit(url)
        headers.setdefault("host", self.host)
        if body.declared is not None and (body.declared or method in ("PUT", "POST")):
            headers.setdefault("content-length", str(body.declared))
        return Request(
            method=method,
            target=split.path + (f"?{split.query}" if split.query else ""),
            headers=headers,
            repeated=frozenset(),
            body=body,
            peer="127.0.0.1",
            secure=False,
            request_id=f"{self._serial:016X}",
        )


async def finished(response: Response) -> Answer:
    """Read a response to its end, releasing every chunk."""
    body = response.body
    if response.stream is not None:
        body = b"".join([taken async for taken in _taken(response.stream)])
        check(response.length is None or len(body) == response.length, "a stream has the length its head says")
    headers: dict[str, str] = {}
    for line in response.head.decode("latin-1").split("\r\n"):
        if line:
            name, _, value = line.partition(": ")
            check(name.lower() not in headers, f"header {name} stands once")
            headers[name.lower()] = value
    return Answer(response.status, headers, bytes(body), response.length)


async def _taken(stream: AsyncIterator[ReadChunk]) -> AsyncIterator[bytes]:
    async for chunk in stream:
        data = bytes(chunk.data)
        chunk.release()
        yield data


def answered_at_once(handling: Any) -> Response:
    """The response of a coroutine that must not suspend; a check fails when it does."""
    try:
        handling.send(None)
    except StopIteration as stop:
        response: Response = stop.value
        return response
    handling.close()
    check(False, "the handler suspended")
    raise AssertionError


async def counted_waits(handling: Any) -> tuple[Response, int]:
    """The response of a coroutine, and how often it suspended on the way."""
    count = 0
    while True:
        try:
            waits_for = handling.send(None)
        except StopIteration as stop:
            return stop.value, count
        count += 1
        if waits_for is None:
            await asyncio.sleep(0)
        else:
            waits_for._asyncio_future_blocking = False
            await asyncio.wait([waits_for])

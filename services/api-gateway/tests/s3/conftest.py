# SPDX-License-Identifier: Apache-2.0
"""Requests, a fixed clock and a credential for the S3 layer's tests."""

from collections.abc import Callable

import pytest

from drystone_gateway.http.messages import Request
from drystone_gateway.s3.sigv4 import Credential, Verifier

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


class NoBody:
    """A body that has ended."""

    declared: int | None = 0

    def buffered(self) -> bytes | None:
        return b""

    async def receive(self, target: memoryview) -> int:
        return 0

    async def read_all(self, limit: int) -> bytes:
        return b""


class FixedClock:
    """Wall time that stands still where a test puts it."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def wall_us(self) -> int:
        return self.seconds * 1_000_000

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.seconds += int(seconds)


def build_request(
    method: str, target: str, headers: dict[str, str], *, repeated: frozenset[str] = frozenset(), secure: bool = False
) -> Request:
    return Request(
        method=method,
        target=target,
        headers={name.lower(): value for name, value in headers.items()},
        repeated=repeated,
        body=NoBody(),
        peer="192.0.2.1",
        secure=secure,
        request_id="0123456789ABCDEF",
    )


@pytest.fixture(scope="session")
def make_request() -> Callable[..., Request]:
    return build_request


@pytest.fixture(scope="session")
def credential() -> Credential:
    return Credential(ACCESS_KEY, SECRET_KEY, "123456789012")


@pytest.fixture(scope="session")
def make_verifier(credential: Credential) -> Callable[..., Verifier]:
    """A verifier at a Unix time, for us-east-1 and the one credential unless told otherwise."""

    def make(
        seconds: int, *, credentials: dict[str, Credential] | None = None, unsigned_needs_tls: bool = False
    ) -> Verifier:
        known = {credential.access_key: credential} if credentials is None else credentials
        clock = FixedClock(seconds)
        return Verifier(credentials=known.get, region="us-east-1", clock=clock, unsigned_needs_tls=unsigned_needs_tls)

    return make

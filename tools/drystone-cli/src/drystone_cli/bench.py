# SPDX-License-Identifier: Apache-2.0
"""`drystone bench`: a short, bounded PUT and GET run against an S3 endpoint, from this one process.

It answers "does it work, and about how fast from here"; one Python process is soon the bottleneck itself. `make bench`
compares stores with a load generator that is not.
"""

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from drystone_cli.exits import FAILED, OK, UNREACHABLE, USAGE, Failure
from drystone_cli.signing import Signer
from drystone_cli.terminal import Terminal, amount
from drystone_runtime.config_values import MIB
from drystone_runtime.config_values import size as parse_size

BUCKET = "drystone-bench"
OBJECTS = 256
"""Keys written in turn, so that a long run does not fill the store."""
LARGEST = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one verb did."""

    verb: str
    operations: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    mib_per_second: float

    @property
    def per_second(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds


class Connection:
    """One keep-alive connection that sends one request at a time."""

    def __init__(self, endpoint: str, signer: Signer) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"{endpoint!r} is not a URL", "e.g. http://127.0.0.1:9000", USAGE)
        self._host, self._secure = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._authority, self._signer = parts.netloc, signer
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"") -> int:
        """The status of one request; its body is read and dropped."""
        if self._streams is None:
            context = ssl.create_default_context() if self._secure else None
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=context, limit=1 << 20)
        reader, writer = self._streams
        headers = self._signer.headers(method, path, self._authority, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(answer[9:12])
        length = answer.partition("content-length:")[2].partition("\r\n")[0].strip()
        if length and method != "HEAD":
            await reader.readexactly(int(length))
        if "connection: close" in answer:
            self.close()
        return status

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def run(endpoint: str, *, size: str, connections: int, seconds: float, as_json: bool) -> int:
    """Measure and print; returns the exit code."""
    try:
        length = parse_size(size)
    except ValueError as error:
        raise Failure(str(error), "", USAGE) from error
    if length > LARGEST:
        raise Failure(f"{size}: at most 64MiB", "", USAGE)
    if not 1 <= connections <= 256 or not 1 <= seconds <= 300:
        raise Failure(
            f"{connections} connections for {seconds:g} seconds", "1 to 256 connections, 1 to 300 seconds", USAGE
        )
    access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        raise Failure("no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", USAGE)
    region = os.environ.get("AWS_REGION", "us-east-1")
    signer = Signer(access_key=access, secret_key=secret, region=region)
    try:
        outcomes = asyncio.run(_measure(endpoint, signer, length, connections, seconds))
    except OSError as error:
        raise Failure(f"{endpoint} does not answer: {error}", "is the store running there?", UNREACHABLE) from error
    if as_json:
        print(json.dumps([{**asdict(one), "per_second": one.per_second} for one in outcomes]))
    else:
        terminal = Terminal(sys.stdout)
        terminal.line(f"{endpoint}: objects of {amount(length)}, {connections} connections, {seconds:g} s each")
        headers = ("verb", "op/s", "MiB/s", "p50 ms", "p99 ms", "errors")
        rows = [
            (
                one.verb,
                f"{one.per_second:,.0f}",
                f"{one.mib_per_second:,.1f}",
                f"{one.p50_ms:.2f}",
                f"{one.p99_ms:.2f}",
                str(one.errors),
            )
            for one in outcomes
        ]
        terminal.table(headers, rows, right=headers[1:])
    return FAILED if any(one.errors for one in outcomes) else OK


async def _measure(endpoint: str, signer: Signer, length: int, connections: int, seconds: float) -> list[Outcome]:
    pool = [Connection(endpoint, signer) for _ in range(connections)]
    body = os.urandom(length)
    status = await pool[0].call("PUT", f"/{BUCKET}")
    if status not in (200, 409):
        raise Failure(f"the bucket {BUCKET} cannot be made: HTTP {status}", "check the credentials and the region")

    async def put(connection: Connection, index: int) -> int:
        return await connection.call("PUT", f"/{BUCKET}/{index % OBJECTS}", body)

    async def get(connection: Connection, index: int) -> int:
        return await connection.call("GET", f"/{BUCKET}/{index % OBJECTS}")

    for index in range(OBJECTS if length <= MIB else 8):
        await put(pool[index % connections], index)
    keys = OBJECTS if length <= MIB else 8
    outcomes = [await _timed(verb, call, pool, length, seconds, keys) for verb, call in (("PUT", put), ("GET", get))]
    for index in range(keys):
        await pool[0].call("DELETE", f"/{BUCKET}/{index}")
    await pool[0].call("DELETE", f"/{BUCKET}")
    for connection in pool:
        connection.close()
    return outcomes


async def _timed(
    verb: str,
    call: Callable[[Connection, int], Awaitable[int]],
    pool: list[Connection],
    length: int,
    seconds: float,
    keys: int,
) -> Outcome:
    spent: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds

    async def worker(connection: Connection, index: int) -> None:
        nonlocal errors
        while (before := time.perf_counter()) < end:
            try:
                errors += await call(connection, index % keys) != 200
            except (OSError, asyncio.IncompleteReadError):
                errors += 1
                connection.close()
            spent.append(time.perf_counter() - before)
            index += len(pool)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for index, connection in enumerate(pool):
            group.create_task(worker(connection, index))
    elapsed = time.perf_counter() - began
    spent.sort()
    return Outcome(
        verb=verb,
        operations=len(spent),
        errors=errors,
        seconds=elapsed,
        p50_ms=spent[len(spent) // 2] * 1000,
        p99_ms=spent[int(len(spent) * 0.99)] * 1000,
        mib_per_second=len(spent) * length / MIB / elapsed,
    )

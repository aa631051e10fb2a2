# SPDX-License-Identifier: Apache-2.0
"""Objects larger than any buffer: memory does not follow their size, and every byte comes back."""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable

import pytest

from drystone_testing.lean_client import Body, LeanClient, Reply
from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.process_figures import MIB, Peak, cpu_seconds

GIB = 1 << 30
FULL = os.environ.get("SCALE") == "full"
PER_CONNECTION = 64 * MIB
PART = 64 * MIB

Upload = Callable[[LeanClient, str, Body], Awaitable[str]]


async def put_plain(client: LeanClient, path: str, body: Body) -> str:
    return etag_of(await client.put(path, body))


async def put_chunked(client: LeanClient, path: str, body: Body) -> str:
    return etag_of(await client.put_chunked(path, body))


async def put_parts(client: LeanClient, path: str, body: Body) -> str:
    """A multipart upload, one part after the other."""
    return await multipart(client.port, path, body, concurrency=1)


def etag_of(reply: Reply) -> str:
    assert reply.status == 200, (reply.status, reply.body[:300])
    return reply.headers["etag"].strip('"')


async def multipart(port: int, path: str, body: Body, *, concurrency: int) -> str:
    """Upload in parts of PART bytes over `concurrency` connections; the object's ETag."""
    async with LeanClient(port) as client:
        created = await client.call("POST", path, "uploads=")
        upload = re.search(rb"<UploadId>([^<]*)</UploadId>", created.body)
        assert upload is not None, created.body
        count = -(-body.size // PART)
        etags: dict[int, str] = {}
        numbers = iter(range(1, count + 1))

        async def send() -> None:
            async with LeanClient(port) as own:
                for number in numbers:
                    query = f"partNumber={number}&uploadId={upload[1].decode()}"
                    start = (number - 1) * PART
                    etags[number] = etag_of(await own.put(path, body, start=start, end=start + PART, query=query))

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(send())
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etags[number]}</ETag></Part>" for number in sorted(etags)
        )
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        done = await client.call(
            "POST", path, f"uploadId={upload[1].decode()}", pieces=iter([document]), length=len(document)
        )
        found = re.search(rb'<ETag>(?:&quot;|&#34;|")?([0-9a-f-]*)', done.body)
        assert done.status == 200 and found is not None, done.body
        return found[1].decode()


async def warmed(port: int) -> None:
    """The first requests load code and open volumes: not what is measured."""
    async with LeanClient(port) as client:
        await client.create_bucket("large")
        for size in (1000, 200_000):
            body = Body(1, size)
            etag_of(await client.put("/large/warm", body))
            assert (await client.get_compared("/large/warm", body)).status == 200


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("upload", [put_plain, put_chunked, put_parts])
async def test_an_upload_and_a_download_of_a_gibibyte_take_bounded_memory(
    store: LiveStore, record: Record, upload: Upload, at_once: int
) -> None:
    """1 GiB in and out moves the resident memory of all processes by less than 64 MiB a connection."""
    size = GIB if at_once == 1 else GIB // 2
    await warmed(store.port)
    pids = store.pids()
    bodies = [Body(seed, size) for seed in range(at_once)]
    clients = [LeanClient(store.port) for _ in bodies]
    began, cpu = time.monotonic(), cpu_seconds(pids)
    with Peak(pids) as put:
        etags = await asyncio.gather(
            *(upload(client, f"/large/{body.seed}", body) for client, body in zip(clients, bodies, strict=True))
        )
    spent = {"put_seconds": time.monotonic() - began, "put_cpu_ms_per_mib": (cpu_seconds(pids) - cpu) * 1000}
    if upload is not put_parts:
        assert etags[0] == await asyncio.to_thread(bodies[0].md5)
    began, cpu = time.monotonic(), cpu_seconds(pids)
    with Peak(pids) as get:
        got = await asyncio.gather(
            *(client.get_compared(f"/large/{body.seed}", body) for client, body in zip(clients, bodies, strict=True))
        )
    spent |= {"get_seconds": time.monotonic() - began, "get_cpu_ms_per_mib": (cpu_seconds(pids) - cpu) * 1000}
    for client in clients:
        client.close()
    spent["put_cpu_ms_per_mib"] /= at_once * size / MIB
    spent["get_cpu_ms_per_mib"] /= at_once * size / MIB
    record(
        connections=at_once,
        gibibytes=at_once * size / GIB,
        idle_mib=put.before // MIB,
        put_grown_mib=put.grown // MIB,
        get_grown_mib=get.grown // MIB,
        **{name: round(value, 2) for name, value in spent.items()},
    )
    assert all(answer.status == 200 for answer in got)
    assert put.grown < at_once * PER_CONNECTION
    assert get.grown < at_once * PER_CONNECTION


async def test_a_multipart_object_comes_back_byte_for_byte(store: LiveStore, record: Record) -> None:
    """256 MiB (SCALE=full: 5 GiB) in parts of 64 MiB over 4 connections; whole, and in ranges across part borders."""
    size = 5 * GIB + 12_345 if FULL else 256 * MIB + 12_345
    await warmed(store.port)
    pids = store.pids()
    body = Body(7, size)
    began = time.monotonic()
    with Peak(pids) as peak:
        etag = await multipart(store.port, "/large/parts", body, concurrency=4)
        put_seconds = time.monotonic() - began
        began = time.monotonic()
        async with LeanClient(store.port) as client:
            whole = await client.get_compared("/large/parts", body)
            get_seconds = time.monotonic() - began
            assert whole.status == 200 and whole.headers["content-length"] == str(size)
            assert whole.headers["etag"] == f'"{etag}"' and etag.endswith(f"-{-(-size // PART)}")
            ranges = [(at - 3, at + 5) for at in range(PART, size, PART)]
            ranges += [(0, 1), (size - 1, size), (PART - 100_000, 2 * PART + 100_000), (8 * MIB - 1, 8 * MIB + 1)]
            for start, end in ranges:
                answer = await client.get_compared("/large/parts", body, start=start, end=end)
                assert answer.status == 206, (start, end, answer)
    record(
        bytes=size,
        parts=-(-size // PART),
        ranges=len(ranges),
        grown_mib=peak.grown // MIB,
        put_seconds=round(put_seconds, 2),
        get_seconds=round(get_seconds, 2),
    )
    assert peak.grown < 5 * PER_CONNECTION

# SPDX-License-Identifier: Apache-2.0
"""Death and I/O errors at exact system calls (strace injection); each test ends with a comparison with the model."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.s3_client import S3Client, Unknown
from drystone_testing.traced_threads import WRITE_LIKE as WRITES
from drystone_testing.traced_threads import Attached, needs_strace, threads


@needs_strace
@pytest.mark.parametrize("kind", ["put", "complete"])
def test_death_at_every_system_call_leaves_the_old_or_the_new_object(tmp_path: Path, record: Record, kind: str) -> None:
    """SIGKILL at the n-th write-like system call of every thread during one PUT (one Complete): old or new, never a mix."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        client = S3Client(store.port, timeout=15)
        client.create_bucket("crash")
        current = b"first" * 1000
        assert client.call("PUT", "/crash/k", body=current).status == 200
        ordinal, nth, deaths = 0, 1, 0
        while ordinal < len(threads(store.main_pid())):
            new = os.urandom(9000)
            path, query, body = prepare(client, kind, new)
            main = store.main_pid()
            tracer = Attached(threads(main)[ordinal], f"{WRITES}:signal=SIGKILL:when={nth}", tmp_path / "kill.strace")
            acknowledged = attempt(client, kind, path, query, body)
            died = not Path(f"/proc/{main}").exists() or not acknowledged
            tracer.detach()
            store.await_serving()
            client.close()
            seen = client.call("GET", "/crash/k").body
            assert seen == new or (seen == current and not acknowledged), (ordinal, nth, acknowledged, len(seen))
            current = seen
            deaths += died
            ordinal, nth = (ordinal, nth + 1) if died and nth < 12 else (ordinal + 1, 1)
            if died:  # the new process opens its volumes at its first write: that is not the call under test
                assert client.call("PUT", "/crash/k", body=current).status == 200
        assert deaths >= 9, f"only {deaths} faults were injected"
        record(kind=kind, crash_points=deaths, lost=0)
    finally:
        store.kill_all()


def prepare(client: S3Client, kind: str, new: bytes) -> tuple[str, str, bytes]:
    """Everything up to the call under test."""
    if kind == "put":
        return "/crash/k", "", new
    created = client.call("POST", "/crash/k", query="uploads=")
    upload = re.search(rb"<UploadId>([^<]*)</UploadId>", created.body)
    assert upload is not None, created
    part = client.call("PUT", "/crash/k", query=f"partNumber=1&uploadId={upload[1].decode()}", body=new)
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return "/crash/k", f"uploadId={upload[1].decode()}", document


def attempt(client: S3Client, kind: str, path: str, query: str, body: bytes) -> bool:
    """Whether the call was acknowledged."""
    try:
        answer = client.call("PUT" if kind == "put" else "POST", path, query=query, body=body)
    except Unknown:
        return False
    return answer.status == 200 and b"<Error>" not in answer.body


@needs_strace
def test_a_failed_sync_is_never_acknowledged_and_lost(tmp_path: Path, record: Record) -> None:
    """EIO from the first durable write of each thread (data and journal sites alike): the PUT succeeds elsewhere or fails."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        client = S3Client(store.port, timeout=30)
        client.create_bucket("eio")
        stored: dict[str, str] = {}
        ordinal, sites, failed = 0, 0, 0
        while ordinal < len(threads(store.main_pid())):
            assert client.call("PUT", "/eio/warm", body=b"opens the volumes").status == 200
            log = tmp_path / "eio.strace"
            tracer = Attached(threads(store.main_pid())[ordinal], "pwritev2,fdatasync,fsync:error=EIO:when=1", log)
            for n in range(3):
                key, body = f"k{ordinal}-{n}", os.urandom(5000)
                try:
                    status = client.call("PUT", f"/eio/{key}", body=body).status
                except Unknown:
                    status = 0
                if status == 200:
                    stored[key] = hashlib.sha256(body).hexdigest()
                else:
                    failed += 1
            tracer.detach()
            ordinal += 1
            if "INJECTED" not in log.read_text():
                continue
            sites += 1
            store.kill_all()
            store.start()
            client.close()
            for key, expected in stored.items():
                answer = client.call("GET", f"/eio/{key}")
                assert answer.status == 200, (key, answer)
                assert hashlib.sha256(answer.body).hexdigest() == expected, key
        assert sites >= 9, f"only {sites} sites were injected"
        record(injections=sites, refused=failed, acknowledged=len(stored), lost=0)
    finally:
        store.kill_all()

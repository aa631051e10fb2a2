# SPDX-License-Identifier: Apache-2.0
"""Death and I/O errors at exact system calls (strace injection); each test ends with a comparison with the model."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.s3_client import S3Client, Unknown

WRITES = "pwrite64,pwritev,pwritev2,write,fsync,fdatasync,rename,unlink,fallocate,ftruncate"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Attached:
    """strace attached to all threads of a process, injecting one fault."""

    def __init__(self, pid: int, inject: str, log: Path) -> None:
        calls = inject.split(":", 1)[0]
        self.log = log
        self.process = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={inject}", "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self._attached(pid):
            time.sleep(0.02)

    @staticmethod
    def _attached(pid: int) -> bool:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)

    def detach(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def put_count(store: LiveStore, tmp_path: Path, act: "object") -> int:
    """How many of the injected system calls one action makes (counted, nothing injected)."""
    log = tmp_path / "count.strace"
    tracer = Attached(store.main_pid(), f"{WRITES}:delay_exit=0", log)
    act()  # type: ignore[operator]
    time.sleep(0.2)
    tracer.detach()
    return len(re.findall(r"\w+\(", log.read_text()))


@needs_strace
@pytest.mark.parametrize("kind", ["put", "complete"])
def test_death_at_every_system_call_leaves_the_old_or_the_new_object(tmp_path: Path, record: Record, kind: str) -> None:
    """SIGKILL at the n-th write-like system call of one PUT (one Complete), for every n: old or new, never a mix."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        client = S3Client(store.port, timeout=15)
        client.create_bucket("crash")
        current = b"first" * 1000
        assert client.call("PUT", "/crash/k", body=current).status == 200
        index, survived = 0, 0
        while index < 120:
            index += 1
            new = os.urandom(9000)
            path, query, body, size = prepare(client, kind, new)
            tracer = Attached(store.main_pid(), f"{WRITES}:signal=SIGKILL:when={index}", tmp_path / "kill.strace")
            acknowledged = attempt(client, kind, path, query, body)
            tracer.detach()
            store.await_serving()
            client.close()
            seen = client.call("GET", "/crash/k").body
            assert seen == new or (seen == current and not acknowledged), (index, acknowledged, len(seen), size)
            current = seen
            if acknowledged:
                survived += 1
                if survived >= 3:
                    break
        assert index > 5, "the fault was never injected"
        record(kind=kind, crash_points=index - survived, lost=0)
    finally:
        store.kill_all()


def prepare(client: S3Client, kind: str, new: bytes) -> tuple[str, str, bytes, int]:
    """Everything up to the call under test."""
    if kind == "put":
        return "/crash/k", "", new, len(new)
    created = client.call("POST", "/crash/k", query="uploads=")
    upload = re.search(rb"<UploadId>([^<]*)</UploadId>", created.body)
    assert upload is not None, created
    part = client.call("PUT", "/crash/k", query=f"partNumber=1&uploadId={upload[1].decode()}", body=new)
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    return "/crash/k", f"uploadId={upload[1].decode()}", document, len(new)


def attempt(client: S3Client, kind: str, path: str, query: str, body: bytes) -> bool:
    """Whether the call was acknowledged."""
    try:
        answer = client.call("PUT" if kind == "put" else "POST", path, query=query, body=body)
    except Unknown:
        return False
    return answer.status == 200 and b"<Error>" not in answer.body


@needs_strace
def test_a_failed_sync_is_never_acknowledged_and_lost(tmp_path: Path, record: Record) -> None:
    """EIO from the n-th durable write (data and journal sites alike): the PUT succeeds elsewhere or fails, nothing is lost."""
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        client = S3Client(store.port, timeout=30)
        client.create_bucket("eio")
        stored: dict[str, str] = {}
        sites, failed = 0, 0
        for index in range(1, 16):
            tracer = Attached(
                store.main_pid(), f"pwritev2,fdatasync,fsync:error=EIO:when={index}", tmp_path / "eio.strace"
            )
            for n in range(4):
                key, body = f"k{index}-{n}", os.urandom(5000)
                try:
                    status = client.call("PUT", f"/eio/{key}", body=body).status
                except Unknown:
                    status = 0
                if status == 200:
                    stored[key] = hashlib.sha256(body).hexdigest()
                else:
                    failed += 1
            tracer.detach()
            sites += "EIO" in (tmp_path / "eio.strace").read_text()
            store.await_serving()
            store.kill_all()
            store.start()
            client.close()
            for key, expected in stored.items():
                answer = client.call("GET", f"/eio/{key}")
                assert answer.status == 200, (key, answer)
                assert hashlib.sha256(answer.body).hexdigest() == expected, key
        assert sites, "no fault was injected"
        record(injections=sites, refused=failed, acknowledged=len(stored), lost=0)
    finally:
        store.kill_all()

# SPDX-License-Identifier: Apache-2.0
"""The hostile corpus against a live socket: all refused, nobody asked elsewhere, memory bounded, service goes on."""

import re
import socket
import time
from pathlib import Path

import pytest
from hostile_corpus import BUCKET, KEY, calls, chunk_framings, document_calls, heads

from drystone_testing.live import SECRET_KEY, LiveStore
from drystone_testing.wire import Signer, Wire, WireClient

LEAST_CASES = 500
GROWTH_LIMIT = 50 << 20
ALLOWED_BEYOND_400 = frozenset({501, 505})
"""NotImplemented is the S3 answer to what is known and not offered."""


def signer(store: LiveStore) -> Signer:
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return Signer(host=f"127.0.0.1:{store.port}", seconds=int(now), stamp=stamp)


def signed(store: LiveStore, client: WireClient, call: Wire):
    return client.send(signer(store).sign(call, "header"))


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def upload_id(hostile_store: LiveStore) -> str:
    """A bucket with an object and an upload in it."""
    client = WireClient(hostile_store.port)
    assert signed(hostile_store, client, Wire(method="PUT", path=f"/{BUCKET}")).status == 200
    assert signed(hostile_store, client, Wire(method="PUT", path=f"/{BUCKET}/{KEY}", body=b"gold")).status == 200
    created = signed(hostile_store, client, Wire(method="POST", path=f"/{BUCKET}/{KEY}", query="uploads="))
    found = re.search(rb"<UploadId>([^<]+)", created.body)
    assert found is not None
    return found[1].decode()


def statuses(port: int, data: bytes) -> list[int]:
    """The statuses of all answers to raw bytes until the server closes (or, kept alive, answers one more request)."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        received = b""
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            while piece := sock.recv(1 << 16):
                received += piece
        except OSError:
            pass
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def test_the_whole_corpus_is_refused(hostile_store: LiveStore, upload_id: str) -> None:
    """Every case ends in 4xx, 501 or a closed connection; the second request inside a bad head is never answered."""
    store, client = hostile_store, WireClient(hostile_store.port)
    pid, problems, count = store.main_pid(), [], 0
    before = rss(pid)
    with socket.create_server(("127.0.0.1", 0)) as sentinel:
        sentinel.setblocking(False)
        for name, data in heads():
            count += 1
            found = statuses(store.port, data)
            if len(found) > 1 or any(not refused(code) for code in found):
                problems.append(f"head {name}: {found}")
        for name, body in chunk_framings():
            count += 1
            head = Wire(method="PUT", path=f"/{BUCKET}/chunked", headers={"transfer-encoding": "chunked"})
            unsent = signer(store).sign(head, "header-unsigned").with_headers(content_length=None)
            raw = unsent.encoded().replace(b"content-length: 0\r\n", b"") + body
            found = statuses(store.port, raw)
            if len(found) > 1 or any(not refused(code) for code in found):
                problems.append(f"chunks {name}: {found}")
        for name, call in (*document_calls(sentinel.getsockname()[1], upload_id), *calls(upload_id)):
            count += 1
            answer = signed(store, client, call)
            if answer.status and not refused(answer.status):
                problems.append(f"{name}: {answer.status} {answer.body[:120]!r}")
        with pytest.raises(BlockingIOError):
            sentinel.accept()
    print(count, "cases, growth", (rss(pid) - before) >> 10, "KiB")
    assert not problems, f"{len(problems)} of {count}:\n" + "\n".join(problems)
    assert count >= LEAST_CASES, count
    assert rss(pid) - before <= GROWTH_LIMIT
    assert store.main_pid() == pid
    listed = signed(store, client, Wire(method="GET", path=f"/{BUCKET}", query="list-type=2"))
    assert re.findall(rb"<Key>([^<]*)</Key>", listed.body) == [KEY.encode()]
    assert signed(store, client, Wire(method="GET", path=f"/{BUCKET}/{KEY}")).body == b"gold"
    log = store.log.read_text(errors="replace")
    assert "Traceback" not in log and "handler_failed" not in log
    assert SECRET_KEY not in log


def refused(status: int) -> bool:
    return 400 <= status < 500 or status in ALLOWED_BEYOND_400

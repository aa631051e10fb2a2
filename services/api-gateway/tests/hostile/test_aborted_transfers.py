# SPDX-License-Identifier: Apache-2.0
"""Clients that leave in the middle take nothing with them: no slot, descriptor, thread or memory stays behind."""

import socket
import struct
import time
from pathlib import Path

from drystone_testing.live import LiveStore
from drystone_testing.wire import Signer, Wire, WireClient

ROUNDS = 2_200
"""Of each kind: more uploads than the 2,048 bodies that may be received at once, should their slots leak."""
SIZE = 4 << 20
RESET = struct.pack("ii", 1, 0)


def signer(store: LiveStore) -> Signer:
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return Signer(host=f"127.0.0.1:{store.port}", seconds=int(now), stamp=stamp)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def abort(store: LiveStore, data: bytes, *, reset: bool, read: int = 0) -> None:
    """Send, perhaps read a little, and go: with RST or FIN."""
    with socket.create_connection(("127.0.0.1", store.port), timeout=20) as sock:
        sock.sendall(data)
        if read:
            sock.recv(read)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def test_two_thousand_aborted_uploads_and_downloads_leave_nothing(hostile_store: LiveStore) -> None:
    """Small, large and aws-chunked uploads cut at different places, and downloads left: all figures come back."""
    store, client = hostile_store, WireClient(hostile_store.port)
    sign = signer(store).sign
    assert client.send(sign(Wire(method="PUT", path="/aborted"), "header")).status == 200
    assert client.send(sign(Wire(method="PUT", path="/aborted/big", body=b"x" * SIZE), "header")).status == 200
    pid = store.main_pid()
    uploads = [
        sign(Wire(method="PUT", path="/aborted/cut", body=b"y" * size), mode).encoded()
        for mode in ("header", "stream-signed-trailer", "query-v2")
        for size in (50_000, SIZE)
    ]
    download = sign(Wire(method="GET", path="/aborted/big"), "header").encoded()
    before = (0, 0, 0)
    for number in range(ROUNDS):
        if number == 100:
            before = settled(pid)
        data = uploads[number % len(uploads)]
        abort(store, data[: min(len(data) - 1, 2_000 + 997 * (number % 300))], reset=number % 2 == 0)
        abort(store, download, reset=number % 3 == 0, read=1000)
    after = settled(pid)
    assert after[0] <= before[0] + 4, (before, after)
    assert after[1] <= before[1] + 8, (before, after)
    assert after[2] - before[2] <= 48 << 20, (before, after)
    assert (
        client.send(sign(Wire(method="GET", path="/aborted", query="list-type=2"), "header")).body.count(b"<Key>") == 1
    )
    for _ in range(20):
        assert client.send(sign(Wire(method="PUT", path="/aborted/after", body=b"z" * SIZE), "header")).status == 200
    assert store.main_pid() == pid
    assert "Traceback" not in store.log.read_text(errors="replace")


def settled(pid: int) -> tuple[int, int, int]:
    """Descriptors, threads and bytes once descriptors no longer fall."""
    last = descriptors(pid)
    for _ in range(50):
        time.sleep(0.1)
        now = descriptors(pid)
        if now >= last:
            break
        last = now
    return descriptors(pid), threads(pid), resident(pid)

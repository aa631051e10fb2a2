# SPDX-License-Identifier: Apache-2.0
"""The bounds of the metadata service hold in a running store with tiny limits, across a kill."""

import os
import re
import signal
import sqlite3
import time
import uuid
from pathlib import Path

from drystone_testing.ledger import Record
from drystone_testing.live import LiveStore
from drystone_testing.s3_client import S3Client

LIMITS = {
    "DRYSTONE_METADATA_FEED_SIZE": "64KiB",
    "DRYSTONE_METADATA_FEED_AGE": "1h",
    "DRYSTONE_METADATA_RETRY_WINDOW": "3s",
}


def test_feed_of_a_running_store_stays_bounded(tmp_path: Path, record: Record) -> None:
    """2,000 writes and a kill leave a feed of about its bound, and every object."""
    store = LiveStore(tmp_path / "store", environment=LIMITS)
    try:
        store.start()
        client = S3Client(store.port)
        client.create_bucket("bounds")
        for number in range(2000):
            if number == 1000:
                os.kill(store.main_pid(), signal.SIGKILL)
                store.await_serving()
                client.close()
            assert client.call("PUT", f"/bounds/{number}", body=b"x").status == 200
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.5)
            client.call("PUT", "/bounds/last", body=b"x")
            left = [int(found) for found in re.findall(r'"left": (\d+)', store.log_tail(200_000))]
            if left and left[-1] <= 70_000:
                break
        assert store.stop() == 0
    finally:
        store.kill_all()
    files = list((tmp_path / "store").rglob("member.db"))
    for path in files:
        with sqlite3.connect(path) as rows:
            (kept, size) = rows.execute("SELECT count(*), sum(length(record) + 40) FROM feed").fetchone()
            (objects,) = rows.execute("SELECT count(*) FROM rows WHERE kind = 10").fetchone()
        assert size <= 100_000, (path, kept)
        assert objects == 2001
    record(writes=2001, members=len(files), feed_bytes=size, feed_records=kept)


def test_retry_after_a_kill_gets_the_first_outcome(tmp_path: Path) -> None:
    """A conditional creation repeated under its invocation id after SIGKILL is no conflict with itself; another is."""
    with LiveStore(tmp_path / "store") as store:
        client = S3Client(store.port)
        client.create_bucket("retries")
        headers = {"if-none-match": "*", "amz-sdk-invocation-id": str(uuid.uuid4())}
        for number in range(20):
            path = f"/retries/{number}"
            first = client.call("PUT", path, body=b"body", headers=headers)
            assert first.status == 200
            if number % 5 == 0:
                os.kill(store.main_pid(), signal.SIGKILL)
                store.await_serving()
                client.close()
            again = client.call("PUT", path, body=b"body", headers=headers)
            assert (again.status, again.headers["etag"]) == (200, first.headers["etag"])
            other = {**headers, "amz-sdk-invocation-id": str(uuid.uuid4())}
            assert client.call("PUT", path, body=b"body", headers=other).status == 412

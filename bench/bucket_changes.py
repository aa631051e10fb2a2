# SPDX-License-Identifier: Apache-2.0
"""What changes of buckets cost in a cell of several metadata processes: `.venv/bin/python bench/bucket_changes.py [SECONDS]`.

Starts a cell on this machine with small tablets and fills a bucket until there are many of them. Then, each through both
gateways in turn: some clients create buckets, put keys there, delete keys and bucket; others put into and list those very
buckets all the time. Says for each kind of request how long it took (milliseconds) and how often it was answered 503, and how
often tablets changed their owner meanwhile.
"""

import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drystone_testing.cluster import Cluster, Shape
from drystone_testing.live import ACCESS_KEY, SECRET_KEY
from drystone_testing.s3_client import S3Client, Unknown

CHANGERS, OTHERS, ROWS = 3, 3, 100


class Figures:
    """Answers by kind of request."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.statuses: dict[str, Counter[int]] = {}
        self.reasons: Counter[str] = Counter()
        """What was said with 503."""
        self._lock = threading.Lock()

    def timed(self, kind: str, client: S3Client, method: str, path: str, body: bytes = b"") -> int:
        """One request; its status, 0 when there was no answer."""
        began = time.monotonic()
        reason = b""
        try:
            answer = client.call(method, path, body=body)
            status, reason = answer.status, answer.body if answer.status == 503 else b""
        except Unknown:
            status = 0
        with self._lock:
            self.times.setdefault(kind, []).append(time.monotonic() - began)
            self.statuses.setdefault(kind, Counter())[status] += 1
            if status == 503:
                said = re.search(rb"<Message>([^<]*)", reason)
                self.reasons[said[1].decode() if said else ""] += 1
        return status

    def shown(self) -> dict[str, dict[str, object]]:
        """For people."""
        return {
            kind: {
                "count": len(times),
                "median_ms": round(sorted(times)[len(times) // 2] * 1000),
                "p95_ms": round(sorted(times)[len(times) * 95 // 100] * 1000),
                "most_ms": round(max(times) * 1000),
                "statuses": dict(self.statuses[kind]),
            }
            for kind, times in sorted(self.times.items())
        }


def changes(cell: Cluster, number: int, figures: Figures, until: float) -> None:
    """Buckets come and go."""
    clients = [S3Client(port, timeout=40) for port in cell.s3_ports]
    turn = number
    while time.monotonic() < until:
        turn += 1
        client, bucket = clients[turn % 2], f"/changing-{number}"
        figures.timed("create bucket", client, "PUT", bucket)
        keys = [f"{bucket}/{key}" for key in range(3)]
        for key in keys:
            figures.timed("put", client, "PUT", key, b"x")
        for _ in range(20):
            for key in [*keys, f"{bucket}/other-0", f"{bucket}/other-1", f"{bucket}/other-2"]:
                figures.timed("delete", client, "DELETE", key)
            if figures.timed("delete bucket", client, "DELETE", bucket) in (204, 404):
                break


def meanwhile(cell: Cluster, number: int, figures: Figures, until: float) -> None:
    """Somebody else uses the buckets that come and go."""
    clients = [S3Client(port, timeout=40) for port in cell.s3_ports]
    turn = number
    while time.monotonic() < until:
        turn += 1
        client, bucket = clients[turn % 2], f"/changing-{turn % CHANGERS}"
        figures.timed("other's put", client, "PUT", f"{bucket}/other-{number}", b"y")
        figures.timed("other's list", client, "GET", bucket)
        figures.timed("other bucket's put", client, "PUT", f"/steady/s{turn % 2000:05d}", b"z")
        time.sleep(0.1)


def main(seconds: float) -> None:
    """One run."""
    with tempfile.TemporaryDirectory(prefix="drystone-bucket-changes-", ignore_cleanup_errors=True) as folder:
        shape = Shape(tablet_rows=ROWS, etcd=1, lifecycle=0, replication=0)
        cell = Cluster(Path(folder), shape, credential=(ACCESS_KEY, SECRET_KEY))
        try:
            cell.start()
            S3Client(cell.s3_ports[0]).create_bucket("steady")
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: _put(cell, number), range(1000)))
            time.sleep(3.0)
            before, figures = cell.said("metadata", "metadata.owns"), Figures()
            until = time.monotonic() + seconds
            with ThreadPoolExecutor(CHANGERS + OTHERS) as pool:
                work = [pool.submit(changes, cell, number, figures, until) for number in range(CHANGERS)]
                work += [pool.submit(meanwhile, cell, number, figures, until) for number in range(OTHERS)]
            for one in work:
                one.result()
            lost = cell.said("metadata", "metadata.tablet_lost")
            owned = cell.said("metadata", "metadata.owns") - before
            print(
                json.dumps(
                    {"owners_became": owned, "tablets_lost": lost, **figures.shown(), "said with 503": figures.reasons},
                    indent=1,
                )
            )
        finally:
            cell.stop()


def _put(cell: Cluster, number: int) -> None:
    client = S3Client(cell.s3_ports[number % 2], timeout=40)
    client.call("PUT", f"/steady/s{number:05d}", body=b"x")
    client.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)

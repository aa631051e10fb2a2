# SPDX-License-Identifier: Apache-2.0
"""Load with a reference model: writers that remember, for each key, what a read may answer.

A definite answer leaves one possibility; a lost answer leaves the old and the new one (an overwrite or delete may have
happened or not, and never half). The final comparison reads every key and the listing. Keys belong to one writer each, so
its own order of calls is the whole history of a key.
"""

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from drystone_testing.s3_client import S3Client, Unknown

Digest = str
ABSENT: Digest = "absent"


def body_of(seed: int, size: int) -> bytes:
    """A body that is different for every seed and in every block."""
    return random.Random(seed).randbytes(size)


def digest(body: bytes) -> Digest:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Tally:
    """What a writer saw."""

    acknowledged: int = 0
    unknown: int = 0
    reads: int = 0
    failed_reads: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    longest_gap: float = 0.0
    """Seconds between two successive answers."""


class Writer(threading.Thread):
    """One client: PUT, overwrite, DELETE, GET, range GET and now and then a multipart upload over its own keys."""

    def __init__(
        self,
        port: int,
        bucket: str,
        *,
        seed: int,
        keys: int = 40,
        sizes: tuple[int, ...] = (),
        multipart: float = 0.02,
        read_port: int = 0,
        client: type[S3Client] = S3Client,
    ) -> None:
        """`read_port`: where it reads what it wrote, when that is another gateway of the cell. `client`: how it calls."""
        super().__init__(daemon=True, name=f"writer-{seed}")
        self.client = client(port, timeout=30)
        self.reader = client(read_port, timeout=30) if read_port else self.client
        self.bucket = bucket
        self.random = random.Random(seed)
        self.seed = seed
        self.keys = keys
        self.sizes = sizes or (0, 1, 100, 4096, 5000, 70_000, 131_072, 131_073, 400_000, 1_500_000)
        self.multipart = multipart
        self.possible: dict[str, set[Digest]] = {}
        self.tally = Tally()
        self.counter = 0
        self.ending = threading.Event()
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Stop after the call under way; raises what the thread raised."""
        self.ending.set()
        self.join(60)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        last = time.monotonic()
        try:
            while not self.ending.is_set():
                try:
                    self.step()
                except Unknown:
                    self.tally.unknown += 1
                    time.sleep(0.05)
                    continue
                now = time.monotonic()
                self.tally.longest_gap = max(self.tally.longest_gap, now - last)
                last = now
        except BaseException as error:
            self.error = error

    def step(self) -> None:
        key = f"w{self.seed}/k{self.random.randrange(self.keys):04d}"
        dice = self.random.random()
        if dice < 0.45 or key not in self.possible:
            self.put(key)
        elif dice < 0.55:
            self.mutate(key, ABSENT, lambda: self.client.call("DELETE", f"/{self.bucket}/{key}").status)
        else:
            self.read(key)

    def put(self, key: str) -> None:
        self.counter += 1
        seed = self.seed * 1_000_003 + self.counter
        if self.random.random() < self.multipart:
            parts = [body_of(seed, 5 << 20), body_of(seed + 7, 1 + seed % 300_000)]
            whole = parts[0] + parts[1]
            self.mutate(key, digest(whole), lambda: self.client.put_multipart(self.bucket, key, parts).status)
        else:
            body = body_of(seed, self.random.choice(self.sizes))
            self.mutate(key, digest(body), lambda: self.client.call("PUT", f"/{self.bucket}/{key}", body=body).status)

    def mutate(self, key: str, outcome: Digest, call: "object") -> None:
        """Until the answer comes, both the old and the new state are possible."""
        before = self.possible.get(key, {ABSENT})
        self.possible[key] = before | {outcome}
        status = call()  # type: ignore[operator]
        if status in (200, 204):
            self.possible[key] = {outcome}
            self.tally.acknowledged += 1
        elif status < 500:
            raise AssertionError(f"{key}: unexpected status {status}")
        else:
            raise Unknown(str(status))

    def read(self, key: str) -> None:
        answer = self.reader.call("GET", f"/{self.bucket}/{key}")
        if answer.status >= 500:
            self.tally.failed_reads.append(f"{key}: {answer.status} {answer.code}")
            return
        self.tally.reads += 1
        self.judge(key, ABSENT if answer.status == 404 else digest(answer.body))

    def judge(self, key: str, seen: Digest) -> None:
        """A state once seen excludes the others: the writer is the only one who changes the key."""
        if seen in self.possible[key]:
            self.possible[key] = {seen}
        else:
            self.tally.wrong.append(f"{key}: read {seen[:16]}, possible {[p[:16] for p in self.possible[key]]}")

    def verify(self, port: int) -> list[str]:
        """Compare every key of this writer, and the listing, with the model; returns the differences."""
        client = S3Client(port, timeout=30)
        differences = list(self.tally.wrong)
        for key in sorted(self.possible):
            answer = client.call("GET", f"/{self.bucket}/{key}")
            if answer.status not in (200, 404):
                differences.append(f"{key}: GET answers {answer.status} {answer.code}")
                continue
            seen = ABSENT if answer.status == 404 else digest(answer.body)
            if seen not in self.possible[key]:
                differences.append(f"{key}: holds {seen[:16]}, possible {[p[:16] for p in self.possible[key]]}")
            else:
                self.possible[key] = {seen}
        listed = client.list_keys(self.bucket, prefix=f"w{self.seed}/")
        expected = sorted(key for key, states in self.possible.items() if ABSENT not in states)
        if listed != expected:
            missing, phantom = sorted(set(expected) - set(listed)), sorted(set(listed) - set(expected))
            differences.append(f"listing: missing {missing[:5]}, phantom {phantom[:5]}")
        client.close()
        return differences


class Load:
    """Several writers at once; with several ports (gateways of one cell) each writes at one and reads at the next."""

    def __init__(
        self, port: int | Sequence[int], bucket: str, *, writers: int = 4, seed: int = 1, **options: object
    ) -> None:
        ports = [port] if isinstance(port, int) else list(port)
        S3Client(ports[0]).create_bucket(bucket)
        self.writers = [
            Writer(
                ports[i % len(ports)],
                bucket,
                seed=seed * 100 + i,
                read_port=ports[(i + 1) % len(ports)] if len(ports) > 1 else 0,
                **options,  # type: ignore[arg-type]
            )
            for i in range(writers)
        ]

    def start(self) -> None:
        for writer in self.writers:
            writer.start()

    def finish(self) -> None:
        for writer in self.writers:
            writer.ending.set()
        for writer in self.writers:
            writer.finish()

    def verify(self, port: int) -> None:
        """AssertionError listing every difference from the model."""
        differences = [d for writer in self.writers for d in writer.verify(port)]
        assert not differences, f"{len(differences)} differences from the model:\n" + "\n".join(differences[:20])

    @property
    def acknowledged(self) -> int:
        return sum(writer.tally.acknowledged for writer in self.writers)

    @property
    def unknown(self) -> int:
        """Answers lost, and answers of 5xx to mutations."""
        return sum(writer.tally.unknown for writer in self.writers)

    @property
    def failed_reads(self) -> list[str]:
        return [failure for writer in self.writers for failure in writer.tally.failed_reads]

    @property
    def longest_gap(self) -> float:
        return max(writer.tally.longest_gap for writer in self.writers)

# SPDX-License-Identifier: Apache-2.0
"""Load of buckets with a reference model: each changer has a bucket of its own, makes it, puts and deletes keys there, and
deletes it, at one gateway after another.

As in load.py a definite answer leaves one possibility and a lost one (5xx too) leaves both: the bucket is there or not, a key
has its old body or its new one. A bucket is deleted only when it may be empty, so no acknowledged key may go with it.
"""

import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from drystone_testing.load import ABSENT, Digest, digest
from drystone_testing.s3_client import Answer, S3Client, Unknown

_PAUSE = 0.05
"""Seconds after an answer that says nothing."""


class Changer(threading.Thread):
    """One client and its bucket."""

    def __init__(self, ports: Sequence[int], bucket: str, *, seed: int) -> None:
        super().__init__(daemon=True, name=f"changer-{bucket}")
        self.clients = [S3Client(port, timeout=40) for port in ports]
        self.bucket, self.random = bucket, random.Random(seed)
        self.there: set[bool] = {False}
        """Whether the bucket may be there."""
        self.keys: dict[str, set[Digest]] = {}
        self.created = self.deleted = self.unknown = 0
        self.reasons: Counter[str] = Counter()
        """What was said with 5xx."""
        self.wrong: list[str] = []
        self.history: deque[str] = deque(maxlen=30)
        """The last requests until something was wrong."""
        self.ending = threading.Event()
        self.error: BaseException | None = None
        self._turn = seed

    def run(self) -> None:
        try:
            while not self.ending.is_set():
                try:
                    self.step()
                except Unknown:
                    self.unknown += 1
                    time.sleep(_PAUSE)
        except BaseException as error:
            self.error = error

    def step(self) -> None:
        """One request, whichever is next."""
        held = sorted(key for key, states in self.keys.items() if states != {ABSENT})
        if True not in self.there:
            self.create()
        elif self.random.random() < 0.25 and not held:
            self.delete_bucket()
        elif self.random.random() < 0.5 and held:
            self.change_key(self.random.choice(held), None)
        elif len(held) < 3:
            self.change_key(f"k{self.random.randrange(6)}", self.random.randbytes(self.random.randrange(400)))
        else:
            self.read(self.random.choice(held))

    def create(self) -> None:
        """It becomes empty when it was not there."""
        was, self.there = self.there, {True, False}
        answer = self._call("PUT", "")
        status = answer.status
        if status == 200:
            if was == {True}:
                self.wrong.append("created although it was there")
            self.there, self.keys = {True}, {}
            self.created += 1
        elif status == 409:
            if was == {False}:
                self.wrong.append("there although it was deleted")
            self.there = {True}
        else:
            self._unsaid(answer)

    def delete_bucket(self) -> None:
        """Its keys may all be absent."""
        was, self.there = self.there, {True, False}
        answer = self._call("DELETE", "")
        status = answer.status
        if status in (204, 404):
            if status == 404 and was == {True}:
                self.wrong.append("gone although nobody deleted it")
            if status == 204:
                self.deleted += 1
            self._lose_keys(f"deleted ({status})")
            self.there = {False}
        elif status == 409:
            if all(states == {ABSENT} for states in self.keys.values()):
                self.wrong.append("not empty although every key was deleted")
            self.there = {True}
        else:
            self._unsaid(answer)

    def change_key(self, key: str, body: bytes | None) -> None:
        """Put, or delete when there is no body."""
        outcome = ABSENT if body is None else digest(body)
        self.keys[key] = self.keys.get(key, {ABSENT}) | {outcome}
        answer = self._call("DELETE" if body is None else "PUT", f"/{key}", body or b"")
        if answer.status in (200, 204):
            self.keys[key], self.there = {outcome}, {True}
        elif answer.status == 404:
            self._missing()
        else:
            self._unsaid(answer)

    def read(self, key: str) -> None:
        """GET."""
        answer = self._call("GET", f"/{key}")
        if answer.code == "NoSuchBucket":
            self._missing()
        elif answer.status in (200, 404):
            self._judge(key, ABSENT if answer.status == 404 else digest(answer.body))
        else:
            self._unsaid(answer)

    def verify(self, port: int) -> list[str]:
        """What one gateway shows, compared with the model; the differences."""
        client = S3Client(port, timeout=40)
        listed = client.call("GET", f"/{self.bucket}")
        differences = list(self.wrong)
        if listed.status not in (200, 404):
            differences.append(f"listing answers {listed.status} {listed.code}")
        elif (listed.status == 200) not in self.there:
            differences.append(f"listing answers {listed.status}, there: {self.there}")
        elif listed.status == 404:
            self.there = {False}
        else:
            self.there = {True}
            for key in sorted(self.keys):
                answer = client.call("GET", f"/{self.bucket}/{key}")
                self._judge(key, ABSENT if answer.status == 404 else digest(answer.body))
            shown = client.list_keys(self.bucket)
            expected = sorted(key for key, states in self.keys.items() if states != {ABSENT})
            if shown != expected:
                differences.append(f"lists {shown}, expected {expected}")
            differences += self.wrong[len(differences) :]
        client.close()
        if differences:
            differences += self.history
        return [f"{self.bucket}: {one}" for one in differences]

    def _client(self) -> S3Client:
        self._turn += 1
        return self.clients[self._turn % len(self.clients)]

    def _call(self, method: str, path: str, body: bytes = b"") -> Answer:
        client, began = self._client(), time.monotonic()
        said = "no answer"
        try:
            answer = client.call(method, f"/{self.bucket}{path}", body=body)
            said = f"{answer.status} {answer.code}"
            return answer
        finally:
            if not self.wrong:  # what led to the first mistake
                self.history.append(f"{began:.2f}-{time.monotonic():.2f} {method} {path} at {client.port}: {said}")

    def _unsaid(self, answer: Answer) -> None:
        """An answer that says nothing about the outcome; what it says instead is counted."""
        said = re.search(rb"<Message>([^<]*)", answer.body)
        self.reasons[said[1].decode() if said else str(answer.status)] += 1
        raise Unknown(str(answer.status))

    def _judge(self, key: str, seen: Digest) -> None:
        if seen in self.keys[key]:
            self.keys[key] = {seen}
        else:
            self.wrong.append(f"{key}: holds {seen[:16]}, possible {[one[:16] for one in self.keys[key]]}")

    def _missing(self) -> None:
        """NoSuchBucket."""
        if False not in self.there:
            self.wrong.append("missing although it was there")
        self._lose_keys("missing")
        self.there = {False}

    def _lose_keys(self, how: str) -> None:
        lost = [key for key, states in self.keys.items() if ABSENT not in states]
        if lost:
            self.wrong.append(f"{how} with acknowledged keys {lost}")
        self.keys = {}


class BucketLoad:
    """Several changers at once."""

    def __init__(self, ports: Sequence[int], prefix: str, *, changers: int, seed: int) -> None:
        self.changers = [Changer(ports, f"{prefix}-{number}", seed=seed * 100 + number) for number in range(changers)]

    def start(self) -> None:
        for one in self.changers:
            one.start()

    def finish(self) -> None:
        """Stop after the calls under way; raises what a thread raised."""
        for one in self.changers:
            one.ending.set()
        for one in self.changers:
            one.join(90)
            if one.error is not None:
                raise one.error

    def verify(self, port: int) -> None:
        """AssertionError listing every difference from the model."""
        differences = [difference for one in self.changers for difference in one.verify(port)]
        assert not differences, f"{len(differences)} differences from the model:\n" + "\n".join(differences[:60])

    @property
    def created(self) -> int:
        return sum(one.created for one in self.changers)

    @property
    def deleted(self) -> int:
        return sum(one.deleted for one in self.changers)

    @property
    def reasons(self) -> Counter[str]:
        """What was said with 5xx, and how often."""
        return sum((one.reasons for one in self.changers), Counter())

    @property
    def unknown(self) -> int:
        """Answers lost, and answers of 5xx."""
        return sum(one.unknown for one in self.changers)

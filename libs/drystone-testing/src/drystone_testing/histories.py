# SPDX-License-Identifier: Apache-2.0
"""Concurrent histories of a live store: clients in threads that note what they called and what they were answered.

A client whose answer is lost either leaves it at that (the outcome is unknown for ever) or, as an SDK does, sends the same
call again under the same `amz-sdk-invocation-id` until it is answered: then the whole is one call, done once.
"""

import hashlib
import random
import re
import threading
import time
import uuid
from dataclasses import dataclass, field

from drystone_testing.linearizability import NEVER, Kind, Operation
from drystone_testing.s3_client import Answer, S3Client, Unknown

_LISTED = re.compile(r"<Key>([^<]*)</Key>.*?<ETag>(?:&quot;|\")([0-9a-f]{32})", re.S)


@dataclass
class Tally:
    """What became of the calls."""

    operations: int = 0
    unknown: int = 0
    retried: int = 0
    """Calls answered only after they were sent again."""
    lists: int = 0
    wrong: list[str] = field(default_factory=list)
    """Answers that are wrong in themselves: bytes that do not fit their ETag, statuses nobody asked for."""


class HistoryClient(threading.Thread):
    """Calls on `keys` (all under `prefix`) until `count` are done."""

    def __init__(self, port: int, bucket: str, prefix: str, keys: list[str], *, seed: int, count: int) -> None:
        super().__init__(daemon=True, name=f"history-{seed}")
        self._client = S3Client(port, timeout=20)
        self._bucket, self._prefix, self._keys = bucket, prefix, keys
        self._random = random.Random(seed)
        self._seed = seed
        self._count = count
        self._seen: dict[str, str] = {}
        """Key → an ETag it had: what If-Match may ask for."""
        self.history: list[Operation] = []
        self.tally = Tally()
        self.ending = threading.Event()

    def run(self) -> None:
        for number in range(self._count):
            if self.ending.is_set():
                break
            self._step(number)
            time.sleep(self._random.uniform(0, 0.02))
        self._client.close()

    def _step(self, number: int) -> None:
        self.tally.operations += 1
        key, dice = self._random.choice(self._keys), self._random.random()
        if dice < 0.3:
            self._read(key)
        elif dice < 0.38:
            self._list()
        elif dice < 0.5:
            self._change(key, Kind.DELETE, b"", {})
        else:
            body = f"{self._seed}.{number}.".encode() * self._random.choice((1, 1, 5, 3000))
            if dice < 0.7:
                self._change(key, Kind.PUT, body, {})
            elif dice < 0.85:
                self._change(key, Kind.CREATE, body, {"if-none-match": "*"})
            else:
                expected = self._seen.get(key, "0" * 32)
                self._change(key, Kind.REPLACE, body, {"if-match": f'"{expected}"'}, expected)

    def _read(self, key: str) -> None:
        called = time.monotonic()
        try:
            answer = self._client.call("GET", f"/{self._bucket}/{key}")
        except Unknown:
            return
        returned = time.monotonic()
        if answer.status == 200:
            value = hashlib.md5(answer.body).hexdigest()
            if answer.headers["etag"].strip('"') != value:
                self.tally.wrong.append(f"{key}: bytes of {value} under {answer.headers['etag']}")
            self._seen[key] = value
            self._note(key, Kind.READ, called, returned, value)
        elif answer.status == 404:
            self._note(key, Kind.READ, called, returned, None)
        elif answer.status < 500:
            self.tally.wrong.append(f"GET {key}: {answer.status} {answer.code}")

    def _list(self) -> None:
        called = time.monotonic()
        try:
            answer = self._client.call("GET", f"/{self._bucket}", query=f"list-type=2&prefix={self._prefix}%2F")
        except Unknown:
            return
        returned = time.monotonic()
        if answer.status != 200:
            return
        self.tally.lists += 1
        listed = dict(_LISTED.findall(answer.body.decode()))
        for key in self._keys:
            self._note(key, Kind.READ, called, returned, listed.get(key))

    def _change(self, key: str, kind: Kind, body: bytes, headers: dict[str, str], expected: str | None = None) -> None:
        value = None if kind is Kind.DELETE else hashlib.md5(body).hexdigest()
        again = self._random.random() < 0.5
        if again:
            headers = {**headers, "amz-sdk-invocation-id": str(uuid.UUID(int=self._random.getrandbits(128)))}
        called = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            answer = self._once("DELETE" if kind is Kind.DELETE else "PUT", key, body, headers)
            if answer is not None or not again or attempts >= 40:
                break
            time.sleep(0.05)
        returned = time.monotonic()
        if answer is None:
            self.tally.unknown += 1
            self._note(key, kind, called, NEVER, value, expected)
            return
        self.tally.retried += attempts > 1
        refused = answer.status == 412 or (kind is Kind.REPLACE and answer.status == 404)
        if answer.status not in (200, 204) and not (refused and kind in (Kind.CREATE, Kind.REPLACE)):
            self.tally.wrong.append(f"{kind} {key}: {answer.status} {answer.code}")
        if not refused and value is not None:
            self._seen[key] = value
        self._note(key, kind, called, returned, value, expected, refused=refused)

    def _once(self, method: str, key: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        """One attempt; None when its outcome is unknown. What met no listener was not sent, and is tried again."""
        while not self.ending.is_set():
            try:
                answer = self._client.call(method, f"/{self._bucket}/{key}", body=body, headers=headers)
            except Unknown as unknown:
                if isinstance(unknown.__cause__, ConnectionRefusedError):
                    time.sleep(0.05)
                    continue
                return None
            return None if answer.status >= 500 else answer
        return None

    def _note(
        self,
        key: str,
        kind: Kind,
        called: float,
        returned: float,
        value: str | None,
        expected: str | None = None,
        *,
        refused: bool = False,
    ) -> None:
        self.history.append(
            Operation(
                key=key, kind=kind, called=called, returned=returned, value=value, expected=expected, refused=refused
            )
        )

# SPDX-License-Identifier: Apache-2.0
"""Concurrent histories of a live store: clients in threads that note what they called and what they were answered.

A client calls through any of the endpoints it is given, another one each time. A page of a listing is one read of every key
between the page's bounds, of keys nobody wrote too: those are phantoms. A client whose answer is lost either leaves it at that (the outcome is unknown for ever) or, as an SDK does, sends the same
call again under the same `amz-sdk-invocation-id`, through any endpoint, until it is answered: then the whole is one call,
done once.
"""

import hashlib
import random
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drystone_testing.linearizability import NEVER, Kind, Operation
from drystone_testing.s3_client import Answer, S3Client, Unknown


class Endpoint(NamedTuple):
    """Where a gateway takes S3 calls."""

    port: int
    host: str = "127.0.0.1"


_LISTED = re.compile(r"<Key>([^<]*)</Key>.*?<ETag>(?:&quot;|\")([0-9a-f]{32})", re.S)


@dataclass
class Tally:
    """What became of the calls."""

    operations: int = 0
    unknown: int = 0
    retried: int = 0
    """Calls answered only after they were sent again."""
    lists: int = 0
    """Pages of listings."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are wrong in themselves: bytes that do not fit their ETag, statuses nobody asked for."""


CALM = 0.3
"""Seconds a client waits after a call without an answer: an outage should not eat up the history."""


class HistoryClient(threading.Thread):
    """Calls on `keys` (all under `prefix`) until `count` are done."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        bucket: str,
        prefix: str,
        keys: list[str],
        *,
        seed: int,
        count: int,
        timeout: float = 20,
    ) -> None:
        super().__init__(daemon=True, name=f"history-{seed}")
        self._clients = [S3Client(one.port, host=one.host, timeout=timeout) for one in endpoints]
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
        for client in self._clients:
            client.close()

    def _any(self) -> S3Client:
        return self._random.choice(self._clients)

    def _by(self, client: S3Client, what: str = "") -> str:
        return f"{self.name} by {client.host}:{client.port} {what}".strip()

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
        client, called = self._any(), time.monotonic()
        try:
            answer = client.call("GET", f"/{self._bucket}/{key}")
        except Unknown:
            time.sleep(CALM)
            return
        returned = time.monotonic()
        if answer.status == 200:
            value = hashlib.md5(answer.body).hexdigest()
            if answer.headers["etag"].strip('"') != value:
                self.tally.wrong.append(f"{key}: bytes of {value} under {answer.headers['etag']}")
            self._seen[key] = value
            self._note(key, Kind.READ, called, returned, value, by=self._by(client))
        elif answer.status == 404:
            self._note(key, Kind.READ, called, returned, None, by=self._by(client))
        elif answer.status >= 500:
            time.sleep(CALM)
        else:
            self.tally.wrong.append(f"GET {key}: {answer.status} {answer.code}")

    def _list(self) -> None:
        """All keys under the prefix, in pages, as one client of several gateways sees them."""
        most, after, more = self._random.choice((2, 3, 1000)), f"{self._prefix}/", True
        while more and not self.ending.is_set():
            client = self._any()
            start = urllib.parse.quote(after, safe="")
            query = f"list-type=2&max-keys={most}&prefix={self._prefix}%2F&start-after={start}"
            called = time.monotonic()
            try:
                answer = client.call("GET", f"/{self._bucket}", query=query)
            except Unknown:
                time.sleep(CALM)
                return
            returned = time.monotonic()
            if answer.status != 200:
                if answer.status >= 500:
                    time.sleep(CALM)
                else:
                    self.tally.wrong.append(f"list: {answer.status} {answer.code}")
                return
            self.tally.lists += 1
            text = answer.body.decode()
            listed, more = _LISTED.findall(text), "<IsTruncated>true" in text
            names = [key for key, _ in listed]
            if names != sorted(set(names)) or (names and names[0] <= after) or (more and not names):
                self.tally.wrong.append(f"list after {after}: {names}, truncated: {more}")
                return
            last = names[-1] if more else f"{self._prefix}0"
            etags = dict(listed)
            for key in {*(key for key in self._keys if after < key <= last), *names}:
                self._note(key, Kind.READ, called, returned, etags.get(key), by=self._by(client, "list"))
            after = last

    def _change(self, key: str, kind: Kind, body: bytes, headers: dict[str, str], expected: str | None = None) -> None:
        value = None if kind is Kind.DELETE else hashlib.md5(body).hexdigest()
        again = self._random.random() < 0.5
        if again:
            headers = {**headers, "amz-sdk-invocation-id": str(uuid.UUID(int=self._random.getrandbits(128)))}
        called = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            answer, by = self._once("DELETE" if kind is Kind.DELETE else "PUT", key, body, headers)
            if answer is not None or not again or attempts >= 40:
                break
            time.sleep(0.05)
        returned = time.monotonic()
        if answer is None:
            self.tally.unknown += 1
            time.sleep(CALM)
            self._note(key, kind, called, NEVER, value, expected, by=by)
            return
        self.tally.retried += attempts > 1
        refused = answer.status == 412 or (kind is Kind.REPLACE and answer.status == 404)
        if answer.status not in (200, 204) and not (refused and kind in (Kind.CREATE, Kind.REPLACE)):
            self.tally.wrong.append(f"{kind} {key}: {answer.status} {answer.code}")
        if not refused and value is not None:
            self._seen[key] = value
        self._note(key, kind, called, returned, value, expected, refused=refused, by=by)

    def _once(self, method: str, key: str, body: bytes, headers: dict[str, str]) -> tuple[Answer | None, str]:
        """One attempt, and who made it; None when its outcome is unknown. What met no listener was not sent, and is tried
        again, at any endpoint."""
        by = "nobody"
        while not self.ending.is_set():
            client = self._any()
            by = self._by(client)
            try:
                answer = client.call(method, f"/{self._bucket}/{key}", body=body, headers=headers)
            except Unknown as unknown:
                if isinstance(unknown.__cause__, ConnectionRefusedError):
                    time.sleep(0.05)
                    continue
                return None, by
            return (None if answer.status >= 500 else answer), by
        return None, by

    def _note(
        self,
        key: str,
        kind: Kind,
        called: float,
        returned: float,
        value: str | None,
        expected: str | None = None,
        *,
        by: str,
        refused: bool = False,
    ) -> None:
        made = Operation(
            key=key, kind=kind, called=called, returned=returned, value=value, expected=expected, refused=refused, by=by
        )
        self.history.append(made)


def run(clients: Sequence[HistoryClient], disturb: Callable[[], None]) -> list[Operation]:
    """Let the clients do their calls, `disturb` being called again and again meanwhile; what they noted."""
    for client in clients:
        client.start()
    try:
        while any(client.is_alive() for client in clients):
            disturb()
    finally:
        for client in clients:
            client.ending.set()
        for client in clients:
            client.join(120)
    return [operation for client in clients for operation in client.history]

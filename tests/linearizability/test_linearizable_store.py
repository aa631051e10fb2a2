# SPDX-License-Identifier: Apache-2.0
"""A live store is linearizable key by key while its main process is killed, and conditions and listings hold in races."""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from drystone_testing.histories import Endpoint, HistoryClient, run
from drystone_testing.ledger import Record, rounds
from drystone_testing.linearizability import NEVER, Kind, Operation
from drystone_testing.live import LiveStore
from drystone_testing.porcupine import unexplained
from drystone_testing.s3_client import S3Client, Unknown

BUCKET = "histories"
CLIENTS, CALLS = 4, 250


def killed_history(store: LiveStore, prefix: str, seed: int) -> tuple[list[HistoryClient], list[Operation], int]:
    """One history of CLIENTS times CALLS with the main process killed about every second; its clients, and the kills."""
    keys = [f"{prefix}/{number}" for number in range(6)]
    clients = [
        HistoryClient([Endpoint(store.port)], BUCKET, prefix, keys, seed=seed * 100 + number, count=CALLS)
        for number in range(CLIENTS)
    ]
    chooser, kills = random.Random(seed), 0

    def kill() -> None:
        nonlocal kills
        time.sleep(chooser.uniform(0.2, 0.9))
        kills += 1
        if kills % 3 == 0:  # a supervisor whose children die all the time takes ever longer pauses
            store.kill_all()
            store.start()
            return
        with suppress(ProcessLookupError, RuntimeError):
            os.kill(store.main_pid(), signal.SIGKILL)
        store.await_serving()

    return clients, run(clients, kill), kills


def test_histories_are_linearizable_while_the_main_process_is_killed(tmp_path: Path, record: Record) -> None:
    """Put, conditional put, delete, get and list by 4 clients, lost answers left or sent again: an order explains all."""
    seed = int(os.environ.get("FAULT_SEED", "20261123"))
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        S3Client(store.port).create_bucket(BUCKET)
        total = {"operations": 0, "unknown": 0, "retried": 0, "lists": 0, "kills": 0, "checking_ms": 0}
        histories = rounds(5)
        judges: set[str] = set()
        for number in range(histories):
            clients, history, kills = killed_history(store, f"h{number}", seed + number)
            total["kills"] += kills
            for client in clients:
                assert client.tally.wrong == [], f"seed {seed + number}"
                for name in ("operations", "unknown", "retried", "lists"):
                    total[name] += getattr(client.tally, name)
            began = time.monotonic()
            judged_by, found = unexplained(history, tmp_path)
            judges.add(judged_by)
            total["checking_ms"] += round((time.monotonic() - began) * 1000)
            assert found is None, f"seed {seed + number}: {found}"
            reads = [op for op in history if op.kind is Kind.READ and op.value is not None]
            planted = replace(reads[0], called=time.monotonic(), returned=time.monotonic() + 1)
            overwritten = replace(planted, kind=Kind.PUT, value="other", called=planted.called - 2)
            overwritten = replace(overwritten, returned=planted.called - 1)
            _, missed = unexplained([*history, overwritten, planted], tmp_path)
            assert missed is not None, "the checker misses a planted stale read"
        assert all(op.returned != NEVER or op.kind is not Kind.READ for op in history)
        record(seed=seed, histories=histories, violations=0, judges=sorted(judges), **total)
    finally:
        store.kill_all()


def test_conditional_creation_has_exactly_one_winner(tmp_path: Path, record: Record) -> None:
    """50 clients create the same key at the same time with If-None-Match: *, round after round; 49 read 412."""
    count, races = 50, rounds(50)
    statuses: list[list[tuple[int, str]]] = [[] for _ in range(races)]
    with LiveStore(tmp_path / "store") as store:
        S3Client(store.port).create_bucket("races")
        barrier = threading.Barrier(count)

        def contender(number: int) -> None:
            client = S3Client(store.port)
            for race in range(races):
                barrier.wait(60)
                body = b"%d.%d" % (number, race)
                answer = client.call("PUT", f"/races/{race}", body=body, headers={"if-none-match": "*"})
                statuses[race].append((answer.status, answer.headers.get("etag", "")))

        threads = [threading.Thread(target=contender, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        reader = S3Client(store.port)
        for race, answers in enumerate(statuses):
            assert sorted(status for status, _ in answers) == [200] + [412] * (count - 1), f"race {race}"
            winner = next(etag for status, etag in answers if status == 200)
            assert reader.call("GET", f"/races/{race}").headers["etag"] == winner
        record(races=races, clients=count, double_winners=0)


def test_listings_show_what_is_written_and_keep_stable_keys_during_churn(tmp_path: Path, record: Record) -> None:
    """Pages of 7 keys in order, each stable key once, each new key at once, while others come and go and kills happen."""
    listings, checked, kills, unknown = rounds(100), 0, 0, 0
    stable = [f"s{number:03d}" for number in range(60)]
    with LiveStore(tmp_path / "store") as store:
        client = S3Client(store.port)
        client.create_bucket("churn")
        for key in stable:
            assert client.call("PUT", f"/churn/{key}", body=key.encode()).status == 200
        ending = threading.Event()
        churners = [threading.Thread(target=churn, args=(store.port, n, ending), daemon=True) for n in range(3)]
        for churner in churners:
            churner.start()
        try:
            for number in range(listings):
                if number % 25 == 24:
                    os.kill(store.main_pid(), signal.SIGKILL)
                    kills += 1
                    store.await_serving()
                fresh = f"s{number % 60:03d}-fresh{number}"
                try:
                    written = client.call("PUT", f"/churn/{fresh}", body=b"x").status == 200
                    keys = pages(client)
                except Unknown:
                    unknown += 1
                    continue
                assert keys == sorted(set(keys)), f"listing {number}: out of order or twice"
                assert set(stable) <= set(keys), f"listing {number} lacks {set(stable) - set(keys)}"
                assert not written or fresh in keys, f"listing {number} lacks {fresh}, just written"
                checked += 1
        finally:
            ending.set()
            for churner in churners:
                churner.join(60)
        record(listings=checked, unknown=unknown, kills=kills, missing=0)
        assert checked >= listings * 0.8


def churn(port: int, number: int, ending: threading.Event) -> None:
    """Put and delete keys between the stable ones."""
    client, chooser = S3Client(port), random.Random(number)
    while not ending.is_set():
        key = f"s{chooser.randrange(60):03d}{chooser.choice('abc')}{number}"
        with suppress(Unknown):
            client.call(chooser.choice(("PUT", "DELETE")), f"/churn/{key}")
        time.sleep(0.002)


def pages(client: S3Client) -> list[str]:
    """All keys under `s`, 7 at a time, by start-after."""
    keys: list[str] = []
    while True:
        query = f"list-type=2&max-keys=7&prefix=s&start-after={keys[-1] if keys else ''}"
        answer = client.call("GET", "/churn", query=query)
        if answer.status != 200:
            raise Unknown(str(answer.status))
        found = [part.split("<", 1)[0] for part in answer.body.decode().split("<Key>")[1:]]
        keys += found
        if "<IsTruncated>true" not in answer.body.decode():
            return keys

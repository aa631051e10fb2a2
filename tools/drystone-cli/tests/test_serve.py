# SPDX-License-Identifier: Apache-2.0
"""`drystone serve` as a person meets it: real processes on a temporary directory."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from drystone_testing.live import ACCESS_KEY, SECRET_KEY, LiveStore, drystone_command


def client(store: LiveStore) -> Any:
    """boto3 on the store."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 8, "mode": "standard"}, connect_timeout=5, read_timeout=20),
    )


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """One drystone command."""
    return subprocess.run([*drystone_command(), *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A running store with one small and one large object."""
    with LiveStore(tmp_path_factory.mktemp("serve") / "store") as live:
        s3 = client(live)
        s3.create_bucket(Bucket="first")
        s3.put_object(Bucket="first", Key="small", Body=b"hello")
        s3.put_object(Bucket="first", Key="large", Body=bytes(range(256)) * 4096)
        yield live


def test_it_says_how_to_use_it_and_prints_one_ready_line(store: LiveStore) -> None:
    """Endpoint, credential, an aws line, and no secret anywhere."""
    said = store.log_tail(100_000)
    assert re.findall(r"^ready (.*)$", said, re.MULTILINE) == [store.endpoint]
    assert f"aws --endpoint-url {store.endpoint} s3 mb" in said
    assert ACCESS_KEY in said
    assert SECRET_KEY not in said


def test_status_shows_disks_members_and_processes(store: LiveStore) -> None:
    """Health is OK, and the exit code says so."""
    done = run("status", str(store.directories[0]), "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["health"], said["profile"]) == (0, "OK", "rs-4-2")
    assert [disk["state"] for disk in said["disks"]] == ["healthy"] * 6
    assert sorted(member["role"] for member in said["members"]) == ["follower", "follower", "primary"]
    assert [process["role"] for process in said["processes"]][:2] == ["supervisor", "main"]
    assert "rs-4-2" in run("status", str(store.directories[0])).stdout


def test_status_shows_what_the_gateway_answered(store: LiveStore) -> None:
    """Requests, answers by kind, bytes and slow or malformed clients, for people and for programs."""
    before = store.status()["gateway"]
    s3 = client(store)
    assert s3.get_object(Bucket="first", Key="large")["Body"].read() == bytes(range(256)) * 4096
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="first", Key="missing")
    with socket.create_connection(("127.0.0.1", store.port), timeout=10) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    after = store.status()["gateway"]
    grown = {name: after[name] - before[name] for name in after}
    assert (grown["requests"], grown["answers_4xx"], grown["answers_5xx"]) == (2, 1, 0)
    assert (grown["refused_heads"], grown["slow_clients"], grown["refused_connections"]) == (1, 0, 0)
    assert grown["bytes_out"] > 1 << 20 and after["requests_now"] == 0 and grown["connections_total"] >= 2
    said = run("status", str(store.directories[0])).stdout
    assert re.search(rf"clients +\d+ connections, 0 requests now; {after['requests']} requests", said)
    assert re.search(r"limits +.*\d+ malformed requests", said)


@pytest.mark.parametrize(("key", "form"), [("small", "packed"), ("large", "striped")])
def test_inspect_object_shows_every_fragment_verified(store: LiveStore, key: str, form: str) -> None:
    """Six slots on six disks."""
    done = run("inspect", "object", f"s3://first/{key}", str(store.directories[0]), "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    for stripe in said["stripes"]:
        assert stripe["form"] == form
        assert [part["state"] for part in stripe["fragments"]] == ["ok"] * 6
        assert len({part["disk"] for part in stripe["fragments"]}) == 6


def test_inspect_shard_lists_records_and_finds_a_flipped_byte(store: LiveStore, tmp_path: Path) -> None:
    """A copy with one byte changed no longer verifies; the nonce is never shown."""
    said = json.loads(run("inspect", "object", "s3://first/large", str(store.directories[0]), "--json").stdout)[
        "stripes"
    ][0]
    file = next(Path(said["fragments"][0]["disk"]).glob(f"volumes/{said['volume']}.*"))
    whole = run("inspect", "shard", str(file), "--json")
    document = json.loads(whole.stdout)
    assert whole.returncode == 0, whole.stdout
    assert document["records"][0]["blobs"][0]["key"] == "large"
    assert "nonce" not in whole.stdout
    copy = tmp_path / file.name
    data = bytearray(file.read_bytes()[: 1 << 20])
    data[said["record"] + 65536] ^= 1
    copy.write_bytes(data)
    broken = run("inspect", "shard", str(copy), "--json")
    assert broken.returncode == 1
    assert "do not verify" in json.loads(broken.stdout)["records"][0]["problem"]


def test_a_second_start_on_the_same_data_is_refused_with_the_pid(store: LiveStore) -> None:
    """Exit code 1, one sentence, nothing harmed."""
    assert store.process is not None
    done = run("serve", str(store.directories[0]), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert f"pid {store.process.pid}" in done.stderr
    assert client(store).get_object(Bucket="first", Key="small")["Body"].read() == b"hello"


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_the_main_process_is_replaced_when_it_dies_or_stops(store: LiveStore, blow: signal.Signals) -> None:
    """What was acknowledged is there again; clients only wait."""
    before = store.main_pid()
    client(store).put_object(Bucket="first", Key=f"before-{blow.name}", Body=b"acknowledged")
    os.kill(before, blow)
    assert client(store).get_object(Bucket="first", Key=f"before-{blow.name}")["Body"].read() == b"acknowledged"
    assert store.main_pid() != before


def test_sigterm_drains_and_exits_with_zero_and_leaves_no_process(tmp_path: Path) -> None:
    """And what was written is there at the next start."""
    live = LiveStore(tmp_path / "store")
    live.start()
    s3 = client(live)
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="k", Body=b"v")
    assert live.stop() == 0
    assert live.pids() == []
    with live:
        assert client(live).get_object(Bucket="kept", Key="k")["Body"].read() == b"v"


def test_killing_the_supervisor_ends_its_children_and_the_next_start_serves(tmp_path: Path) -> None:
    """Nobody may go on writing without the lock's holder."""
    with LiveStore(tmp_path / "store") as live:
        s3 = client(live)
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="k", Body=b"v")
        children = live.workers()
        assert live.process is not None
        live.process.kill()
        live.process.wait()
        live.start()
        assert set(children).isdisjoint(live.workers())
        assert client(live).get_object(Bucket="kept", Key="k")["Body"].read() == b"v"


def test_bench_measures_and_leaves_nothing(store: LiveStore) -> None:
    """Two verbs without errors; its bucket is gone afterwards."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [*drystone_command(), "bench", "--endpoint", store.endpoint, "--seconds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert [(one["verb"], one["errors"]) for one in json.loads(done.stdout)] == [("PUT", 0), ("GET", 0)]
    assert [bucket["Name"] for bucket in client(store).list_buckets()["Buckets"]] == ["first"]


def test_wrong_configuration_is_exit_code_two_with_every_problem(tmp_path: Path) -> None:
    """Before anything is made."""
    file = tmp_path / "drystone.toml"
    file.write_text('[server]\nlisen = "x"\n[storage]\nprofile = "rs-1"\n')
    done = run("serve", str(tmp_path / "store"), "--config", str(file))
    assert done.returncode == 2
    assert "did you mean 'listen'" in done.stderr
    assert "profile 'rs-1'" in done.stderr
    assert not (tmp_path / "store").exists()
    checked = run("config", "check", "--config", str(file), "--json")
    assert (checked.returncode, len(json.loads(checked.stdout)["problems"])) == (2, 2)


def test_a_store_that_is_not_running_is_exit_code_three(tmp_path: Path) -> None:
    """With what to do next."""
    done = run("status", str(tmp_path))
    assert done.returncode == 3
    assert "drystone serve" in done.stderr


def test_disks_that_cannot_be_used_end_the_start_with_a_sentence(tmp_path: Path) -> None:
    """A directory with foreign files is never taken for a disk."""
    disks = [tmp_path / name for name in ("a", "b", "c")]
    for disk in disks:
        disk.mkdir()
    (disks[1] / "somebody's file").touch()
    done = run("serve", *map(str, disks), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert str(disks[1]) in done.stderr
    assert (disks[1] / "somebody's file").exists()

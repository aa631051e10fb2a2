# SPDX-License-Identifier: Apache-2.0
"""The process tree of `drystone serve`: what it opens, how it starts, reloads, is replaced, and what it logs meanwhile."""

import fcntl
import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import termios
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drystone_testing.live import LiveStore, drystone_command, make_certificate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A running store that logs as machines read it."""
    with LiveStore(tmp_path_factory.mktemp("processes") / "store", options=()) as live:
        await_that(lambda: live.status()["background_answers"] and len(live.status()["processes"]) == 3)
        yield live


def await_that(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def events(store: LiveStore) -> list[dict[str, object]]:
    """Its log lines."""
    return [json.loads(line) for line in store.log.read_text().splitlines() if line.startswith("{")]


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """(table, port) of every internet socket these processes have that others can reach."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (table.startswith("udp") or fields[3] == "0A"):
                found.add((table, int(fields[1].rpartition(":")[2], 16)))
    return found


def test_nothing_but_s3_can_be_reached_over_the_network(store: LiveStore) -> None:
    """Internal services know no identities yet: they are unix sockets, open to their owner."""
    assert listening(store.pids()) == {("tcp", store.port)}
    sockets = sorted((store.directories[0] / "state").glob("*.sock"))
    assert [path.name for path in sockets] == ["admin.sock", "background.sock", "node.sock"]
    assert [path.stat().st_mode & 0o077 for path in sockets] == [0, 0, 0]


def test_the_state_directory_is_its_owners_alone(store: LiveStore) -> None:
    """It holds the credential and the sockets."""
    assert (store.directories[0] / "state").stat().st_mode & 0o077 == 0


def test_log_events_are_flat_and_name_no_nested_fields(store: LiveStore) -> None:
    """One JSON object a line, values plain."""
    said = events(store)
    assert any(event["event"] == "metadata.term" and "term" in event for event in said)
    assert not [event for event in said if "fields" in event or any(isinstance(v, dict) for v in event.values())]


def test_a_replaced_main_process_costs_the_background_one_quiet_line_and_no_trace(store: LiveStore) -> None:
    """And health does not stay worse for it."""
    before = len(events(store))
    replaced = store.main_pid()
    os.kill(replaced, signal.SIGKILL)
    await_that(lambda: store.status()["processes"][1]["pid"] != replaced)
    await_that(lambda: store.status()["health"] == "OK")
    said = events(store)[before:]
    assert [event for event in said if "trace" in event] == []
    assert [event for event in said if event["role"] == "background" and event["level"] in ("error", "warning")] == []
    assert len([event for event in said if event["event"] == "background.task_waits"]) <= 3
    processes = {one["role"]: one for one in store.status()["processes"]}
    assert processes["main"]["restarts"] == 1
    assert processes["background"]["restarts"] == 0
    assert processes["supervisor"]["uptime_seconds"] >= processes["main"]["uptime_seconds"]


def test_sigterm_during_the_start_ends_with_zero_and_harms_nothing(tmp_path: Path) -> None:
    """At whatever moment it comes; the next start serves."""
    directory = tmp_path / "store"
    command = [*drystone_command(), "serve", str(directory), "--listen", "127.0.0.1:0"]
    for wanted in ("lock", "processes.json", "store.json"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            await_that((directory / "state" / wanted).exists)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, said
        assert b"Traceback" not in said
    with LiveStore(directory) as store:
        assert store.status()["writable"]


def test_a_supervisor_that_was_killed_is_followed_at_once(tmp_path: Path) -> None:
    """Its children die with it; the successor waits for their last moment instead of refusing, whatever they hold."""
    with LiveStore(tmp_path / "store") as store:
        orphans = store.workers()
        assert store.process is not None
        store.process.kill()
        store.start()
        assert set(orphans).isdisjoint(store.workers())


def test_the_access_log_names_operation_and_object_and_no_signature(tmp_path: Path) -> None:
    """One line per request when asked for; queries, where presigned URLs keep signatures, are never written."""
    with LiveStore(tmp_path / "store", environment={"DRYSTONE_LOG_ACCESS": "all"}) as store:
        asked = f"{store.endpoint}/bucket/a%20key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=feedbeef"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        await_that(lambda: [event for event in events(store) if event.get("key") == "a key"])
        line = next(event for event in events(store) if event.get("key") == "a key")
        assert (line["operation"], line["bucket"], line["status"]) == ("GetObject", "bucket", refused.value.code)
        assert line["request_id"] == refused.value.headers["x-amz-request-id"]
        assert {"in", "out", "ms", "peer"} <= line.keys()
        assert "feedbeef" not in store.log.read_text()


def test_successful_requests_leave_no_line_by_default(store: LiveStore) -> None:
    """A busy store's log stays readable."""
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{store.endpoint}/bucket/quiet", timeout=10)
    assert store.status()["health"]
    assert not [event for event in events(store) if event["event"] == "access"]


def test_a_terminal_that_goes_away_stops_the_store(tmp_path: Path) -> None:
    """SIGHUP means `read again` to a service and `stop` to what somebody ran by hand: nothing is left behind."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*drystone_command(), "serve", str(tmp_path / "store"), "--listen", "127.0.0.1:0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - this process has one thread
    )
    os.close(theirs)
    try:
        said = b""
        while b"ready http" not in said:
            said += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_start_into_a_pipe_that_nobody_reads_serves_all_the_same(tmp_path: Path) -> None:
    """`drystone serve DIR | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [*drystone_command(), "serve", str(tmp_path / "store"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        state = str(tmp_path / "store" / "state")
        await_that((tmp_path / "store" / "state" / "store.json").exists)
        done = subprocess.run([*drystone_command(), "status", "--state-dir", state], capture_output=True, check=False)
        assert (done.returncode, process.poll()) == (0, None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def served_certificate(port: int) -> bytes:
    """What a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain) as secure:
            shown = secure.getpeercert(binary_form=True)
            assert shown
            return shown


def test_sighup_takes_a_renewed_certificate_without_a_restart(tmp_path: Path) -> None:
    """No process is replaced, the port stays open."""
    make_certificate(tmp_path, "first")
    command = [*drystone_command(), "serve", str(tmp_path / "store"), "--listen", "127.0.0.1:0"]
    command += ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().decode().strip()
        assert ready.startswith("ready https://127.0.0.1:")
        port = int(ready.rpartition(":")[2])
        listed = json.loads((tmp_path / "store/state/processes.json").read_text())
        main = next(one["pid"] for one in listed if one["role"] == "main")
        before = served_certificate(port)
        make_certificate(tmp_path, "second")
        process.send_signal(signal.SIGHUP)
        await_that(lambda: served_certificate(port) != before)
        listed = json.loads((tmp_path / "store/state/processes.json").read_text())
        assert next(one["pid"] for one in listed if one["role"] == "main") == main
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
